package txn_test

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// TestOperatorsRoom fills the log's disk: an operator, whose process has no log yet, decides all the same, and the place for
// the next decision is kept again as soon as there is some.
func TestOperatorsRoom(t *testing.T) {
	p := newPlace(t)
	if err := syscall.Mount("tmpfs", p.dir("log"), "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("NOT TESTED: a full disk needs a tmpfs of its own: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(p.dir("log"), syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	worker := p.open(t, func(o *txn.Options) { o.Limits.Scan = time.Millisecond })
	ctx, stop := context.WithCancel(t.Context())
	recovered := make(chan error, 1)
	go func() { recovered <- worker.Recover(ctx) }()
	room := func() int64 {
		st, err := os.Stat(p.dir("log") + "/room")
		if err != nil {
			return 0
		}
		return st.Size()
	}
	testwait.Until(t, "room is kept", func() bool { return room() > 0 })
	whole := room()
	for _, gid := range []string{"x", "y", "z"} {
		prepared(t, worker, gid)
	}
	stop()
	wantErr(t, <-recovered, nil)

	fill := p.dir("log") + "/fill"
	if err := os.WriteFile(fill, make([]byte, 32<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	root := txn.Principal{User: "root", Operator: true}
	other := p.open(t)
	wantErr(t, other.Decide(t.Context(), root, "x", txn.Commit), txn.ErrLogFull) // another worker's reserve is its own
	operator := func(gid string, want error) {
		t.Helper()
		m := p.open(t, func(o *txn.Options) { o.Operator = true })
		wantErr(t, m.Decide(t.Context(), root, gid, txn.Commit), want)
		closeAll(t, m)
	}
	operator("x", nil)
	operator("y", nil)
	if room() != whole-2*whole/8 {
		t.Errorf("of %d bytes %d are left", whole, room())
	}
	txn.KeepRoom(other)
	if room() >= whole {
		t.Error("there is room on a full disk")
	}
	if err := os.Truncate(p.dir("log")+"/room", 1); err != nil { // all used
		t.Fatal(err)
	}
	if err := os.WriteFile(fill+"2", make([]byte, 32<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	operator("z", txn.ErrLogFull)
	if err := errors.Join(os.Remove(fill), os.Remove(fill+"2")); err != nil {
		t.Fatal(err)
	}
	txn.KeepRoom(other)
	if room() != whole {
		t.Errorf("with space again there are %d bytes", room())
	}
	operator("z", nil)
	if err := os.RemoveAll(p.dir("log") + "/room"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(p.dir("log")+"/room", 0o700); err != nil {
		t.Fatal(err)
	}
	txn.KeepRoom(other) // whatever that is, it is not ours
	p.wantMessages(t, 3, 3)
	closeAll(t, other)
	closeAll(t, worker)
}
