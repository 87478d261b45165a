package ofd_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fdtserver/fdt/internal/ofd"
	"github.com/fdtserver/fdt/internal/testwait"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	a, b := open(t, path), open(t, path)
	if err := ofd.Lock(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if ok, err := ofd.TryLock(a); !ok || err != nil {
		t.Errorf("the holder: %t, %v", ok, err)
	}
	if held, err := ofd.Held(a); held || err != nil {
		t.Errorf("by another than the holder: %t, %v", held, err)
	}
	if ok, err := ofd.TryLock(b); ok || err != nil {
		t.Errorf("another: %t, %v", ok, err)
	}
	if held, err := ofd.Held(b); !held || err != nil {
		t.Errorf("seen by another: %t, %v", held, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if err := ofd.Lock(ctx, b); !errors.Is(err, why) {
		t.Errorf("got %v, want %v", err, why)
	}
	got := make(chan error, 1)
	go func() { got <- ofd.Lock(t.Context(), b) }()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := testwait.For(t, "the lock", got); err != nil {
		t.Error(err)
	}
}

// TestWait asks again with pauses until the time is up.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "f")
		a, b := open(t, path), open(t, path)
		if err := ofd.Lock(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := ofd.Lock(ctx, b); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// TestBytes: each byte is a lock of its own, which several may share.
func TestBytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	a, b := open(t, path), open(t, path)
	for _, step := range []struct {
		what string
		do   func(*os.File, int64) (bool, error)
		f    *os.File
		at   int64
		want bool
	}{
		{"take", ofd.TryByte, a, 7, true},
		{"take another's", ofd.TryByte, b, 7, false},
		{"take its neighbour", ofd.TryByte, b, 8, true},
		{"see another's", ofd.HeldByte, b, 7, true},
		{"see one's own", ofd.HeldByte, a, 7, false},
		{"share", ofd.ShareByte, a, 9, true},
		{"share, too", ofd.ShareByte, b, 9, true},
		{"see one shared", ofd.HeldByte, a, 9, true},
	} {
		if got, err := step.do(step.f, step.at); got != step.want || err != nil {
			t.Errorf("%s: %t, %v", step.what, got, err)
		}
	}
	if err := ofd.FreeByte(a, 7); err != nil {
		t.Error(err)
	}
	if ok, err := ofd.TryByte(b, 7); !ok || err != nil {
		t.Errorf("given back, it is not to be had: %v", err)
	}
}

func TestLinked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f := open(t, path)
	if linked, err := ofd.Linked(f); !linked || err != nil {
		t.Errorf("got %t, %v", linked, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if linked, err := ofd.Linked(f); linked || err != nil {
		t.Errorf("removed: got %t, %v", linked, err)
	}
}

func TestClosedFile(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "f"))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ofd.TryLock(f); err == nil {
		t.Error("TryLock of a closed file succeeds")
	}
	if _, err := ofd.Held(f); err == nil {
		t.Error("Held of a closed file succeeds")
	}
	if ofd.Close(f) == nil {
		t.Error("Close of a closed file succeeds")
	}
	if _, err := ofd.Linked(f); err == nil {
		t.Error("Linked of a closed file succeeds")
	}
	if err := ofd.Lock(t.Context(), f); err == nil {
		t.Error("Lock of a closed file succeeds")
	}
}
