// Command pool transacts through a pool while fdt reloads, until its input ends; then it prints how many transactions it
// made, and how often it had to try again. With "check" connections are checked when borrowed, and no error may come
// through; with "retry", who retries on 57P01 sees no other error; with "bouncer", PgBouncer does the checking; with "hot" nobody
// does, and there is no rest between two transactions.
package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/lib/pq"
)

func main() {
	transact, err := pool(context.Background(), os.Args[1], os.Args[2])
	if err == nil {
		err = run(transact, os.Args[2] == "retry", os.Args[2] == "hot")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// pool returns what makes one transaction by the pool of a driver.
func pool(ctx context.Context, name, how string) (func(context.Context) error, error) {
	account, err := strconv.ParseInt(os.Getenv("ACCOUNT"), 10, 64)
	if err != nil {
		return nil, err
	}
	if name == "pq" {
		db, err := sql.Open("postgres", "")
		if err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(3)
		return func(ctx context.Context) error { return throughSQL(ctx, db, account) }, nil
	}
	config, err := pgxpool.ParseConfig("pool_max_conns=3")
	if err != nil {
		return nil, err
	}
	if how == "bouncer" || how == "hot" {
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // it knows no prepared statements
	}
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return how == "check" }
	p, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, p, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "CALL deposit($1, 1)", account); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "CALL deposit($1, -1)", account+1)
			return err
		})
	}, nil
}

func throughSQL(ctx context.Context, db *sql.DB, account int64) error {
	tx, err := db.BeginTx(ctx, nil)
	if errors.Is(err, driver.ErrBadConn) {
		// So lib/pq calls every FATAL answer, and database/sql says so when three connections in a row were told goodbye.
		// It is no such thing after BEGIN, where a call would be lost.
		return errGoodbye
	}
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, "CALL deposit($1, 1)", account); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "CALL deposit($1, -1)", account+1); err != nil {
		return err
	}
	return tx.Commit()
}

var errGoodbye = errors.New("the server said goodbye")

// goodbye tells whether the server said that it closes this connection.
func goodbye(err error) bool {
	if errors.Is(err, errGoodbye) {
		return true
	}
	if e, ok := errors.AsType[*pq.Error](err); ok {
		return e.Code == "57P01"
	}
	e, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err)
	return ok && e.SQLState() == "57P01"
}

func run(transact func(context.Context) error, retry, hot bool) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var made, retried atomic.Int64
	var enough atomic.Bool
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for !enough.Load() && ctx.Err() == nil {
				switch err := transact(ctx); {
				case err == nil:
					made.Add(1)
				case retry && goodbye(err):
					retried.Add(1)
				default:
					cancel(err)
				}
				if !hot {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	fmt.Println("ready")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	enough.Store(true)
	all.Wait()
	fmt.Println(made.Load(), retried.Load())
	return context.Cause(ctx)
}
