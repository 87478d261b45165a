package postgres

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// The whole branch goes in one round trip: its statement and its vote.
func TestExecLast(t *testing.T) {
	proxy, r, straight := proxied(t, Options{Pool: 1})
	acc := table(t, "a")
	withdraw := "UPDATE " + acc + " SET balance = balance - $1 WHERE id <= $2"
	opt := txn.BranchOptions{GID: newGID(txn.RoleLocal)}
	next := func() *Branch {
		opt.GID.Sequence++
		return enlist(t, r, opt)
	}
	for n := range 2 {
		b := next()
		var requests atomic.Int64
		proxy.Rule(func([]byte) testdb.Fate { requests.Add(1); return testdb.Pass })
		out, voted, err := b.ExecLast(t.Context(), opt.GID, say(withdraw, int64(10), int64(2)))
		proxy.Rule(nil)
		if err != nil || !voted || out.Rows != 2 || requests.Load() != 1 || !isPrepared(t, straight, opt.GID) {
			t.Errorf("%d rows, voted %t, %d requests, %v", out.Rows, voted, requests.Load(), err)
		}
		if n == 0 {
			must(t, b.RollbackPrepared(t.Context(), opt.GID))
		} else {
			must(t, b.CommitPrepared(t.Context(), opt.GID))
		}
	}
	for name, c := range map[string]struct {
		last  txn.Statement
		state string
	}{
		"the statement fails":  {say(withdraw, int64(1000), int64(2)), "23514"},
		"it cannot be read":    {say("SELECT nothing"), "42703"},
		"the vote is refused":  {say("SELECT pg_notify('x', 'y')"), "0A000"},
		"it hides the session": {say("SELECT set_config('application_name', 'x', false)"), ""},
		"it is another's gid":  {say("SELECT 1"), "42710"},
	} {
		b := next()
		gid, holder := opt.GID, b
		if c.state == "42710" {
			_, voted, err := holder.ExecLast(t.Context(), gid, c.last)
			if err != nil || !voted {
				t.Fatal(err)
			}
			b = enlist(t, straight, opt)
		}
		_, voted, err := b.ExecLast(t.Context(), gid, c.last)
		if voted || err == nil || c.state != "" && txn.SQLState(err) != c.state || c.state == "" && !errors.Is(err, txn.ErrRolledBack) {
			t.Errorf("%s: voted %t, %v", name, voted, err)
		}
		if c.state == "42710" {
			if txn.ClassOf(err) != txn.NotOurs {
				t.Errorf("of class %q", txn.ClassOf(err))
			}
			must(t, b.Rollback(t.Context()))
			must(t, holder.RollbackPrepared(t.Context(), gid))
			continue
		}
		must(t, b.RollbackPrepared(t.Context(), gid))
		if isPrepared(t, straight, gid) {
			t.Errorf("%s, and it is prepared", name)
		}
	}
	if got := value(t, "a", "SELECT string_agg(balance::text, ' ' ORDER BY id) FROM "+acc); got != "90 90" && got != "90.00 90.00" {
		t.Errorf("balances %s", got)
	}
}

// Where statement and vote do not go together, nothing was done.
func TestNotExecLast(t *testing.T) {
	r := open(t, Options{})
	for name, c := range map[string]struct {
		opt   txn.BranchOptions
		first string
		last  txn.Statement
	}{
		"it has begun":          {first: "SELECT 1", last: say("SELECT 1")},
		"it is read only":       {opt: txn.BranchOptions{ReadOnly: true}, last: say("SELECT 1")},
		"it may end the branch": {last: say("DO 'BEGIN END'")},
		"of bytes":              {last: say("SELECT $1::bytea", []byte{1})},
	} {
		b := enlist(t, r, c.opt)
		if c.first != "" {
			exec(t, b, c.first)
		}
		if out, voted, err := b.ExecLast(t.Context(), b.opt.GID, c.last); voted || err != nil || out.Rows != 0 {
			t.Errorf("%s: %+v, voted %t, %v", name, out, voted, err)
		}
		exec(t, b, c.last.SQL, c.last.Args...)
		must(t, b.Rollback(t.Context()))
	}
}

// The answer to the statement with the vote is lost: nothing is left of either.
func TestLostExecLast(t *testing.T) {
	for _, fate := range []testdb.Fate{testdb.LoseReply, testdb.LoseRequest, testdb.Late} {
		proxy, r, straight := proxied(t, Options{})
		acc := table(t, "a")
		b := enlist(t, r, txn.BranchOptions{})
		proxy.Rule(testdb.Once("PREPARE TRANSACTION", fate))
		_, voted, err := b.ExecLast(t.Context(), b.opt.GID, say("UPDATE "+acc+" SET balance = 1"))
		if voted || err == nil {
			t.Errorf("fate %v: voted %t, %v", fate, voted, err)
		}
		must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
		proxy.Release()
		if isPrepared(t, straight, b.opt.GID) {
			t.Errorf("fate %v: still prepared", fate)
		}
		next := enlist(t, straight, txn.BranchOptions{LockTimeout: testwait.Patience})
		exec(t, next, "UPDATE "+acc+" SET balance = 3")
		must(t, next.Rollback(t.Context()))
	}
}

// A client that goes while the vote waits for a standby does not make it a yes.
func TestExecLastIsNotCancelled(t *testing.T) {
	s := newStandby(t)
	s.want("missing")
	b := enlist(t, s.r, txn.BranchOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, _, err := b.ExecLast(ctx, b.opt.GID, say("UPDATE account SET balance = 1"))
		done <- err
	}()
	testwait.Until(t, "the vote waits", func() bool { return s.waiting() != "0" })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("it has voted, or nobody knows why not: %v", err)
	}
	s.want("")
	must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
	if isPrepared(t, s.r, b.opt.GID) {
		t.Error("it is still prepared")
	}
}
