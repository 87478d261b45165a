package txn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fdtserver/fdt/internal/lastlog"
	"github.com/fdtserver/fdt/txn/internal/ledger"
	"github.com/fdtserver/fdt/txn/internal/pending"
)

// Principal is who asks.
type Principal struct {
	User     string   // owner of what is prepared
	Operator bool     // may decide what others prepared
	By       Operator // who that is, for the record only
	Addr     string   // where the client is, for the record only
	Database string   // what the client takes for its database, for the record and pg_prepared_xacts
}

// Limits bounds how long things take. Zero means the default.
type Limits struct {
	Transaction     time.Duration // from Begin to the end of phase one; 0 unlimited
	Lock            time.Duration // longest wait for one lock in a resource; 0 the resource's own
	Enlist          time.Duration // longest wait for a free connection; default 5 s
	Phase           time.Duration // longest wait for a resource in phase one or two; default 30 s
	Retain          time.Duration // how long an outcome nobody acknowledged is kept; default 7 days
	Tell            time.Duration // longest wait of a session for a resource to take a decision, then it is told later, and for one that does not answer at all; default 10 s, at most Phase
	Ask             time.Duration // longest wait for a resource that is only asked how things stand; default 5 s
	Scan            time.Duration // between two scans of Recover, at random from a third of it on; default 30 s
	Prepared        int           // transactions that are prepared and have not ended, of all users; 0 unlimited
	PreparedPerUser int           // likewise, of each user
	Kept            int           // outcomes that nobody acknowledged; 0 unlimited
	Grace           time.Duration // how long code may go on with a transaction whose context or time has ended, before it is taken from it; default 5 s
	Doubt           time.Duration // how long a transaction may be in doubt before it is reported; default 10 min
}

// Options says where a Manager keeps its records and which resources it has.
type Options struct {
	LogDir    string // /var/lib/fdt/txn: durable, owned by the calling user
	ClaimDir  string // /run/fdt/txn: memory, gone at boot
	MachineID string // empty: /etc/machine-id
	LastLog   string // file that tells which log served last on this machine, without which there is no start; empty: none does
	Resources []Resource
	Limits    Limits
	Logger    *slog.Logger // nil discards
	Program   string       // for the record: fdt-worker 7-2, fdtctl
	Operator  bool         // may use the room that is kept on the disk for an operator's decisions
	// AnswerDecided has Commit return when a commit is decided and durable, not when all resources know it: the same session's
	// next transaction waits for that, so it sees what this one did, while another's may not yet.
	AnswerDecided bool
	// Neighbours returns the LogDir of each other service of this machine, with how an operator settles what is in there, as
	// "fdt@shop: fdtctl --service shop txn"; nil: there are none.
	Neighbours func() map[string]string
	// Cluster has the Decider keep the ledger as well, for all hosts that do the same: any of them settles what any of them has prepared.
	Cluster bool
	Host    string // of a cluster: the name of this host, for the record; empty: as hostname(1) says
	Decider string // names the one of Resources, a Decider, that keeps the decisions of transactions it takes part in; empty: the log keeps all

	fault  ledger.Fault
	frozen time.Duration // frozenFor, but for tests
}

// Manager is one process's share of the coordinator. Its methods may be called
// concurrently.
type Manager struct {
	opt       Options
	log       *slog.Logger
	ledger    ledger.Ledger
	files     *ledger.Files // the log of this host, which is the ledger unless there is a cluster
	host      *Manager      // of that, where there is a cluster; nil otherwise
	kin       LogID         // log for which another ledger of this process answers; zero: there is none
	resources map[string]Resource
	decider   Decider // nil without one

	active      atomic.Int64
	meters      meters
	aside       asides
	admitted    admission
	floods      floods
	unexplained atomic.Int64     // as of the last scan
	waiting     atomic.Int64     // of those, how many an operator has to decide about
	oldest      atomic.Int64     // of those, in nanoseconds since 1970; 0 if there is none
	gates       map[string]*gate // by resource
	work        *work            // with host's
	pending     *pending.Queue
	swept       sweeper
	fences      fences
	told        reported
	troubles    troubles
}

