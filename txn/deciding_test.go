package txn_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// steps is a hook that does something at a step, or fails it.
type steps map[string]func() error

func (s steps) at(step string) error {
	if f := s[step]; f != nil {
		return f()
	}
	return nil
}

func isDown() error { return errDown }

// terminate ends the sessions of the place's workers.
func (p bankPlace) terminate(t *testing.T) func() error {
	return func() error {
		return bankServer.server.Exec(context.Background(), "postgres",
			"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE 'fdt1-"+p.logID(t)+"%'")
	}
}

// faultySpools puts the spools behind a hook, too.
func faultySpools(at func(string) error) func(*txn.Options) {
	return func(o *txn.Options) {
		for i, r := range o.Resources {
			if s, ok := r.(*spool.Spool); ok {
				o.Resources[i] = faulty{s, at}
			}
		}
	}
}

// buy is a transaction of the bank and the spool a, up to its commit.
func (p bankPlace) buy(t *testing.T, m *txn.Manager) *txn.Session {
	t.Helper()
	s := m.NewSession(alice)
	begin(t, s)
	b, err := s.Branch(t.Context(), "a")
	wantErr(t, err, nil)
	if f, ok := b.(faultyBranch); ok {
		b = f.Branch
	}
	wantErr(t, b.(*spool.Branch).Put(t.Context(), []byte("message")), nil)
	wantErr(t, pay(t.Context(), s, p.root), nil)
	return s
}

// TestDeciderLosesAnswer: the answer to the commit that decides is lost. The decider is asked, at once or later, or by a successor.
func TestDeciderLosesAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		after, later bool
		err          error
		times        int
	}{
		"committed, told at once":   {true, false, nil, 1},
		"committed, told later":     {true, true, txn.ErrUnknownOutcome, 1},
		"rolled back, told at once": {false, false, txn.ErrRolledBack, 0},
		"rolled back, told later":   {false, true, txn.ErrUnknownOutcome, 0},
	} {
		for _, successor := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				if successor && !test.later {
					t.Skip("nothing is left to a successor")
				}
				p := newBankPlace(t)
				proxy, err := testdb.NewProxy(filepath.Join(bankServer.server.Dir(), ".s.PGSQL.5432"))
				wantErr(t, err, nil)
				defer func() { wantErr(t, proxy.Close(), nil) }()
				p.at(t, proxy.Through(bankServer.server.DSN("postgres")))
				hooks := steps{}
				hooks["send deciding bank"] = func() error {
					if !test.after {
						return p.terminate(t)()
					}
					proxy.Lose(1)
					return nil
				}
				if test.later {
					hooks["send decide bank"] = isDown
				}
				m := p.place.open(t, p.withBank(t, hooks.at))
				err = p.buy(t, m).Commit(t.Context())
				wantErr(t, err, test.err)
				if txn.InDoubt(err) != test.later || test.later && txn.SQLState(err) != "08007" {
					t.Errorf("in doubt: %v", err)
				}
				if test.later {
					txn.Retry(m, t.Context()) // in vain
					if n := m.Counts().Pending; n != 1 {
						t.Errorf("%d left over", n)
					}
					p.recover(t, m) // its own scan does not decide behind its back
					p.wantMessages(t, 0, 0)
				}
				delete(hooks, "send decide bank")
				if successor {
					closeAll(t, m)
					m = p.open(t)
				}
				for range 2 { // ask, then tell
					txn.Rested(m)
					txn.Retry(m, t.Context())
				}
				if test.times > 0 || successor {
					p.wantSettled(t, m)
				}
				closeAll(t, m) // with its own decision to roll back
				if n := p.decisions(t); n != 0 {
					t.Errorf("%d decisions are left", n)
				}
				p.wantTidy(t)
				p.wantPaid(t, test.times)
			})
		}
	}
}

// TestDeciderDown: while the decider cannot be asked what it may have decided waits, and all else goes on.
func TestDeciderDown(t *testing.T) {
	for step, times := range map[string]int{"commit: prepared": 0, "commit: decided": 1} {
		for _, failing := range []string{"away", "send fence bank", "send decisions bank"} {
			p := newBankPlace(t)
			if _, killed := p.worker(t, "begin put:a pay commit", step); !killed {
				t.Fatal("the worker did not come by that step")
			}
			hooks := steps{failing: isDown}
			if failing == "away" {
				p.at(t, "host="+p.root)
			}
			m := p.place.open(t, p.withBank(t, hooks.at))
			for range 2 {
				if err := m.Scan(t.Context()); err == nil || !strings.Contains(err.Error(), "bank") {
					t.Errorf("%s: Scan: %v", failing, err)
				}
				txn.Retry(m, t.Context())
				wantErr(t, txn.Sweep(m, t.Context()), nil)
			}
			p.wantMessages(t, 0, 0)
			if left := p.untidy(); len(left) != 1 {
				t.Errorf("%s: staged: %q", failing, left)
			}
			s := m.NewSession(alice)
			begin(t, s)
			put(t, s, "b", "1")
			wantErr(t, s.Commit(t.Context()), nil)
			p.wantMessages(t, 0, 1)
			closeAll(t, m)
			p.at(t, bankServer.server.DSN("postgres"))
			m = p.open(t)
			p.wantSettled(t, m)
			if paid := p.ask(t, "SELECT count(*) FROM paid WHERE place = $1", p.root); paid != times {
				t.Errorf("paid %d times, want %d", paid, times)
			}
			p.wantMessages(t, times, 1)
			closeAll(t, m)
		}
	}
}

