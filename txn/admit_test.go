package txn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fdtserver/fdt/txn"
)

// empty prepares an empty transaction of a user.
func empty(ctx context.Context, m *txn.Manager, user, gid string) error {
	s := m.NewSession(txn.Principal{User: user})
	return errors.Join(s.Begin(ctx, txn.TxOptions{}), s.Prepare(ctx, gid))
}

// TestTooManyPrepared: limits of all users and of one hold over all processes,
// also over deaths and boots; a decision makes room.
func TestTooManyPrepared(t *testing.T) {
	p := newFastPlace(t)
	var journal bytes.Buffer
	limits := func(o *txn.Options) { o.Limits.Prepared, o.Limits.PreparedPerUser = 4, 3 }
	m, other := p.open(t, limits, logged(&journal)), p.open(t, limits)
	for i, of := range []*txn.Manager{m, other, m} {
		wantErr(t, empty(t.Context(), of, "alice", fmt.Sprint("a", i)), nil)
	}
	for _, of := range []*txn.Manager{m, other, m, m} {
		err := empty(t.Context(), of, "alice", "more")
		wantErr(t, err, txn.ErrTooManyOfUser)
		if txn.SQLState(err) != "53400" || !strings.Contains(err.Error(), "3, transaction.prepared_per_user") {
			t.Errorf("%v", err)
		}
	}
	wantErr(t, empty(t.Context(), other, "bob", "b0"), nil)
	err := empty(t.Context(), other, "bob", "b1")
	wantErr(t, err, txn.ErrTooMany)
	if txn.SQLState(err) != "53200" || !strings.Contains(err.Error(), "4, transaction.prepared") {
		t.Errorf("%v", err)
	}
	if n := strings.Count(journal.String(), "a35afe95cf03542fb605e6c5070742d9"); n != 1 {
		t.Errorf("the flood has %d lines: %s", n, journal.String())
	}
	wantErr(t, other.NewSession(alice).RollbackPrepared(t.Context(), "a0"), nil)
	wantErr(t, empty(t.Context(), m, "bob", "b1"), nil)
	closeAll(t, m)
	closeAll(t, other)
	p.reboot(t)
	m = p.open(t, limits)
	wantErr(t, empty(t.Context(), m, "carol", "c"), txn.ErrTooMany)
	wantErr(t, m.NewSession(alice).RollbackPrepared(t.Context(), "a1"), nil)
	wantErr(t, empty(t.Context(), m, "carol", "c"), nil)
	closeAll(t, m)
}

// TestTallyTooHigh: numbers that a death left too high refuse nobody.
func TestTallyTooHigh(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t, func(o *txn.Options) { o.Limits.Prepared, o.Limits.PreparedPerUser = 2, 2 })
	defer closeAll(t, m)
	for i := range 2 {
		wantErr(t, empty(t.Context(), m, "alice", fmt.Sprint(i)), nil)
	}
	list, err := os.ReadDir(p.dir("claims"))
	wantErr(t, err, nil)
	for _, e := range list {
		if strings.HasPrefix(e.Name(), "x-") { // uncounted, as by a process that dies in between
			wantErr(t, os.Remove(p.dir("claims/"+e.Name())), nil)
		}
	}
	wantErr(t, empty(t.Context(), m, "alice", "more"), nil)
}

// TestNoRoom: what does not fit into the claims' directory is refused without
// naming it to the client, at each system call that can say so, and the journal
// is told once.
func TestNoRoom(t *testing.T) {
	for n := int64(1); ; n++ {
		p := newFastPlace(t)
		var journal bytes.Buffer
		var o once
		full := func(step string) error {
			if step != "room" && step != "write claim" && step != "grow" {
				return nil
			}
			if o.fault(step) != nil {
				return &os.PathError{Op: "write", Path: p.root, Err: syscall.ENOSPC}
			}
			return nil
		}
		m := p.open(t, logged(&journal), func(opt *txn.Options) { txn.SetFault(opt, full) })
		wantErr(t, empty(t.Context(), m, "alice", "before"), nil)
		o.at.Store(o.n.Load() + n)
		errs := []error{empty(t.Context(), m, "alice", "x"), m.NewSession(alice).CommitPrepared(t.Context(), "before")}
		for _, err := range errs {
			if err != nil && !txn.InDoubt(err) && (txn.SQLState(err) != "53100" || strings.Contains(err.Error(), p.root)) {
				t.Errorf("call %d: %s: %v", n, txn.SQLState(err), err)
			}
		}
		done := o.n.Load() < o.at.Load()
		if refused := errors.Join(errs...); !done && refused != nil && !txn.InDoubt(refused) && strings.Count(journal.String(), "bbca64c48ae05e558b5db4bdb95d7d0d") != 1 {
			t.Errorf("call %d: %v; journal: %s", n, refused, journal.String())
		}
		_ = m.Close(t.Context())
		if done {
			if n < 4 {
				t.Errorf("only %d calls", n)
			}
			return
		}
	}
}

