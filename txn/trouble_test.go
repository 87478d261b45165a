package txn_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/fdtserver/fdt/internal/ofd"
	"github.com/fdtserver/fdt/txn"
)

// started begins to use a resource, for which a worker needs a log.
func started(t *testing.T, m *txn.Manager) error {
	t.Helper()
	s := m.NewSession(alice)
	begin(t, s)
	_, err := s.Branch(t.Context(), "a")
	return errors.Join(err, s.Close(t.Context()))
}

// failing is a fault: it does something at a step.
func failing(at string, do func() error) func(*txn.Options) {
	return func(o *txn.Options) {
		txn.SetFault(o, func(step string) error {
			if step == at {
				return do()
			}
			return nil
		})
	}
}

func eio() error { return syscall.EIO }

// when is eio from the time on at which broken is set.
func when(broken *atomic.Bool) func() error {
	return func() error {
		if broken.Load() {
			return syscall.EIO
		}
		return nil
	}
}

// breakable opens a worker with a transaction that has voted, if what is a
// decision, or with one open in s that has written to both resources. The step
// fails once broken is set.
func (p place) breakable(t *testing.T, step, what string) (m *txn.Manager, s *txn.Session, broken *atomic.Bool) {
	t.Helper()
	broken = new(atomic.Bool)
	m = p.open(t, failing(step, when(broken)))
	s = m.NewSession(alice)
	if strings.HasSuffix(what, "prepared") {
		prepared(t, m, "x")
	} else {
		begin(t, s)
		put(t, s, "a", "1")
		put(t, s, "b", "2")
	}
	return m, s, broken
}

