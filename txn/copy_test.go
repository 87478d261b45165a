package txn_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/txn"
)

// TestForeignLog: a cloned machine, or a restored copy of the log, gets a new
// identity and touches nothing of the old one.
func TestForeignLog(t *testing.T) {
	p := newPlace(t)
	m := p.open(t)
	prepared(t, m, "x")
	closeAll(t, m)
	clone := func(o *txn.Options) { o.MachineID = "m2" }
	m = p.open(t, clone)
	if err := m.Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := m.NewSession(alice)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), txn.ErrUnknownGID)
	prepared(t, m, "x")
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	p.wantMessages(t, 1, 1)
	closeAll(t, m)
	staged, _ := filepath.Glob(p.dir("a") + "/prepared/*-X+a")
	if len(staged) != 1 {
		t.Errorf("the other machine's branch was touched: %q", staged)
	}
	old, _ := filepath.Glob(p.dir("log") + "/old-*/*.log")
	if len(old) != 1 {
		t.Errorf("put aside: %q", old)
	}
}

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

// TestDamagedLog: a log with a hole is left alone, but for an operator.
func TestDamagedLog(t *testing.T) {
	p := newPlace(t)
	m := p.open(t)
	prepared(t, m, "x")
	prepared(t, m, "y")
	closeAll(t, m)
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
	p.reboot(t)
	m = p.open(t)
	defer closeAll(t, m)
	p.recover(t, m)
	s := m.NewSession(alice)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), txn.ErrUnreachable)
	wantErr(t, m.Decide(t.Context(), alice, "x", txn.Commit), txn.ErrNotOwner)
	wantErr(t, m.Decide(t.Context(), txn.Principal{User: "root", Operator: true}, "x", txn.Commit), nil)
	p.wantMessages(t, 1, 1)
}
