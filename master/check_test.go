package master

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/snapshot"
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

// TestPlacing tells where in /etc/fdt stands what a worker's rehearsal is about, if that is what is rolled out.
func TestPlacing(t *testing.T) {
	etc := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(etc, "config.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const text = "resources:\n  a: {type: postgres, dsn: \"host=/run/a\"}\n  b: {type: postgres, dsn: \"host=/run/b\"}\n" +
		"procedures:\n  p: {steps: [{on: b, sql: \"SELECT 1\"},\n    {on: b, sql: \"SELECT 2 FROM nowhere\"}]}\n"
	write(text)
	m := New(Options{Run: snapshot.Dir(t.TempDir()), Etc: etc})
	if err := m.opt.Run.Take(3, etc); err != nil {
		t.Fatal(err)
	}
	found := control.Check{Faults: map[string]string{"a": "resource a: down", "b": "no table"}, Places: map[string]string{"b": "procedures.p.steps[1]"}, Program: []string{"odd"}}
	const a, b, odd = "u fails its self-check: resource a: down\n", "u fails its self-check: resource b: no table\n", "u fails its self-check: odd"
	if got, want := m.judge(t.Context(), "u", found, nil, nil, m.placing(3)), a+etc+"/config.yaml:6:5: "+b+odd; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, other := range []string{strings.Replace(text, "SELECT 1", "SELECT 3", 1), "nothing: true"} {
		write(other)
		if got := m.judge(t.Context(), "u", found, nil, nil, m.placing(3)); got != a+b+odd {
			t.Errorf("got\n%s", got)
		}
	}
	write(text)
	if got := m.judge(t.Context(), "u", found, nil, nil, m.placing(4)); got != a+b+odd {
		t.Errorf("got\n%s", got)
	}
}
