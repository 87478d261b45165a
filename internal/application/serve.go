package application

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/lane"
	"github.com/fdtserver/fdt/internal/meter"
	"github.com/fdtserver/fdt/internal/resources"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/pgwire"
	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/worker"
)

// reserve is how many connections beyond the configured threads may wait with
// their first request read, so that CancelRequest and COMMIT PREPARED always
// get through.
const reserve = 16

// holding is how many files a session holds at once: a claim and the lock of its name, or a message of a spool and its directory.
const holding = 2

// scanning is how many files the transaction log holds open, with its locks, and recovery while it reads those of others.
const scanning = 32

// descriptors are what a worker may come to hold beside its connections.
func descriptors(cfg *config.Config) int {
	return holding*(cfg.Workers.Threads+reserve) + resources.Descriptors(cfg) + control.Descriptors + scanning
}

// serving is the server of a configuration, without what it serves by. Sessions of wire move to it.
func serving(cfg *config.Config, wire *pgwire.Server) *drain.Server {
	return &drain.Server{
		Threads: cfg.Workers.Threads, Reserve: reserve, Strangers: strangers, Idle: cfg.Drain.Idle, Spread: cfg.Drain.Spread, Adopt: wire.Adopt,
	}
}

// strangers is how many connections beyond the threads may be there that are not authenticated yet: so many have as
// long as that takes, at the worst, and one that comes when there are more of them takes the oldest one's place.
const strangers = 128

// closing bounds what is done after the last session.
const closing = 10 * time.Second

