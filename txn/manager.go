package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Principal is who asks.
type Principal struct {
	User     string // owner of what is prepared
	Operator bool   // may decide what others prepared
	Addr     string // where the client is, for the record only
	Database string // what the client takes for its database, for the record and pg_prepared_xacts
}

// Limits bounds how long things take. Zero means the default.
type Limits struct {
	Transaction time.Duration // from Begin to the end of phase one; 0 unlimited
	Lock        time.Duration // longest wait for one lock in a resource; 0 the resource's own
	Enlist      time.Duration // longest wait for a free connection; default 5 s
	Phase       time.Duration // longest wait for a resource in phase one or two; default 30 s
	Retain      time.Duration // how long an outcome nobody acknowledged is kept; default 7 days
	Scan        time.Duration // between two scans of Recover, at random from a third of it on; default 30 s
	Doubt       time.Duration // how long a transaction may be in doubt before it is reported; default 10 min
}

// Options says where a Manager keeps its records and which resources it has.
type Options struct {
	LogDir    string // /var/lib/fdt/txn: durable, owned by the calling user
	ClaimDir  string // /run/fdt/txn: memory, gone at boot
	MachineID string // empty: /etc/machine-id
	Resources []Resource
	Limits    Limits
	Logger    *slog.Logger // nil discards
	Program   string       // for the record: fdt-worker 7-2, fdtctl

	fault faultFunc
}

// faultFunc lets a test die at a step, or make a system call fail. It is nil
// otherwise.
type faultFunc func(step string) error

func (f faultFunc) at(step string) error {
	if f == nil {
		return nil
	}
	return f(step)
}

// Manager is one process's share of the coordinator. Its methods may be called
// concurrently.
type Manager struct {
	opt       Options
	log       *slog.Logger
	home      *home
	claims    claims
	resources map[string]Resource

	number  atomic.Uint64   // of the journal, 0 without one
	rebuilt atomic.Bool     // the claims are those of this boot
	alive   context.Context // ends when the log has failed
	kill    context.CancelCauseFunc

	active  atomic.Int64
	meters  meters
	inDoubt atomic.Int64 // as of the last scan or list
	oldest  atomic.Int64 // of those, in nanoseconds since 1970; 0 if there is none
	left    leftovers
	swept   sweeper
	fences  fences
	told    sync.Map // what once was asked

	mu      sync.Mutex
	journal *journal // nil until this process needs an incarnation
	held    []*claim // locked until the process ends: their decision is open
	closed  bool
}

// Open prepares a Manager. It reads whose log it is, or makes one, and waits
// neither for recovery nor for a resource. The Manager does not own the
// resources.
func Open(ctx context.Context, opt Options) (*Manager, error) {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	opt.Limits.defaults()
	m := &Manager{
		opt: opt, log: opt.Logger, claims: claims{opt.ClaimDir, opt.fault},
		resources: map[string]Resource{},
	}
	m.alive, m.kill = context.WithCancelCause(context.Background())
	m.left.init()
	m.swept.init()
	for _, r := range opt.Resources {
		if m.resources[r.Name()] != nil {
			return nil, fmt.Errorf("two resources are named %q", r.Name())
		}
		m.resources[r.Name()] = r
	}
	m.meters.init(opt.Resources)
	machine, err := []byte(opt.MachineID), error(nil)
	if len(machine) == 0 {
		machine, err = os.ReadFile("/etc/machine-id")
	}
	var home *home
	var foreign error
	if err == nil {
		home, foreign, err = openHome(ctx, opt.LogDir, strings.TrimSpace(string(machine)), opt.fault)
	}
	if err != nil {
		return nil, fmt.Errorf("open transaction log: %w", err)
	}
	if foreign != nil {
		m.log.ErrorContext(ctx, "transaction log put aside: what it held in doubt is left alone",
			slog.Any("error", foreign), slog.String("file", home.path("old-*")), event(eventForeign))
	}
	m.home = home
	return m, nil
}

func (l *Limits) defaults() {
	for _, d := range []struct {
		of   *time.Duration
		then time.Duration
	}{
		{&l.Enlist, 5 * time.Second}, {&l.Phase, 30 * time.Second}, {&l.Retain, 7 * 24 * time.Hour},
		{&l.Scan, 30 * time.Second}, {&l.Doubt, 10 * time.Minute},
	} {
		if *d.of == 0 {
			*d.of = d.then
		}
	}
}

