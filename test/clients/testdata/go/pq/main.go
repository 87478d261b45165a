// Command pq drives fdt with lib/pq under database/sql.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"time"

	"github.com/lib/pq"
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
	for n, dsn := range []string{"", "binary_parameters=yes"} {
		db, err := sql.Open("postgres", dsn)
		if err != nil {
			return err
		}
		for _, part := range []func(context.Context, *sql.DB) error{kinds, transactions, twoPhases, cancelled} {
			if err := part(ctx, db); err != nil {
				return fmt.Errorf("%s: %w", dsn, err)
			}
		}
		var balance float64
		if err := db.QueryRowContext(ctx, "CALL balance($1)", account).Scan(&balance); err != nil || balance != float64(7*(n+1)) {
			return fmt.Errorf("%s: balance %v, %w", dsn, balance, err)
		}
		if err := errors.Join(db.PingContext(ctx), db.Close()); err != nil {
			return fmt.Errorf("%s: %w", dsn, err)
		}
	}
	return nil
}

// refused demands an error with this SQLSTATE.
func refused(err error, code pq.ErrorCode) error {
	if e, ok := errors.AsType[*pq.Error](err); ok && e.Code == code {
		return nil
	}
	return fmt.Errorf("not %s: %w", code, err)
}

type execer interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}

// exec runs a statement that must fail with this SQLSTATE, or not at all.
func exec(ctx context.Context, on execer, code pq.ErrorCode, query string, args ...any) error {
	_, err := on.ExecContext(ctx, query, args...)
	if code == "" {
		return err
	}
	return refused(err, code)
}

func kinds(ctx context.Context, db *sql.DB) error {
	type row struct {
		B    bool
		I    int64
		N    string
		F    float64
		T    string
		O    []byte
		U    string
		D, Z time.Time
		J    string
		A    pq.Int64Array
		W    sql.NullString
	}
	day := time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)
	sent := row{true, -7, "1.50", 0.1, `back\slash, 'quote' and ü`, []byte{0, 255, '\\'}, "00000000-0000-0000-0000-000000000001",
		day, day.Add(5 * time.Microsecond), `{"k": [1, null]}`, pq.Int64Array{1, -2, 3}, sql.NullString{}}
	const call = "CALL kinds($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, w => $12)"
	st, err := db.PrepareContext(ctx, call)
	if err != nil {
		return err
	}
	args := []any{sent.B, sent.I, sent.N, sent.F, sent.T, sent.O, sent.U, sent.D, sent.Z, sent.J, sent.A, sent.W}
	for _, result := range []*sql.Row{st.QueryRowContext(ctx, args...), st.QueryRowContext(ctx, args...), db.QueryRowContext(ctx, call, args...)} {
		var got row
		if err := result.Scan(&got.B, &got.I, &got.N, &got.F, &got.T, &got.O, &got.U, &got.D, &got.Z, &got.J, &got.A, &got.W); err != nil {
			return err
		}
		got.D, got.Z = got.D.UTC(), got.Z.UTC()
		if !reflect.DeepEqual(got, sent) {
			return fmt.Errorf("got %v, want %v", got, sent)
		}
	}
	return errors.Join(st.Close(), exec(ctx, db, "P0002", "CALL deposit($1, $2)", -1, 1), exec(ctx, db, "42883", "CALL nobody()"),
		exec(ctx, db, "22P02", "CALL deposit($1, $2)", "many", 1), exec(ctx, db, "42P01", "SELECT * FROM account"), exec(ctx, db, "0A000", "DELETE FROM account"))
}

func transactions(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
	if err != nil {
		return err
	}
	if err := errors.Join(exec(ctx, tx, "", "CALL deposit($1, $2)", account, 1), exec(ctx, tx, "", "SAVEPOINT s"),
		exec(ctx, tx, "P0002", "CALL deposit($1, $2)", -1, 1), exec(ctx, tx, "", "ROLLBACK TO s"), tx.Commit()); err != nil {
		return err
	}
	tx, err = db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	if err := errors.Join(exec(ctx, tx, "25006", "CALL deposit($1, $2)", account, 100), tx.Rollback()); err != nil {
		return err
	}
	tx, err = db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := errors.Join(exec(ctx, tx, "", "CALL deposit($1, $2)", account, 100), exec(ctx, tx, "P0002", "CALL deposit($1, $2)", -1, 1)); err != nil {
		return err
	}
	if tx.Commit() == nil {
		return errors.New("a failed transaction was committed")
	}
	return nil
}

func twoPhases(ctx context.Context, db *sql.DB) error {
	one, two := fmt.Sprint("one ", account), fmt.Sprint("two ", account)
	for gid, account := range map[string]int64{one: account, two: account + 1} {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		if err := errors.Join(exec(ctx, conn, "", "BEGIN"), exec(ctx, conn, "", "CALL deposit($1, $2)", account, 6),
			exec(ctx, conn, "", "PREPARE TRANSACTION "+pq.QuoteLiteral(gid)), conn.Close()); err != nil {
			return err
		}
		var prepared time.Time
		if err := db.QueryRowContext(ctx, "SELECT prepared FROM pg_prepared_xacts WHERE gid = $1", gid).Scan(&prepared); err != nil {
			return err
		}
	}
	return errors.Join(exec(ctx, db, "", "COMMIT PREPARED "+pq.QuoteLiteral(one)), exec(ctx, db, "", "ROLLBACK PREPARED "+pq.QuoteLiteral(two)), exec(ctx, db, "42704", "COMMIT PREPARED "+pq.QuoteLiteral(one)))
}

func cancelled(ctx context.Context, db *sql.DB) error {
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	return exec(short, db, "57014", "CALL nap($1)", 60)
}
