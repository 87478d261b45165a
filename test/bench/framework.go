package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt"
)

const (
	frameworkClients = 16
	webAddress       = "127.0.0.1:7436"
)

// bareWebs are the addresses of the peers of fdt.HTTP: as many processes as fdt has workers.
var bareWebs = []string{"127.0.0.1:7437", "127.0.0.1:7438"}

// sum is what a transfer in one PostgreSQL moves, balance what is left then.
type (
	sum struct {
		Src, Dst int32
		Amount   int64
	}
	balance struct{ Balance int64 }
)

// sender is what runs statements in a transaction: fdt's, and pgx's.
type sender interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

const (
	enterLedger = "INSERT INTO ledger (src, dst, amount) VALUES ($1, $2, $3)"
	lookUp      = "SELECT balance FROM account WHERE id = $1"
)

// move is a transfer in Go, of one statement after the other.
func move(ctx context.Context, on sender, p sum) (b balance, err error) {
	_, err = on.Exec(ctx, withdraw+"$1", p.Src)
	if err == nil {
		_, err = on.Exec(ctx, deposit+"$1", p.Dst)
	}
	if err == nil {
		_, err = on.Exec(ctx, enterLedger, p.Src, p.Dst, p.Amount)
	}
	if err == nil {
		err = on.QueryRow(ctx, lookUp, p.Src).Scan(&b.Balance)
	}
	return b, err
}

// moveAtOnce is the same with its statements in one request.
func moveAtOnce(ctx context.Context, on *fdt.Postgres, p sum) (b balance, err error) {
	var all pgx.Batch
	all.Queue(withdraw+"$1", p.Src)
	all.Queue(deposit+"$1", p.Dst)
	all.Queue(enterLedger, p.Src, p.Dst, p.Amount)
	all.Queue(lookUp, p.Src).QueryRow(func(r pgx.Row) error { return r.Scan(&b.Balance) })
	return b, on.SendBatch(ctx, &all).Close()
}

// worker is an application of fdt: the worker's program in its measure. It takes the worker's arguments.
func worker(_ context.Context, args []string) error {
	os.Args = append(os.Args[:1], args...)
	fdt.Main(
		fdt.Procedure("in_go", func(ctx context.Context, tx *fdt.Tx, p sum) (balance, error) {
			return move(ctx, tx.Postgres("bank_a"), p)
		}),
		fdt.Procedure("in_batch", func(ctx context.Context, tx *fdt.Tx, p sum) (balance, error) {
			return moveAtOnce(ctx, tx.Postgres("bank_a"), p)
		}),
		fdt.HTTP("web", moving(func(ctx context.Context, p sum) (b balance, err error) {
			err = fdt.Do(ctx, func(ctx context.Context, tx *fdt.Tx) (err error) {
				b, err = move(ctx, tx.Postgres("bank_a"), p)
				return err
			})
			return b, err
		})),
	)
	return nil // not reached: Main ends the process
}

// moving is a page that makes a transfer by each request.
func moving(do func(context.Context, sum) (balance, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		src, errSrc := strconv.ParseInt(r.FormValue("src"), 10, 32)
		dst, errDst := strconv.ParseInt(r.FormValue("dst"), 10, 32)
		if err := errors.Join(errSrc, errDst); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		b, err := do(r.Context(), sum{int32(src), int32(dst), 1})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprintln(w, b.Balance) // the client may have gone
	})
}

// browsing has clients ask for transfers, each on a connection that it keeps, at one of the addresses.
func browsing(addresses ...string) transfer {
	browser := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: frameworkClients}, Timeout: answerTimeout}
	return func(ctx context.Context, client int) error {
		url := fmt.Sprintf("http://%s/?src=%d&dst=%d", addresses[client%len(addresses)], anyAccount(), anyAccount())
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
		if err != nil {
			return err
		}
		answer, err := browser.Do(r)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(answer.Body)
		if answer.StatusCode != http.StatusOK {
			err = errors.Join(err, fmt.Errorf("%s: %s", answer.Status, body))
		}
		return errors.Join(err, answer.Body.Close())
	}
}

// bareWeb is the peer of fdt's HTTP: net/http and connections of pgx, one for each client.
func bareWeb(ctx context.Context, args []string) error {
	address, dsn := args[0], args[1]
	pool := make(chan *pgx.Conn, frameworkClients)
	for range frameworkClients {
		c, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		pool <- c // the process's end closes it
	}
	server := http.Server{Handler: moving(func(ctx context.Context, p sum) (b balance, err error) {
		c := <-pool
		defer func() { pool <- c }()
		err = pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			b, err = move(ctx, tx, p)
			return err
		})
		return b, err
	})}
	l, err := net.Listen("tcp", address)
	if err == nil {
		err = tell("READY=1")
	}
	if err != nil {
		return err
	}
	return server.Serve(l)
}

// framework compares a procedure in Go with the same in YAML, and a page with the same of net/http and pgx alone.
func framework(ctx context.Context, s *site) (rows []row, err error) {
	if err := s.bank(ctx); err != nil {
		return nil, err
	}
	dsn := fmt.Sprintf(postgresDSN, "fdt")
	if err := s.serve(ctx, fmt.Sprintf(`
listen: {web: {address: %q, serve: web}}
workers: {count: 2}
reload: {settle: 0s}
resources: {bank_a: {type: postgres, dsn: %q, pool: 32}}
procedures:
  in_yaml:
    parameters: {src: int, dst: int, amount: bigint}
    steps:
      - {on: bank_a, sql: "%s:src", rows: 1}
      - {on: bank_a, sql: "%s:dst", rows: 1}
      - {on: bank_a, sql: "INSERT INTO ledger (src, dst, amount) VALUES (:src, :dst, :amount)"}
      - {on: bank_a, sql: "SELECT balance FROM account WHERE id = :src", rows: 1}
`, webAddress, dsn, withdraw, deposit), program("bench worker --instance=%i")); err != nil {
		return nil, err
	}
	for i, address := range bareWebs {
		if _, err := s.shell(ctx, fmt.Sprintf("systemd-run -q --unit=bench-web-%d -p Type=notify -p User=fdt %s/bench web %s '%s'", i, inside, address, dsn)); err != nil {
			return nil, err
		}
	}
	defer func() {
		_, stop := s.shell(context.WithoutCancel(ctx), "systemctl stop 'bench-web-*'")
		err = errors.Join(err, stop)
	}()

	yaml, closeYAML := byCall("CALL in_yaml(%d, %d, 1)")
	defer closeYAML()
	golang, closeGo := byCall("CALL in_go(%d, %d, 1)")
	defer closeGo()
	batch, closeBatch := byCall("CALL in_batch(%d, %d, 1)")
	defer closeBatch()
	where := fmt.Sprintf("four statements, %d clients", frameworkClients)
	procedures, err := compare(ctx, where, frameworkClients, rival{"in YAML", yaml},
		measured{"a procedure", "in Go", golang, atLeast(0.95), atMost(1.05)},
		measured{"a procedure", "in Go, as a batch", batch, atLeast(0.95), atMost(1.05)})
	if err != nil {
		return nil, err
	}
	pages, err := compare(ctx, where, frameworkClients, rival{"net/http+pgx", browsing(bareWebs...)},
		measured{"a page", "fdt.HTTP", browsing(webAddress), atLeast(0.95), noAim("%.2f")})
	return append(procedures, pages...), err
}