// at names the step that was just done.
func (m *Manager) at(step string) { _ = m.opt.fault.at(step) }

// ours returns this process's journal, beginning its incarnation if need be.
func (m *Manager) ours(ctx context.Context) (*journal, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	if m.journal == nil {
		j, err := openJournal(ctx, m.home, m.opt.Program, &m.meters.forces, m.opt.fault, m.fail)
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			err = fmt.Errorf("%w: %w", ErrLogFull, err)
		}
		if err != nil {
			return nil, err
		}
		m.journal = j
		m.number.Store(j.incarnation)
	}
	return m.journal, nil
}

// incarnation is this process's, 0 if it has none.
func (m *Manager) incarnation() uint64 { return m.number.Load() }

// Failed is closed when the log has failed: the process must exit, and its
// successor recovers.
func (m *Manager) Failed() <-chan struct{} { return m.alive.Done() }

// Err returns why Failed is closed, nil if it is not.
func (m *Manager) Err() error { return context.Cause(m.alive) }

// take waits for a claim, as long as this process may still decide anything.
func (m *Manager) take(ctx context.Context, name string) (*claim, error) {
	if err := m.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(m.alive, func() { cancel(m.Err()) })()
	return m.claims.take(ctx, name)
}

// hold keeps a claim locked until the process ends, which it must: nobody may
// decide what this process may have decided, or could not publish. It returns
// what to answer.
func (m *Manager) hold(c *claim, err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = append(m.held, c)
	if !errors.Is(err, ErrPoisoned) {
		err = fmt.Errorf("%w: %w", ErrPoisoned, err)
	}
	m.fail(err)
	return err
}

