package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// assaults are the attacks: first those before authentication, then those after it.
var assaults = []assault{
	{"silence", idle, sending(clearAddress, nil)},
	{"one byte", idle, sending(clearAddress, []byte{0})},
	{"half a startup packet", idle, sending(clearAddress, packet(versionCode, strings.Repeat("x", 9000))[:5000])},
	{"TLS begun and left", idle, unbroken(true)},
	{"SCRAM begun and left", idle, proving(1, nil)},
	{"connect and close", entering, func(ctx context.Context, _ *attacker) error {
		conn, err := dialer.DialContext(ctx, "tcp", clearAddress)
		if err != nil {
			return err
		}
		return conn.Close()
	}},
	{"TLS begun in a loop", entering, unbroken(false)},
	{"wrong passwords", entering, proving(2, nil)},
	{"cancel requests", entering, sending(clearAddress, packet(cancelCode, "\x00\x01\x02\x03abcd"))},
	{"huge lengths", entering, sending(clearAddress, []byte{0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0})},
	{"huge lengths in SCRAM", entering, proving(0, message('p', 1<<30-1, "x"))},
	{"16 MiB in SCRAM", entering, proving(0, message('Q', longest, strings.Repeat("x", longest-4)))},

	{"nested arrays", querying, asking("SELECT " + strings.Repeat("ARRAY[", 22) + "'x'" + strings.Repeat("]::text", 22))},
	{"1,664 columns", querying, asking("SELECT " + strings.Repeat("1,", 1663) + "1")},
	{"100 arguments", querying, asking("CALL enqueue(" + strings.Repeat("'x',", 99) + "'x')")},
	{"prepared statements", querying, hoarding},
	{"settings", querying, asking(numbered("SET a.b%d=1;", 8000), "RESET ALL")},
	{"savepoints", querying, asking("BEGIN", strings.Repeat("SAVEPOINT s;", 2000), "ROLLBACK")},
	{"prepared transactions", querying, preparing},
	{"unknown gids", querying, asking("COMMIT PREPARED 'never'")},
	{"16 MiB of statements", querying, asking(strings.Repeat("BEGIN;", longest/6))},
	{"16 MiB of text", querying, asking("SELECT '" + strings.Repeat("x", longest-100) + "'")},
	{"answers unread", idle, unread},
}

// numbered is one text for each of n numbers.
func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// hoarding prepares statements until the session has no memory left, and begins again.
func hoarding(ctx context.Context, a *attacker) error {
	text := "SELECT '" + strings.Repeat("x", 1<<20) + "'"
	return a.inSession(ctx, func(conn *pgconn.PgConn) error {
		for n := 0; ; n++ {
			_, err := conn.Prepare(ctx, fmt.Sprint("s", n), text, nil)
			if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.Code == "53200" {
				_, err = conn.Exec(ctx, "DEALLOCATE ALL").ReadAll()
			}
			if err != nil {
				return err
			}
			a.did()
		}
	})
}

// preparing prepares transactions, beyond the limit.
func preparing(ctx context.Context, a *attacker) error {
	return a.inSession(ctx, func(conn *pgconn.PgConn) (err error) {
		var names []string
		defer func() { // what is prepared stays otherwise
			err = errors.Join(err, a.inSession(context.WithoutCancel(ctx), func(conn *pgconn.PgConn) error {
				var errs []error
				for _, name := range names {
					_, err := conn.Exec(context.WithoutCancel(ctx), "ROLLBACK PREPARED '"+name+"'").ReadAll()
					errs = append(errs, err)
				}
				return errors.Join(errs...)
			}))
		}()
		for n := 0; ; n++ {
			name := fmt.Sprintf("%d-%d", a.number, n)
			_, err := conn.Exec(ctx, "BEGIN; CALL enqueue('x'); PREPARE TRANSACTION '"+name+"'").ReadAll()
			if err == nil {
				names = append(names, name)
			} else if _, ok := errors.AsType[*pgconn.PgError](err); !ok {
				return err
			}
			a.did()
		}
	})
}

// unreadFor is how long a server takes no more of who reads no answers, until it is taken for stuck.
const unreadFor = time.Second

// unread asks for long answers and reads none.
func unread(ctx context.Context, a *attacker) error {
	return a.inSession(ctx, func(conn *pgconn.PgConn) error {
		h, err := conn.Hijack()
		if err != nil {
			return err
		}
		defer h.Conn.Close()
		defer context.AfterFunc(ctx, func() { h.Conn.Close() })()
		question, err := (&pgproto3.Query{String: "SELECT '" + strings.Repeat("x", 1<<20) + "'"}).Encode(nil)
		for err == nil {
			_ = h.Conn.SetWriteDeadline(time.Now().Add(unreadFor))
			_, err = h.Conn.Write(question)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return a.hold(ctx)
		}
		return err
	})
}
