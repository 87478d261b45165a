package master

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/testwait"
)

// serveControl answers on a control socket until the test ends, and returns its path.
func serveControl(t *testing.T, path string, h control.Handlers) string {
	t.Helper()
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &control.Server{Handlers: h}
	done := make(chan struct{})
	go func() { _ = s.Serve(l); close(done) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return path
}

// Who answers lives, be it with a refusal; who has no control socket is left in peace; who neither answers nor refuses
// stands still.
func TestAnswers(t *testing.T) {
	dir := t.TempDir()
	serve := func(name string, h control.Handlers) string { return serveControl(t, filepath.Join(dir, name), h) }
	l, err := net.Listen("unix", filepath.Join(dir, "frozen"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	left, err := net.Listen("unix", filepath.Join(dir, "left"))
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = left.Close()
	for _, path := range []string{
		serve("works", control.Handlers{control.OpStatus: func(context.Context, json.RawMessage) (any, error) { return nil, nil }}),
		serve("other", nil), filepath.Join(dir, "nobody"), filepath.Join(dir, "left"),
	} {
		if !answers(t.Context(), path, time.Hour) {
			t.Errorf("%s stands still", path)
		}
	}
	if answers(t.Context(), filepath.Join(dir, "frozen"), time.Millisecond) {
		t.Error("one that stands still has answered")
	}
}

// An answer is that of the process that was asked.
func TestHeard(t *testing.T) {
	m := New(Options{Run: snapshot.Dir(t.TempDir()), Logger: slog.New(slog.DiscardHandler)})
	w := k(1, 1, draining)
	ctx, cancel := context.WithCancel(t.Context())
	m.prove(ctx, w)
	if l := testwait.For(t, "the outcome", m.lives); l.silent || m.memo(w.unit).life != asked {
		t.Errorf("%+v, life %d", l, m.memo(w.unit).life)
	}
	m.heard(lived{w.unit, true})
	if m.memo(w.unit).life != failed {
		t.Error("silence is forgotten")
	}
	m.heard(lived{w.unit, false})
	if m.memo(w.unit).life != failed {
		t.Error("an answer that nobody waits for is taken")
	}
	m.memo(w.unit).life = asked
	m.heard(lived{w.unit, false})
	if m.memo(w.unit).life != passed {
		t.Error("an answer is forgotten")
	}
	m.heard(lived{"gone", true})
	m.prove(ctx, w)
	cancel()
	m.helpers.Wait()
}
