// Command tools drives fdt with the tools that stand on Go's drivers, each with no option set that is not the way in.
//
//	tools NAME [start]
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// account is this run's own.
var account, _ = strconv.ParseInt(os.Getenv("ACCOUNT"), 10, 64)

// tool is what each can do; exec runs a statement without parameters on one connection.
type tool struct {
	one       func(context.Context) (int, error)                     // SELECT 1
	procedure func(ctx context.Context, name string) (string, error) // looks one up in pg_proc
	deposit   func(ctx context.Context, account int64, amount int64) error
	within    func(ctx context.Context, amount int64, ok bool) error // deposits in a transaction, which ends well or with an error
	two       func(ctx context.Context, gid string) error            // prepares a deposit of 10 on one connection
	exec      func(ctx context.Context, sql string) error
	balance   func(ctx context.Context) (int64, error) // by a prepared statement where there is one
	close     func() error
}

var tools = map[string]func(context.Context) (*tool, error){
	"pgx": openPgx, "pq": openPQ, "sqlx": openSQLX, "gorm": openGORM, "bun": openBun, "go-pg": openGoPG,
}

func main() {
	if err := run(context.Background(), os.Args[1], len(os.Args) > 2); err != nil {
		fmt.Fprintln(os.Stderr, os.Args[1]+":", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, name string, start bool) error {
	t, err := tools[name](ctx)
	if err != nil {
		return err
	}
	if n, err := t.one(ctx); err != nil || n != 1 {
		return fmt.Errorf("SELECT 1: %d, %w", n, err)
	}
	if start {
		return t.close()
	}
	if got, err := t.procedure(ctx, "deposit"); err != nil || got != "deposit" {
		return fmt.Errorf("pg_proc: %q, %w", got, err)
	}
	gid := fmt.Sprint(name, " ", account)
	err = errors.Join(t.deposit(ctx, account, 1), t.within(ctx, 1, true), t.two(ctx, gid), t.exec(ctx, "COMMIT PREPARED '"+gid+"'"))
	if err != nil {
		return err
	}
	if t.deposit(ctx, -1, 1) == nil || t.within(ctx, 100, false) == nil {
		return errors.New("no error")
	}
	for range 6 {
		if n, err := t.balance(ctx); err != nil || n != 12 {
			return fmt.Errorf("balance: %d, %w", n, err)
		}
	}
	return t.close()
}
