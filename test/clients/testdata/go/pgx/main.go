// Command pgx drives fdt with pgx in each of its query modes.
package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgtype"
)

// account is this run's own, and the one after it.
var account, _ = strconv.ParseInt(os.Getenv("ACCOUNT"), 10, 64)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	for n, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe,
		pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		config, err := pgx.ParseConfig("")
		if err != nil {
			return err
		}
		config.DefaultQueryExecMode = mode
		conn, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			return err
		}
		for _, part := range []func(context.Context, *pgx.Conn) error{kinds, transactions, batches, twoPhases, cancelled} {
			if err := part(ctx, conn); err != nil {
				return fmt.Errorf("%s: %w", mode, err)
			}
		}
		if got, err := balance(ctx, conn); err != nil || got != float64(10*(n+1)) {
			return fmt.Errorf("%s: balance %v, %w", mode, got, err)
		}
		if err := errors.Join(conn.Ping(ctx), conn.DeallocateAll(ctx), conn.Close(ctx)); err != nil {
			return fmt.Errorf("%s: %w", mode, err)
		}
	}
	return nil
}

func deposit(ctx context.Context, conn interface {
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
}, account, amount int64) error {
	tag, err := conn.Exec(ctx, "CALL deposit($1, $2)", account, amount)
	if err == nil && tag.String() != "CALL" {
		err = errors.New("tag " + tag.String())
	}
	return err
}

func balance(ctx context.Context, conn *pgx.Conn) (float64, error) {
	var n pgtype.Numeric
	if err := conn.QueryRow(ctx, "SELECT * FROM balance($1)", account).Scan(&n); err != nil {
		return math.NaN(), err
	}
	f, err := n.Float64Value()
	return f.Float64, err
}

// refused demands an error with this SQLSTATE.
func refused(err error, code string) error {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == code {
		return nil
	}
	return fmt.Errorf("not %s: %w", code, err)
}

func kinds(ctx context.Context, conn *pgx.Conn) error {
	const call = "CALL kinds($1::boolean, $2::integer, $3::numeric, $4::float8, $5::text, $6::bytea, $7::uuid, $8::date, $9::timestamptz, $10::jsonb, $11::bigint[], w => $12::text)"
	type row struct {
		B bool
		I int32
		N pgtype.Numeric
		F float64
		T string
		O []byte
		U pgtype.UUID
		D pgtype.Date
		Z time.Time
		J string
		A []int64
		W *string
	}
	sent := row{B: true, I: -7, F: 0.1, T: `back\slash, 'quote' and ü`, O: []byte{0, 255, '\\'}, Z: time.Date(2024, 2, 29, 12, 30, 1, 5000, time.UTC),
		U: pgtype.UUID{Bytes: [16]byte{15: 1}, Valid: true}, D: pgtype.Date{Time: time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC), Valid: true},
		J: `{"k": [1, null]}`, A: []int64{1, -2, 3}}
	if err := sent.N.Scan("1.50"); err != nil {
		return err
	}
	for range 2 {
		rows, err := conn.Query(ctx, call, sent.B, sent.I, sent.N, sent.F, sent.T, sent.O, sent.U, sent.D, sent.Z, sent.J, sent.A, sent.W)
		if err != nil {
			return err
		}
		got, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[row])
		if err != nil {
			return err
		}
		got.Z = got.Z.UTC()
		if !reflect.DeepEqual(got, sent) {
			return fmt.Errorf("got %v, want %v", got, sent)
		}
	}
	return errors.Join(refused(deposit(ctx, conn, -1, 1), "P0002"), exec(ctx, conn, "SELECT * FROM account", "42P01"), exec(ctx, conn, "DELETE FROM account", "0A000"), exec(ctx, conn, "CALL nobody()", "42883"))
}

// exec runs a statement that must fail with this SQLSTATE, or not at all.
func exec(ctx context.Context, conn *pgx.Conn, sql, code string) error {
	_, err := conn.Exec(ctx, sql)
	if code == "" {
		return err
	}
	return refused(err, code)
}

func transactions(ctx context.Context, conn *pgx.Conn) error {
	err := pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
		inner := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return errors.Join(deposit(ctx, tx, account, 100), errors.New("no")) })
		if inner == nil {
			return errors.New("the savepoint was not rolled back")
		}
		err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return deposit(ctx, tx, -1, 1) })
		return errors.Join(refused(err, "P0002"), deposit(ctx, tx, account, 1))
	})
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		return errors.Join(deposit(ctx, tx, account, 100), refused(deposit(ctx, tx, -1, 1), "P0002"))
	})
	if !errors.Is(err, pgx.ErrTxCommitRollback) {
		return fmt.Errorf("commit of a failed transaction: %w", err)
	}
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error { return deposit(ctx, tx, account, 1) })
	return refused(err, "25006")
}

func batches(ctx context.Context, conn *pgx.Conn) error {
	good, bad := &pgx.Batch{}, &pgx.Batch{}
	for range 3 {
		good.Queue("CALL deposit($1, $2)", account, int64(1))
		bad.Queue("CALL deposit($1, $2)", account, int64(100))
	}
	seen := false
	good.Queue("SELECT * FROM balance($1)", account).QueryRow(func(row pgx.Row) error {
		seen = true
		return row.Scan(new(pgtype.Numeric))
	})
	bad.Queue("CALL deposit($1, $2)", int64(-1), int64(1))
	if err := conn.SendBatch(ctx, good).Close(); err != nil || !seen {
		return fmt.Errorf("batch: row %t, %w", seen, err)
	}
	return refused(conn.SendBatch(ctx, bad).Close(), "P0002") // one transaction
}

func twoPhases(ctx context.Context, conn *pgx.Conn) error {
	gids := []string{fmt.Sprintf("pgx one %d", conn.PgConn().PID()), fmt.Sprintf("pgx two %d", conn.PgConn().PID())}
	for n, gid := range gids {
		first, err := pgx.ConnectConfig(ctx, conn.Config())
		if err != nil {
			return err
		}
		if err := errors.Join(exec(ctx, first, "BEGIN", ""), deposit(ctx, first, account+int64(n), 6), exec(ctx, first, "PREPARE TRANSACTION '"+gid+"'", ""), first.Close(ctx)); err != nil {
			return err
		}
		var owner, database string
		var prepared time.Time
		if err := conn.QueryRow(ctx, "SELECT prepared, owner, database FROM pg_prepared_xacts WHERE gid = $1", gid).Scan(&prepared, &owner, &database); err != nil {
			return err
		}
		if since := time.Since(prepared); database != conn.Config().Database || since < 0 || since > time.Hour {
			return fmt.Errorf("%s of %s in %s", prepared, owner, database)
		}
	}
	return errors.Join(exec(ctx, conn, "COMMIT PREPARED '"+gids[0]+"'", ""), exec(ctx, conn, "ROLLBACK PREPARED '"+gids[1]+"'", ""),
		exec(ctx, conn, "COMMIT PREPARED '"+gids[0]+"'", "42704"))
}

// cancelled: a context that ends has pgx send a CancelRequest, which ends the statement and not the session.
func cancelled(ctx context.Context, _ *pgx.Conn) error {
	config, err := pgx.ParseConfig("")
	if err != nil {
		return err
	}
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: time.Minute}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	_, err = conn.Exec(short, "CALL nap($1)", 60.0)
	return errors.Join(refused(err, "57014"), conn.Ping(ctx), conn.Close(ctx))
}