// TestKept: outcomes are bounded, the oldest go first, and those that went
// wrong stay.
func TestKept(t *testing.T) {
	p := newFastPlace(t)
	var journal bytes.Buffer
	m := p.open(t, logged(&journal), func(o *txn.Options) { o.Limits.Kept = 3 })
	defer closeAll(t, m)
	wantErr(t, empty(t.Context(), m, "alice", "by hand"), nil)
	wantErr(t, m.Decide(t.Context(), root, "by hand", txn.Abort), nil)
	for i := range 4 {
		wantErr(t, empty(t.Context(), m, "alice", fmt.Sprint(i)), nil)
		wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), fmt.Sprint(i)), nil)
	}
	wantErr(t, m.Scan(t.Context()), nil)
	var names []string
	all, err := m.List(t.Context())
	wantErr(t, err, nil)
	for i := range all {
		names = append(names, all[i].Name())
	}
	want(t, names, "by hand", "2", "3")
	if n := strings.Count(journal.String(), "5d382d6b51c45d54a8a13e8bd1af9746"); n != 1 {
		t.Errorf("%d lines: %s", n, journal.String())
	}
	wantErr(t, m.Scan(t.Context()), nil)
	if all, err := m.List(t.Context()); err != nil || len(all) != 3 {
		t.Errorf("%d, %v", len(all), err)
	}
}

// TestDoubtFlood: many transactions that wait for long are one line a minute.
func TestDoubtFlood(t *testing.T) {
	p := newFastPlace(t)
	var journal bytes.Buffer
	m := p.open(t, logged(&journal), func(o *txn.Options) { o.Limits.Doubt = time.Nanosecond })
	defer closeAll(t, m)
	for i := range 20 {
		wantErr(t, empty(t.Context(), m, "alice", fmt.Sprint(i)), nil)
	}
	for range 2 {
		wantErr(t, m.Scan(t.Context()), nil)
	}
	if n := strings.Count(journal.String(), "48292507ce5f5b42941d4ffea9ac1d18"); n != 1 {
		t.Errorf("%d lines", n)
	}
}

// TestClaimsFull: one client cannot fill the memory file system of the claims,
// which others need, and what it prepared can be decided; then there is room again.
func TestClaimsFull(t *testing.T) {
	p := newFastPlace(t)
	if err := syscall.Mount("tmpfs", p.dir("claims"), "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("NOT TESTED: a full directory needs a tmpfs of its own: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(p.dir("claims"), syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	var journal bytes.Buffer
	m := p.open(t, logged(&journal))
	defer closeAll(t, m)
	fill := func() (n int) {
		for ; ; n++ {
			err := empty(t.Context(), m, "alice", fmt.Sprint(n))
			if err == nil {
				continue
			}
			if !errors.Is(err, txn.ErrNoRoom) || txn.SQLState(err) != "53100" || strings.Contains(err.Error(), p.root) {
				t.Fatalf("%s: %v", txn.SQLState(err), err)
			}
			return n
		}
	}
	n := fill()
	wantErr(t, empty(t.Context(), m, "alice", "more"), txn.ErrNoRoom)
	var st syscall.Statfs_t
	wantErr(t, syscall.Statfs(p.dir("claims"), &st), nil)
	if free := st.Bavail * uint64(st.Bsize); free < 200<<10 { //nolint:gosec // positive
		t.Errorf("%d bytes are free beside %d", free, n)
	}
	s := m.NewSession(alice)
	for i := range n {
		wantErr(t, s.CommitPrepared(t.Context(), fmt.Sprint(i)), nil)
		wantErr(t, s.Acknowledge(), nil)
	}
	wantErr(t, txn.Sweep(m, t.Context()), nil)
	if again := fill(); again < n-8 {
		t.Errorf("%d fit, then %d", n, again)
	}
	if lines := strings.Count(journal.String(), "bbca64c48ae05e558b5db4bdb95d7d0d"); lines != 1 {
		t.Errorf("the flood has %d lines", lines)
	}
}