// Open prepares a Manager. It reads whose log it is, or makes one, and waits
// neither for recovery nor for a resource. The Manager does not own the
// resources.
func Open(ctx context.Context, opt Options) (*Manager, error) {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	opt.Limits.defaults()
	if opt.Neighbours == nil {
		opt.Neighbours = func() map[string]string { return nil }
	}
	m := &Manager{opt: opt, log: opt.Logger, work: new(work), resources: map[string]Resource{}, gates: map[string]*gate{}}
	for _, r := range opt.Resources {
		if m.resources[r.Name()] != nil {
			return nil, fmt.Errorf("two resources are named %q", r.Name())
		}
		m.resources[r.Name()], m.gates[r.Name()] = r, new(gate)
	}
	if opt.Decider != "" {
		var ok bool
		if m.decider, ok = m.resources[opt.Decider].(Decider); !ok {
			return nil, fmt.Errorf("no resource %q that can keep decisions", opt.Decider)
		}
	}
	m = m.fresh()
	machine, err := []byte(opt.MachineID), error(nil)
	if len(machine) == 0 {
		machine, err = os.ReadFile("/etc/machine-id")
	}
	var foreign error
	var last LogID
	m.opt.MachineID = strings.TrimSpace(string(machine))
	if err == nil {
		last, err = m.lastLog(ctx)
	}
	if err == nil {
		m.files, foreign, err = ledger.Open(ctx, ledger.Options{
			LogDir: opt.LogDir, ClaimDir: opt.ClaimDir, Machine: m.opt.MachineID, Last: last, Program: opt.Program,
			Operator: opt.Operator, Retain: opt.Limits.Retain, Forces: &m.meters.forces, Events: (*told)(m), Fault: opt.fault, Frozen: opt.frozen,
		})
	}
	var aside []LogID
	if err == nil {
		m.ledger = m.files
		aside, err = m.files.Asides()
	}
	if errors.Is(err, ledger.ErrLogMissing) {
		err = fmt.Errorf("%w To begin without it, and without what it has in doubt, remove %s", err, opt.LastLog)
	}
	if err != nil {
		return nil, fmt.Errorf("open transaction log: %w", err)
	}
	if foreign != nil {
		m.log.ErrorContext(ctx, "transaction log put aside: what it held in doubt waits for an operator, fdtctl txn list",
			slog.Any("error", foreign), slog.String("file", filepath.Join(opt.LogDir, "old-*")), event(eventForeign))
	}
	m.aside.some = len(aside) > 0
	if !opt.Cluster {
		return m, nil
	}
	all, err := m.join(ctx)
	if err != nil {
		return nil, errors.Join(err, m.Close(ctx))
	}
	return all, nil
}

// fresh is a Manager of the same resources, with a memory of its own.
func (m *Manager) fresh() *Manager {
	is := &Manager{opt: m.opt, log: m.log, work: m.work, resources: m.resources, decider: m.decider, gates: m.gates, pending: pending.NewQueue()}
	is.swept.init()
	is.meters.init(m.opt.Resources)
	return is
}

// lastLog reads which log served last on the machine.
func (m *Manager) lastLog(ctx context.Context) (id LogID, err error) {
	file := m.opt.LastLog
	if file == "" {
		return id, nil
	}
	name, err := lastlog.Read(file, m.opt.MachineID)
	if errors.Is(err, fs.ErrPermission) {
		m.log.WarnContext(ctx, "it is not known which transaction log served last, so one that is not mounted is not missed", slog.Any("error", err))
		return id, nil
	}
	if err == nil && name != "" {
		if err = id.UnmarshalText([]byte(name)); err != nil {
			err = fmt.Errorf("%s: %q is no log: %w", file, name, err)
		}
	}
	return id, err
}

// Log names the log on this host. Of a cluster it is the host's own, without which it must not start: see Options.LastLog.
func (m *Manager) Log() LogID { return m.files.ID() }

func (l *Limits) defaults() {
	for _, d := range []struct {
		of   *time.Duration
		then time.Duration
	}{
		{&l.Enlist, 5 * time.Second}, {&l.Phase, 30 * time.Second}, {&l.Tell, 10 * time.Second}, {&l.Ask, 5 * time.Second}, {&l.Retain, 7 * 24 * time.Hour},
		{&l.Scan, 30 * time.Second}, {&l.Doubt, 10 * time.Minute}, {&l.Grace, 5 * time.Second},
	} {
		if *d.of == 0 {
			*d.of = d.then
		}
	}
	l.Tell = min(l.Tell, l.Phase)
}

// Limits returns what the Manager was opened with, and the defaults.
func (m *Manager) Limits() Limits { return m.opt.Limits }

// at names the step that was just done.
func (m *Manager) at(step string) { _ = m.opt.fault.At(step) }

// Failed is closed when the log has failed: the process must exit, and its
// successor recovers.
func (m *Manager) Failed() <-chan struct{} { return m.ledger.Failed() }

// Err returns why Failed is closed, nil if it is not.
func (m *Manager) Err() error { return m.ledger.Err() }

// Close forgets what can be forgotten and closes the log; what is pending is
// recovered by others. Sessions must be closed and Recover must have returned.
func (m *Manager) Close(ctx context.Context) error {
	var errs []error
	if m.Err() == nil && m.ledger.Incarnation() != 0 {
		err := m.sweep(ctx)
		if m.host != nil { // a ledger that is not there now is no failure of who leaves: others do it
			m.warn(ctx, "drop proofs", err)
			err = nil
		}
		errs = append(errs, err)
	}
	// What is pending is told by who ends our sessions, for which our log must be there.
	settled := m.Err() == nil && m.pending.Count() == 0
	if settled {
		err := m.clearOwn(ctx)
		m.warn(ctx, "drop decisions", err)
		settled = err == nil
	}
	errs = append(errs, m.ledger.Close(ctx, settled, m.dispensable))
	if m.host != nil {
		errs = append(errs, m.host.Close(ctx))
	}
	return errors.Join(errs...)
}

