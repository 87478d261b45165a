// Package postgres makes a PostgreSQL database a resource of distributed transactions, on pgx without database/sql.
// It needs PostgreSQL 14 or newer with max_prepared_transactions above zero, and a direct connection: a pooler between the two that
// gives sessions to others breaks fencing, and with it the guarantees.
//
// The rules of two-phase commit are those of PREPARE TRANSACTION(7) and pg_prepared_xacts. Each is subject to traps that are named
// where the code avoids them.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/internal/pool"
)

const (
	// DefaultPool is how many connections a Resource opens at most unless told otherwise.
	DefaultPool = 32
	// connectTimeout bounds one attempt to connect where the DSN has no connect_timeout.
	connectTimeout = 5 * time.Second
	// cancelGrace is how long a cancelled statement may take to say so, before its connection is cut.
	cancelGrace = 500 * time.Millisecond
	// recoveryApp is the application_name of recovery connections; no incarnation's fence hits it.
	recoveryApp = "fdt1-recovery"
	// maxNameLen keeps "gid/name" within the 199 bytes of PREPARE TRANSACTION.
	maxNameLen = 199 - txn.MaxGIDLen - len("/")
)

// ErrPreparedDisabled says that the server refuses two-phase commit by its configuration.
var ErrPreparedDisabled = errors.New("PostgreSQL has max_prepared_transactions = 0, its default, and so refuses two-phase commit: " +
	"run ALTER SYSTEM SET max_prepared_transactions = 200 (at least as many as there may be transactions in doubt or committing at one time), then restart PostgreSQL")

// Options says which database a Resource is.
type Options struct {
	Name         string // in the configuration; part of each gid, so a new name does not find the old one's branches
	DSN          string // keyword=value or URL form, as in libpq §34.1.1
	PasswordFile string // read at each connect, a final newline is cut; empty if the DSN needs none
	Pool         int    // most connections besides those for recovery; default DefaultPool
	// Budget is a file, made if it is not there, through which all processes together open no more than Total connections, besides those
	// for recovery; empty: each has its pool. Processes is how many there may be at once, for Check.
	Budget           string
	Total, Processes int
	// LockTimeout is what branches are begun with as a rule, so that the sessions have it from their start; 0 if that is not known.
	LockTimeout time.Duration
	Decider     bool // it keeps the decisions of the transactions that it takes part in, and so need not prepare its own branches
}

// Resource is one PostgreSQL database. It connects on demand and survives restarts of the server.
type Resource struct {
	opt     Options
	config  *pgx.ConnConfig
	pool    *pool.Pool[*conn]
	recover *pool.Pool[*conn]
}

var (
	_ txn.Resource   = (*Resource)(nil)
	_ txn.Prover     = (*Resource)(nil)
	_ txn.Successor  = (*Resource)(nil)
	_ txn.Branch     = (*Branch)(nil)
	_ txn.LastExecer = (*Branch)(nil)
	_ txn.Pooled     = (*Resource)(nil)
	_ txn.Identified = (*Branch)(nil)
	_ txn.Cuttable   = (*Branch)(nil)
	_ txn.Decider    = (*Resource)(nil)
	_ txn.Lister     = (*Resource)(nil)

	_ txn.DecidingBranch = (*Branch)(nil)
)

