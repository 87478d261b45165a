// Package mariadb makes a MariaDB database a resource of distributed transactions, by XA on go-sql-driver.
// It needs MariaDB 10.11 and InnoDB tables, and a direct connection. Without a marker table it cannot prove a commit whose traces an
// administrator removed, and a branch that only reads gives its locks up when it is prepared for an outside coordinator.
//
// The rules of XA are those of the MariaDB knowledge base, "XA Transactions", and of X/Open CAE C193; what differs is said where the
// code deals with it.
package mariadb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/internal/pool"
)

const (
	// DefaultPool is how many connections a Resource opens at most unless told otherwise.
	DefaultPool = 32
	// MaxPool is the most that a Resource opens, whatever it is told: sessions are fenced by numbered locks, and all are looked at.
	MaxPool = 400
	// connectTimeout bounds one attempt to connect where the DSN has no timeout.
	connectTimeout = 5 * time.Second
	// recoveryKey is the pool's key of recovery connections, which hold no lock.
	recoveryKey = ""
	// maxNameLen is the longest bqual (XA, CAE C193 §4.2).
	maxNameLen = 64
)

// ErrGalera says that the server belongs to a cluster of a kind that has no two-phase commit.
var ErrGalera = errors.New("the server is a node of a Galera cluster (wsrep_on), which refuses XA transactions: use one outside of it")

// Options says which database a Resource is.
type Options struct {
	Name         string // in the configuration; the bqual of its branches, so a new name does not find the old one's
	DSN          string // go-sql-driver's form: user@unix(/path)/database
	PasswordFile string // read at each connect, a final newline is cut; empty if the DSN needs none
	Pool         int    // most connections besides those for recovery; default DefaultPool
	// Budget is a file, made if it is not there, through which all processes together open no more than Total connections, besides those
	// for recovery; empty: each has its pool. Processes is how many there may be at once, for Check.
	Budget           string
	Total, Processes int
	// Marker names a table, made if it is not there, to which each writing branch adds a row that proves its commit. Empty: none; the
	// outcome of a one-phase commit whose reply is lost then stays unknown, as does that of a branch which somebody else ended.
	Marker string
}

// Resource is one MariaDB database. It connects on demand and survives restarts of the server.
type Resource struct {
	opt     Options
	db      *sql.DB // opens connections, keeps none
	pool    *pool.Pool[*conn]
	recover *pool.Pool[*conn]
	parking parking
	census  census
	fenced  fences
	slot    atomic.Uint32 // of the next connection
	marked  atomic.Bool   // the marker table is there
}

var (
	_ txn.Resource   = (*Resource)(nil)
	_ txn.Lister     = (*Resource)(nil)
	_ txn.Prover     = (*Resource)(nil)
	_ txn.Forgetter  = (*Resource)(nil)
	_ txn.Branch     = (*Branch)(nil)
	_ txn.LastExecer = (*Branch)(nil)
	_ txn.Pooled     = (*Resource)(nil)
	_ txn.Identified = (*Branch)(nil)
	_ txn.Cuttable   = (*Branch)(nil)
)

