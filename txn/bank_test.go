package txn_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/postgres"
)

// bankServer is the PostgreSQL that the tests of this package share, with its default of no prepared transactions.
var bankServer struct {
	once   sync.Once
	server *testdb.Postgres
	err    error
}

// closeBank ends it, if a test has started it.
func closeBank() error {
	if bankServer.server == nil {
		return nil
	}
	return bankServer.server.Close()
}

// bankPlace is a place with a decider, "bank", beside its spools. What it is paid is told by the place.
type bankPlace struct {
	place
}

func newBankPlace(t *testing.T) bankPlace {
	t.Helper()
	b := &bankServer
	b.once.Do(func() {
		if b.server, b.err = testdb.StartPostgres("max_prepared_transactions=0"); b.err == nil {
			b.err = b.server.Exec(context.Background(), "postgres", append(postgres.DeciderSQL("fdt"), "CREATE TABLE paid (place text)")...)
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	p := bankPlace{newFastPlace(t)}
	p.at(t, b.server.DSN("postgres"))
	return p
}

// at says how the bank is reached.
func (p bankPlace) at(t *testing.T, dsn string) {
	t.Helper()
	if err := os.WriteFile(p.dir("dsn"), []byte(dsn), 0o600); err != nil {
		t.Fatal(err)
	}
}

// bankOf opens the place's bank; nil if it has none.
func bankOf(p place, at func(step string) error) (*faultyBank, error) {
	dsn, err := os.ReadFile(p.dir("dsn"))
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // a place without a bank
	}
	r, err := postgres.New(postgres.Options{Name: "bank", DSN: string(dsn), Decider: true, Pool: 8})
	return &faultyBank{r, at}, err
}

// faultyBank dies or fails before a request is sent or after the reply came.
type faultyBank struct {
	*postgres.Resource

	at func(step string) error
}

func (f *faultyBank) around(what string, do func() error) error {
	err := f.at("send " + what + " bank")
	if err == nil {
		err = do()
	}
	_ = f.at("got " + what + " bank")
	return err
}

func (f *faultyBank) Enlist(ctx context.Context, opt txn.BranchOptions) (txn.Branch, error) {
	b, err := f.Resource.Enlist(ctx, opt)
	if err != nil {
		return nil, err
	}
	return faultyDeciding{b.(txn.DecidingBranch), f}, nil
}

func (f *faultyBank) Decide(ctx context.Context, d txn.Decision, gids ...txn.GID) (stand map[txn.GID]txn.Decision, err error) {
	err = f.around("decide", func() error {
		stand, err = f.Resource.Decide(ctx, d, gids...)
		return err
	})
	return stand, err
}

func (f *faultyBank) Decisions(ctx context.Context, id txn.LogID, n uint64) (list []txn.NotedDecision, err error) {
	err = f.around("decisions", func() error {
		list, err = f.Resource.Decisions(ctx, id, n)
		return err
	})
	return list, err
}

func (f *faultyBank) DropDecisions(ctx context.Context, gids ...txn.GID) error {
	return f.around("drop", func() error { return f.Resource.DropDecisions(ctx, gids...) })
}

func (f *faultyBank) Fence(ctx context.Context, id txn.LogID, n uint64) error {
	return f.around("fence", func() error { return f.Resource.Fence(ctx, id, n) })
}

type faultyDeciding struct {
	txn.DecidingBranch

	f *faultyBank
}

func (b faultyDeciding) CommitDeciding(ctx context.Context, gid txn.GID, note []byte) error {
	return b.f.around("deciding", func() error { return b.DecidingBranch.CommitDeciding(ctx, gid, note) })
}

func (b faultyDeciding) Commit(ctx context.Context) error {
	return b.f.around("commit", func() error { return b.DecidingBranch.Commit(ctx) })
}

// Identity is txn.Identified's.
func (b faultyDeciding) Identity() string { return b.DecidingBranch.(txn.Identified).Identity() }

func (b faultyDeciding) exec(ctx context.Context, sql string, args ...any) error {
	_, err := b.DecidingBranch.(*postgres.Branch).Exec(ctx, sql, args)
	return err
}

// pay writes in the bank's branch of the open transaction.
func pay(ctx context.Context, s *txn.Session, root string) error {
	b, err := s.Branch(ctx, "bank")
	if err != nil {
		return err
	}
	return b.(faultyDeciding).exec(ctx, "INSERT INTO paid VALUES ($1)", root)
}

// open begins a worker's life in this process, with the bank as its decider.
func (p bankPlace) open(t *testing.T, change ...func(*txn.Options)) *txn.Manager {
	t.Helper()
	return p.place.open(t, append([]func(*txn.Options){p.withBank(t, nil)}, change...)...)
}

// withBank adds the bank, which fails or calls as at does.
func (p bankPlace) withBank(t *testing.T, at func(step string) error) func(*txn.Options) {
	t.Helper()
	return func(o *txn.Options) {
		if at == nil {
			at = func(string) error { return nil }
		}
		bank, err := bankOf(p.place, at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = bank.Close() })
		o.Resources = append(o.Resources, bank)
		o.Decider = "bank"
	}
}

// ask asks the bank's database, whatever the place says of how it is reached.
func (p bankPlace) ask(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), bankServer.server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	if err := c.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// wantPaid checks that what the bank has is what the spool has delivered.
func (p bankPlace) wantPaid(t *testing.T, n int) {
	t.Helper()
	if paid := p.ask(t, "SELECT count(*) FROM paid WHERE place = $1", p.root); paid != n {
		t.Errorf("paid %d times, want %d", paid, n)
	}
	p.wantMessages(t, n, 0)
}

// decisions is how many decisions the bank has of the place's log.
func (p bankPlace) decisions(t *testing.T) int {
	t.Helper()
	return p.ask(t, "SELECT count(*) FROM fdt_txn.decision WHERE log_id = $1", p.logID(t))
}

func (p bankPlace) logID(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(p.dir("log") + "/id")
	if err != nil {
		t.Fatal(err)
	}
	var id string
	if _, rest, ok := strings.Cut(string(raw), `"log":"`); ok {
		id, _, _ = strings.Cut(rest, `"`)
	}
	return id
}

// wantSettled checks that recovery leaves nothing behind: no branch, and no decision.
func (p bankPlace) wantSettled(t *testing.T, m *txn.Manager) {
	t.Helper()
	for range 2 { // what is to be known of the others' ends takes a scan more
		p.recover(t, m)
		if err := txn.Sweep(m, t.Context()); err != nil {
			t.Error(err)
		}
	}
	p.wantNoneOpen(t, m)
	p.wantTidy(t)
	if n := p.decisions(t); n != 0 {
		t.Errorf("%d decisions are left", n)
	}
}

func (p bankPlace) wantLogs(t *testing.T, n int) {
	t.Helper()
	logs, err := os.ReadDir(p.dir("log"))
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, l := range logs {
		if strings.HasSuffix(l.Name(), ".log") {
			left = append(left, l.Name())
		}
	}
	if len(left) != n {
		t.Errorf("logs are left: %q", left)
	}
}

// TestDeciderCrashAtEveryStep kills a worker at each step of a commit whose decision is the bank's. What the bank has paid, the
// spool has delivered, and nothing is left behind. Nothing is ever prepared in the bank.
func TestDeciderCrashAtEveryStep(t *testing.T) {
	const (
		own   = "begin put:a pay commit"
		swept = own + " recover"
	)
	for _, test := range []struct {
		script, die string
		times       int
	}{
		{own, "send prepare a", 0},
		{own, "got prepare a", 0},
		{own, "commit: prepared", 0},
		{own, "commit: deciding", 0},
		{own, "send deciding bank", 0},
		{own, "got deciding bank", 1},
		{own, "commit: decided", 1},
		{own, "send commit prepared a", 1},
		{own, "got commit prepared a", 1},
		{own, "commit: told", 1},
		{own + " die", "", 1},
		{swept, "send drop bank", 1},
		{swept, "got drop bank", 1},
		{swept + " die", "", 1},
		{"begin put:a pay rollback die", "", 0},
	} {
		for _, reboot := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%s/reboot=%t", test.script, test.die, reboot), func(t *testing.T) {
				t.Parallel()
				p := newBankPlace(t)
				if said, killed := p.worker(t, test.script, test.die); !killed {
					t.Fatalf("the worker did not come by that step: %s", said)
				}
				if reboot {
					p.reboot(t)
				}
				m := p.open(t)
				defer closeAll(t, m)
				p.wantSettled(t, m)
				p.wantPaid(t, test.times)
				if test.times == 0 || strings.HasSuffix(test.script, "die") {
					p.wantLogs(t, 0)
				}
				list, err := m.List(t.Context())
				if err != nil || len(list) != 0 {
					t.Errorf("List = %v, %v", list, err)
				}
			})
		}
	}
}