// New checks the options; it does not connect.
func New(opt Options) (*Resource, error) {
	if opt.Name == "" || len(opt.Name) > maxNameLen {
		return nil, fmt.Errorf("resource %q: the name must have 1 to %d bytes", opt.Name, maxNameLen)
	}
	config, err := pgx.ParseConfig(opt.DSN)
	if err != nil {
		return nil, fmt.Errorf("resource %s: dsn: %s", opt.Name, untold(err))
	}
	if opt.Pool <= 0 {
		opt.Pool = DefaultPool
	}
	opt.Total, opt.Processes = max(opt.Total, opt.Pool), max(opt.Processes, 1)
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	// What the answers' text forms depend on, whatever the server's defaults.
	config.RuntimeParams["client_encoding"] = "UTF8"
	config.RuntimeParams["datestyle"] = "ISO, MDY"
	config.RuntimeParams["intervalstyle"] = "postgres"
	config.RuntimeParams["bytea_output"] = "hex"
	config.RuntimeParams["extra_float_digits"] = "1" // as many digits as tell one number from the next
	// A backend that computes for a client which is gone notices it.
	config.RuntimeParams["client_connection_check_interval"] = "1s"
	// One statement at a time, so that each has its own command tag.
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	r := &Resource{opt: opt, config: config}
	r.pool = pool.New(opt.Pool, r.dial, (*conn).close)
	if opt.Budget != "" {
		budget, err := pool.OpenBudget(opt.Budget, opt.Total)
		if err != nil {
			return nil, fmt.Errorf("resource %s: %w", opt.Name, err)
		}
		r.pool.Within(budget)
	}
	r.recover = pool.New(recoveryPool(opt.Pool), r.dial, (*conn).close)
	return r, nil
}

// recoveryPool is how many connections are opened beside the pool to end branches, so that those which wait for an in-doubt one never
// keep it from ending.
func recoveryPool(pool int) int { return max(2, pool/4) }

// Name returns the resource's name in the configuration.
func (r *Resource) Name() string { return r.opt.Name }

// Pool returns how many connections branches use, how many they may, and how many branches wait for one: see txn.Pooled.
func (r *Resource) Pool() (inUse, limit, waiting int) {
	return r.pool.InUse(), r.pool.Limit(), r.pool.Waiting()
}

// Detach lets go of the server until Attach: see txn.Pausable.
func (r *Resource) Detach() {
	r.pool.Hold()
	r.recover.Hold()
}

// Attach ends Detach.
func (r *Resource) Attach() {
	r.pool.Free()
	r.recover.Free()
}

// Connections returns how many there are to the server: of branches, of recovery, and idle ones.
func (r *Resource) Connections() int { return r.pool.Open() + r.recover.Open() }

// Close closes the connections, those of open branches when they end.
func (r *Resource) Close() error {
	r.pool.Close()
	r.recover.Close()
	return nil
}

// Identity names the cluster, its timeline and the database: "SYSTEM-IDENTIFIER/TIMELINE/DATABASE-OID/DATABASE". A restored backup
// or a promoted standby has a higher timeline, see Succeeds, and a standby none: that is an error.
func (r *Resource) Identity(ctx context.Context) (id string, err error) {
	err = r.privileged(ctx, func(c *conn) (err error) {
		err = c.identify(ctx) // afresh: the connection may be dead
		id = c.identity
		return err
	})
	return id, err
}

// Succeeds tells whether a store is what has become of another: the same cluster's same database on the same timeline or a later one, as
// after the promotion of a standby. What was prepared there is here, unless the standby had not received it.
func (r *Resource) Succeeds(now, before string) bool {
	is, was := strings.SplitN(now, "/", 4), strings.SplitN(before, "/", 4)
	if len(is) != 4 || len(was) != 4 || is[0] != was[0] || is[2] != was[2] || is[3] != was[3] {
		return false
	}
	later, err := strconv.ParseUint(is[1], 10, 32)
	earlier, werr := strconv.ParseUint(was[1], 10, 32)
	return err == nil && werr == nil && later >= earlier
}

// settings is what Check asks the server for.
type settings struct {
	version, prepared, connections int
	commit, fsync                  string
}