// New checks the options; it does not connect.
func New(opt Options) (*Resource, error) {
	if opt.Name == "" || len(opt.Name) > maxNameLen {
		return nil, fmt.Errorf("resource %q: the name must have 1 to %d bytes", opt.Name, maxNameLen)
	}
	if opt.Pool <= 0 {
		opt.Pool = DefaultPool
	}
	opt.Total, opt.Processes = max(opt.Total, opt.Pool), max(opt.Processes, 1)
	opt.Pool = min(opt.Pool, MaxPool)
	config, err := mysql.ParseDSN(opt.DSN)
	if err != nil {
		return nil, fmt.Errorf("resource %s: dsn: %s", opt.Name, untold(err))
	}
	if config.DBName == "" {
		return nil, fmt.Errorf("resource %s: the DSN names no database", opt.Name)
	}
	if config.Timeout == 0 {
		config.Timeout = connectTimeout
	}
	if _, set := config.Params["time_zone"]; set {
		return nil, fmt.Errorf("resource %s: the DSN sets time_zone, but fdt's sessions are always in UTC: convert in the statement, by CONVERT_TZ", opt.Name)
	}
	// What values look like, whatever the server's defaults.
	if config.Params == nil {
		config.Params = make(map[string]string)
	}
	config.Params["time_zone"] = "'+00:00'"
	config.InterpolateParams = true // one round trip for the package's own statements; those of steps are prepared
	config.MultiStatements = false
	config.ClientFoundRows = true // rows that match, as in PostgreSQL, also where they already hold the value
	config.ParseTime = false
	config.Logger = &mysql.NopLogger{}               // it would write to stderr; errors are returned
	if config.Net == "tcp" || config.Net == "unix" { // else a program has registered how to dial
		config.DialFunc = dialSocket
	}
	r := &Resource{opt: opt, parking: parking{limit: parkable(opt.Pool)}, census: census{turn: make(chan struct{}, 1)}}
	var connector driver.Connector
	err = config.Apply(mysql.BeforeConnect(r.password), mysql.Charset("utf8mb4", config.Collation))
	if err == nil {
		connector, err = mysql.NewConnector(config)
	}
	if err != nil {
		return nil, fmt.Errorf("resource %s: %w", opt.Name, err)
	}
	r.db = sql.OpenDB(connector)
	r.db.SetMaxIdleConns(-1)
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

// parkable is how many sessions with a prepared branch may be kept beside a pool.
func parkable(pool int) int { return max(1, pool/4) }

// untold is what is wrong with a DSN, without any part of it: which of them is a password nobody can tell in one that
// cannot be read. The driver's text has values in quotes, or behind a colon.
func untold(err error) string {
	text := err.Error()
	if strings.HasPrefix(text, "invalid DSN: ") {
		return text // those have none
	}
	text, _, _ = strings.Cut(text, ": ")
	return strings.TrimSpace(text[:strings.IndexAny(text+"'", "'\"")])
}

// password reads the password file into the configuration of one connection.
func (r *Resource) password(_ context.Context, config *mysql.Config) error {
	if r.opt.PasswordFile == "" {
		return nil
	}
	text, err := os.ReadFile(r.opt.PasswordFile)
	if err != nil {
		return fmt.Errorf("password_file: %w", err)
	}
	config.Passwd = strings.TrimSuffix(string(text), "\n")
	return nil
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
	r.parking.hold(0)
	r.pool.Hold()
	r.recover.Hold()
}

// Attach ends Detach.
func (r *Resource) Attach() {
	r.pool.Free()
	r.recover.Free()
	r.parking.hold(parkable(r.opt.Pool))
}

// Connections returns how many there are to the server: of branches, of recovery, with a prepared branch, and idle ones.
func (r *Resource) Connections() int { return r.pool.Open() + r.recover.Open() + r.parking.count() }

// Close closes the connections, those of open branches when they end.
func (r *Resource) Close() error {
	r.parking.close()
	r.pool.Close()
	r.recover.Close()
	return nil
}

// identity is the query of Identity.
const identity = "SELECT CONCAT_WS('/', @@server_uid, @@datadir, DATABASE())"

// Identity names the server and the database: "SERVER-UID/DATA-DIRECTORY/DATABASE". The uid is a hash of the host's network address and
// the port, hence the directory, which tells two servers of one host apart.
func (r *Resource) Identity(ctx context.Context) (id string, err error) {
	err = r.privileged(ctx, func(c *conn) error {
		return c.QueryRowContext(ctx, identity).Scan(&id) // afresh: the connection may be dead
	})
	return id, err
}

// settings is what Check asks the server for.
type settings struct {
	logBin      bool
	connections int
	flush       int
	mode        string
	process     bool
	legacy      bool
	galera      bool
}

// Check asks the server whether it can serve as a resource. Warnings are for the operator; the error is ErrGalera, or says that the server
// cannot be reached.
func (r *Resource) Check(ctx context.Context) (warnings []string, err error) {
	var s settings
	err = r.privileged(ctx, func(c *conn) error {
		_, _, err := c.look(ctx)
		if s.process = number(err) != errDenied; s.process && err != nil {
			return err
		}
		const on = "EXISTS (SELECT * FROM information_schema.GLOBAL_VARIABLES WHERE VARIABLE_NAME = ? AND VARIABLE_VALUE = 'ON')" // not every server has it
		return c.QueryRowContext(ctx, "SELECT @@log_bin, @@max_connections, @@innodb_flush_log_at_trx_commit, @@sql_mode, "+on+", "+on,
			"LEGACY_XA_ROLLBACK_AT_DISCONNECT", "WSREP_ON").Scan(&s.logBin, &s.connections, &s.flush, &s.mode, &s.legacy, &s.galera)
	})
	if err == nil && s.galera {
		err = fmt.Errorf("resource %s: %w", r.opt.Name, ErrGalera)
	}
	if err != nil {
		return nil, err
	}
	return r.judge(s), nil
}

func (r *Resource) judge(s settings) (warnings []string) {
	warn := func(format string, args ...any) {
		warnings = append(warnings, "resource "+r.opt.Name+": "+fmt.Sprintf(format, args...))
	}
	if s.legacy {
		warn("legacy_xa_rollback_at_disconnect is on: a prepared branch is rolled back with its session, whatever was decided; switch it off")
	}
	if s.logBin {
		warn("log_bin is on: the binary log is not crash-safe for XA, a replica may differ after a crash of the server between prepare and commit")
	}
	if s.flush != 1 {
		warn("innodb_flush_log_at_trx_commit is %d: what was prepared or committed may be lost in a crash; set it to 1", s.flush)
	}
	if !strings.Contains(s.mode, "STRICT_") {
		warn("sql_mode is not strict: values that do not fit are stored cut or as zero; add STRICT_TRANS_TABLES")
	}
	if !s.process {
		warn("the user lacks the privilege PROCESS, without which fdt cannot see when a session has let go of its branch and waits for %s instead: "+
			"GRANT PROCESS ON *.* TO the user", grace)
	}
	if need := r.opt.Total + r.opt.Processes*(parkable(r.opt.Pool)+recoveryPool(r.opt.Pool)); s.connections < need {
		warn("the server takes %d connections, but %d processes may open %d, those for recovery included: raise max_connections, or lower the pool",
			s.connections, r.opt.Processes, need)
	}
	return warnings
}

// privileged runs f on a recovery connection, once more on a fresh one if an idle one turns out to be dead. f must be repeatable.
func (r *Resource) privileged(ctx context.Context, f func(*conn) error) error {
	for {
		c, used, err := r.recover.Get(ctx, recoveryKey, nil)
		if err != nil {
			return r.unavailable(err)
		}
		err = f(c)
		healthy := err == nil || !lost(err) && ctx.Err() == nil
		if healthy {
			r.recover.Put(recoveryKey, c)
		} else {
			r.recover.Drop(c)
		}
		if err == nil {
			return nil
		}
		if healthy || !used || ctx.Err() != nil {
			return fmt.Errorf("resource %s: %w", r.opt.Name, wrap(ctx, err))
		}
		r.recover.Flush()
	}
}

// unavailable gives a failure to connect the SQLSTATE of its class, and leaves the pool's own alone.
func (r *Resource) unavailable(err error) error {
	if errors.Is(err, txn.ErrExhausted) || errors.Is(err, txn.ErrPaused) {
		return fmt.Errorf("resource %s: %w", r.opt.Name, err)
	}
	switch number(err) {
	case 1040, 1203, 1226: // too many connections: of all, of the user, of the user's resources
		return fmt.Errorf("resource %s: %w: the server takes no more (%w)", r.opt.Name, txn.ErrExhausted, err)
	}
	return &pool.Unavailable{Resource: r.opt.Name, Err: err}
}
