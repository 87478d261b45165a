package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// letter is what is sent on along with each withdrawal.
const letter = `{"account": 4711, "amount": 1, "currency": "EUR"}`

// outbox compares a withdrawal in PostgreSQL with a message in a spool with what is done by hand without one: the message is a row of a
// table, written in the same transaction, and somebody else will have to read the table, send the rows on, and delete them. The spool's
// message needs none of that. That work is not counted on the rival's side: it is the least that an outbox costs.
func outbox(ctx context.Context, s *site) (rows []row, err error) {
	if err := s.bank(ctx); err != nil {
		return nil, err
	}
	if err := makeDecider(ctx); err != nil {
		return nil, err
	}
	hand, closeHand, err := byTable(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeHand()) }()
	var sides []measured
	for _, c := range []measured{
		{what: "withdrawal with a message, PostgreSQL and spool", way: "library", rate: noAim("%.2f"), cpu: noAim("%.2f")},
		{what: "withdrawal with a message, PostgreSQL as the decider and spool", way: "library", rate: noAim("%.2f"), cpu: noAim("%.2f")},
	} {
		decider := ""
		if len(sides) > 0 {
			decider = "bank_a"
		}
		do, stop, err := bySpool(ctx, decider)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, stop()) }()
		c.do = do
		sides = append(sides, c)
	}
	for _, clients := range []int{1, 16, 64} {
		some, err := compare(ctx, fmt.Sprintf("%d clients", clients), clients, rival{"outbox table", hand}, sides...)
		rows = append(rows, some...)
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// byTable is the rival: pgx, on connections kept per client.
func byTable(ctx context.Context) (transfer, func() error, error) {
	var conns [mostClients]*pgx.Conn
	for n := range conns {
		var err error
		if conns[n], err = pgx.Connect(ctx, fmt.Sprintf(postgresDSN, "root")); err != nil {
			return nil, nil, err
		}
	}
	if _, err := conns[0].Exec(ctx, "CREATE TABLE IF NOT EXISTS outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz DEFAULT now(), body bytea)"); err != nil {
		return nil, nil, err
	}
	stop := func() error {
		var errs []error
		for _, c := range conns {
			errs = append(errs, c.Close(context.WithoutCancel(ctx)))
		}
		return errors.Join(errs...)
	}
	return func(ctx context.Context, client int) error {
		c := conns[client]
		_, err := c.Exec(ctx, "BEGIN")
		if err == nil {
			_, err = c.Exec(ctx, withdraw+"$1", anyAccount())
		}
		if err == nil {
			_, err = c.Exec(ctx, "INSERT INTO outbox (body) VALUES ($1)", []byte(letter))
		}
		if err == nil {
			_, err = c.Exec(ctx, "COMMIT")
		}
		return err
	}, stop, nil
}

// bySpool is fdt in this process, with a decider if one is named. Nobody takes the messages meanwhile.
func bySpool(ctx context.Context, decider string) (transfer, func() error, error) {
	name := "spool" + decider
	dir := filepath.Join(scratch, name+".d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	out, err := spool.Open("outbox", dir)
	if err != nil {
		return nil, nil, err
	}
	return inLibrary(ctx, name, decider, out, func(ctx context.Context, s *txn.Session) error {
		branch, err := s.Branch(ctx, "outbox")
		if err != nil {
			return err
		}
		putter, ok := branch.(procedure.Putter)
		if !ok {
			return errors.New("outbox takes no messages")
		}
		return putter.Put(ctx, []byte(letter))
	})
}
