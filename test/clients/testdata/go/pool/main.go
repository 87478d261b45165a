// Command pool transacts through a pool while fdt reloads, until its input ends; then it prints how many transactions it
// made, and how often it had to try again. With "check" connections are checked when borrowed, and no error may come
// through; with "retry", who retries on 57P01 sees no other error; with "bouncer", PgBouncer does the checking.
package main

import (
	"context"
	"database/sql"
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
		err = run(transact, os.Args[2] == "retry")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// pool returns what makes one transaction by a driver's pool.
func pool(ctx context.Context, driver, how string) (func(context.Context) error, error) {
	account, err := strconv.ParseInt(os.Getenv("ACCOUNT"), 10, 64)
	if err != nil {
		return nil, err
	}
	if driver == "pq" {
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
	if how == "bouncer" {
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

// goodbye tells whether the server said that it closes this connection.
func goodbye(err error) bool {
	if e, ok := errors.AsType[*pq.Error](err); ok {
		return e.Code == "57P01"
	}
	e, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err)
	return ok && e.SQLState() == "57P01"
}

func run(transact func(context.Context) error, retry bool) error {
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
				time.Sleep(time.Millisecond)
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
