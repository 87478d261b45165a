package txn_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// TestSameNameDuringScan: the name of an outcome that is forgotten is taken again by a living worker, while a scan has
// read the log of the one and not that of the other. What it is of is neither ended nor forgotten by that.
func TestSameNameDuringScan(t *testing.T) {
	p := newFastPlace(t)
	first := p.open(t)
	s := first.NewSession(alice)
	begin(t, s) // it has the first log
	put(t, s, "a", "rolled back")
	wantErr(t, s.Rollback(t.Context()), nil)
	reached, goOn := make(chan bool), make(chan bool)
	halt := false
	second := p.open(t, func(o *txn.Options) {
		txn.SetFault(o, func(step string) error {
			if halt && step == "vote: preparing" {
				reached <- true
				<-goOn
			}
			return nil
		})
	})
	prepared(t, second, "x")
	voted := make(chan error, 1)
	opens := -1
	scanner := p.open(t, func(o *txn.Options) {
		txn.SetFault(o, func(step string) error {
			if opens < 0 || step != "open log" {
				return nil
			}
			if opens++; opens == 2 { // the first log is read, the second is not
				wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
				wantErr(t, s.Acknowledge(), nil)
				halt = true
				again := second.NewSession(alice)
				begin(t, again)
				put(t, again, "a", "again")
				put(t, again, "b", "again")
				go func() { voted <- again.Prepare(t.Context(), "x") }()
				<-reached
			}
			return nil
		})
	})
	for _, m := range []*txn.Manager{first, second, scanner} {
		defer closeAll(t, m)
	}
	wantErr(t, scanner.Scan(t.Context()), nil)
	opens = 0
	wantErr(t, scanner.Scan(t.Context()), nil)
	if opens < 2 {
		t.Fatalf("%d logs were opened", opens)
	}
	close(goOn)
	wantErr(t, <-voted, nil)
	for _, m := range []*txn.Manager{scanner, second} {
		p.recover(t, m)
	}
	list, err := scanner.List(t.Context())
	wantErr(t, err, nil)
	if len(list) != 1 || list[0].ClientGID != "x" || list[0].Phase != txn.Prepared {
		t.Errorf("%+v, want it in doubt", list)
	}
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	p.wantMessages(t, 2, 2)
	p.wantTidy(t)
}

// TestSameNameAfterPowerCut: a failure of power took the end of a transaction, but not the vote of the next one of its
// name, as an fdt leaves it that gave names away before it was durable that they were free. The decision of the first is
// told once more, without the name.
func TestSameNameAfterPowerCut(t *testing.T) {
	p := newFastPlace(t)
	log := filepath.Join(p.dir("log"), "0000000001.log")
	var durable []byte
	first := p.open(t, func(o *txn.Options) {
		txn.SetFault(o, func(step string) (err error) {
			if step == "decide: durable" {
				durable, err = os.ReadFile(log)
			}
			return err
		})
	})
	prepared(t, first, "x")
	s := first.NewSession(alice)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	wantErr(t, s.Acknowledge(), nil)
	wantErr(t, os.Remove(p.claim(t)), nil) // at once
	second := p.open(t)
	prepared(t, second, "x")
	closeAll(t, first)
	closeAll(t, second)
	wantErr(t, os.WriteFile(log, durable, 0o600), nil)
	p.reboot(t)

	m := p.open(t)
	defer closeAll(t, m)
	for range 2 { // what waits to be told is not told twice
		wantErr(t, m.Scan(t.Context()), nil)
		if n := m.Counts(); n.Pending != 1 || n.InDoubt != 1 {
			t.Errorf("%+v, want one to be told and one in doubt", n)
		}
	}
	txn.Retry(m, t.Context())
	p.recover(t, m)
	if n := m.Counts(); n.Pending != 0 || n.InDoubt != 1 {
		t.Errorf("%+v, want one in doubt", n)
	}
	p.wantMessages(t, 1, 1)
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
	p.wantMessages(t, 2, 2)
	p.wantTidy(t)
	p.wantNoneOpen(t, m)
}

// TestSameNameRestated: what the vote of a later transaction proved of the one before it is known when that vote has left
// the logs.
func TestSameNameRestated(t *testing.T) {
	p := newFastPlace(t)
	log := filepath.Join(p.dir("log"), "0000000001.log")
	var durable []byte
	first := p.open(t, func(o *txn.Options) {
		txn.SetFault(o, func(step string) (err error) {
			if step == "end: noted" {
				durable, err = os.ReadFile(log)
			}
			return err
		})
	})
	others := []string{"1", "2", "3", "4", "5", "6"}
	for _, x := range others { // so that the log is not shortened
		prepared(t, first, x)
	}
	prepared(t, first, "x")
	s := first.NewSession(alice)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	wantErr(t, s.Acknowledge(), nil)
	wantErr(t, os.Remove(filepath.Join(p.dir("claims"), ledger.ClientName("x"))), nil) // at once
	second := p.open(t)
	prepared(t, second, "x")
	closeAll(t, first)
	closeAll(t, second)
	wantErr(t, os.WriteFile(log, durable, 0o600), nil)
	p.reboot(t)

	third := p.open(t)
	p.recover(t, third)
	s = third.NewSession(alice)
	wantErr(t, s.RollbackPrepared(t.Context(), "x"), nil)
	wantErr(t, s.Acknowledge(), nil)
	wantErr(t, txn.Sweep(third, t.Context()), nil)
	wantErr(t, third.Scan(t.Context()), nil)
	closeAll(t, third)
	p.reboot(t)

	m := p.open(t)
	defer closeAll(t, m)
	s = m.NewSession(alice)
	wantErr(t, s.RollbackPrepared(t.Context(), "x"), txn.ErrUnknownGID)
	for _, x := range others {
		wantErr(t, s.RollbackPrepared(t.Context(), x), nil)
	}
	p.wantMessages(t, 1, 1)
	p.wantTidy(t)
}