// Check asks the server whether it can serve as a resource. Warnings are for the operator; the error is ErrPreparedDisabled, or says
// that the server is too old or cannot be reached, or why it cannot keep decisions if it is to.
func (r *Resource) Check(ctx context.Context) (warnings []string, err error) {
	var s settings
	err = r.privileged(ctx, func(c *conn) error {
		return c.pg.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('max_prepared_transactions')::int,
			current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
			current_setting('synchronous_commit'), current_setting('fsync')`).Scan(&s.version, &s.prepared, &s.connections, &s.commit, &s.fsync)
	})
	if err == nil {
		warnings, err = r.judge(s)
	}
	if err == nil && r.opt.Decider {
		var more []string
		more, err = r.checkDecisions(ctx)
		warnings = append(warnings, more...)
	}
	return warnings, err
}

func (r *Resource) judge(s settings) (warnings []string, err error) {
	name := "resource " + r.opt.Name
	if s.version < 140000 {
		return nil, fmt.Errorf("%s: PostgreSQL %d is too old: 14 is the first that can end a session and wait for it", name, s.version/10000)
	}
	if s.prepared == 0 && !r.opt.Decider {
		return nil, fmt.Errorf("%s: %w", name, ErrPreparedDisabled)
	}
	if s.commit == "off" || s.fsync == "off" {
		warnings = append(warnings, fmt.Sprintf("%s: synchronous_commit is %s and fsync is %s: a commit that was acknowledged may be lost in a crash; set both to on",
			name, s.commit, s.fsync))
	}
	switch {
	case s.prepared == 0:
		warnings = append(warnings, fmt.Sprintf("%s: max_prepared_transactions is 0: what is decided here needs none, but PREPARE TRANSACTION and pg_current_xact_id() of clients are refused with this resource",
			name))
	case s.prepared < r.opt.Total && !r.opt.Decider:
		warnings = append(warnings, fmt.Sprintf("%s: max_prepared_transactions is %d, but %d transactions may be prepared at once: raise it, or lower the pool",
			name, s.prepared, r.opt.Total))
	}
	if need := r.opt.Total + r.opt.Processes*recoveryPool(r.opt.Pool); s.connections < need {
		warnings = append(warnings, fmt.Sprintf("%s: the server takes %d connections, but %d processes may open %d, those for recovery included: raise max_connections, or lower the pool",
			name, s.connections, r.opt.Processes, need))
	}
	return warnings, nil
}

// privileged runs f on a recovery connection, once more on a fresh one if an idle one turns out to be dead. f must be repeatable.
func (r *Resource) privileged(ctx context.Context, f func(*conn) error) error {
	for {
		c, used, err := r.recover.Get(ctx, recoveryApp, nil)
		if err != nil {
			return r.unavailable(err)
		}
		err = f(c)
		if err == nil || definite(err) && !c.pg.IsClosed() && ctx.Err() == nil {
			r.recover.Put(recoveryApp, c)
		} else {
			r.recover.Drop(c)
		}
		if err == nil {
			return nil
		}
		if definite(err) || !used || ctx.Err() != nil {
			return fmt.Errorf("resource %s: %w", r.opt.Name, err)
		}
		r.recover.Flush()
	}
}

// unavailable gives a failure to connect the SQLSTATE of its class, and leaves the pool's own alone.
func (r *Resource) unavailable(err error) error {
	if errors.Is(err, txn.ErrExhausted) || errors.Is(err, txn.ErrPaused) {
		return fmt.Errorf("resource %s: %w", r.opt.Name, err)
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "53300" {
		return fmt.Errorf("resource %s: %w: the server takes no more (%w)", r.opt.Name, txn.ErrExhausted, err)
	}
	return &pool.Unavailable{Resource: r.opt.Name, Err: err}
}

// untold is what is wrong with a connection string, without any part of it: which of them is a password nobody can tell
// in one that cannot be read. The driver's text has the string between backquotes, and values in parentheses at its end.
func untold(err error) string {
	text := err.Error()
	text = text[strings.LastIndexByte(text, '`')+1:]
	what, _, _ := strings.Cut(strings.TrimPrefix(text, ": "), " (")
	return what
}

// password reads the password file.
func (r *Resource) password() (string, error) {
	if r.opt.PasswordFile == "" {
		return r.config.Password, nil
	}
	text, err := os.ReadFile(r.opt.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("password_file: %w", err)
	}
	return strings.TrimSuffix(string(text), "\n"), nil
}
