package postgres

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// waitOf waits until a branch is told to wait, and returns for what.
func waitOf(t *testing.T, r *Resource, b *Branch) (w txn.Wait) {
	t.Helper()
	testwait.Until(t, "a wait", func() bool {
		list, err := r.Waits(t.Context(), []uint64{b.Backend(), 1 << 30}, nil)
		must(t, err)
		if len(list) > 1 {
			t.Fatalf("%+v", list)
		}
		for _, w = range list {
		}
		return len(list) == 1
	})
	if age := time.Since(w.Since); w.Backend != b.Backend() || age < -time.Second || age > time.Minute {
		t.Errorf("%+v", w)
	}
	return w
}

// inLine has a branch run a statement that waits, and returns a function that waits for its end.
func inLine(t *testing.T, b *Branch, sql string) (end func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := b.Exec(context.WithoutCancel(t.Context()), sql, nil)
		done <- errors.Join(err, b.Rollback(context.WithoutCancel(t.Context())))
	}()
	return func() {
		t.Helper()
		must(t, <-done)
	}
}

// TestWaits tells for whose lock a session waits: another's, a prepared transaction's by its gid, and a stranger's.
func TestWaits(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	withdraw := "UPDATE " + acc + " SET balance = balance - 1 WHERE id = 1"
	second := enlist(t, r, txn.BranchOptions{})
	exec(t, second, "SELECT 1")

	first := enlist(t, r, txn.BranchOptions{})
	exec(t, first, withdraw)
	if list, err := r.Waits(t.Context(), []uint64{first.Backend(), second.Backend()}, nil); err != nil || len(list) != 0 {
		t.Errorf("nobody waits: %+v, %v", list, err)
	}
	end := inLine(t, second, withdraw)
	w := waitOf(t, r, second)
	want := txn.Holder{Backend: first.Backend(), User: "app", Database: "a", Application: first.c.app}
	if w.Lock != "transactionid" || !slices.Equal(w.Holders, []txn.Holder{want}) {
		t.Errorf("behind another: %+v", w)
	}
	third := enlist(t, r, txn.BranchOptions{})
	endThird := inLine(t, third, withdraw)
	if w = waitOf(t, r, third); w.Lock != "tuple" || len(w.Holders) != 1 || w.Holders[0].Backend != second.Backend() {
		t.Errorf("behind who waits: %+v", w)
	}
	must(t, first.Rollback(t.Context()))
	end()
	endThird()

	// What is prepared has a gid, also where a savepoint's part of it has the lock.
	first = enlist(t, r, txn.BranchOptions{GID: newGID(txn.RoleExternal)})
	gid := first.opt.GID
	exec(t, first, "UPDATE "+acc+" SET balance = balance - 1 WHERE id = 2")
	must(t, first.Savepoint(t.Context(), "s1"))
	exec(t, first, withdraw)
	prepare(t, first)
	second = enlist(t, r, txn.BranchOptions{})
	end = inLine(t, second, withdraw)
	if w = waitOf(t, r, second); len(w.Holders) != 1 || w.Holders[0].GID != gid || w.Holders[0].Backend != 0 || w.Holders[0].Prepared != "" || w.Holders[0].User != "app" {
		t.Errorf("behind a prepared one: %+v", w)
	}
	if _, err := r.Resolve(t.Context(), gid, txn.Abort, ""); err != nil {
		t.Error(err)
	}
	end()

	stranger, err := pgx.Connect(t.Context(), server.DSN("a")+" application_name=console")
	must(t, err)
	defer func() { _ = stranger.Close(context.WithoutCancel(t.Context())) }()
	_, err = stranger.Exec(t.Context(), "BEGIN; "+withdraw)
	must(t, err)
	second = enlist(t, r, txn.BranchOptions{})
	end = inLine(t, second, withdraw)
	want = txn.Holder{Backend: uint64(stranger.PgConn().PID()), User: "fdt", Database: "a", Application: "console"}
	if w = waitOf(t, r, second); !slices.Equal(w.Holders, []txn.Holder{want}) {
		t.Errorf("behind a stranger: %+v, not %+v", w, want)
	}
	_, err = stranger.Exec(t.Context(), "ROLLBACK")
	must(t, err)
	end()
}

// TestWaitsForPrepared: of the prepared transactions that lock a table, those are named with whose modes the wanted one conflicts.
func TestWaitsForPrepared(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	admin(t, "a", "BEGIN", "UPDATE "+acc+" SET balance = 1 WHERE id = 1", "PREPARE TRANSACTION 'theirs'")
	admin(t, "a", "BEGIN", "SELECT FROM "+acc+" WHERE id = 2 FOR UPDATE", "PREPARE TRANSACTION 'reads'")
	defer admin(t, "a", "ROLLBACK PREPARED 'reads'")
	b := enlist(t, r, txn.BranchOptions{})
	end := inLine(t, b, "LOCK TABLE "+acc+" IN SHARE MODE")
	w := waitOf(t, r, b)
	if w.Lock != "relation" || len(w.Holders) != 1 || w.Holders[0].Prepared != "theirs" || !w.Holders[0].GID.IsZero() {
		t.Errorf("%+v", w)
	}
	admin(t, "a", "ROLLBACK PREPARED 'theirs'")
	end()
}

// TestConflicts holds the modes of locks against the server: those and only those that conflict make a session wait.
func TestConflicts(t *testing.T) {
	acc := table(t, "a")
	mode := func(name string) string { // as LOCK TABLE has it
		words := map[string]string{
			"AccessShareLock": "ACCESS SHARE", "RowShareLock": "ROW SHARE", "RowExclusiveLock": "ROW EXCLUSIVE", "ShareUpdateExclusiveLock": "SHARE UPDATE EXCLUSIVE",
			"ShareLock": "SHARE", "ShareRowExclusiveLock": "SHARE ROW EXCLUSIVE", "ExclusiveLock": "EXCLUSIVE", "AccessExclusiveLock": "ACCESS EXCLUSIVE",
		}
		return words[name]
	}
	connect := func() *pgx.Conn {
		c, err := pgx.Connect(t.Context(), server.DSN("a"))
		must(t, err)
		t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
		return c
	}
	a, b := connect(), connect()
	for held := range conflicts {
		for wanted, bad := range conflicts {
			_, err := a.Exec(t.Context(), "BEGIN; LOCK TABLE "+acc+" IN "+mode(held)+" MODE")
			must(t, err)
			_, err = b.Exec(t.Context(), "BEGIN; LOCK TABLE "+acc+" IN "+mode(wanted)+" MODE NOWAIT")
			if waits := err != nil && strings.Contains(err.Error(), "55P03"); waits != slices.Contains(bad, held) || err != nil && !waits {
				t.Errorf("%s beside %s: %v", wanted, held, err)
			}
			for _, c := range []*pgx.Conn{a, b} {
				_, err = c.Exec(t.Context(), "ROLLBACK")
				must(t, err)
			}
		}
	}
}

// TestWaitsUntold: of a server that does not answer nothing is told.
func TestWaitsUntold(t *testing.T) {
	r := open(t, Options{})
	r.Detach()
	if _, err := r.Waits(t.Context(), []uint64{1}, nil); !errors.Is(err, txn.ErrPaused) {
		t.Error(err)
	}
	r.Attach()
	ended, cancel := context.WithCancel(t.Context())
	must(t, r.privileged(t.Context(), func(*conn) error { return nil }))
	cancel()
	if _, err := r.Waits(ended, []uint64{1}, nil); err == nil {
		t.Error("answered in no time")
	}
}
