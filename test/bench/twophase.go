package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	random "math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver by its name
	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/mariadb"
	"github.com/fdtserver/fdt/txn/postgres"
)

const (
	twoPhaseRounds = 9
	twoPhasePeriod = time.Second
	mostClients    = 64
)

const (
	withdraw = "UPDATE account SET balance = balance - 1 WHERE id = "
	deposit  = "UPDATE account SET balance = balance + 1 WHERE id = "
)

// transfer moves money between the databases, once.
type transfer func(ctx context.Context, client int) error

// twoPhase compares transfers between PostgreSQL and MariaDB, each committed in two phases. The peer is what a careful programmer
// writes by hand with pgx and go-sql-driver: the same statements, PREPARE on both at once, then COMMIT on both at once, on
// connections kept per client; it keeps no log, so a crash between the phases leaves it ignorant. fdt is the library in
// this process, which forces one record to its log in between, then the installed worker, called by CALL, with its protocol and process.
func twoPhase(ctx context.Context, s *site) (rows []row, err error) {
	if err := s.bank(ctx); err != nil {
		return nil, err
	}
	hand, closeHand, err := byHand(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeHand()) }()
	library, closeLibrary, err := byLibrary(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeLibrary()) }()
	if err := s.serve(ctx, fmt.Sprintf(`
workers: {count: 2}
reload: {settle: 0s}
resources:
  bank_a: {type: postgres, dsn: %q, pool: 128}
  bank_b: {type: mariadb, dsn: %q, pool: 128}
procedures:
  across:
    parameters: {src: int, dst: int}
    steps:
      - {on: bank_a, sql: "%s:src", rows: 1}
      - {on: bank_b, sql: "%s:dst", rows: 1}
`, fmt.Sprintf(postgresDSN, "fdt"), fmt.Sprintf(mariadbDSN, "fdt"), withdraw, deposit), ""); err != nil {
		return nil, err
	}
	called, closeCalled := byCall()
	defer closeCalled()

	for _, clients := range []int{1, 16, 64} {
		figures, err := interleave(ctx, twoPhaseRounds, throughput(clients, library), throughput(clients, hand), throughput(clients, called))
		if err != nil {
			return rows, err
		}
		limit := 0.9
		if clients == 1 {
			limit = 0.8
		}
		peer := fmt.Sprintf("pgx+go-sql-driver %.0f/s", figures[1].median())
		rows = append(rows, row{
			measure: fmt.Sprintf("two-phase commit, PostgreSQL and MariaDB, %d clients: library", clients),
			fdt:     fmt.Sprintf("%.0f/s", figures[0].median()), peer: peer,
			ratio: figures[0].over(figures[1]), aim: atLeast(limit),
		}, row{
			measure: fmt.Sprintf("two-phase commit, PostgreSQL and MariaDB, %d clients: CALL", clients),
			fdt:     fmt.Sprintf("%.0f/s", figures[2].median()), peer: peer,
			ratio: figures[2].over(figures[1]), aim: noAim("%.2f"),
		})
	}
	return rows, nil
}

// throughput is a side: transfers per second by so many clients.
func throughput(clients int, do transfer) side {
	return func(ctx context.Context) (float64, error) {
		var all sync.WaitGroup
		var done atomic.Int64
		errs := make([]error, clients)
		begun := time.Now()
		for n := range clients {
			all.Go(func() {
				for time.Since(begun) < twoPhasePeriod && errs[n] == nil {
					errs[n] = do(ctx, n)
					done.Add(1)
				}
			})
		}
		all.Wait()
		return float64(done.Load()) / time.Since(begun).Seconds(), errors.Join(errs...)
	}
}

func anyAccount() int64 { return 1 + random.Int64N(accounts) }

// both runs two things at once.
func both(a, b func() error) error {
	var all sync.WaitGroup
	var first error
	all.Go(func() { first = a() })
	second := b()
	all.Wait()
	return errors.Join(first, second)
}

