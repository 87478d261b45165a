package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	random "math/rand/v2"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver by its name
	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/mariadb"
	"github.com/fdtserver/fdt/txn/postgres"
)

const (
	twoPhaseRounds = 9
	twoPhasePeriod = time.Second
	mostClients    = 64
)

const (
	withdraw = "UPDATE account SET balance = balance - 1 WHERE id = "
	deposit  = "UPDATE account SET balance = balance + 1 WHERE id = "
)

// transfer moves money between the databases, once.
type transfer func(ctx context.Context, client int) error

// twoPhase compares transfers between PostgreSQL and MariaDB, each committed in two phases. The peer is what a careful programmer
// writes by hand with pgx and go-sql-driver: the same statements, PREPARE on both at once, then COMMIT on both at once, on
// connections kept per client; it keeps no log, so a crash between the phases leaves it ignorant. fdt is the library in
// this process, told which statement is the last on a resource, which forces one record to its log in between, then the installed worker,
// called by CALL, with its protocol and process; each also with PostgreSQL as the decider, whose commit is the decision.
func twoPhase(ctx context.Context, s *site) (rows []row, err error) {
	if err := s.bank(ctx); err != nil {
		return nil, err
	}
	hand, closeHand, err := byHand(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeHand()) }()
	library, closeLibrary, err := byLibrary(ctx, "")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeLibrary()) }()
	if err := makeDecider(ctx); err != nil {
		return nil, err
	}
	deciding, closeDeciding, err := byLibrary(ctx, "bank_a")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeDeciding()) }()
	if err := s.serve(ctx, fmt.Sprintf(`
workers: {count: 2}
reload: {settle: 0s}
transaction: {decider: bank_d}
resources:
  bank_a: {type: postgres, dsn: %[1]q, pool: 128}
  bank_d: {type: postgres, dsn: %[1]q, pool: 128}
  bank_b: {type: mariadb, dsn: %[2]q, pool: 128}
procedures:
  across:
    parameters: {src: int, dst: int}
    steps:
      - {on: bank_a, sql: "%[3]s:src", rows: 1}
      - {on: bank_b, sql: "%[4]s:dst", rows: 1}
  deciding:
    parameters: {src: int, dst: int}
    steps:
      - {on: bank_d, sql: "%[3]s:src", rows: 1}
      - {on: bank_b, sql: "%[4]s:dst", rows: 1}
`, fmt.Sprintf(postgresDSN, "fdt"), fmt.Sprintf(mariadbDSN, "fdt"), withdraw, deposit), ""); err != nil {
		return nil, err
	}
	called, closeCalled := byCall("CALL across(%d, %d)")
	defer closeCalled()
	decided, closeDecided := byCall("CALL deciding(%d, %d)")
	defer closeDecided()

	for _, clients := range []int{1, 16, 64} {
		limit, withDecider := 0.9, 1.2
		if clients == 1 {
			limit, withDecider = 0.8, 1.0
		}
		some, err := compare(ctx, fmt.Sprintf("PostgreSQL and MariaDB, %d clients", clients), clients, rival{"pgx+go-sql-driver", hand},
			measured{"two-phase commit", "library", library, atLeast(limit), noAim("%.2f")},
			measured{"two-phase commit", "CALL", called, noAim("%.2f"), noAim("%.2f")},
			measured{"two-phase commit with a decider", "library", deciding, atLeast(withDecider), atMost(0.8)},
			measured{"two-phase commit with a decider", "CALL", decided, atLeast(0.85), noAim("%.2f")})
		rows = append(rows, some...)
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// rival is what several ways of fdt are compared with.
type rival struct {
	name string
	do   transfer
}

// measured is one way in which fdt does the same.
type measured struct {
	what, way string
	do        transfer
	rate, cpu aim // of what the ratios to the rival's are
}

// compare has all and their rival take turns. All are measured by what they do in a second and by the time of processors that this
// costs the whole container, the databases' included, which depends less on what else the machine does.
func compare(ctx context.Context, where string, clients int, peer rival, all ...measured) ([]row, error) {
	loads := []*closed{{clients: clients, do: peer.do}}
	sides := []side{loads[0].run}
	for _, c := range all {
		loads = append(loads, &closed{clients: clients, do: c.do})
		sides = append(sides, loads[len(loads)-1].run)
	}
	figures, err := interleave(ctx, twoPhaseRounds, sides...)
	if err != nil {
		return nil, err
	}
	var rows, costs []row
	for i, c := range all {
		rate, cost := figures[i+1], loads[i+1].cost
		rows = append(rows, row{
			measure: fmt.Sprintf("%s, %s: %s", c.what, where, c.way), fdt: fmt.Sprintf("%.0f/s", rate.median()),
			peer: fmt.Sprintf("%s %.0f/s", peer.name, figures[0].median()), ratio: rate.over(figures[0]), aim: c.rate,
		})
		costs = append(costs, row{
			measure: fmt.Sprintf("%s, %s: %s, processors", c.what, where, c.way), fdt: fmt.Sprintf("%.0f µs", cost.median()),
			peer: fmt.Sprintf("%s %.0f µs", peer.name, loads[0].cost.median()), ratio: cost.over(loads[0].cost), aim: c.cpu,
		})
	}
	return append(rows, costs...), nil
}

// closed is a load by clients that each wait for the answer before they go on.
type closed struct {
	clients int
	do      transfer
	cost    series // of the rounds: microseconds of processors each
}

// run is a side: transfers per second.
func (c *closed) run(ctx context.Context) (float64, error) {
	pids := everybody()
	before := processorTime(pids)
	var all sync.WaitGroup
	var done atomic.Int64
	errs := make([]error, c.clients)
	begun := time.Now()
	for n := range c.clients {
		all.Go(func() {
			for time.Since(begun) < twoPhasePeriod && errs[n] == nil {
				errs[n] = c.do(ctx, n)
				done.Add(1)
			}
		})
	}
	all.Wait()
	took := time.Since(begun)
	c.cost = append(c.cost, float64((processorTime(pids)-before).Microseconds())/float64(done.Load()))
	return float64(done.Load()) / took.Seconds(), errors.Join(errs...)
}

// everybody are the processes of the container.
func everybody() (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well-formed
	for _, file := range files {
		if pid, err := strconv.Atoi(filepath.Base(file)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func anyAccount() int64 { return 1 + random.Int64N(accounts) }

// both runs two things at once.
func both(a, b func() error) error {
	var all sync.WaitGroup
	var first error
	all.Go(func() { first = a() })
	second := b()
	all.Wait()
	return errors.Join(first, second)
}

// byHand is the peer.
func byHand(ctx context.Context) (transfer, func() error, error) {
	db, err := sql.Open("mysql", fmt.Sprintf(mariadbDSN, "root")+"?interpolateParams=true")
	if err != nil {
		return nil, nil, err
	}
	var as [mostClients]*pgx.Conn
	var bs [mostClients]*sql.Conn
	for n := range mostClients {
		if as[n], err = pgx.Connect(ctx, fmt.Sprintf(postgresDSN, "root")); err == nil {
			bs[n], err = db.Conn(ctx)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	stop := func() error {
		var errs []error
		for n := range mostClients {
			errs = append(errs, as[n].Close(context.WithoutCancel(ctx)), bs[n].Close())
		}
		return errors.Join(append(errs, db.Close())...)
	}
	return func(ctx context.Context, client int) error {
		a, b := as[client], bs[client]
		gid := "'" + rand.Text() + "'"
		send := func(statements ...string) error {
			for _, text := range statements {
				if _, err := b.ExecContext(ctx, text); err != nil {
					return fmt.Errorf("%s: %w", text, err)
				}
			}
			return nil
		}
		_, err := a.Exec(ctx, "BEGIN")
		if err == nil {
			_, err = a.Exec(ctx, withdraw+"$1", anyAccount())
		}
		if err == nil {
			err = send("XA START " + gid)
		}
		if err == nil {
			_, err = b.ExecContext(ctx, deposit+"?", anyAccount())
		}
		if err == nil {
			err = both(func() error {
				_, err := a.Exec(ctx, "PREPARE TRANSACTION "+gid)
				return err
			}, func() error { return send("XA END "+gid, "XA PREPARE "+gid) })
		}
		if err == nil {
			err = both(func() error {
				_, err := a.Exec(ctx, "COMMIT PREPARED "+gid)
				return err
			}, func() error { return send("XA COMMIT " + gid) })
		}
		return err
	}, stop, nil
}

// makeDecider makes in PostgreSQL what keeps decisions, for fdt's workers and this process.
func makeDecider(ctx context.Context) error {
	c, err := pgx.Connect(ctx, fmt.Sprintf(postgresDSN, "root"))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	for _, text := range postgres.DeciderSQL("fdt") {
		if _, err := c.Exec(ctx, text); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	return nil
}

// byLibrary is fdt in this process, with a decider if one is named.
func byLibrary(ctx context.Context, decider string) (transfer, func() error, error) {
	b, err := mariadb.New(mariadb.Options{Name: "bank_b", DSN: fmt.Sprintf(mariadbDSN, "root"), Pool: mostClients})
	if err != nil {
		return nil, nil, err
	}
	return inLibrary(ctx, "library"+decider, decider, b, func(ctx context.Context, s *txn.Session) error {
		return execute(ctx, s, "bank_b", deposit+"?", anyAccount())
	})
}

// inLibrary is fdt in this process: a withdrawal in PostgreSQL, and with it what further does on another resource.
func inLibrary(ctx context.Context, name, decider string, other txn.Resource, further func(context.Context, *txn.Session) error) (transfer, func() error, error) {
	a, err := postgres.New(postgres.Options{Name: "bank_a", DSN: fmt.Sprintf(postgresDSN, "root"), Pool: mostClients})
	if err != nil {
		return nil, nil, err
	}
	m, err := openManager(ctx, filepath.Join(scratch, name), "/run/bench-"+name, decider, a, other)
	if err != nil {
		return nil, nil, err
	}
	var recovery sync.WaitGroup
	recovering, end := context.WithCancel(ctx)
	recovery.Go(func() { _ = m.Recover(recovering) }) // it drops what is not needed any more, as in a worker
	stop := func() error {
		end()
		recovery.Wait()
		return errors.Join(m.Close(context.WithoutCancel(ctx)), a.Close(), other.Close())
	}
	var sessions [mostClients]*txn.Session
	for n := range sessions {
		sessions[n] = m.NewSession(txn.Principal{User: "bench"})
	}
	return func(ctx context.Context, client int) error {
		s := sessions[client]
		err := s.Begin(ctx, txn.TxOptions{})
		if err == nil {
			err = execute(ctx, s, "bank_a", withdraw+"$1", anyAccount())
		}
		if err == nil {
			err = further(ctx, s)
		}
		if err != nil {
			return err
		}
		return s.Commit(ctx)
	}, stop, nil
}

// execute runs a statement about an account, the last one there.
func execute(ctx context.Context, s *txn.Session, on, text string, account int64) error {
	_, done, err := s.ExecLast(ctx, on, txn.Statement{SQL: text, Args: []any{account}})
	if done || err != nil {
		return err
	}
	branch, err := s.Branch(ctx, on)
	if err != nil {
		return err
	}
	if execer, ok := branch.(procedure.Execer); ok {
		_, err = execer.Exec(ctx, text, []any{account})
		return err
	}
	return fmt.Errorf("%s takes no SQL", on)
}

// byCall is fdt's installed worker, sent a statement about two accounts.
func byCall(format string) (transfer, func()) {
	var sessions [mostClients]session
	return func(ctx context.Context, client int) error {
			ctx, cancel := context.WithTimeout(ctx, answerTimeout)
			defer cancel()
			c := &sessions[client]
			c.statement = fmt.Sprintf(format, anyAccount(), anyAccount())
			return c.ask(ctx)
		}, func() {
			for n := range sessions {
				sessions[n].quit()
			}
		}
}
