package master

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/control"
)

// TestMisplaced: a program that is not fdt's own goes by no auth, and has no handlers.
func TestMisplaced(t *testing.T) {
	cfg := &config.Config{Listen: map[string]config.Listener{
		"web": {Auth: config.AuthProgram}, "local": {Auth: config.AuthPeer}, "api": {Auth: config.AuthProgram, Serve: "api"}}}
	want := "u runs another program, which does not go by serve: api of listener api: give it auth: program, or take it away\n" +
		"u runs another program, which does not go by auth: peer of listener local: give it auth: program, or take it away"
	if got := misplaced("u", cfg); got != want {
		t.Error(got)
	}
}

// TestForeign tells programs that know nothing of a self-check from those that do.
func TestForeign(t *testing.T) {
	dir := t.TempDir()
	for name, h := range map[string]control.Handlers{
		"knows":  {control.OpCheck: func(context.Context, json.RawMessage) (any, error) { return control.Check{}, nil }},
		"fails":  {control.OpCheck: func(context.Context, json.RawMessage) (any, error) { return nil, errors.New("no") }},
		"others": nil,
	} {
		serveControl(t, filepath.Join(dir, name), h)
	}
	for name, want := range map[string]struct{ foreign, fails bool }{
		"knows": {}, "fails": {fails: true}, "others": {foreign: true}, "nobody": {foreign: true},
	} {
		_, foreign, err := selfCheck(t.Context(), filepath.Join(dir, name))
		if foreign != want.foreign || (err != nil) != want.fails {
			t.Errorf("%s: foreign %t, %v", name, foreign, err)
		}
	}
}