// TestDeciderElsewhere: who does not have the decider keeps his hands off, says so, and refuses to take the place of one who has.
func TestDeciderElsewhere(t *testing.T) {
	for name, test := range map[string]struct {
		change func(t *testing.T, p bankPlace) func(*txn.Options)
		why    string
	}{
		"none": {func(*testing.T, bankPlace) func(*txn.Options) { return func(*txn.Options) {} }, `"bank" is not configured`},
		"another database": {func(t *testing.T, p bankPlace) func(*txn.Options) {
			_ = bankServer.server.Exec(t.Context(), "postgres", "CREATE DATABASE other") // or it is there
			p.at(t, bankServer.server.DSN("other"))
			return p.withBank(t, nil)
		}, `resource "bank" is `},
		"another type": {func(t *testing.T, p bankPlace) func(*txn.Options) {
			return func(o *txn.Options) {
				bank, err := bankOf(p.place, steps{}.at)
				wantErr(t, err, nil)
				id, err := bank.Identity(t.Context())
				wantErr(t, errors.Join(err, bank.Close()), nil)
				o.Resources = append(o.Resources, renamed{o.Resources[0].(*spool.Spool), id})
			}
		}, "is of a type now that cannot"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newBankPlace(t)
			if _, killed := p.worker(t, "begin put:a pay commit", "commit: decided"); !killed {
				t.Fatal("the worker did not come by that step")
			}
			m := p.place.open(t, test.change(t, p))
			for range 3 {
				if err := m.Scan(t.Context()); err == nil || !strings.Contains(err.Error(), test.why) {
					t.Errorf("Scan: %v", err)
				}
				txn.Retry(m, t.Context())
			}
			p.wantMessages(t, 0, 0)
			if left := p.untidy(); len(left) != 1 {
				t.Errorf("staged: %q", left)
			}
			list, err := m.Unexplained()
			if err != nil || len(list) != 1 || !list[0].Alone || !strings.Contains(list[0].Why, "keeps decisions of incarnation 1") {
				t.Errorf("Unexplained = %+v, %v", list, err)
			}
			if err := m.Stranded(t.Context()); name != "another type" && (err == nil || !strings.Contains(err.Error(), "take transaction.decider out first")) {
				t.Errorf("Stranded: %v", err)
			}
			closeAll(t, m)
			p.at(t, bankServer.server.DSN("postgres"))
			m = p.place.open(t, p.withBank(t, nil), func(o *txn.Options) { o.Decider = "" }) // the resource is enough
			wantErr(t, m.Stranded(t.Context()), nil)
			p.wantSettled(t, m)
			p.wantPaid(t, 1)
			closeAll(t, m)
		})
	}
}

// renamed is a spool under the bank's name and identity.
type renamed struct {
	*spool.Spool

	id string
}

func (renamed) Name() string { return "bank" }

func (r renamed) Identity(context.Context) (string, error) { return r.id, nil }

func (renamed) InDoubt(context.Context, txn.LogID) ([]txn.PreparedBranch, error) { return nil, nil }

// TestDeciderOwnerLives: a worker that is stopped for as long as one likes is alive, and nobody decides for it. If somebody did, it is
// bound by that.
func TestDeciderOwnerLives(t *testing.T) {
	for _, taken := range []bool{false, true} {
		p := newBankPlace(t)
		goOn := p.stopped(t, map[bool]string{false: "begin put:a pay commit", true: "begin put:a pay refused-commit"}[taken], "commit: prepared")
		m := p.open(t)
		p.recover(t, m)
		if left := p.untidy(); len(left) != 1 || p.decisions(t) != 0 {
			t.Errorf("staged: %q, decisions: %d", left, p.decisions(t))
		}
		if taken {
			var id txn.LogID
			wantErr(t, id.UnmarshalText([]byte(p.logID(t))), nil)
			bank, err := bankOf(p.place, steps{}.at)
			wantErr(t, err, nil)
			stand, err := bank.Decide(t.Context(), txn.Abort, txn.GID{Log: id, Incarnation: 1, Sequence: 1, Role: txn.RoleLocal})
			if err != nil || len(stand) != 1 {
				t.Error(stand, err)
			}
			wantErr(t, bank.Close(), nil)
		}
		goOn()
		p.wantSettled(t, m)
		p.wantPaid(t, map[bool]int{false: 1, true: 0}[taken])
		closeAll(t, m)
	}
}

