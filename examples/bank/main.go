// Bank is an HTTP service with a distributed transaction per request: POST /transfer moves money from an account in PostgreSQL to one
// in MariaDB and notes it in an outbox. It answers 200 only when all three have committed, or surely will; the accounts are two tables
// account (id, balance) that you make. GET /balance tells what an account in PostgreSQL holds, from memory where it can: how hooks keep
// that in step with the transactions is in transfer.run.
//
// By hand, with max_prepared_transactions above 0 in PostgreSQL:
//
//	mkdir -p /tmp/bank/{log,claims,outbox}
//	go run ./examples/bank -dir /tmp/bank -postgres "dbname=a" -mariadb "user@unix(/run/mysqld/mysqld.sock)/b"
//	curl -d from=1 -d to=2 -d amount=50 http://127.0.0.1:8081/transfer
//	curl http://127.0.0.1:8081/balance?account=1
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/mariadb"
	"github.com/fdtserver/fdt/txn/postgres"
	"github.com/fdtserver/fdt/txn/spool"
	"github.com/fdtserver/fdt/worker"
)

func main() {
	dir := flag.String("dir", "", "directory that holds log, claims and outbox")
	pg := flag.String("postgres", "", "connection string of PostgreSQL")
	my := flag.String("mariadb", "", "connection string of MariaDB")
	flag.Parse()
	if err := run(*dir, *pg, *my); err != nil {
		fmt.Fprintln(os.Stderr, "bank:", err)
		os.Exit(1)
	}
}

func run(dir, pg, my string) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	rms, err := resources(dir, pg, my)
	if err != nil {
		return err
	}
	m, err := txn.Open(ctx, txn.Options{
		LogDir: filepath.Join(dir, "log"), ClaimDir: filepath.Join(dir, "claims"), Resources: rms,
		Limits: txn.Limits{Transaction: time.Minute, Lock: 5 * time.Second}, Logger: log, Program: "bank",
	})
	if err != nil {
		return err
	}
	server := &http.Server{Handler: routes(m, log, keepFor), ReadHeaderTimeout: 10 * time.Second}
	serving, stop := context.WithCancel(ctx)
	var recovery sync.WaitGroup
	var lost error
	recovery.Go(func() {
		if lost = m.Recover(ctx); lost != nil {
			// The log failed: nothing may be decided here any more. The next process recovers.
			stop()
			lost = errors.Join(lost, server.Close())
		}
	})
	err = worker.Run(server, worker.WithContext(serving), worker.WithAddress("tcp", "127.0.0.1:8081"), worker.WithDrainTimeout(time.Minute))
	// Requests have ended; then recovery ends, then the log, then what both speak to.
	stop()
	cancel()
	recovery.Wait()
	err = errors.Join(err, lost, m.Close(context.Background()))
	for _, r := range rms {
		err = errors.Join(err, r.Close())
	}
	return err
}

// resources are enlisted in the order of use; the names are part of what the databases keep of a transaction.
func resources(dir, pg, my string) ([]txn.Resource, error) {
	a, err := postgres.New(postgres.Options{Name: "bank_a", DSN: pg})
	if err != nil {
		return nil, err
	}
	b, err := mariadb.New(mariadb.Options{Name: "bank_b", DSN: my, Marker: "fdt_marker"})
	if err != nil {
		return nil, err
	}
	outbox, err := spool.Open("outbox", filepath.Join(dir, "outbox"))
	return []txn.Resource{a, b, outbox}, err
}

func routes(m *txn.Manager, log *slog.Logger, keep time.Duration) http.Handler {
	mux := http.NewServeMux()
	session := func(r *http.Request) *txn.Session {
		return m.NewSession(txn.Principal{User: "bank", Addr: r.RemoteAddr})
	}
	known := newBalances(keep)
	mux.HandleFunc("POST /transfer", func(w http.ResponseWriter, r *http.Request) {
		t := transfer{log: log, balances: known}
		if numbers(w, r, map[string]*int64{"from": &t.from, "to": &t.to, "amount": &t.amount}) {
			// The request's context ends with its connection: then the transaction is rolled back, unless it is being committed.
			answer(w, t.run(r.Context(), session(r)))
		}
	})
	mux.HandleFunc("GET /balance", func(w http.ResponseWriter, r *http.Request) {
		var account int64
		if numbers(w, r, map[string]*int64{"account": &account}) {
			amount, err := known.get(r.Context(), session(r), account)
			if answer(w, err) {
				_, _ = fmt.Fprintln(w, amount) // the client may have gone
			}
		}
	})
	return mux
}

