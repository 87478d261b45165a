package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/meter"
	"github.com/fdtserver/fdt/internal/resources"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/unit"
	"github.com/fdtserver/fdt/pgwire"
	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/worker"
)

// reserve is how many connections beyond the configured threads may wait with
// their first request read, so that CancelRequest and COMMIT PREPARED always
// get through.
const reserve = 16

// closing bounds what is done after the last session.
const closing = 10 * time.Second

// serve is a worker's life, from its snapshot to the end of its drain.
func serve(ctx context.Context, p place, log *slog.Logger) (err error) {
	dir := snapshot.Dir(p.run)
	cfg, err := dir.Load(p.gen)
	if err != nil {
		return fmt.Errorf("configuration of generation %d: %w", p.gen, err)
	}
	key, err := secret(filepath.Join(p.lib, "auth"))
	if err != nil {
		return fmt.Errorf("secret of unknown users: %w", err)
	}
	procedures, err := procedure.Compile(cfg)
	ways, names, also := listeners(cfg, key)
	if err := errors.Join(err, also); err != nil {
		return err
	}
	rms, err := resources.Open(cfg, filepath.Join(p.run, "txn"))
	if err != nil {
		return err
	}
	defer func() {
		for _, r := range rms {
			err = errors.Join(err, r.Close())
		}
	}()
	manager, err := txn.Open(ctx, txn.Options{
		LogDir: filepath.Join(p.lib, "txn"), ClaimDir: filepath.Join(p.run, "txn"), Resources: rms,
		Limits: txn.Limits{Transaction: cfg.Transaction.Timeout, Lock: cfg.Transaction.LockTimeout},
		Logger: log, Program: "fdt-worker " + unit.Instance(p.gen, p.slot),
	})
	if err != nil {
		return fmt.Errorf("transaction log: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closing)
		defer cancel()
		err = errors.Join(err, manager.Close(ctx))
	}()

	if pending(dir, p.gen) {
		if err := manager.Stranded(ctx); err != nil {
			return err
		}
	}
	wire := &pgwire.Server{
		Manager: manager, Procedures: procedures, Listeners: ways, IdleTimeout: cfg.Transaction.IdleTimeout,
		Origin: pgwire.Origin{Generation: p.gen, Slot: p.slot}, Relay: relay(filepath.Join(p.run, "worker")), Logger: log,
	}
	server := &drain.Server{
		Handler: wire.Handle, Threads: cfg.Workers.Threads, Reserve: reserve, Idle: cfg.Drain.Idle, Logger: log,
	}
	counts := meters{p, cfg, server, manager, wire, time.Now()}
	lc, err := control.Listen(p.control())
	if err != nil {
		return err
	}
	opts := []worker.Option{
		worker.WithLogger(log), worker.WithListeners(names...), worker.WithDrainTimeout(cfg.Drain.Timeout),
		worker.WithStatus(func() string { return line(server.Counts(), manager.Counts()) }),
		worker.WithControl(lc, handlers(p, server, manager, wire, procedures, counts)),
	}
	if pending(dir, p.gen) {
		opts = append(opts, worker.WithRequired())
	}
	err = live(ctx, manager, func() { server.Hurry(0) }, func(ctx context.Context) error {
		var checks sync.WaitGroup
		defer checks.Wait()
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		checks.Go(func() { check(ctx, manager, rms, log) }) // READY does not wait for databases
		return worker.Run(server, append(opts, worker.WithContext(ctx))...)
	})
	if lerr := meter.Leave(filepath.Dir(p.control()), counts.read()); lerr != nil {
		log.WarnContext(ctx, "the last counts are lost to the metrics", "error", lerr)
	}
	return err
}

// check tells the operator what is wrong with the databases, and of what is open in those that are configured no more.
func check(ctx context.Context, manager *txn.Manager, rms []txn.Resource, log *slog.Logger) {
	if err := manager.Stranded(ctx); err != nil && ctx.Err() == nil {
		log.WarnContext(ctx, "transactions cannot be finished", slog.Any("error", err))
	}
	for _, text := range resources.Check(ctx, rms) {
		if ctx.Err() == nil {
			log.WarnContext(ctx, "a database does not suit transactions", "warning", text)
		}
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
	return s
}

// handlers are the operations of the control socket.
func handlers(p place, server *drain.Server, m *txn.Manager, wire *pgwire.Server, procedures *procedure.Set, counts meters) map[string]worker.Operation {
	return map[string]worker.Operation{
		control.OpStatus: func(context.Context, json.RawMessage) (any, error) {
			c := server.Counts()
			st := control.Status{
				Generation: p.gen, Slot: p.slot, PID: os.Getpid(), State: "serving", Open: c.Open, Busy: c.Busy, Idle: c.Idle,
				Reserve: c.Reserve, Threads: c.Threads, Accepted: c.Accepted, InDoubt: m.Counts().InDoubt, Since: counts.began,
				Memory: resident(),
			}
			if since := m.Counts().Oldest; !since.IsZero() {
				st.DoubtAge = time.Since(since).Seconds()
			}
			if c.Draining {
				st.State = "draining"
			}
			return st, nil
		},
		control.OpCheck: func(ctx context.Context, _ json.RawMessage) (any, error) {
			answer := control.Check{Faults: map[string]string{}}
			for name, fault := range m.Rehearse(ctx, procedures.Try) {
				answer.Faults[name] = fault.Error()
			}
			return answer, nil
		},
		control.OpMetrics: func(context.Context, json.RawMessage) (any, error) { return counts.read(), nil },
		control.OpCancel: func(_ context.Context, args json.RawMessage) (any, error) {
			var key control.Cancel
			if err := json.Unmarshal(args, &key); err != nil {
				return nil, err
			}
			wire.Cancel(key.PID, key.Secret)
			return nil, nil
		},
	}
}

// resident is this process's resident memory in bytes, as proc_pid_statm(5) has it; 0 if it cannot be read.
func resident() int64 {
	text, _ := os.ReadFile("/proc/self/statm")
	var size, pages int64
	_, _ = fmt.Sscan(string(text), &size, &pages)
	return pages * int64(os.Getpagesize())
}

// relay passes a CancelRequest on to the workers that may have the session:
// process numbers hold the low bits of the generation only.
func relay(dir string) func(ctx context.Context, pid uint32, secret []byte) {
	return func(ctx context.Context, pid uint32, secret []byte) {
		socks, _ := filepath.Glob(filepath.Join(dir, "*.sock")) // the pattern is sound
		for _, path := range socks {
			gen, slot, ok := unit.ParseInstance(strings.TrimSuffix(filepath.Base(path), ".sock"))
			if ok && (pgwire.Origin{Generation: gen, Slot: slot}).Owns(pid) {
				// A worker that has gone has no session to cancel.
				_ = control.Call(ctx, path, control.OpCancel, control.Cancel{PID: pid, Secret: secret}, nil)
			}
		}
	}
}