// TestDecidedCannotBeTold: a resource that cannot be told what the decider has decided is told later, from the log, without the decider.
func TestDecidedCannotBeTold(t *testing.T) {
	for _, full := range []bool{false, true} {
		p := newBankPlace(t)
		hooks := steps{"send commit prepared a": isDown, "send resolve a": isDown}
		m := p.place.open(t, p.withBank(t, hooks.at), faultySpools(hooks.at), func(o *txn.Options) { txn.SetFault(o, hooks.at) })
		s := p.buy(t, m)
		if full {
			hooks["commit: told"] = func() error { hooks["write"] = isDown; return nil }
		}
		wantErr(t, s.Commit(t.Context()), nil)
		delete(hooks, "write")
		if w := s.Warnings(); len(w) != 1 || !strings.Contains(w[0].Error(), "committed, but") {
			t.Errorf("warnings: %v", w)
		}
		list, err := m.List(t.Context())
		if want := map[bool]int{false: 1, true: 0}[full]; err != nil || len(list) != want || want > 0 && list[0].Phase != txn.Committing {
			t.Errorf("List = %v, %v", list, err)
		}
		if m.Err() == nil {
			wantErr(t, txn.Sweep(m, t.Context()), nil)
		}
		if n := p.decisions(t); n != map[bool]int{false: 0, true: 1}[full] {
			t.Errorf("%d decisions", n)
		}
		p.wantMessages(t, 0, 0)
		if !full {
			p.at(t, "host="+p.root) // the decider is not needed any more, though it is asked
			hooks["send fence bank"] = isDown
			delete(hooks, "send resolve a")
			txn.Rested(m)
			txn.Retry(m, t.Context())
			p.wantMessages(t, 1, 0)
		}
		_ = m.Close(t.Context())
		p.at(t, bankServer.server.DSN("postgres"))
		m = p.open(t)
		p.wantSettled(t, m)
		p.wantPaid(t, 1)
		closeAll(t, m)
	}
}

// TestDecidedEndIsLost: a failure of power has taken the note that all know the decision. It is told once more, and what proves that
// all know it is there as long as that can happen.
func TestDecidedEndIsLost(t *testing.T) {
	p := newBankPlace(t)
	if _, killed := p.worker(t, "begin put:a pay commit", "commit: told"); !killed {
		t.Fatal("the worker did not come by that step")
	}
	m := p.open(t)
	p.wantSettled(t, m)
	p.wantPaid(t, 1)
	list, err := m.List(t.Context())
	if err != nil || len(list) != 0 {
		t.Errorf("List = %+v, %v", list, err)
	}
	closeAll(t, m)
}

// TestDecisionsCannotBeDropped: they, and the proofs behind them, wait for the next time.
func TestDecisionsCannotBeDropped(t *testing.T) {
	p := newBankPlace(t)
	hooks := steps{"send drop bank": isDown}
	m := p.place.open(t, p.withBank(t, hooks.at))
	wantErr(t, p.buy(t, m).Commit(t.Context()), nil)
	wantErr(t, txn.Sweep(m, t.Context()), errDown)
	wantErr(t, m.Close(t.Context()), errDown) // its log stays
	m = p.place.open(t, p.withBank(t, hooks.at))
	if err := m.Scan(t.Context()); !errors.Is(err, errDown) {
		t.Errorf("Scan: %v", err)
	}
	if n := p.decisions(t); n != 1 {
		t.Errorf("%d decisions", n)
	}
	delete(hooks, "send drop bank")
	p.wantSettled(t, m)
	p.wantPaid(t, 1)
	closeAll(t, m)
	p.wantLogs(t, 0)
}

// TestDecidedOrderly: a worker that leaves in order leaves no decision and no log. That its decisions were the bank's is known for as
// long as its log is there, however that is shortened.
func TestDecidedOrderly(t *testing.T) {
	p := newBankPlace(t)
	m := p.open(t)
	for range 2 {
		wantErr(t, p.buy(t, m).Commit(t.Context()), nil)
		wantErr(t, txn.Rotate(m, t.Context()), nil)
		raw, err := os.ReadFile(p.dir("log") + "/0000000001.log")
		if n := bytes.Count(raw, []byte(`"kind":"decider"`)); err != nil || n != 1 {
			t.Errorf("%d records of the decider: %v", n, err)
		}
	}
	if n := p.decisions(t); n != 2 {
		t.Errorf("%d decisions", n)
	}
	closeAll(t, m)
	p.wantPaid(t, 2)
	p.wantLogs(t, 0)
	if n := p.decisions(t); n != 0 {
		t.Errorf("%d decisions", n)
	}
	p.wantTidy(t)
}

