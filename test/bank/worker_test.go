package bank

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fdtserver/fdt/test/ledger"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/mariadb"
	"github.com/fdtserver/fdt/txn/postgres"
	"github.com/fdtserver/fdt/txn/spool"
)

// The environment that makes this test binary a worker. Its value is the prefix of the worker's transfers.
const workerEnv = "FDT_BANK_WORKER"

// place is where everything is; it is passed on in the environment.
type place struct{ log, claims, spool, postgres, mariadb, decider string }

func (p place) environ() []string {
	return []string{"FDT_LOG=" + p.log, "FDT_CLAIMS=" + p.claims, "FDT_SPOOL=" + p.spool, "FDT_PG=" + p.postgres, "FDT_MY=" + p.mariadb, "FDT_DECIDER=" + p.decider}
}

func placeFromEnviron() place {
	return place{os.Getenv("FDT_LOG"), os.Getenv("FDT_CLAIMS"), os.Getenv("FDT_SPOOL"), os.Getenv("FDT_PG"), os.Getenv("FDT_MY"), os.Getenv("FDT_DECIDER")}
}

// resources opens the two databases and the outbox.
func (p place) resources() (list []txn.Resource, err error) {
	pg, err := postgres.New(postgres.Options{Name: "bank_a", DSN: p.postgres, Pool: 16})
	if err != nil {
		return nil, err
	}
	my, err := mariadb.New(mariadb.Options{Name: "bank_b", DSN: p.mariadb, Pool: 16, Marker: "fdt_marker"})
	if err != nil {
		return nil, err
	}
	out, err := spool.Open("outbox", p.spool)
	return []txn.Resource{pg, my, out}, err
}

func (p place) manager(ctx context.Context, program string, log *slog.Logger) (*txn.Manager, []txn.Resource, error) {
	rms, err := p.resources()
	if err != nil {
		return nil, nil, err
	}
	m, err := txn.Open(ctx, txn.Options{
		LogDir: p.log, ClaimDir: p.claims, MachineID: "bank", Resources: rms, Program: program, Logger: log, Decider: p.decider,
		Limits: txn.Limits{Transaction: 10 * time.Second, Lock: time.Second, Enlist: 2 * time.Second, Phase: 5 * time.Second, Scan: time.Second},
	})
	return m, rms, err
}

const (
	accounts = 48
	balance  = 1000
	tellers  = 6 // of one worker
)

// work is the life of a worker: it transfers until it is killed or its log fails, and tells on stdout what it was promised.
func work(prefix string) error {
	ctx := context.Background()
	m, _, err := placeFromEnviron().manager(ctx, "bank "+prefix, nil)
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	all.Go(func() {
		if err := m.Recover(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "recover:", err)
		}
	})
	for n := range tellers {
		all.Go(func() {
			s := m.NewSession(txn.Principal{User: "teller"})
			for i := 0; ; i++ {
				transfer(ctx, s, fmt.Sprintf("%s.%d.%d", prefix, n, i))
			}
		})
	}
	all.Wait()
	return nil
}

// say tells the parent in one write, which a pipe does not divide.
func say(word ledger.Word, id string) {
	if _, err := os.Stdout.WriteString(string(word) + " " + id + "\n"); err != nil {
		os.Exit(1) // the parent is gone
	}
}

// transfer is one transaction over all three resources.
func transfer(ctx context.Context, s *txn.Session, id string) {
	say(ledger.Try, id)
	if err := s.Begin(ctx, txn.TxOptions{}); err != nil {
		fmt.Fprintln(os.Stderr, id, "begin:", err)
		return
	}
	if err := book(ctx, s, id); err != nil {
		s.Fail(err)
		_ = s.Rollback(ctx) // of what a database that is down undoes by itself
		say(ledger.Failed, id)
		time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond) // a database is down, perhaps
		return
	}
	if rand.IntN(2) == 0 {
		answer(id, ledger.Done, s.Commit(ctx))
		return
	}
	if err := s.Prepare(ctx, id); err != nil {
		answer(id, "", err)
		return
	}
	if rand.IntN(40) == 0 {
		return // the coordinator dies here: it is in doubt until the end
	}
	if rand.IntN(4) == 0 {
		say(ledger.Abort, id)
		decide(id, ledger.Failed, func() error { return s.RollbackPrepared(ctx, id) })
	} else {
		say(ledger.Commit, id)
		decide(id, ledger.Done, func() error { return s.CommitPrepared(ctx, id) })
	}
}

// decide tells a decision until it is acknowledged, as a coordinator does.
func decide(id string, outcome ledger.Word, tell func() error) {
	for {
		err := tell()
		if err == nil {
			say(outcome, id)
			return
		}
		if !txn.InDoubt(err) && !errors.Is(err, txn.ErrBusyGID) {
			say(ledger.Odd, id+" "+strconv.Quote(err.Error()))
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// answer passes on what the client was told.
func answer(id string, good ledger.Word, err error) {
	switch {
	case err == nil && good != "":
		say(good, id)
	case err != nil && !txn.InDoubt(err):
		say(ledger.Failed, id)
	}
}

// book moves an amount between a random account of either bank, in a random direction and order.
func book(ctx context.Context, s *txn.Session, id string) error {
	amount := int64(1 + rand.IntN(9))
	if rand.IntN(2) == 0 {
		amount = -amount
	}
	a, b := int64(rand.IntN(accounts)), int64(rand.IntN(accounts))
	steps := []func() error{
		func() error {
			return post(ctx, s, "bank_a", amount, a, id, "UPDATE account SET balance = balance + $1 WHERE id = $2", "INSERT INTO ledger VALUES ($1)")
		},
		func() error {
			return post(ctx, s, "bank_b", -amount, b, id, "UPDATE account SET balance = balance + ? WHERE id = ?", "INSERT INTO ledger VALUES (?)")
		},
		func() error {
			br, err := s.Branch(ctx, "outbox")
			if err != nil {
				return err
			}
			return br.(interface {
				Put(context.Context, []byte) error
			}).Put(ctx, []byte(id))
		},
	}
	rand.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func post(ctx context.Context, s *txn.Session, on string, amount, account int64, id, update, ledger string) error {
	b, err := s.Branch(ctx, on)
	if err != nil {
		return err
	}
	x := b.(interface {
		Exec(ctx context.Context, sql string, args []any) (txn.Outcome, error)
	})
	out, err := x.Exec(ctx, update, []any{amount, account})
	if err != nil {
		return err
	}
	if out.Rows != 1 {
		return fmt.Errorf("%s: %d accounts %d", on, out.Rows, account)
	}
	_, err = x.Exec(ctx, ledger, []any{id})
	return err
}

// hear takes down one line that a worker said, and returns its first word.
func hear(l *ledger.Ledger, text string) ledger.Word {
	word, id, ok := strings.Cut(text, " ")
	if !ok {
		return "" // a worker died in the middle of a word
	}
	if id, odd, ok := strings.Cut(id, " "); ok {
		l.SayOdd(id, odd)
	} else {
		l.Say(ledger.Word(word), id)
	}
	return ledger.Word(word)
}
