package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fdtserver/fdt/internal/meter"
	"github.com/fdtserver/fdt/txn/xa"
)

// Options says where a ledger is, and who is told what happens to it.
type Options struct {
	LogDir   string        // durable, owned by the calling user
	ClaimDir string        // memory, gone at boot
	Machine  string        // machine-id(5)
	Last     xa.LogID      // the log that served last on this machine, which must be here; zero: not known
	Program  string        // for the record
	Operator bool          // may use the room that is kept on the disk for an operator's decisions
	Retain   time.Duration // how long an outcome that nobody acknowledged is kept
	Forces   *meter.Histogram
	Events   Events
	Fault    Fault         // of tests; nil otherwise
	Frozen   time.Duration // how long a process may be stopped with a lock that others want; 0: frozenFor
}

// Events is what a ledger has to tell.
type Events interface {
	// Failed is called once when nothing more can be written: the process must exit, and its successor recovers.
	Failed(file string, err error)
	// Full is called when the disk is, and returns what a client is told.
	Full(ctx context.Context, err error) error
	// Damaged is called when the log of a dead incarnation cannot be read to its end.
	Damaged(ctx context.Context, file string, err error)
	// Froze is called when a stopped process was killed for the lock it held, or with the reason why it could not be.
	Froze(ctx context.Context, pid int, file string, err error)
	// Silenced is called when the session of a process of a cluster was ended that had said nothing for long.
	Silenced(ctx context.Context, incarnation uint64)
}

// Fault lets a test die at a step, or make a system call fail. It is nil
// otherwise.
type Fault func(step string) error

func (f Fault) At(step string) error {
	if f == nil {
		return nil
	}
	return f(step)
}

// Files is the ledger of one host, as one process has it: a log in a file for each process, and claims in memory that
// follow from the logs. Its methods may be called concurrently.
type Files struct {
	opt    Options
	dir    *directory
	claims claims
	index  indexes

	rebuilt atomic.Bool     // the claims are those of this boot
	alive   context.Context // ends when the log has failed
	kill    context.CancelCauseFunc
	number  atomic.Uint64 // of the incarnation, 0 without one

	mu     sync.Mutex
	own    *logFile // nil until this process needs an incarnation
	held   []*Claim // locked until the process ends: their decision is open
	closed bool
	fresh  *Contents // of the sealed logs, when the claims were derived, for the first Read after that; nil after it
}

// Open reads whose ledger it is, or makes one. One of another machine, or a
// copy, is put aside, which foreign reports.
func Open(ctx context.Context, opt Options) (f *Files, foreign error, err error) {
	if opt.Frozen == 0 {
		opt.Frozen = frozenFor
	}
	f = &Files{opt: opt, claims: claims{opt.ClaimDir, filepath.Join(opt.LogDir, "claims"), opt.Fault, newTally(opt.ClaimDir)}}
	f.alive, f.kill = context.WithCancelCause(context.Background())
	f.dir, foreign, err = openDirectory(ctx, &opt)
	if err != nil {
		return nil, nil, err
	}
	return f, foreign, nil
}

// ID is the ledger's, part of every gid.
func (f *Files) ID() xa.LogID { return f.dir.id }

// Log returns this process's log, beginning its incarnation if need be.
func (f *Files) Log(ctx context.Context) (Log, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, xa.ErrClosed
	}
	if f.own == nil {
		j, err := f.begin(func() (*logFile, error) { return openLog(ctx, f.dir, &f.opt, f.Fail) })
		if errors.Is(err, errReplaced) {
			err = fmt.Errorf("%w: %w", xa.ErrPoisoned, err)
			f.Fail(err) // its successor opens the log that is there now
		}
		if errors.Is(err, xa.ErrLogFull) {
			err = f.opt.Events.Full(ctx, err)
		}
		if err != nil {
			return nil, err
		}
		f.own = j
		f.number.Store(j.incarnation)
	}
	return f.own, nil
}

// Incarnation is this process's, 0 if it has none.
func (f *Files) Incarnation() uint64 { return f.number.Load() }

