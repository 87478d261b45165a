// Package config is fdt's configuration: its types, its defaults and its one strict reader.
// Whatever [Load] returns without an error is complete and consistent: every default is filled in, every
// reference leads somewhere, and no package that uses it needs to check it again.
//
// The file itself is described in fdt.yaml(5).
package config

import (
	"io/fs"
	"net/netip"
	"time"
)

// Dir is where an installed fdt keeps its configuration.
const Dir = "/etc/fdt"

// ClientGroup is the group of those whom unix sockets let in by peer, and by default by trust. The package makes it.
const ClientGroup = "fdt-client"

// Config is the whole configuration. The maps are never nil, and each value knows its own name.
type Config struct {
	Listen      map[string]Listener
	Workers     Workers
	Session     Session
	Log         Log
	Trace       Trace
	Drain       Drain
	Reload      Reload
	Transaction Transaction
	Resources   map[string]Resource
	Cluster     Cluster
	Procedures  map[string]Procedure
	Users       map[string]User
	Metrics     Metrics
}

// The ways a client proves who it is.
const (
	AuthPeer  = "peer"  // the kernel's word for the process at the other end of a unix socket
	AuthSCRAM = "scram" // SCRAM-SHA-256, RFC 7677
	AuthCert  = "cert"  // a TLS client certificate
	AuthTrust = "trust" // no proof; unix sockets only

	// AuthProgram leaves it to the program that serves: the PostgreSQL protocol has nothing to let anybody in by.
	AuthProgram = "program"
)

// Listener is one named way in: one or more addresses with the same rules.
type Listener struct {
	Name      string
	Addresses []Address
	Auth      string
	Serve     string      // the handler of the program's own that serves it; empty: the PostgreSQL protocol
	Mode      fs.FileMode // of unix sockets
	Group     string      // of unix sockets; empty: root
	Backlog   int
	TLS       *TLS           // nil: plaintext
	Proxy     []netip.Prefix // peers in these networks tell for whom they speak; of TCP alone
}

// TLS names PEM files by absolute path. They are opened by the workers, never by this package.
type TLS struct {
	Certificate string
	Key         string
	ClientCA    string // empty: client certificates are not asked for
	Required    bool   // false: clients are also let in without encryption
}

// Workers says how many processes serve, and how much each takes on.
type Workers struct {
	Count   int // processes, at least 1; "auto" is already resolved to the number of CPUs
	Threads int // connections served at once by each process
	Recycle Recycle
	Backoff Backoff
}

// Session limits what one client may take before it is known, and as a session.
type Session struct {
	AuthenticationTimeout time.Duration // from the first byte to the end of the authentication
	ReserveTimeout        time.Duration // for the first request of a session that has no slot
	StallTimeout          time.Duration // for one message to arrive, and for a reply to be read
	Message               int64         // bytes of the longest message; at most Memory
	Statements            int           // prepared statements and portals together
	Memory                int64         // bytes
}

// Log says what workers write to the journal beyond what an operator may have to act on.
type Log struct {
	Calls string        // LogOff, LogSlow or LogAll
	Slow  time.Duration // calls that take as long are told, unless Calls is LogOff; zero: none
	Rate  int           // lines a second of a worker, of those that are not slow, with LogAll
}

// Of which calls the journal is told.
const (
	LogOff  = "off"
	LogSlow = "slow" // those that take Log.Slow
	LogAll  = "all"  // the others, too, as far as Log.Rate goes
)

// Trace says where workers tell of what calls consist of, as OpenTelemetry has it.
type Trace struct {
	Endpoint string // URL of a collector of OTLP over HTTP; empty: nothing is traced
	Sample   int    // of calls whose client brings no context, one in so many is traced; 0: none
	Service  string // service.name
}

// Recycle says when a worker is replaced by a fresh one. Zero means never.
type Recycle struct {
	After  time.Duration
	Memory int64 // bytes of resident memory
	// Grace is how old a worker must be before its memory counts: one that needs more than the limit from its start
	// must not be exchanged for its like again and again without a pause.
	Grace time.Duration
}

// Backoff is how long nothing is started in the place of a worker that dies again and again: First at first, twice
// as long each time, Longest at most.
type Backoff struct {
	First   time.Duration
	Longest time.Duration
}

// Drain limits how long a worker that was told to go may still serve.
type Drain struct {
	Spread      time.Duration // how much sooner than Idle the first are told
	Timeout     time.Duration // from being told to the cutting of what is left
	Idle        time.Duration // silence after which an idle connection is told goodbye
	Shutdown    time.Duration // in place of Timeout when the host goes down
	Delay       time.Duration // from a stop, or that of the host, to the closing of the listeners
	Generations int           // old generations that may drain at once
}

// Reload limits how a new generation takes over.
type Reload struct {
	ReadyTimeout time.Duration // for each new worker, from start to READY=1
	Settle       time.Duration // health demanded of the new workers before old ones are told
	Surge        Surge
}

// Surge is how many workers beyond the configured number may run during a reload: a number or a percentage.
type Surge struct {
	Count   int
	Percent int
}

// Workers returns how many of count workers may be started at a time: at least one, at most count.
func (s Surge) Workers(count int) int {
	return max(1, min(count, s.Count+(count*s.Percent+99)/100))
}

// Transaction limits a session's transactions. Zero means no limit.
type Transaction struct {
	Timeout     time.Duration // from its beginning to its end or its PREPARE
	IdleTimeout time.Duration // between two statements of an open transaction
	LockTimeout time.Duration // for a lock at a resource; never zero

	Prepared        int           // how many may be prepared and have no end, of all users
	PreparedPerUser int           // likewise, of one user
	Retain          time.Duration // how long an outcome that nobody acknowledged is kept; never zero
	Kept            int           // how many of those

	Answer  string // AnswerTold or AnswerDecided
	Decider string // the resource that keeps the decisions of the transactions it takes part in; empty: none
}

// Cluster says with which other hosts this one settles transactions.
type Cluster struct {
	Decider string // the resource that keeps the ledger of all of them, and decisions; empty: this host keeps its own
}

// When a commit in two phases is answered.
const (
	AnswerTold    = "told"    // when all resources know it
	AnswerDecided = "decided" // when it is decided; the session's next transaction waits for the rest
)

// Procedure is a named sequence of steps that clients call.
type Procedure struct {
	Name       string
	Parameters []Parameter // in the order written
	Steps      []Step
	Returns    []Parameter   // columns of the one result row; each names a parameter or the As of a step, or are those of Many's statement in their order
	Allow      []string      // users who may call it; empty: every authenticated user
	Timeout    time.Duration // of one call; zero: the transaction's limits alone
}

// Parameter is a name with an SQL type, spelt as PostgreSQL spells it ("double precision", never "float8").
type Parameter struct {
	Name    string
	Type    string
	Default *string // as text; nil: the caller must give it
}

// Step is one action at one resource.
type Step struct {
	On       string // name of the resource
	SQL      string // one statement with :name placeholders; for postgres and mariadb
	Put      string // one message with :name placeholders; for a spool
	Rows     *int   // rows that the statement must affect; nil: any number
	Many     bool   // all rows that it returns are the procedure's result; of the last step alone
	Else     string // message of the error when Rows is not met
	SQLState string // of that error
	As       string // later steps find the first column of the first row as :As
	When     string // name of a value; the step is skipped when that is false or null
}

// User may log in with a password.
type User struct {
	Name     string
	Verifier string // SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey
}

// Metrics is the Prometheus exposition, which fdt-metrics serves.
type Metrics struct {
	Address *Address // nil: none
}