// serve is a worker's life, from its snapshot to the end of its drain.
func (app *Application) serve(ctx context.Context, p place, log *slog.Logger, more ...worker.Option) (err error) {
	dir := snapshot.Dir(p.run)
	if err := errors.Join(app.faults...); err != nil {
		return err
	}
	cfg, err := app.program().LoadCopy(dir.Path(p.gen))
	if err != nil {
		return fmt.Errorf("configuration of generation %d: %w", p.gen, err)
	}
	key, err := secret(filepath.Join(p.lib, "auth"))
	if err != nil {
		return fmt.Errorf("secret of unknown users: %w", err)
	}
	if err := app.agree(cfg); err != nil {
		return err
	}
	procedures, err := procedure.Compile(cfg, app.Procedures...)
	ways, names, also := listeners(cfg, key)
	if err := errors.Join(err, also); err != nil {
		return err
	}
	rms, err := resources.Open(cfg, filepath.Join(p.run, "txn"), app.openers)
	if err != nil {
		return err
	}
	defer func() {
		for _, r := range rms {
			err = errors.Join(err, r.Close())
		}
	}()
	manager, err := txn.Open(ctx, txn.Options{
		LogDir: filepath.Join(p.lib, "txn"), ClaimDir: filepath.Join(p.run, "txn"), LastLog: p.last, Resources: rms,
		Limits: limits(&cfg.Transaction), Decider: cfg.Transaction.Decider, Cluster: cfg.Cluster.Decider != "",
		AnswerDecided: cfg.Transaction.Answer == config.AnswerDecided,
		Neighbours:    func() map[string]string { return service.LogsBeside(p.lib) },
		Logger:        log, Program: "fdt-worker " + service.Instance(p.gen, p.slot),
	})
	if err != nil {
		return fmt.Errorf("transaction log: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closing)
		defer cancel()
		err = errors.Join(err, manager.Close(ctx))
	}()

	paused := &pauses{dir: dir, manager: manager, log: log, of: map[string]snapshot.Pause{}}
	_ = paused.look(ctx) // before anything asks a resource; it logs
	if pending(dir, p.gen) {
		if err := manager.Stranded(ctx); err != nil {
			return err
		}
	}
	together, err := lane.Open(filepath.Join(p.run, "txn", "lane"), runtime.NumCPU())
	if err != nil {
		return err
	}
	wire := &pgwire.Server{
		Lane:    together,
		Manager: manager, Procedures: procedures, Listeners: ways, IdleTimeout: cfg.Transaction.IdleTimeout, MaxTotal: int(cfg.Workers.Recycle.Memory / 4),
		Origin: pgwire.Origin{Generation: p.gen, Slot: p.slot}, Relay: relay(filepath.Join(p.run, "worker"), p.control()), Logger: log,
		Elsewhere:      siblings(filepath.Join(p.run, "worker"), p.control(), siblingFor, siblingAge),
		SlowCall:       slowCall(&cfg.Log),
		CallRate:       callRate(&cfg.Log),
		StartupTimeout: cfg.Session.AuthenticationTimeout, ReserveTimeout: cfg.Session.ReserveTimeout, StallTimeout: cfg.Session.StallTimeout,
		MaxMessage: int(cfg.Session.Message), MaxStatements: cfg.Session.Statements, MaxMemory: int(cfg.Session.Memory),
	}
	tracer, finish := tracing(cfg, p, log)
	defer finish()
	wire.Tracer = tracer
	own, err := app.open(cfg, manager, log, tracer)
	if err != nil {
		return err
	}
	server := serving(cfg, wire)
	server.Handler, server.Logger = newProxies(cfg, log).before(own.or(wire.Handle)), log
	server.Successors = successors(filepath.Join(p.run, "worker"), p.moves())
	health := watching(cfg, rms, manager, log)
	health.look = paused.look
	counts := meters{p, cfg, server, manager, wire, health, paused, time.Now(), new(atomic.Pointer[time.Time]), expiries(cfg)}
	lc, err := control.Listen(p.control())
	if err != nil {
		return err
	}
	_ = paused.look(ctx) // again, now that there is the socket by which this worker is told of what is paused later
	opts := append(more,
		worker.WithLogger(log), worker.WithListeners(names...), worker.WithDrainTimeout(cfg.Drain.Timeout),
		worker.WithDeadline(func(at time.Time) { counts.deadline.Store(&at) }),
		worker.WithStatus(func() string { return line(server.Counts(), manager.Counts()) }),
		worker.WithDescriptors(descriptors(cfg)),
		worker.WithControl(lc, app.operations(counts, procedures)),
	)
	if pending(dir, p.gen) {
		opts = append(opts, worker.WithRequired())
	}
	if lm, err := control.Listen(p.metrics()); err != nil {
		log.WarnContext(ctx, "the worker's counts are not told to the metrics", "error", err) // its clients are served all the same
	} else {
		defer counts.tell(lm, log)()
	}
	defer receive(ctx, server, p.moves(), log)()
	own.start()
	defer own.stop()
	err = live(ctx, manager, func() { server.Hurry(0) }, func(ctx context.Context) error {
		var checks sync.WaitGroup
		defer checks.Wait()
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		checks.Go(func() { stranded(ctx, manager, log) }) // READY does not wait for databases
		checks.Go(func() { health.run(ctx) })
		return worker.Run(server, append(opts, worker.WithContext(ctx))...)
	})
	if lerr := meter.Leave(dir.Metrics(), counts.read()); lerr != nil {
		log.WarnContext(ctx, "the last counts are lost to the metrics", "error", lerr)
	}
	return err
}

// limits are those of the configuration.
func limits(t *config.Transaction) txn.Limits {
	return txn.Limits{
		Transaction: t.Timeout, Lock: t.LockTimeout, Retain: t.Retain, Kept: t.Kept, Prepared: t.Prepared, PreparedPerUser: t.PreparedPerUser,
	}
}

// stranded tells the operator of what is open in databases that are configured no more.
func stranded(ctx context.Context, manager *txn.Manager, log *slog.Logger) {
	if err := manager.Stranded(ctx); err != nil && ctx.Err() == nil {
		log.WarnContext(ctx, "transactions cannot be finished", slog.Any("error", err))
	}
}

// live runs the worker beside recovery, and ends it when the log has failed:
// then only another process, which reads what is durable, may decide anything.
func live(ctx context.Context, m *txn.Manager, cut func(), work func(context.Context) error) error {
	recovering, stop := context.WithCancel(ctx)
	serving, fail := context.WithCancelCause(ctx)
	var all sync.WaitGroup
	var rerr error
	all.Go(func() { rerr = m.Recover(recovering) })
	all.Go(func() {
		select {
		case <-m.Failed():
			cut()
			fail(txn.ErrPoisoned)
		case <-recovering.Done():
		}
	})
	err := work(serving)
	stop()
	all.Wait()
	fail(nil)
	return errors.Join(err, rerr)
}

// pending tells whether this generation is being put in another's place: then
// a missing listener must stop it. At boot what is there is served.
func pending(dir snapshot.Dir, gen int) bool {
	st, err := dir.ReadState()
	return err == nil && st.Pending == gen && st.Applied != 0
}

// line is this server's part of STATUS=.
func line(c drain.Counts, t txn.Counts) string {
	s := fmt.Sprintf("%d connections, %d busy", c.Open, c.Busy)
	if t.InDoubt > 0 {
		s += fmt.Sprintf(", %d in doubt", t.InDoubt)
	}
	if t.Pending > 0 {
		s += fmt.Sprintf(", %d decided and not told to a resource yet", t.Pending)
	}
	if t.Aside > 0 {
		s += ", a transaction log was put aside: fdtctl txn list"
	}
	return s
}

// rehearsing bounds a rehearsal, so that which resource does not answer is told before who asks gives up: one that stands
// still is a fault like one that is down.
const rehearsing = control.CheckTimeout - control.Timeout

// operations are those of the control socket.
func (app *Application) operations(of meters, procedures *procedure.Set) map[string]worker.Operation {
	p, m := of.place, of.manager
	return map[string]worker.Operation{
		control.OpStatus: func(context.Context, json.RawMessage) (any, error) {
			c := of.server.Counts()
			st := control.Status{
				Generation: p.gen, Slot: p.slot, PID: os.Getpid(), State: "serving", Open: c.Open, Busy: c.Busy, Idle: c.Idle,
				Reserve: c.Reserve, Threads: c.Threads, Accepted: c.Accepted, InDoubt: m.Counts().InDoubt, Untold: m.Counts().Pending,
				Aside: m.Counts().Aside, Since: of.began, Log: m.Log().String(),
				Memory: resident(), Resources: of.resources(), Queues: of.server.Queues(),
				Draining: c.Began, Oldest: of.server.Oldest(),
			}
			if since := m.Counts().Oldest; !since.IsZero() {
				st.DoubtAge = time.Since(since).Seconds()
			}
			if c.Draining {
				st.State = "draining"
				if at := of.deadline.Load(); at != nil {
					st.Deadline = *at
				}
			}
			return st, nil
		},
		control.OpCheck: func(ctx context.Context, _ json.RawMessage) (any, error) {
			ctx, cancel := context.WithTimeoutCause(ctx, rehearsing, fmt.Errorf("no answer from the resource within %s", rehearsing))
			defer cancel()
			answer := control.Check{Faults: map[string]string{}, Places: map[string]string{}}
			for name, fault := range m.Rehearse(ctx, procedures.Try) {
				answer.Faults[name], answer.Places[name] = fault.Error(), pathOf(fault, "resources."+name)
			}
			answer.Program = app.rehearse(ctx, m)
			of.health.asked(ctx) // what is told of them from now on is of this process
			return answer, nil
		},
		control.OpUses: func(ctx context.Context, _ json.RawMessage) (any, error) {
			err := of.paused.look(ctx)
			return of.paused.uses(slices.Collect(maps.Keys(of.cfg.Resources))), err
		},
		control.OpSessions:  func(ctx context.Context, args json.RawMessage) (any, error) { return activity(ctx, of.wire, args) },
		control.OpInterrupt: func(ctx context.Context, args json.RawMessage) (any, error) { return interrupt(ctx, of.wire, args) },
		control.OpCancel: func(_ context.Context, args json.RawMessage) (any, error) {
			var key control.Cancel
			if err := json.Unmarshal(args, &key); err != nil {
				return nil, err
			}
			return of.wire.Cancel(key.PID, key.Secret), nil
		},
	}
}

// activity lists the worker's sessions, with the waits for locks if that is asked for.
func activity(ctx context.Context, wire *pgwire.Server, args json.RawMessage) (any, error) {
	var asked control.Sessions
	if err := json.Unmarshal(args, &asked); err != nil {
		return nil, err
	}
	if asked.Within == "" {
		return wire.Activity(), nil
	}
	within, err := time.ParseDuration(asked.Within)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("no answer within %s", within))
	defer cancel()
	return wire.Waits(ctx), nil
}

// interrupt does to a session what an operator asks for, and returns what it was at; nil if it is not here.
func interrupt(ctx context.Context, wire *pgwire.Server, args json.RawMessage) (any, error) {
	var asked control.Interrupt
	if err := json.Unmarshal(args, &asked); err != nil {
		return nil, err
	}
	was, found := wire.Interrupt(asked.PID, asked.End)
	if !found {
		return nil, nil
	}
	log := wire.Logger.With("session", asked.PID, "by", asked.By, "user", was.User, "remote", was.Peer, "state", was.State,
		"procedure", was.Procedure, "gid", was.GID)
	if asked.End {
		log.InfoContext(ctx, "an operator ends a session")
	} else {
		log.InfoContext(ctx, "an operator cancels a session's statement")
	}
	return was, nil
}

// resident is this process's resident memory in bytes, as proc_pid_statm(5) has it; 0 if it cannot be read.
func resident() int64 {
	text, _ := os.ReadFile("/proc/self/statm")
	var size, pages int64
	_, _ = fmt.Sscan(string(text), &size, &pages)
	return pages * int64(os.Getpagesize())
}