// NewSession returns a session of p, idle.
func (m *Manager) NewSession(p Principal) *Session { return &Session{m: m, who: p, state: Idle} }

// Counts returns a snapshot; it reads memory only.
func (m *Manager) Counts() Counts {
	c := Counts{Active: int(m.active.Load()), InDoubt: m.ledger.InDoubt(), Pending: m.pending.Count(), Aside: int(m.waiting.Load()), Unexplained: int(m.unexplained.Load())}
	if at := m.oldest.Load(); c.InDoubt > 0 && at != 0 {
		c.Oldest = time.Unix(0, at)
	}
	if m.host != nil {
		own := m.host.Counts()
		c.InDoubt, c.Unexplained, c.Aside, c.Pending = c.InDoubt+own.InDoubt, c.Unexplained+own.Unexplained, c.Aside+own.Aside, c.Pending+own.Pending
		if !own.Oldest.IsZero() && (c.Oldest.IsZero() || own.Oldest.Before(c.Oldest)) {
			c.Oldest = own.Oldest
		}
	}
	return c
}

// Counts is a snapshot of one Manager's work.
type Counts struct {
	Active  int // open transactions of its sessions
	InDoubt int // transactions of all workers that wait for a decision
	// Unexplained is how many branches a resource holds that nothing explains, see Manager.Unexplained.
	Unexplained int
	Aside       int       // logs that were put aside, hold open transactions, and wait for an operator's word
	Pending     int       // decided, and a resource not told yet
	Oldest      time.Time // since when the oldest of InDoubt waits, as of the last scan and what this one did since; zero if none does
}

// List returns every transaction that is in doubt, decided but not finished,
// or finished with an outcome that is still kept, oldest first. The error names
// what cannot be read; the list has the rest.
func (m *Manager) List(ctx context.Context) ([]Transaction, error) {
	all, err := m.list(ctx)
	if m.host != nil && all != nil {
		own, bad := m.host.list(ctx)
		all, err = append(all, own...), errors.Join(err, bad)
	}
	slices.SortStableFunc(all, func(a, b Transaction) int { return a.Since.Compare(b.Since) })
	return all, err
}

// list is List of the ledger alone, in no order.
func (m *Manager) list(ctx context.Context) ([]Transaction, error) {
	all := []Transaction{}
	oldest := int64(0)
	bad, err := m.ledger.Each(ctx, func(st *ledger.State) {
		if st.Forgotten() {
			return
		}
		older(&oldest, &st.Transaction)
		all = append(all, shown(st))
	})
	if err != nil {
		return nil, fmt.Errorf("list transactions: %w", err)
	}
	if bad != nil {
		bad = fmt.Errorf("list transactions: %w", bad)
	}
	m.oldest.Store(oldest)
	return all, bad
}

// shown is what is told of a transaction by its claim.
func shown(st *ledger.State) Transaction {
	t := st.Transaction
	if t.Phase == Committing || t.Phase == Aborting {
		for _, b := range st.Untold() {
			t.Waits = append(t.Waits, b.Resource)
		}
	}
	return t
}

// resource returns the resource that holds a branch. One of that name that is
// another store is as good as unreachable.
func (m *Manager) resource(ctx context.Context, b BranchID) (Resource, error) {
	r := m.resources[b.Resource]
	if r == nil {
		return nil, Refused.Mark(fmt.Errorf("resource %q is not configured", b.Resource))
	}
	id, err := r.Identity(ctx)
	if err != nil {
		return nil, classOfSilence(err).Mark(err)
	}
	held, err := m.holds(r, id, b)
	if err == nil && !held {
		err = fmt.Errorf("resource %q is %s now, its branch is on %s", b.Resource, id, b.Identity)
	}
	if err != nil {
		return nil, NotOurs.Mark(err)
	}
	return r, nil
}

// sameStore tells whether a resource that is now the store is holds what it
// held as the store was. What was noted without a store may be on any.
func sameStore(r Resource, is, was string) bool {
	if was == "" || is == was {
		return true
	}
	s, ok := r.(Successor)
	return ok && s.Succeeds(is, was)
}

// silence is the cause of a call's end to which there was no answer for so long.
type silence time.Duration

// Error is put together when somebody wants to know.
func (s silence) Error() string {
	return "no answer from a resource within " + time.Duration(s).String()
}

// detached is the context of a phase that is not called off with its client.
func (m *Manager) detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.WithoutCancel(ctx), m.opt.Limits.Phase,
		silence(m.opt.Limits.Phase))
}

// telling is the context in which a session tells one resource a decision.
func (m *Manager) telling(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, m.opt.Limits.Tell, silence(m.opt.Limits.Tell))
}

// within is detached that ends with ctx, too.
func (m *Manager) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, m.opt.Limits.Phase, silence(m.opt.Limits.Phase))
}