// numbers reads a request's values, or answers what is wrong with them.
func numbers(w http.ResponseWriter, r *http.Request, values map[string]*int64) (ok bool) {
	for name, value := range values {
		n, err := strconv.ParseInt(r.FormValue(name), 10, 64)
		if err != nil || n <= 0 {
			http.Error(w, name+" must be a positive number", http.StatusBadRequest)
			return false
		}
		*value = n
	}
	return true
}

// answer answers an error, if there is one.
func answer(w http.ResponseWriter, err error) (ok bool) {
	if err != nil {
		http.Error(w, err.Error(), status(err))
	}
	return err == nil
}

// status says whether the request can be made again.
func status(err error) int {
	switch {
	case errors.Is(err, errRefused):
		return http.StatusConflict
	case txn.InDoubt(err):
		return http.StatusGatewayTimeout // it may yet be committed
	}
	return http.StatusServiceUnavailable
}

type transfer struct {
	from, to, amount int64
	log              *slog.Logger
	balances         *balances
}

var errRefused = errors.New("refused")

// run is one transaction. Whatever way it is left, nothing stays open.
func (t transfer) run(ctx context.Context, s *txn.Session) (err error) {
	defer func() { err = errors.Join(err, s.Close(context.WithoutCancel(ctx))) }()
	if err := s.Begin(ctx, txn.TxOptions{}); err != nil {
		return err
	}
	// The note is written last and by every transaction that is to commit, whatever its steps are: without it, it is rolled back. And the
	// memory is corrected however the transaction ends, also when the answer to COMMIT is lost. Hooks cannot fail in an open transaction.
	if err := errors.Join(
		s.BeforeCompletion(func(ctx context.Context) error { return t.note(ctx, s) }),
		s.AfterCompletion(func(e txn.Ending) {
			if e != txn.EndRolledBack {
				t.balances.forget(t.from)
			}
		}),
	); err != nil {
		return err
	}
	for _, step := range []func(context.Context, *txn.Session) error{t.withdraw, t.deposit} {
		if err := step(ctx, s); err != nil {
			return err
		}
	}
	if err := s.Commit(ctx); err != nil {
		return err
	}
	for _, w := range s.Warnings() {
		t.log.WarnContext(ctx, "committed; a database follows later", slog.String("reason", w.Error()))
	}
	return nil
}

// branch is the transaction's branch on a resource, as what it really is.
func branch[B txn.Branch](ctx context.Context, s *txn.Session, on string) (B, error) {
	var none B
	b, err := s.Branch(ctx, on)
	if err != nil {
		return none, err
	}
	as, ok := b.(B)
	if !ok {
		return none, fmt.Errorf("%s is a %T", on, b)
	}
	return as, nil
}

// withdraw speaks to PostgreSQL by pgx.
func (t transfer) withdraw(ctx context.Context, s *txn.Session) error {
	b, err := branch[*postgres.Branch](ctx, s, "bank_a")
	if err != nil {
		return err
	}
	conn, err := b.Conn(ctx)
	if err != nil {
		return err
	}
	tag, err := conn.Exec(ctx, "UPDATE account SET balance = balance - $1 WHERE id = $2 AND balance >= $1", t.amount, t.from)
	if err == nil && tag.RowsAffected() != 1 {
		err = fmt.Errorf("%w: account %d does not have %d", errRefused, t.from, t.amount)
	}
	return err
}

// deposit speaks to MariaDB by database/sql.
func (t transfer) deposit(ctx context.Context, s *txn.Session) error {
	b, err := branch[*mariadb.Branch](ctx, s, "bank_b")
	if err != nil {
		return err
	}
	conn, err := b.Conn(ctx)
	if err != nil {
		return err
	}
	result, err := conn.ExecContext(ctx, "UPDATE account SET balance = balance + ? WHERE id = ?", t.amount, t.to)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, fmt.Errorf("%w: there is no account %d", errRefused, t.to))
	}
	return nil
}

// note puts a message into the outbox.
func (t transfer) note(ctx context.Context, s *txn.Session) error {
	b, err := branch[*spool.Branch](ctx, s, "outbox")
	if err != nil {
		return err
	}
	return b.Put(ctx, fmt.Appendf(nil, "%d from %d to %d\n", t.amount, t.from, t.to))
}
