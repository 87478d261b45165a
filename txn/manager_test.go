package txn_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/fdtserver/fdt/internal/ofd"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// place is the directories of one machine.
type place struct {
	root string
}

func newPlace(t testing.TB) place {
	t.Helper()
	return newPlaceIn(t, t.TempDir())
}

// newFastPlace is one in memory, for what SIGKILL does not lose.
func newFastPlace(t testing.TB) place {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "fdt-test-")
	if err != nil {
		return newPlace(t)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return newPlaceIn(t, dir)
}

func newPlaceIn(t testing.TB, root string) place {
	t.Helper()
	p := place{root}
	for _, d := range []string{"log", "claims", "a", "b"} {
		if err := os.Mkdir(filepath.Join(p.root, d), 0o770); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p place) dir(name string) string { return filepath.Join(p.root, name) }

// reboot loses what is in memory only.
func (p place) reboot(t testing.TB) {
	t.Helper()
	list, err := filepath.Glob(p.dir("claims") + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
}

// resources opens the spools.
func (p place) resources() (all []txn.Resource, err error) {
	for _, name := range []string{"a", "b"} {
		s, err := spool.Open(name, p.dir(name))
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func (p place) spools(t testing.TB) []txn.Resource {
	t.Helper()
	all, err := p.resources()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (p place) options(t testing.TB) txn.Options {
	t.Helper()
	opt := txn.Options{
		LogDir: p.dir("log"), ClaimDir: p.dir("claims"), MachineID: "m1", Resources: p.spools(t),
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Program: "test",
	}
	if p.clustered() {
		bank, err := bankOf(p, steps{}.at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = bank.Close() })
		opt.Resources, opt.Decider, opt.Cluster = append(opt.Resources, bank), "bank", true
	}
	return opt
}

// open begins a worker's life in this process.
func (p place) open(t testing.TB, change ...func(*txn.Options)) *txn.Manager {
	t.Helper()
	opt := p.options(t)
	for _, f := range change {
		f(&opt)
	}
	m, err := txn.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// inNew is what a spool has delivered.
func (p place) inNew(name string) (all []string, err error) {
	list, err := os.ReadDir(filepath.Join(p.dir(name), "new"))
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		raw, err := os.ReadFile(filepath.Join(p.dir(name), "new", e.Name()))
		if err != nil {
			return nil, err
		}
		all = append(all, string(raw))
	}
	return all, nil
}

// delivered is inNew that ends the test if they cannot be read.
func (p place) delivered(t testing.TB, name string) []string {
	t.Helper()
	all, err := p.inNew(name)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var alice = txn.Principal{User: "alice", Addr: "unix", Database: "alice"}

// putter is the branch of a spool, whatever is wrapped around it.
type putter interface {
	Put(ctx context.Context, body []byte) error
}

func put(t testing.TB, s *txn.Session, resource, body string) {
	t.Helper()
	b, err := s.Branch(t.Context(), resource)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.(putter).Put(t.Context(), []byte(body)); err != nil {
		t.Fatal(err)
	}
}

func begin(t testing.TB, s *txn.Session) {
	t.Helper()
	if err := s.Begin(t.Context(), txn.TxOptions{}); err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
	}
}

func closeAll(t testing.TB, m *txn.Manager) {
	t.Helper()
	if err := m.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

// prepared makes a transaction of two branches in doubt.
func prepared(t testing.TB, m *txn.Manager, gid string) {
	t.Helper()
	s := m.NewSession(alice)
	begin(t, s)
	put(t, s, "a", gid+" in a")
	put(t, s, "b", gid+" in b")
	if err := s.Prepare(t.Context(), gid); err != nil {
		t.Fatal(err)
	}
}

func TestLocalCommit(t *testing.T) {
	p := newPlace(t)
	m := p.open(t)
	s := m.NewSession(alice)
	begin(t, s)
	put(t, s, "a", "one")
	if err := s.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	begin(t, s)
	put(t, s, "a", "two")
	put(t, s, "b", "three")
	if err := s.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(t, p.delivered(t, "a"), "one", "two")
	want(t, p.delivered(t, "b"), "three")
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	closeAll(t, m)
	if logs, _ := filepath.Glob(p.dir("log") + "/*.log"); len(logs) > 0 {
		t.Errorf("an orderly end leaves %q", logs)
	}
	if left, _ := filepath.Glob(p.dir("[ab]") + "/prepared/*"); len(left) > 0 {
		t.Errorf("proofs left: %q", left)
	}
}

func TestPrepareThenDecide(t *testing.T) {
	p := newPlace(t)
	m := p.open(t)
	prepared(t, m, "x")
	want(t, p.delivered(t, "a"))
	list, err := m.List(t.Context())
	if err != nil || len(list) != 1 || list[0].ClientGID != "x" || list[0].Phase != txn.Prepared {
		t.Fatalf("got %+v, %v", list, err)
	}
	other := p.open(t) // another worker
	s := other.NewSession(alice)
	wantErr(t, s.CommitPrepared(t.Context(), "y"), txn.ErrUnknownGID)
	wantErr(t, other.NewSession(txn.Principal{User: "bob"}).CommitPrepared(t.Context(), "x"), txn.ErrNotOwner)
	begin(t, s)
	wantErr(t, s.Prepare(t.Context(), "x"), txn.ErrDuplicateGID)
	if err := s.CommitPrepared(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	want(t, p.delivered(t, "a"), "x in a")
	want(t, p.delivered(t, "b"), "x in b")
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	wantErr(t, s.RollbackPrepared(t.Context(), "x"), txn.ErrAlreadyCommitted)
	if err := s.Acknowledge(); err != nil {
		t.Fatal(err)
	}
	wantErr(t, s.CommitPrepared(t.Context(), "x"), txn.ErrUnknownGID)
	closeAll(t, m)
	closeAll(t, other)
}

func TestRebootKeepsDoubt(t *testing.T) {
	p := newPlace(t)
	m := p.open(t)
	prepared(t, m, "x")
	prepared(t, m, "y")
	closeAll(t, m)
	p.reboot(t)
	m = p.open(t)
	if err := m.Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := m.Counts().InDoubt; n != 2 {
		t.Errorf("%d in doubt, want 2", n)
	}
	s := m.NewSession(alice)
	wantErr(t, s.RollbackPrepared(t.Context(), "x"), nil)
	wantErr(t, s.CommitPrepared(t.Context(), "y"), nil)
	want(t, p.delivered(t, "a"), "y in a")
	wantErr(t, s.CommitPrepared(t.Context(), "x"), txn.ErrAlreadyRolledBack)
	if err := m.Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	closeAll(t, m)
	p.reboot(t)
	m = p.open(t)
	s = m.NewSession(alice)
	wantErr(t, s.CommitPrepared(t.Context(), "y"), nil)
	wantErr(t, s.Acknowledge(), nil)
	wantErr(t, s.RollbackPrepared(t.Context(), "x"), nil)
	wantErr(t, s.Acknowledge(), nil)
	if err := m.Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	closeAll(t, m)
	m = p.open(t)
	if err := m.Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	closeAll(t, m)
	logs, _ := filepath.Glob(p.dir("log") + "/*.log")
	t.Logf("logs left: %q", logs)
	want(t, p.delivered(t, "a"), "y in a")
}

// TestCloseUnused: a worker that leaves without a record in its log reads no other's, and needs no lock for it.
func TestCloseUnused(t *testing.T) {
	p := newPlace(t)
	m := p.open(t)
	s := m.NewSession(alice)
	begin(t, s)
	put(t, s, "a", "one message")
	wantErr(t, s.Commit(t.Context()), nil)
	if faults := m.Rehearse(t.Context(), nil); len(faults) > 0 {
		t.Fatal(faults)
	}
	seal, err := os.OpenFile(filepath.Join(p.dir("log"), "seal"), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := ofd.TryLock(seal); !ok {
		t.Fatal("the lock is taken", err)
	}
	defer func() { wantErr(t, ofd.Close(seal), nil) }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, m.Close(ctx), nil)
	if logs, err := filepath.Glob(filepath.Join(p.dir("log"), "*.log")); err != nil || len(logs) > 0 {
		t.Errorf("logs are left: %q, %v", logs, err)
	}
}

// TestCloseBusy: a worker leaves also while recovery is at work for long, which removes its log later.
func TestCloseBusy(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	prepared(t, m, "x")
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
	unlock := p.locked(t, "seal")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, m.Close(ctx), nil)
	unlock()
	m = p.open(t)
	defer closeAll(t, m)
	wantErr(t, m.Scan(t.Context()), nil)
	if list, err := m.List(t.Context()); err != nil || len(list) != 1 || list[0].Phase != txn.Committed {
		t.Errorf("%+v, %v", list, err)
	}
}

// fenced is a resource of which a test sees whom it was to fence.
type fenced struct {
	*spool.Spool

	seen *[]uint64
}

func (f fenced) Fence(ctx context.Context, id txn.LogID, n uint64) error {
	*f.seen = append(*f.seen, n)
	return f.Spool.Fence(ctx, id, n)
}

// TestCloseOwing: a worker that leaves while a rollback is owed leaves its log, by which its successor knows whose
// sessions to end; then that goes.
func TestCloseOwing(t *testing.T) {
	for name, forced := range map[string]bool{"log without a record": false, "log with what is over": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newFastPlace(t)
			m, is := p.withDown(t)
			s := m.NewSession(alice)
			messages := 0
			if forced {
				begin(t, s)
				put(t, s, "a", "kept in a")
				put(t, s, "b", "kept in b")
				wantErr(t, s.Commit(t.Context()), nil)
				messages++
			}
			begin(t, s)
			put(t, s, "a", "1")
			put(t, s, "b", "1")
			is.Store(true)
			wantErr(t, s.Commit(t.Context()), txn.ErrRolledBack)
			if n := m.Counts().Pending; n != 1 {
				t.Fatalf("%d left over, want 1", n)
			}
			closeAll(t, m)
			var seen []uint64
			m = p.withB(t, func(s *spool.Spool) txn.Resource { return fenced{s, &seen} })
			defer closeAll(t, m)
			p.recover(t, m)
			if !slices.Equal(seen, []uint64{1}) {
				t.Errorf("fenced %d, want what the worker that left began", seen)
			}
			retryUntilIdle(t, m)
			p.wantMessages(t, messages, messages)
			p.wantTidy(t)
			p.recover(t, m)
			if logs, err := filepath.Glob(p.dir("log") + "/000*1.log"); err != nil || len(logs) > 0 {
				t.Errorf("left: %q, %v", logs, err)
			}
		})
	}
}