// TestDecidedBackAgain: a branch of our own that nobody is at and no log knows is asked for at the decider, too.
func TestDecidedBackAgain(t *testing.T) {
	p := newBankPlace(t)
	hooks := steps{}
	hooks["send deciding bank"] = p.terminate(t)
	hooks["commit: prepared"] = func() error {
		return os.CopyFS(p.dir("copy"), os.DirFS(p.dir("a")+"/prepared"))
	}
	m := p.place.open(t, p.withBank(t, hooks.at), func(o *txn.Options) { txn.SetFault(o, hooks.at) })
	wantErr(t, p.buy(t, m).Commit(t.Context()), txn.ErrRolledBack)
	p.wantTidy(t)
	wantErr(t, os.CopyFS(p.dir("a")+"/prepared", os.DirFS(p.dir("copy"))), nil)
	if left := p.untidy(); len(left) != 1 {
		t.Errorf("staged: %q", left)
	}
	hooks["send decide bank"] = isDown
	if err := m.Scan(t.Context()); !errors.Is(err, errDown) {
		t.Errorf("Scan: %v", err)
	}
	txn.Retry(m, t.Context())
	if left := p.untidy(); len(left) != 1 {
		t.Errorf("staged: %q", left)
	}
	delete(hooks, "send decide bank")
	p.recover(t, m)
	p.wantTidy(t)
	p.wantPaid(t, 0)
	closeAll(t, m)
	if n := p.decisions(t); n != 0 {
		t.Errorf("%d decisions", n)
	}
}

// TestDeciderNotUsed: what the decider has no part in, or need not decide, leaves nothing there.
func TestDeciderNotUsed(t *testing.T) {
	p := newBankPlace(t)
	hooks := steps{"send deciding bank": isDown}
	m := p.place.open(t, p.withBank(t, hooks.at))
	alone := m.NewSession(alice)
	begin(t, alone)
	wantErr(t, pay(t.Context(), alone, p.root), nil)
	wantErr(t, alone.Commit(t.Context()), nil)
	others := m.NewSession(alice)
	begin(t, others)
	put(t, others, "a", "1")
	put(t, others, "b", "1")
	wantErr(t, others.Commit(t.Context()), nil)
	p.wantMessages(t, 1, 1)
	named := p.buy(t, m)
	if _, err := named.XID(t.Context()); err != nil {
		t.Error(err)
	}
	if err := named.Commit(t.Context()); !errors.Is(err, txn.ErrRolledBack) || !strings.Contains(err.Error(), "max_prepared_transactions") {
		t.Errorf("with an id: %v", err)
	}
	if faults := m.Rehearse(t.Context(), nil); len(faults) > 0 {
		t.Errorf("Rehearse: %v", faults)
	}
	if n := p.decisions(t); n != 0 {
		t.Errorf("%d decisions", n)
	}
	closeAll(t, m)
	opt := p.options(t)
	opt.Decider = "a"
	if _, err := txn.Open(t.Context(), opt); err == nil || !strings.Contains(err.Error(), `"a" that can keep decisions`) {
		t.Errorf("Open: %v", err)
	}
}

// TestDeciderRefuses: what the decider's database finds at the commit is a vote against all, and one that cannot be used at all is found
// by the rehearsal.
func TestDeciderRefuses(t *testing.T) {
	p := newBankPlace(t)
	_ = bankServer.server.Exec(t.Context(), "postgres", "CREATE DATABASE bare")
	p.at(t, bankServer.server.DSN("bare"))
	m := p.open(t)
	if faults := m.Rehearse(t.Context(), nil); len(faults) != 1 || !strings.Contains(faults["bank"].Error(), "fdtctl decider init bank") {
		t.Errorf("Rehearse: %v", faults)
	}
	s := m.NewSession(alice)
	begin(t, s)
	put(t, s, "a", "1")
	b, err := s.Branch(t.Context(), "bank")
	wantErr(t, err, nil)
	wantErr(t, b.(faultyDeciding).exec(t.Context(), "SELECT 1"), nil)
	if err := s.Commit(t.Context()); !errors.Is(err, txn.ErrRolledBack) || txn.InDoubt(err) {
		t.Errorf("Commit: %v", err)
	}
	p.wantTidy(t)
	p.wantMessages(t, 0, 0)
	closeAll(t, m) // its own decisions cannot be asked for there
}