// byHand is the peer.
func byHand(ctx context.Context) (transfer, func() error, error) {
	db, err := sql.Open("mysql", fmt.Sprintf(mariadbDSN, "root")+"?interpolateParams=true")
	if err != nil {
		return nil, nil, err
	}
	var as [mostClients]*pgx.Conn
	var bs [mostClients]*sql.Conn
	for n := range mostClients {
		if as[n], err = pgx.Connect(ctx, fmt.Sprintf(postgresDSN, "root")); err == nil {
			bs[n], err = db.Conn(ctx)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	stop := func() error {
		var errs []error
		for n := range mostClients {
			errs = append(errs, as[n].Close(context.WithoutCancel(ctx)), bs[n].Close())
		}
		return errors.Join(append(errs, db.Close())...)
	}
	return func(ctx context.Context, client int) error {
		a, b := as[client], bs[client]
		gid := "'" + rand.Text() + "'"
		send := func(statements ...string) error {
			for _, text := range statements {
				if _, err := b.ExecContext(ctx, text); err != nil {
					return fmt.Errorf("%s: %w", text, err)
				}
			}
			return nil
		}
		_, err := a.Exec(ctx, "BEGIN")
		if err == nil {
			_, err = a.Exec(ctx, withdraw+"$1", anyAccount())
		}
		if err == nil {
			err = send("XA START " + gid)
		}
		if err == nil {
			_, err = b.ExecContext(ctx, deposit+"?", anyAccount())
		}
		if err == nil {
			err = both(func() error {
				_, err := a.Exec(ctx, "PREPARE TRANSACTION "+gid)
				return err
			}, func() error { return send("XA END "+gid, "XA PREPARE "+gid) })
		}
		if err == nil {
			err = both(func() error {
				_, err := a.Exec(ctx, "COMMIT PREPARED "+gid)
				return err
			}, func() error { return send("XA COMMIT " + gid) })
		}
		return err
	}, stop, nil
}

// byLibrary is fdt in this process.
func byLibrary(ctx context.Context) (transfer, func() error, error) {
	a, err := postgres.New(postgres.Options{Name: "bank_a", DSN: fmt.Sprintf(postgresDSN, "root"), Pool: mostClients})
	if err != nil {
		return nil, nil, err
	}
	b, err := mariadb.New(mariadb.Options{Name: "bank_b", DSN: fmt.Sprintf(mariadbDSN, "root"), Pool: mostClients})
	if err != nil {
		return nil, nil, err
	}
	m, err := openManager(ctx, filepath.Join(scratch, "library"), "/run/bench-library", a, b)
	if err != nil {
		return nil, nil, err
	}
	stop := func() error { return errors.Join(m.Close(context.WithoutCancel(ctx)), a.Close(), b.Close()) }
	var sessions [mostClients]*txn.Session
	for n := range sessions {
		sessions[n] = m.NewSession(txn.Principal{User: "bench"})
	}
	execute := func(ctx context.Context, s *txn.Session, on, text string, account int64) error {
		branch, err := s.Branch(ctx, on)
		if err != nil {
			return err
		}
		if execer, ok := branch.(procedure.Execer); ok {
			_, err = execer.Exec(ctx, text, []any{account})
			return err
		}
		return fmt.Errorf("%s takes no SQL", on)
	}
	return func(ctx context.Context, client int) error {
		s := sessions[client]
		err := s.Begin(ctx, txn.TxOptions{})
		if err == nil {
			err = execute(ctx, s, "bank_a", withdraw+"$1", anyAccount())
		}
		if err == nil {
			err = execute(ctx, s, "bank_b", deposit+"?", anyAccount())
		}
		if err != nil {
			return err
		}
		return s.Commit(ctx)
	}, stop, nil
}

// byCall is fdt's installed worker.
func byCall() (transfer, func()) {
	var sessions [mostClients]session
	return func(ctx context.Context, client int) error {
			ctx, cancel := context.WithTimeout(ctx, answerTimeout)
			defer cancel()
			c := &sessions[client]
			c.statement = fmt.Sprintf("CALL across(%d, %d)", anyAccount(), anyAccount())
			return c.ask(ctx)
		}, func() {
			for n := range sessions {
				sessions[n].quit()
			}
		}
}
