package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// waitOf waits until a branch is told to wait as it should, and returns for what.
func waitOf(t *testing.T, r *Resource, b *Branch, known []txn.KnownBranch, what string, should func(w txn.Wait) bool) {
	t.Helper()
	var w txn.Wait
	testwait.Until(t, what, func() bool {
		must(t, pause(t.Context(), staleness)) // asked sooner, the server shows the past
		list, err := r.Waits(t.Context(), []uint64{b.Backend(), 1 << 40}, func() ([]txn.KnownBranch, error) { return known, nil })
		must(t, err)
		if len(list) == 1 {
			w = list[0]
		}
		return len(list) == 1 && should(w)
	})
	if age := time.Since(w.Since); w.Backend != b.Backend() || age < -2*time.Second || age > time.Minute {
		t.Errorf("%s: %+v", what, w)
	}
}

// inLine has a branch run a statement that waits, and returns a function that waits for its end.
func inLine(t *testing.T, b *Branch, text string) (end func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := b.Exec(context.WithoutCancel(t.Context()), text, nil)
		done <- errors.Join(err, b.Rollback(context.WithoutCancel(t.Context())))
	}()
	return func() {
		t.Helper()
		must(t, <-done)
	}
}

// TestWaits tells for whose lock a connection waits: another's, a stranger's, that of a prepared transaction by its gid as long as its
// connection is kept and behind that as long as it is the only one, and that somebody has the table.
func TestWaits(t *testing.T) {
	r, acc := open(t, Options{}), table(t, "a")
	withdraw := "UPDATE " + acc + " SET balance = balance - 1 WHERE id = 1"
	one := func(w txn.Wait) txn.Holder {
		if len(w.Holders) != 1 {
			return txn.Holder{}
		}
		return w.Holders[0]
	}

	first := enlist(t, r, txn.BranchOptions{})
	exec(t, first, withdraw)
	if list, err := r.Waits(t.Context(), []uint64{first.Backend()}, nil); err != nil || len(list) != 0 {
		t.Errorf("nobody waits: %+v, %v", list, err)
	}
	second := enlist(t, r, txn.BranchOptions{})
	end := inLine(t, second, withdraw)
	waitOf(t, r, second, nil, "behind another", func(w txn.Wait) bool {
		h := one(w)
		return w.Lock == "tuple" && h.Backend == first.Backend() && h.User == "fdt" && h.Database == "a" && h.GID.IsZero() && h.OneOf == 0
	})
	unreadable := errors.New("unreadable")
	if _, err := r.Waits(t.Context(), []uint64{second.Backend()}, func() ([]txn.KnownBranch, error) { return nil, unreadable }); !errors.Is(err, unreadable) {
		t.Errorf("where it is not known what is prepared: %v", err)
	}
	must(t, first.Rollback(t.Context()))
	end()

	db, err := sql.Open("mysql", server.DSN("root", "a"))
	must(t, err)
	defer func() { _ = db.Close() }()
	stranger, err := db.Conn(t.Context())
	must(t, err)
	defer func() { _ = stranger.Close() }()
	say := func(text string) {
		t.Helper()
		_, err := stranger.ExecContext(t.Context(), text)
		must(t, err)
	}
	say("BEGIN")
	say(withdraw)
	second = enlist(t, r, txn.BranchOptions{})
	end = inLine(t, second, withdraw)
	waitOf(t, r, second, nil, "behind a stranger", func(w txn.Wait) bool { return one(w).User == "root" && one(w).Address == "localhost" })
	say("COMMIT")
	end()

	// What is prepared is kept with its connection as long as that is there.
	first = enlist(t, r, txn.BranchOptions{})
	exec(t, first, withdraw)
	gid := external(first)
	_, err = first.Prepare(t.Context(), gid)
	must(t, err)
	known := []txn.KnownBranch{{GID: gid, Proof: first.Proof()}, {GID: newGID(txn.RoleExternal), Proof: "what is no proof"}}
	second = enlist(t, r, txn.BranchOptions{})
	end = inLine(t, second, withdraw)
	waitOf(t, r, second, known, "behind a prepared one", func(w txn.Wait) bool { return one(w).GID == gid })
	r.parking.hold(0)
	waitOf(t, r, second, known, "behind one that has no connection", func(w txn.Wait) bool { return one(w).GID == gid && one(w).Backend == 0 })
	waitOf(t, r, second, nil, "behind one that is not known here", func(w txn.Wait) bool { return one(w).GID.Same(gid) })
	say("XA START 'theirs'")
	say("UPDATE " + acc + " SET balance = 1 WHERE id = 2")
	say("XA END 'theirs'")
	say("XA PREPARE 'theirs'")
	waitOf(t, r, second, known, "behind one of two", func(w txn.Wait) bool { return one(w).OneOf == 2 && one(w).GID.IsZero() })
	say("XA ROLLBACK 'theirs'")
	_, err = r.Resolve(t.Context(), gid, txn.Abort, first.Proof())
	must(t, err)
	end()

	say("LOCK TABLES " + acc + " WRITE")
	second = enlist(t, r, txn.BranchOptions{})
	end = inLine(t, second, withdraw)
	waitOf(t, r, second, nil, "behind a lock of the table", func(w txn.Wait) bool { return w.Lock == "relation" && len(w.Holders) == 0 })
	say("UNLOCK TABLES")
	end()
}

// TestWaitsUntold: without the privilege, or without a server, nothing is told.
func TestWaitsUntold(t *testing.T) {
	admin(t, "a", "CREATE USER IF NOT EXISTS simple@localhost", "GRANT ALL ON a.* TO simple@localhost")
	r := open(t, Options{DSN: server.DSN("simple", "a")})
	if _, err := r.Waits(t.Context(), []uint64{1}, nil); number(err) != errDenied {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.privileged(t.Context(), func(c *conn) error {
		_, err := c.kept(ended, nil)
		return err
	}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	r.Detach()
	if _, err := r.Waits(t.Context(), []uint64{1}, nil); !errors.Is(err, txn.ErrPaused) {
		t.Error(err)
	}
}
