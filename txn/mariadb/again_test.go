package mariadb

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/txn"
)

// lingering has the first XA START done, its answer lost, and its session live on; at the third it calls f. It returns their count.
func lingering(p *testdb.Proxy, f func()) *atomic.Int64 {
	var n atomic.Int64
	p.Rule(func(request []byte) testdb.Fate {
		if !bytes.Contains(request, []byte("XA START")) {
			return testdb.Pass
		}
		switch n.Add(1) {
		case 1:
			return testdb.Linger
		case 3:
			f()
		}
		return testdb.Pass
	})
	return &n
}

// The answer to XA START is lost on a session that had idled: another takes the branch over, as soon as the first is ended.
func TestLostBegin(t *testing.T) {
	proxy, r, straight := proxied(t, Options{Pool: 1})
	acc := table(t, "a")
	first := enlist(t, r, txn.BranchOptions{})
	must(t, first.Rollback(t.Context()))
	opt := txn.BranchOptions{GID: first.opt.GID, Isolation: txn.Serializable} // of the same incarnation: the session is taken again
	opt.GID.Sequence = sequence.Add(1)
	begun := lingering(proxy, func() {})
	b := enlist(t, r, opt)
	if begun.Load() < 2 {
		t.Error("no answer was lost")
	}
	exec(t, b, "SELECT balance FROM "+acc+" WHERE id = 2") // which locks, being serializable
	other := enlist(t, straight, txn.BranchOptions{LockTimeout: time.Second})
	if _, err := other.Exec(t.Context(), "UPDATE "+acc+" SET balance = 1 WHERE id = 2", nil); txn.SQLState(err) != "40P01" {
		t.Errorf("write under a serializable read: %v", err)
	}
	must(t, other.Rollback(t.Context()))
	exec(t, b, "UPDATE "+acc+" SET balance = 1 WHERE id = 1")
	prepare(t, b)
	must(t, b.CommitPrepared(t.Context(), b.opt.GID))
	if got := value(t, "a", "SELECT balance FROM "+acc+" WHERE id = 1"); got != "1.00" {
		t.Errorf("balance %s", got)
	}
}

// An Enlist fails with its answer lost, and after ROLLBACK TO SAVEPOINT there is another of the same gid. The first one's session is
// nobody's vote: it is waited for, as long as the caller may.
func TestBegunBefore(t *testing.T) {
	late := errors.New("the caller waits no longer")
	for name, leaves := range map[string]bool{"leaves": true, "stays": false} {
		t.Run(name, func(t *testing.T) {
			proxy, r, _ := proxied(t, Options{Pool: 1})
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			lingering(proxy, func() {
				if leaves {
					proxy.Release()
				} else {
					cancel(late)
				}
			})
			opt := txn.BranchOptions{GID: newGID(txn.RoleLocal)}
			if _, err := r.Enlist(ctx, opt); txn.SQLState(err) != "08001" {
				t.Fatalf("the answer was lost: %v", err)
			}
			b, err := r.Enlist(ctx, opt)
			if leaves {
				must(t, err)
				must(t, b.Rollback(t.Context()))
				return
			}
			if !errors.Is(err, late) || txn.ClassOf(err) == txn.NotOurs {
				t.Errorf("while the first session lives: %v of class %q", err, txn.ClassOf(err))
			}
			proxy.Release()
			b, err = r.Enlist(t.Context(), opt)
			must(t, err)
			must(t, b.Rollback(t.Context()))
		})
	}
}

// A gid of which the server holds a prepared branch is somebody's.
func TestBegunByAnother(t *testing.T) {
	r := open(t, Options{})
	b := enlist(t, r, txn.BranchOptions{})
	prepare(t, b)
	if _, err := r.Enlist(t.Context(), b.opt); txn.ClassOf(err) != txn.NotOurs {
		t.Errorf("Enlist of a gid that is prepared: %v of class %q", err, txn.ClassOf(err))
	}
	must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
}