// halfCommitted decides a transaction of which the resource that is down cannot
// be told.
func halfCommitted(t *testing.T, m *txn.Manager, is *atomic.Bool) *txn.Session {
	t.Helper()
	s := m.NewSession(alice)
	begin(t, s)
	put(t, s, "a", "1")
	putDown(t, s, "2")
	if err := s.Prepare(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	is.Store(true)
	err := s.CommitPrepared(t.Context(), "x")
	wantErr(t, err, txn.ErrUnreachable)
	if txn.SQLState(err) != "08007" {
		t.Errorf("SQLSTATE %s", txn.SQLState(err))
	}
	return s
}

// TestInTheWay: what somebody put where fdt keeps its files, or took away. Each
// is an error of the step that meets it, and once it is gone all goes on.
func TestInTheWay(t *testing.T) {
	mkdir := func(path string) func() error { return func() error { return os.MkdirAll(path, 0o700) } }
	for name, test := range map[string]struct {
		file      string // below the place: it is put there, and removed in the end
		put       func(path string) func() error
		open, use error // of txn.Open, of the first use of a resource
		scan      error
	}{
		"id":           {file: "log/id.new", put: mkdir, open: syscall.EISDIR},
		"counter":      {file: "log/incarnation.new", put: mkdir, use: syscall.EISDIR},
		"new log":      {file: "log/0000000001.log.new", put: mkdir, use: syscall.EISDIR},
		"recovery":     {file: "log/recovery", put: mkdir, scan: syscall.EISDIR},
		"other log":    {file: "log/0000000007.log", put: mkdir, scan: syscall.EISDIR},
		"count":        {file: "claims/counted.new", put: mkdir, scan: syscall.EISDIR},
		"counts":       {file: "claims/counts", put: mkdir, scan: syscall.EISDIR},
		"mark":         {file: "claims/rebuilt.new", put: mkdir, scan: syscall.EISDIR},
		"claim":        {file: "claims/x-0/y", put: mkdir, scan: syscall.ENOTEMPTY},
		"claim's link": {file: "claims/x-1", put: func(path string) func() error { return func() error { return os.Symlink("nowhere", path) } }},
		"counter's end": {file: "log/incarnation", put: func(path string) func() error {
			return func() error { return os.WriteFile(path, []byte("134217727\n"), 0o600) }
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newFastPlace(t)
			wantErr(t, test.put(p.dir(test.file))(), nil)
			m, err := txn.Open(t.Context(), p.options(t))
			wantErr(t, err, test.open)
			if err == nil {
				switch err := started(t, m); {
				case name == "counter's end":
					if err == nil || !strings.Contains(err.Error(), "no incarnation numbers left") {
						t.Errorf("got %v", err)
					}
				default:
					wantErr(t, err, test.use)
				}
				wantErr(t, m.Scan(t.Context()), test.scan)
				closeAll(t, m)
			}
			wantErr(t, os.RemoveAll(filepath.Join(p.root, strings.Join(strings.SplitN(test.file, "/", 3)[:2], "/"))), nil)
			m = p.open(t)
			defer closeAll(t, m)
			p.recover(t, m)
			prepared(t, m, "x")
			wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
		})
	}
}

// TestIDTaken: an id that is taken away while it is looked at was nobody's.
func TestIDTaken(t *testing.T) {
	p := newFastPlace(t)
	closeAll(t, p.open(t))
	m := p.open(t, failing("read id", func() error { return os.Remove(p.dir("log/id")) }))
	defer closeAll(t, m)
	wantErr(t, started(t, m), nil)
}

// TestNewLogHeld: a log under way that another process holds is left to it.
func TestNewLogHeld(t *testing.T) {
	p := newFastPlace(t)
	f, err := os.Create(p.dir("log/0000000001.log.new"))
	wantErr(t, err, nil)
	if ok, err := ofd.TryLock(f); !ok {
		t.Fatal(err)
	}
	m := p.open(t)
	defer closeAll(t, m)
	if err := started(t, m); err == nil || !strings.Contains(err.Error(), "locked by another process") {
		t.Errorf("got %v", err)
	}
	wantErr(t, ofd.Close(f), nil)
	wantErr(t, started(t, m), nil)
}

// TestForeignInTheWay: a foreign log that cannot be put aside stops the start.
func TestForeignInTheWay(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	prepared(t, m, "x")
	closeAll(t, m)
	clone := func(o *txn.Options) { o.MachineID = "m2" }
	opt := p.options(t)
	clone(&opt)
	raw, err := os.ReadFile(p.dir("log/id"))
	wantErr(t, err, nil)
	_, id, _ := strings.Cut(string(raw), `"log":"`)
	aside := p.dir("log/old-" + id[:32])
	wantErr(t, os.WriteFile(aside, nil, 0o600), nil)
	_, err = txn.Open(t.Context(), opt)
	wantErr(t, err, syscall.ENOTDIR)
	wantErr(t, os.Remove(aside), nil)
	m = p.open(t, clone)
	wantErr(t, started(t, m), nil)
	closeAll(t, m)
	if old, _ := filepath.Glob(aside + "/*"); len(old) != 3 { // the log, the counter and whose they are
		t.Errorf("put aside: %q", old)
	}
}

// TestClaimsTrouble: the directory of the claims goes, or fails, at each time
// that matters. Nothing is promised, and what was stays so.
func TestClaimsTrouble(t *testing.T) {
	t.Run("gone at prepare", func(t *testing.T) {
		p := newFastPlace(t)
		m := p.open(t)
		defer closeAll(t, m)
		p.recover(t, m)
		wantErr(t, os.RemoveAll(p.dir("claims")), nil)
		s := m.NewSession(alice)
		begin(t, s)
		put(t, s, "a", "1")
		wantErr(t, s.Prepare(t.Context(), "x"), fs.ErrNotExist)
		p.wantTidy(t)
	})
	for name, fault := range map[string]func(p place) error{
		"gone at boot":   func(p place) error { return os.RemoveAll(p.dir("claims")) },
		"failed at boot": func(place) error { return syscall.EIO },
	} {
		t.Run(name, func(t *testing.T) {
			p := newFastPlace(t)
			m := p.open(t)
			prepared(t, m, "x")
			closeAll(t, m)
			p.reboot(t)
			bad := p.open(t, failing("list logs", func() error { return fault(p) }))
			s := bad.NewSession(alice)
			if err := s.CommitPrepared(t.Context(), "x"); err == nil || errors.Is(err, txn.ErrUnknownGID) {
				t.Errorf("got %v", err)
			}
			begin(t, s)
			if err := s.Prepare(t.Context(), "y"); err == nil {
				t.Error("prepared without claims")
			}
			_ = bad.Close(t.Context())
			wantErr(t, os.MkdirAll(p.dir("claims"), 0o700), nil)
			m = p.open(t)
			defer closeAll(t, m)
			wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
			p.wantMessages(t, 1, 1)
		})
	}
}

// claim is the file of the only claim.
func (p place) claim(t *testing.T) string {
	t.Helper()
	all := claimFiles(t, p)
	if len(all) != 1 {
		t.Fatalf("claims: %q", all)
	}
	return all[0]
}

// say replaces a text in the last state of the only claim.
func (p place) say(t *testing.T, was, is string) {
	t.Helper()
	raw, err := os.ReadFile(p.claim(t))
	next := strings.ReplaceAll(string(raw), was, is)
	if next == string(raw) {
		t.Fatalf("the claim says %s", raw)
	}
	wantErr(t, errors.Join(err, os.WriteFile(p.claim(t), []byte(next), 0o600)), nil)
}

// TestLastWordsUnreadable: what a dead decider said last cannot be read. The
// outcome is pending, for its coordinator and for recovery.
func TestLastWordsUnreadable(t *testing.T) {
	const script = "begin put:a prepare:y begin put:a put:b prepare:x commit-prepared:x"
	damage := func(t *testing.T, p place) {
		t.Helper()
		logs, _ := filepath.Glob(p.dir("log") + "/*.log")
		raw, err := os.ReadFile(logs[0])
		wantErr(t, err, nil)
		raw[strings.Index(string(raw), `"kind":"preparing"`)] ^= 1
		wantErr(t, os.WriteFile(logs[0], raw, 0o600), nil)
	}
	for name, test := range map[string]struct {
		die     string
		damaged bool
		fault   string
	}{
		"deciding":               {"decide: claimed", true, ""},
		"decided":                {"send resolve a", true, ""},
		"decided, seal fails":    {"send resolve a", false, "lock seal"},
		"deciding, once":         {"decide: durable", false, "read log again"},
		"deciding, probe fails":  {"decide: durable", false, "probe log"},
		"taken over, none to be": {"send resolve b", false, "write claim"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newFastPlace(t)
			if _, killed := p.worker(t, script, test.die); !killed {
				t.Fatal("not killed")
			}
			if test.damaged {
				damage(t, p)
			}
			m := p.open(t, failing(test.fault, eio))
			if test.fault == "read log again" || test.fault == "write claim" { // by recovery
				wantErr(t, m.Scan(t.Context()), syscall.EIO)
			} else if err := m.NewSession(alice).CommitPrepared(t.Context(), "x"); !txn.InDoubt(err) && !errors.Is(err, syscall.EIO) {
				t.Errorf("got %v", err)
			}
			_ = m.Close(t.Context())
			if test.damaged {
				return
			}
			m = p.open(t)
			defer closeAll(t, m)
			p.recover(t, m)
			wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
			p.wantMessages(t, 1, 1)
		})
	}
}

// TestStuck: a living decider's intent without its lock is nobody's to finish.
func TestStuck(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	defer closeAll(t, m)
	prepared(t, m, "x")
	p.say(t, `"claimant":1`, `"claimant":1,"deciding":"commit","deciding_by":1`)
	other := p.open(t)
	defer closeAll(t, other)
	err := other.NewSession(alice).CommitPrepared(t.Context(), "x")
	wantErr(t, err, txn.ErrUnreachable)
	if !strings.Contains(err.Error(), "stuck") {
		t.Error(err)
	}
	p.wantMessages(t, 0, 0)
}