// TestTakerCrashAtEveryStep kills the one that recovers, too, at each step, and then the next one.
func TestTakerCrashAtEveryStep(t *testing.T) {
	for _, test := range []struct {
		die   string // of the owner
		times int
	}{{"commit: prepared", 0}, {"commit: decided", 1}} {
		for _, taker := range []string{
			"send fence bank", "got fence bank", "send decisions bank", "got decisions bank", "send decide bank", "got decide bank",
			"send drop bank", "got drop bank", "send resolve a", "got resolve a",
		} {
			if test.times > 0 && strings.Contains(taker, " decide ") {
				continue // there is nothing to decide
			}
			t.Run(test.die+"/"+taker, func(t *testing.T) {
				t.Parallel()
				p := newBankPlace(t)
				if _, killed := p.worker(t, "begin put:a pay commit", test.die); !killed {
					t.Fatal("the worker did not come by that step")
				}
				for i := range 2 { // what the first one has done the second need not do
					if said, killed := p.worker(t, "recover recover", taker); !killed && i == 0 {
						t.Errorf("the taker did not come by that step: %s", said)
					}
				}
				for range 2 { // the end that the first one notes is durable with its own end
					m := p.open(t)
					p.wantSettled(t, m)
					closeAll(t, m)
				}
				p.wantPaid(t, test.times)
				p.wantLogs(t, 0)
			})
		}
	}
}
