package bank

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/mariadb"
	"github.com/fdtserver/fdt/txn/postgres"
)

const (
	debit  = "UPDATE account SET balance = balance - 1 WHERE id = "
	credit = "UPDATE account SET balance = balance + 1 WHERE id = "
)

// BenchmarkTwoPhase commits over PostgreSQL and MariaDB, each client on accounts of its own. "bare" is what a program would do by hand:
// the same statements, PREPARE and COMMIT sent to both at once, and no log, so that its death loses money.
func BenchmarkTwoPhase(b *testing.B) {
	pg, err := testdb.StartPostgres("max_prepared_transactions=200")
	fatal(b, err)
	defer func() { fatal(b, pg.Close()) }()
	my, err := testdb.StartMariaDB()
	fatal(b, err)
	defer func() { fatal(b, my.Close()) }()
	create := []string{"CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL)"}
	for n := range 64 {
		create = append(create, fmt.Sprintf("INSERT INTO account VALUES (%d, 0)", n))
	}
	fatal(b, pg.Exec(b.Context(), "postgres", create...))
	fatal(b, my.Database(b.Context(), "bank"))
	fatal(b, my.Exec(b.Context(), "bank", create...))
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("bare/clients=%d", clients), func(b *testing.B) { bare(b, pg, my, clients) })
		b.Run(fmt.Sprintf("fdt/clients=%d", clients), func(b *testing.B) { coordinated(b, pg, my, clients) })
	}
}

func fatal(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// share divides the iterations among clients, and reports commits per second.
func share(b *testing.B, clients int, client func(n int, next func() bool) error) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	next := func() bool { return left.Add(-1) >= 0 }
	errs := make([]error, clients)
	var all sync.WaitGroup
	b.ResetTimer()
	for n := range clients {
		all.Go(func() { errs[n] = client(n, next) })
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
	fatal(b, errors.Join(errs...))
}

var serial atomic.Int64 // of bare's names

func bare(b *testing.B, pg *testdb.Postgres, my *testdb.MariaDB, clients int) {
	db, err := sql.Open("mysql", my.DSN("fdt", "bank"))
	fatal(b, err)
	defer func() { fatal(b, db.Close()) }()
	ctx := b.Context()
	pgs, mys := make([]*pgx.Conn, clients), make([]*sql.Conn, clients)
	for n := range clients {
		pgs[n], err = pgx.Connect(ctx, pg.DSN("postgres"))
		fatal(b, err)
		mys[n], err = db.Conn(ctx)
		fatal(b, err)
	}
	share(b, clients, func(n int, next func() bool) error {
		p := func(text string) error { _, err := pgs[n].Exec(ctx, text); return err }
		m := func(text string) error { _, err := mys[n].ExecContext(ctx, text); return err }
		for next() {
			name := fmt.Sprintf("'bare-%d'", serial.Add(1))
			err := errors.Join(p("BEGIN"), p(debit+fmt.Sprint(n)), m("XA START "+name), m(credit+fmt.Sprint(n)))
			err = errors.Join(err, both(func() error { return p("PREPARE TRANSACTION " + name) },
				func() error { return errors.Join(m("XA END "+name), m("XA PREPARE "+name)) }))
			if err == nil {
				err = both(func() error { return p("COMMIT PREPARED " + name) }, func() error { return m("XA COMMIT " + name) })
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	for n := range clients {
		fatal(b, errors.Join(pgs[n].Close(ctx), mys[n].Close()))
	}
}

func both(f, g func() error) error {
	var all sync.WaitGroup
	var err error
	all.Go(func() { err = f() })
	other := g()
	all.Wait()
	return errors.Join(err, other)
}

func coordinated(b *testing.B, pg *testdb.Postgres, my *testdb.MariaDB, clients int) {
	a, err := postgres.New(postgres.Options{Name: "bank_a", DSN: pg.DSN("postgres"), Pool: clients})
	fatal(b, err)
	c, err := mariadb.New(mariadb.Options{Name: "bank_b", DSN: my.DSN("fdt", "bank"), Pool: clients})
	fatal(b, err)
	m, err := txn.Open(b.Context(), txn.Options{LogDir: b.TempDir(), ClaimDir: b.TempDir(), MachineID: "bench", Resources: []txn.Resource{a, c}})
	fatal(b, err)
	share(b, clients, func(n int, next func() bool) error {
		s := m.NewSession(txn.Principal{User: "bench"})
		for next() {
			if err := one(b.Context(), s, fmt.Sprint(n)); err != nil {
				return errors.Join(err, s.Close(b.Context()))
			}
		}
		return s.Close(b.Context())
	})
	fatal(b, errors.Join(m.Close(context.WithoutCancel(b.Context())), a.Close(), c.Close()))
}

func one(ctx context.Context, s *txn.Session, id string) error {
	if err := s.Begin(ctx, txn.TxOptions{}); err != nil {
		return err
	}
	for on, text := range map[string]string{"bank_a": debit, "bank_b": credit} {
		br, err := s.Branch(ctx, on)
		if err != nil {
			return err
		}
		if _, err := br.(interface {
			Exec(ctx context.Context, sql string, args []any) (txn.Outcome, error)
		}).Exec(ctx, text+id, nil); err != nil {
			return err
		}
	}
	return s.Commit(ctx)
}
