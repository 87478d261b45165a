package txn_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/fdtserver/fdt/txn"
)

// TestOlderCopy: logs put back from a backup know less than the resources.
// What they do not know is left alone.
func TestOlderCopy(t *testing.T) {
	p := newPlace(t)
	m := p.open(t)
	prepared(t, m, "old")
	closeAll(t, m)
	backup, err := os.ReadFile(p.dir("log") + "/incarnation")
	if err != nil {
		t.Fatal(err)
	}
	m = p.open(t)
	prepared(t, m, "new")
	closeAll(t, m)
	p.reboot(t)
	logs, _ := filepath.Glob(p.dir("log") + "/*2.log")
	if len(logs) != 1 {
		t.Fatalf("logs: %q", logs)
	}
	if err := errors.Join(os.Remove(logs[0]), os.WriteFile(p.dir("log")+"/incarnation", backup, 0o640)); err != nil {
		t.Fatal(err)
	}
	m = p.open(t)
	defer closeAll(t, m)
	p.recover(t, m)
	staged, _ := filepath.Glob(p.dir("a") + "/prepared/*-X+a")
	if len(staged) != 2 {
		t.Errorf("staged: %q", staged)
	}
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "new"), txn.ErrUnknownGID)
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "old"), nil)
}

// damage makes a hole in the first log.
func (p place) damage(t *testing.T) {
	t.Helper()
	logs, _ := filepath.Glob(p.dir("log") + "/*.log")
	raw, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(raw), `"kind":"preparing"`)
	raw[at] ^= 1
	if err := os.WriteFile(logs[0], raw, 0o640); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedLog: a log with a hole is left alone, but for an operator.
func TestDamagedLog(t *testing.T) {
	p := newPlace(t)
	m := p.open(t)
	prepared(t, m, "x")
	prepared(t, m, "y")
	closeAll(t, m)
	p.damage(t)
	p.reboot(t)
	m = p.open(t)
	defer closeAll(t, m)
	p.recover(t, m)
	s := m.NewSession(alice)
	err := s.CommitPrepared(t.Context(), "x")
	wantErr(t, err, txn.ErrUnreachable)
	var told []string // what is not a text of ours alone
	var look func(err error)
	look = func(err error) {
		switch e := err.(type) { //nolint:errorlint // it is taken apart
		case *txn.Error:
			told = append(told, e.Error())
		case interface{ Unwrap() error }:
			look(e.Unwrap())
		case interface{ Unwrap() []error }:
			for _, err := range e.Unwrap() {
				look(err)
			}
		default:
			told = append(told, "(for the journal)")
		}
	}
	if look(err); len(told) != 2 || told[1] != "(for the journal)" || !strings.Contains(err.Error(), "left to an operator: log 1: ") {
		t.Errorf("%q of %v", told, err)
	}
	wantErr(t, m.Decide(t.Context(), alice, "x", txn.Commit), txn.ErrNotOwner)
	wantErr(t, m.Decide(t.Context(), txn.Principal{User: "root", Operator: true}, "x", txn.Commit), nil)
	p.wantMessages(t, 1, 1)
}

// TestLostInDamage: a transaction that may have been in the part of a log which cannot be read is not unknown, as long as that
// log is there; another log says as ever what it knows.
func TestLostInDamage(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	prepared(t, m, "x")
	prepared(t, m, "z")
	closeAll(t, m)
	logs, _ := filepath.Glob(p.dir("log") + "/*.log")
	raw, err := os.ReadFile(logs[0])
	wantErr(t, err, nil)
	damaged := strings.ReplaceAll(string(raw), `"client_gid":"x"`, `"client_gid":"?"`)
	wantErr(t, os.WriteFile(logs[0], []byte(damaged), 0o600), nil)
	p.reboot(t)
	broken := new(atomic.Bool)
	m = p.open(t, failing("probe log", func() error {
		if broken.Load() {
			return syscall.EIO
		}
		return nil
	}))
	defer closeAll(t, m)
	p.recover(t, m)
	s := m.NewSession(alice)
	for range 2 {
		for _, err := range []error{s.CommitPrepared(t.Context(), "x"), s.RollbackPrepared(t.Context(), "x")} {
			if wantErr(t, err, txn.ErrDamaged); !txn.InDoubt(err) || strings.Contains(err.Error(), p.root) {
				t.Error(err)
			}
		}
	}
	_, err = m.Show(t.Context(), "x")
	if wantErr(t, err, txn.ErrDamaged); !strings.Contains(err.Error(), "log of incarnation 1: ") {
		t.Error(err)
	}
	prepared(t, m, "y")
	wantErr(t, s.CommitPrepared(t.Context(), "y"), nil)
	wantErr(t, s.Acknowledge(), nil)
	wantErr(t, os.Remove(logs[0]), nil)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), txn.ErrUnknownGID)
	p.waiting(t, "begin put:a")() // its log cannot be probed
	broken.Store(true)
	_, err = m.Show(t.Context(), "x")
	wantErr(t, err, txn.ErrNoClaims)
	broken.Store(false)
}
