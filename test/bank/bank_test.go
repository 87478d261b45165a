// Package bank moves money between PostgreSQL and MariaDB while everything around it is killed. It shows the promise of transactions on
// the level of the library; the shipped service is put to the same test elsewhere.
package bank

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/test/ledger"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/postgres"
)

var duration = flag.Duration("bank.duration", 12*time.Second, "how long TestBank transfers and kills at least")

func TestMain(m *testing.M) {
	if prefix := os.Getenv(workerEnv); prefix != "" {
		if err := work(prefix); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Random transfers over both databases and an outbox, committed here or by an outside coordinator, while workers and databases are
// killed. The sums add up, every commit that was acknowledged is there, every other transfer is there in all places or in none, each
// message once, and in the end nothing is prepared and no lock is held. Where PostgreSQL decides it has no decision left then.
func TestBank(t *testing.T) {
	for _, decider := range []string{"", "bank_a"} {
		t.Run("decider="+decider, func(t *testing.T) { bank(t, decider) })
	}
}

func bank(t *testing.T, decider string) {
	pg, err := testdb.StartPostgres()
	must(t, err)
	defer func() { must(t, pg.Close()) }()
	my, err := testdb.StartMariaDB()
	must(t, err)
	defer func() { must(t, my.Close()) }()
	must(t, pg.Exec(t.Context(), "postgres", "CREATE DATABASE bank"))
	must(t, my.Database(t.Context(), "bank"))
	create := []string{"CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL)", "CREATE TABLE ledger (id varchar(40) PRIMARY KEY)"}
	for n := range accounts {
		create = append(create, fmt.Sprintf("INSERT INTO account VALUES (%d, %d)", n, balance))
	}
	must(t, pg.Exec(t.Context(), "bank", append(create, postgres.DeciderSQL("fdt")...)...))
	must(t, my.Exec(t.Context(), "bank", create...))
	at := place{log: t.TempDir(), claims: t.TempDir(), spool: t.TempDir(), postgres: pg.DSN("bank"), mariadb: my.DSN("fdt", "bank"), decider: decider}

	h := new(ledger.Ledger)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	said := make(chan ledger.Word)
	var all, killers sync.WaitGroup
	for n := range 2 {
		all.Go(func() { tend(ctx, t, at, h, n, said) })
	}
	killers.Go(func() {
		for end := time.Now().Add(*duration); time.Now().Before(end) && pause(ctx, time.Second, 3*time.Second); {
			if err := errors.Join(pg.Kill(), pg.Start()); err != nil {
				t.Error(err)
				return
			}
		}
	})
	killers.Go(func() { killAfterEachPhase(ctx, t, my, said) })
	killers.Wait()
	cancel()
	all.Wait()
	t.Log("heard: ", h)
	if t.Failed() {
		return
	}
	settle(t, at, h, my)
	audit(t, at, h, pg, my)
}

// killAfterEachPhase kills MariaDB within a second of each answer that a client hears, when what was answered may not be on disk yet, for
// as long as the test lasts, and each kind of answer at least once.
func killAfterEachPhase(ctx context.Context, t *testing.T, my *testdb.MariaDB, said <-chan ledger.Word) {
	phases := []ledger.Word{ledger.Try, ledger.Abort, ledger.Failed, ledger.Commit, ledger.Done}
	end := time.Now().Add(*duration)
	for i := 0; i < len(phases) || time.Now().Before(end); i++ {
		for heard := ledger.Word(""); heard != phases[i%len(phases)]; {
			select {
			case heard = <-said:
			case <-time.After(testwait.Patience):
				t.Errorf("no client hears %q", phases[i%len(phases)])
				return
			}
		}
		if !pause(ctx, 0, time.Second) {
			return
		}
		if err := errors.Join(my.Kill(), my.Start()); err != nil {
			t.Error(err)
			return
		}
	}
}

// tend keeps a worker running, and kills it again and again; the second one lives longer, so that it sees databases come back.
func tend(ctx context.Context, t *testing.T, at place, h *ledger.Ledger, n int, said chan<- ledger.Word) {
	self, err := os.Executable()
	if err != nil {
		t.Error(err)
		return
	}
	for life := 0; ctx.Err() == nil; life++ {
		cmd := exec.Command(self, "-test.run=^$")
		cmd.Env = append(append(os.Environ(), at.environ()...), workerEnv+"="+strconv.Itoa(n)+"."+strconv.Itoa(life))
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Error(err)
			return
		}
		var read sync.WaitGroup
		read.Go(func() {
			for lines := bufio.NewScanner(out); lines.Scan(); {
				word := hear(h, lines.Text())
				select {
				case said <- word:
				default: // nobody waits for a word
				}
			}
		})
		pause(ctx, 500*time.Millisecond, time.Duration(2+3*n)*time.Second)
		_ = cmd.Process.Kill() // it may have ended by itself, which Wait tells
		read.Wait()
		var exit *exec.ExitError
		if err := cmd.Wait(); errors.As(err, &exit) && exit.Exited() {
			t.Errorf("worker %d.%d ended: %v", n, life, err)
		}
	}
}

// pause waits a random while and tells whether there is time left.
func pause(ctx context.Context, low, high time.Duration) bool {
	timer := time.NewTimer(low + rand.N(high-low))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// settle recovers what the dead left, decides as their coordinators had decided or would have, and returns when all is quiet.
func settle(t *testing.T, at place, h *ledger.Ledger, my *testdb.MariaDB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	m, rms, err := at.manager(ctx, "bank settle", slog.New(slog.NewTextHandler(t.Output(), nil)))
	must(t, err)
	var recovery sync.WaitGroup
	recovering, stop := context.WithCancel(ctx)
	recovery.Go(func() {
		if err := m.Recover(recovering); err != nil {
			t.Error(err)
		}
	})
	defer func() {
		stop()
		recovery.Wait()
		err := m.Close(context.WithoutCancel(ctx))
		for _, r := range rms {
			err = errors.Join(err, r.Close())
		}
		must(t, err)
	}()
	for {
		if err := m.Scan(ctx); err != nil {
			t.Log("scan: ", err)
		}
		list, err := m.List(ctx)
		must(t, err)
		var open []txn.Transaction
		for _, tx := range list {
			if tx.Hazard != "" {
				t.Fatalf("%s: hazard: %s", tx.Name(), tx.Hazard)
			}
			if tx.Phase == txn.Prepared {
				decideOpen(ctx, t, m, h, tx.ClientGID)
			}
			if !tx.Phase.Terminal() {
				open = append(open, tx)
			}
		}
		if len(open) == 0 && nothingPrepared(ctx, rms) && at.undecided(ctx, t) {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%d transactions are still open: %+v\n%s", len(open), open, evidence(my))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func decideOpen(ctx context.Context, t *testing.T, m *txn.Manager, h *ledger.Ledger, id string) {
	t.Helper()
	s := m.NewSession(txn.Principal{User: "teller"})
	defer func() { _ = s.Close(ctx) }() // it holds nothing
	commit, decided := h.Decided(id)
	commit = commit || !decided && rand.IntN(2) == 0
	var err error
	if commit {
		err = s.CommitPrepared(ctx, id)
	} else {
		err = s.RollbackPrepared(ctx, id)
	}
	switch {
	case err == nil && commit:
		h.Say(ledger.Done, id)
	case err == nil:
		h.Say(ledger.Failed, id)
	case !txn.InDoubt(err) && !errors.Is(err, txn.ErrBusyGID):
		t.Errorf("%s: decision in the end: %v", id, err)
	}
}

// undecided tells whether the decider keeps no decision any more, of any worker.
func (p place) undecided(ctx context.Context, t *testing.T) bool {
	t.Helper()
	conn, err := pgx.Connect(ctx, p.postgres)
	must(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var n int
	must(t, conn.QueryRow(ctx, "SELECT count(*) FROM fdt_txn.decision").Scan(&n))
	return n == 0
}

// nothingPrepared asks the resources themselves, whoever's the branch.
func nothingPrepared(ctx context.Context, rms []txn.Resource) bool {
	for _, r := range rms {
		var id txn.LogID
		list, err := r.InDoubt(ctx, id)
		if err != nil || len(list) > 0 {
			return false
		}
	}
	return true
}

// audit compares the books.
func audit(t *testing.T, at place, h *ledger.Ledger, pg *testdb.Postgres, my *testdb.MariaDB) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pg.DSN("bank"))
	must(t, err)
	defer func() { must(t, conn.Close(context.Background())) }()
	db, err := sql.Open("mysql", my.DSN("root", "bank"))
	must(t, err)
	defer func() { must(t, db.Close()) }()

	var a, b int64
	must(t, conn.QueryRow(t.Context(), "SELECT sum(balance)::bigint FROM account").Scan(&a))
	must(t, db.QueryRowContext(t.Context(), "SELECT sum(balance) FROM account").Scan(&b))
	if a+b != 2*accounts*balance {
		t.Errorf("the sums are %d and %d, together not %d", a, b, 2*accounts*balance)
	}
	places := map[string]map[string]int{"PostgreSQL": {}, "MariaDB": {}, "the outbox": {}}
	rows, err := conn.Query(t.Context(), "SELECT id FROM ledger")
	must(t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	for _, id := range ids {
		places["PostgreSQL"][id]++
	}
	myRows, err := db.QueryContext(t.Context(), "SELECT id FROM ledger")
	must(t, err)
	for myRows.Next() {
		var id string
		must(t, myRows.Scan(&id))
		places["MariaDB"][id]++
	}
	must(t, myRows.Err())
	files, err := filepath.Glob(filepath.Join(at.spool, "new", "*"))
	must(t, err)
	for _, name := range files {
		body, err := os.ReadFile(name)
		must(t, err)
		places["the outbox"][string(body)]++
	}
	complaints, committed := h.Audit(places)
	for _, c := range complaints {
		t.Error(c)
	}
	t.Logf("%d transfers committed", committed)

	// Nothing is prepared, no lock is held.
	var n int
	must(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_prepared_xacts").Scan(&n))
	xa, err := db.QueryContext(t.Context(), "XA RECOVER")
	must(t, err)
	for xa.Next() {
		n++
	}
	must(t, errors.Join(xa.Err(), xa.Close()))
	if n != 0 {
		t.Errorf("%d branches are still prepared", n)
	}
	must(t, pg.Exec(t.Context(), "bank", "SET lock_timeout = '1s'", "UPDATE account SET balance = balance", "BEGIN", "LOCK TABLE ledger", "COMMIT"))
	must(t, my.Exec(t.Context(), "bank", "SET innodb_lock_wait_timeout = 1", "UPDATE account SET balance = balance + 1", "DELETE FROM ledger"))
	left, err := filepath.Glob(filepath.Join(at.spool, "[tp]*", "*"))
	must(t, err)
	t.Logf("the spool keeps %d entries beside its messages", len(left))
}