// Close forgets what can be forgotten and closes the log; what is left over is
// recovered by others. Sessions must be closed and Recover must have returned.
func (m *Manager) Close(ctx context.Context) error {
	var errs []error
	if m.Err() == nil && m.incarnation() != 0 {
		errs = append(errs, m.sweep(ctx))
	}
	finished := false
	if n := m.incarnation(); n != 0 && m.Err() == nil {
		var err error
		finished, err = m.nothingNeeded(ctx, n)
		errs = append(errs, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.journal != nil {
		errs = append(errs, m.journal.close(finished))
	}
	for _, c := range m.held {
		errs = append(errs, c.release())
	}
	m.number.Store(0)
	m.journal, m.held, m.closed = nil, nil, true
	return errors.Join(errs...)
}

// nothingNeeded tells whether no successor has to read our log. That it holds nothing is seen without the others, which many
// workers that leave at once would all read.
func (m *Manager) nothingNeeded(ctx context.Context, n uint64) (bool, error) {
	if !m.journal.used.Load() {
		return true, nil
	}
	unlock, err := m.home.lock(ctx, "seal")
	if err != nil {
		return false, err
	}
	s, err := m.home.survey()
	if err = errors.Join(err, unlock()); err != nil {
		return false, err
	}
	return s.damaged[n] == nil && len(s.needed(n, m.done, m.swept.did)) == 0, nil
}

func (m *Manager) done(h *history) bool { return h.done(time.Now(), m.opt.Limits.Retain) }

// NewSession returns a session of p, idle.
func (m *Manager) NewSession(p Principal) *Session { return &Session{m: m, who: p, state: Idle} }

// Counts returns a snapshot; it reads memory only.
func (m *Manager) Counts() Counts {
	c := Counts{Active: int(m.active.Load()), InDoubt: int(max(0, m.inDoubt.Load())), Leftover: m.left.count()}
	if at := m.oldest.Load(); c.InDoubt > 0 && at != 0 {
		c.Oldest = time.Unix(0, at)
	}
	return c
}

// Counts is a snapshot of one Manager's work.
type Counts struct {
	Active   int       // open transactions of its sessions
	InDoubt  int       // transactions of all workers that wait for a decision, as of the last scan, and what this one did since
	Leftover int       // decided, and a resource not told yet
	Oldest   time.Time // since when the oldest of InDoubt waits, likewise; zero if none does
}

// List returns every transaction that is in doubt, decided but not finished,
// or finished with an outcome that is still kept, oldest first. The error names
// what cannot be read; the list has the rest.
func (m *Manager) List(ctx context.Context) ([]Transaction, error) {
	if err := m.rebuild(ctx); err != nil {
		return nil, err
	}
	states, err := m.claims.list()
	if err != nil {
		err = fmt.Errorf("list transactions: %w", err)
	}
	if states == nil {
		return nil, err
	}
	all := make([]Transaction, 0, len(states))
	var d doubt
	for _, st := range states {
		d.add(&st.Transaction)
		all = append(all, st.Transaction)
	}
	m.doubt(d)
	slices.SortStableFunc(all, func(a, b Transaction) int { return a.Since.Compare(b.Since) })
	return all, err
}

// Show returns one transaction by its coordinator's name or our own, its
// branches with the state that each resource reports. ErrUnknownGID.
func (m *Manager) Show(ctx context.Context, name string) (Transaction, error) {
	t, err := m.find(ctx, name)
	if err != nil {
		return Transaction{}, err
	}
	for i := range t.Branches {
		t.Branches[i].State = m.branchState(ctx, t.GID, t.Branches[i])
	}
	return t, nil
}

func (m *Manager) find(ctx context.Context, name string) (Transaction, error) {
	all, err := m.List(ctx)
	i := slices.IndexFunc(all, func(t Transaction) bool { return t.ClientGID == name })
	if i < 0 {
		i = slices.IndexFunc(all, func(t Transaction) bool { return t.GID.String() == name })
	}
	switch {
	case i >= 0:
		return all[i], nil
	case err != nil: // it may be what cannot be read
		return Transaction{}, err
	}
	return Transaction{}, fmt.Errorf("%w: %q", ErrUnknownGID, name)
}

func (m *Manager) branchState(ctx context.Context, gid GID, b BranchID) string {
	r, err := m.resource(ctx, b)
	if err != nil {
		return "unreachable: " + err.Error()
	}
	list, err := r.InDoubt(ctx, gid.Log)
	if err != nil {
		return "unreachable: " + err.Error()
	}
	if slices.ContainsFunc(list, func(p PreparedBranch) bool { return p.GID.Same(gid) }) {
		return "prepared"
	}
	return "not prepared"
}

// resource returns the resource that holds a branch. One of that name that is
// another store is as good as unreachable.
func (m *Manager) resource(ctx context.Context, b BranchID) (Resource, error) {
	r := m.resources[b.Resource]
	if r == nil {
		return nil, fmt.Errorf("%w: resource %q is not configured", ErrUnreachable, b.Resource)
	}
	id, err := r.Identity(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if b.Identity != "" && id != b.Identity {
		return nil, fmt.Errorf("%w: resource %q is %s now, its branch is on %s", ErrUnreachable, b.Resource, id, b.Identity)
	}
	return r, nil
}

// detached is the context of a phase that is not called off with its client.
func (m *Manager) detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.WithoutCancel(ctx), m.opt.Limits.Phase,
		fmt.Errorf("no answer from a resource within %s", m.opt.Limits.Phase))
}

// within is detached that ends with ctx, too.
func (m *Manager) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, m.opt.Limits.Phase, fmt.Errorf("no answer from a resource within %s", m.opt.Limits.Phase))
}

// Decide is an operator's decision on a transaction that is in doubt, by the
// coordinator's name or our own. It is recorded as heuristic: a coordinator
// that decides otherwise later is told so, and only Forget drops it.
func (m *Manager) Decide(ctx context.Context, who Principal, name string, d Decision) error {
	t, err := m.find(ctx, name)
	if err != nil {
		return err
	}
	if !who.Operator {
		return ErrNotOwner
	}
	if err := m.settle(ctx, who, claimName(&t), d, true); err != nil {
		return err
	}
	m.log.InfoContext(ctx, "an operator decided a transaction", slog.String("user", who.User), slog.String("gid", t.Name()),
		slog.String("outcome", d.String()), event(eventDecided))
	return nil
}

// Forget drops the outcome of a finished transaction, heuristic ones included.
// ErrBusyGID if it has not finished.
func (m *Manager) Forget(ctx context.Context, who Principal, name string) error {
	t, err := m.find(ctx, name)
	if err != nil {
		return err
	}
	if !who.Operator {
		return ErrNotOwner
	}
	if !t.Phase.Terminal() {
		return fmt.Errorf("%w: it is %s, and only what is over can be forgotten", ErrBusyGID, t.Phase)
	}
	return m.forget(claimName(&t), true)
}