// Fail ends this process's part: nothing more may be promised or decided.
func (f *Files) Fail(err error) {
	if f.Err() != nil {
		return
	}
	f.kill(err)
	file := ""
	if n := f.Incarnation(); n != 0 {
		file = f.dir.path(logName(n))
	}
	f.opt.Events.Failed(file, err)
}

// Failed is closed when the log has failed.
func (f *Files) Failed() <-chan struct{} { return f.alive.Done() }

// Err returns why failed is closed, nil if it is not.
func (f *Files) Err() error { return context.Cause(f.alive) }

// Take waits for a claim, as long as this process may still decide anything.
func (f *Files) Take(ctx context.Context, name string) (*Claim, error) {
	if err := f.Err(); err != nil {
		return nil, err
	}
	if err := f.rebuild(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(f.alive, func() { cancel(f.Err()) })()
	return found(ctx, f, name, func() (*Claim, error) { return f.claims.take(ctx, name) })
}

// TryTake is take that returns errHeld instead of waiting.
func (f *Files) TryTake(ctx context.Context, name string) (*Claim, error) {
	if err := f.rebuild(ctx); err != nil {
		return nil, err
	}
	return found(ctx, f, name, func() (*Claim, error) { return f.claims.tryTake(name) })
}

// RemoveForgotten asks no log whether there was a claim: what is forgotten needs none.
func (f *Files) RemoveForgotten(ctx context.Context, name string, gid xa.GID) error {
	c, err := mended(ctx, f, name, func() (*Claim, error) { return f.claims.tryTake(name) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return barred(err)
	}
	return With(c, func(c *Claim) error {
		if c.GID != gid {
			return nil
		}
		return c.Remove()
	})
}

// Create makes a new claim, locked; fs.ErrExist if there is one of that name.
func (f *Files) Create(ctx context.Context, st State) (*Claim, error) {
	if err := f.rebuild(ctx); err != nil {
		return nil, err
	}
	if _, err := f.remade(ctx); err != nil {
		return nil, barred(err)
	}
	c, err := f.claims.create(ctx, st)
	return c, barred(err)
}

// Peek reads a claim without its lock; fs.ErrNotExist if there is none.
func (f *Files) Peek(ctx context.Context, name string) (State, error) {
	if err := f.rebuild(ctx); err != nil {
		return State{}, err
	}
	return found(ctx, f, name, func() (State, error) { return readClaim(f.claims.path(name)) })
}

// Each calls g for every claim, one after another, without locking it. It
// returns which could not be read, or why none could be looked for.
func (f *Files) Each(ctx context.Context, g func(*State)) (bad, err error) {
	if err := f.rebuild(ctx); err != nil {
		return nil, err
	}
	if _, err := f.remade(ctx); err != nil {
		return nil, barred(err)
	}
	unread, err := f.claims.each(g)
	for i, bad := range unread {
		spoilt, ok := errors.AsType[*spoiltError](bad)
		if !ok {
			continue
		}
		st, err := f.Peek(ctx, filepath.Base(spoilt.path)) // which mends it
		switch {
		case err == nil:
			g(&st)
			unread[i] = nil
		case errors.Is(err, fs.ErrNotExist):
			unread[i] = nil
		default:
			unread[i] = err
		}
	}
	return errors.Join(unread...), noClaims(err)
}

// Room tells whether one more claim may be made: ENOSPC if not.
func (f *Files) Room(ctx context.Context) error {
	if err := f.rebuild(ctx); err != nil {
		return err
	}
	return noClaims(f.claims.room())
}

// KeepRoom keeps place on the disk for some more logs, for an operator's decisions where it is full.
func (f *Files) KeepRoom() { f.dir.keepRoom() }

// KeepLocked keeps a claim locked until the process ends, which it must: nobody may
// decide what this process may have decided, or could not publish. It returns
// what to answer.
func (f *Files) KeepLocked(c *Claim, err error) error {
	c.Keep()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = append(f.held, c)
	if !errors.Is(err, xa.ErrPoisoned) {
		err = fmt.Errorf("%w: %w", xa.ErrPoisoned, err)
	}
	f.Fail(err)
	return err
}

// Alive tells whether an incarnation still holds the lock of its log. One
// without a log belonged to nobody any more.
func (f *Files) Alive(n uint64) (bool, error) { return f.dir.alive(n) }

// Gone tells whether an incarnation has no log.
func (f *Files) Gone(n uint64) bool {
	_, err := os.Stat(f.dir.path(logName(n)))
	return errors.Is(err, fs.ErrNotExist)
}

// locked runs g under a lock of the directory.
func (f *Files) locked(ctx context.Context, name string, g func() error) error {
	unlock, err := f.dir.lock(ctx, name)
	if err != nil {
		return err
	}
	return errors.Join(g(), unlock())
}

// Recovering runs g under the lock of who recovers. If another has it and wait
// is not set, mine is false and g is not run.
func (f *Files) Recovering(ctx context.Context, wait bool, g func() error) (mine bool, err error) {
	if wait {
		return true, f.locked(ctx, "recovery", g)
	}
	unlock, err := f.dir.tryLock(ctx, "recovery")
	if err != nil || unlock == nil {
		return false, err
	}
	return true, errors.Join(g(), unlock())
}

// Read reads all logs at one time, or only those named. What SealDead has just read of the sealed ones, to derive the
// claims, is not read again: none but the recoverer, who is the caller of both, changes them.
func (f *Files) Read(ctx context.Context, only ...uint64) (s *Contents, err error) {
	f.mu.Lock()
	s, f.fresh = f.fresh, nil
	f.mu.Unlock()
	err = f.locked(ctx, "seal", func() error {
		if s != nil && len(only) == 0 {
			return f.dir.readOthers(s)
		}
		s, err = f.dir.contents(only...)
		return err
	})
	return s, err
}

// ReadLiving reads the logs of all but the dead, also of those that began meanwhile.
func (f *Files) ReadLiving(ctx context.Context, dead map[uint64]bool) (*Contents, error) {
	s := NewContents()
	err := f.locked(ctx, "seal", func() error {
		all, err := f.dir.logs()
		var living []uint64
		for _, n := range all {
			if !dead[n] {
				living = append(living, n)
			}
		}
		if err == nil && len(living) > 0 {
			s, err = f.dir.contents(living...)
		}
		return err
	})
	return s, err
}

// Done tells whether nobody will ever ask for the transaction again.
func (f *Files) Done(h *History) bool { return h.Done(time.Now(), f.opt.Retain) }

// Close closes the log. It is deleted if all that it has may be given up, no decision is kept elsewhere, and no successor
// needs to read it.
func (f *Files) Close(ctx context.Context, settled bool, dispensable func(xa.GID) bool) error {
	var errs []error
	finished := false
	if n := f.Incarnation(); n != 0 && settled {
		var err error
		finished, err = f.nothingNeeded(ctx, n, dispensable)
		errs = append(errs, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.own != nil {
		errs = append(errs, f.own.close(finished))
	}
	for _, c := range f.held {
		errs = append(errs, c.row.Release())
	}
	errs = append(errs, f.claims.tally.close(), f.index.close())
	f.number.Store(0)
	f.own, f.held, f.closed = nil, nil, true
	return errors.Join(errs...)
}

// leaveWithin bounds how long a process that ends waits for others, to see whether its log may go with it.
const leaveWithin = 2 * time.Second

// nothingNeeded tells whether no successor has to read our log. That it holds nothing is seen without the others, which many
// workers that leave at once would all read. Where that takes long, recovery looks later: to leave is no failure.
func (f *Files) nothingNeeded(ctx context.Context, n uint64, dispensable func(xa.GID) bool) (bool, error) {
	if !f.own.used.Load() {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaveWithin)
	defer cancel()
	s, err := f.Read(ctx)
	if err != nil && ctx.Err() != nil {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s.Cleared(n)
	return s.Damaged[n] == nil && len(s.Needed(n, f.Done, dispensable)) == 0, nil
}

// Share puts a fact where all processes find it, as long as the machine runs.
func (f *Files) Share(name string, content []byte) error {
	path := filepath.Join(f.claims.dir, name)
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Shared returns such a fact and when it was put there; fs.ErrNotExist if none
// was.
func (f *Files) Shared(name string) (content []byte, at time.Time, err error) {
	path := filepath.Join(f.claims.dir, name)
	info, err := os.Stat(path)
	if err == nil {
		content, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	return content, info.ModTime(), nil
}
