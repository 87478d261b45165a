package application

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/unit"
	"github.com/fdtserver/fdt/worker"
)

// Trial is the application in the process of its tests, with directories of its
// own below Dir instead of /run/fdt and /var/lib/fdt, and listeners that the
// configuration names but systemd does not pass.
type Trial struct {
	Dir       string
	Listeners map[string]net.Listener // by address, as the configuration has it; they are the trial's
	Log       *slog.Logger
}

// named is a listener with the name that systemd would pass it by.
type named struct {
	net.Listener
	syscall.Conn
	name string
}

// Name is what drain.Conn tells.
func (n *named) Name() string { return n.name }

// Run is a worker's life on the configuration, until ctx ends.
func (t *Trial) Run(ctx context.Context, app *Application, text string) error {
	p := place{gen: 1, run: filepath.Join(t.Dir, "run"), lib: filepath.Join(t.Dir, "lib")}
	errs := []error{}
	for _, d := range []string{"run/generation/1", "run/worker", "run/metrics", "run/txn", "lib/auth", "lib/txn"} {
		errs = append(errs, os.MkdirAll(filepath.Join(t.Dir, d), 0o700))
	}
	errs = append(errs,
		os.WriteFile(filepath.Join(snapshot.Dir(p.run).Path(1), "config.yaml"), []byte(text), fs.FileMode(0o600)),
		snapshot.Dir(p.run).WriteState(snapshot.State{Schema: 1, Next: 2, Applied: 1}))
	cfg, err := app.program().LoadCopy(snapshot.Dir(p.run).Path(1))
	if err := errors.Join(append(errs, err)...); err != nil {
		return errors.Join(err, t.close())
	}
	var opts []worker.Option
	for _, l := range cfg.Listen {
		for _, a := range l.Addresses {
			opts = append(opts, t.take(a)...)
		}
	}
	return errors.Join(app.serve(ctx, p, t.Log, append(opts, worker.WithContext(ctx))...), t.close())
}

// take gives a listener to the worker.
func (t *Trial) take(a config.Address) []worker.Option {
	l, ok := t.Listeners[a.Address]
	conn, can := l.(syscall.Conn)
	if !ok || !can {
		return nil // it is missing then, and the worker says so
	}
	delete(t.Listeners, a.Address)
	return []worker.Option{worker.WithListener(unit.FDName(a), &named{l, conn, unit.FDName(a)})}
}

// close closes what no worker has.
func (t *Trial) close() error {
	var errs []error
	for _, l := range t.Listeners {
		errs = append(errs, l.Close())
	}
	t.Listeners = nil
	return errors.Join(errs...)
}

func (t *Trial) socket() string { return place{gen: 1, run: filepath.Join(t.Dir, "run")}.control() }

// Started waits until the worker serves. If it has ended before, or ctx has, it
// returns why; ended is the result of Run, and is given back.
func (t *Trial) Started(ctx context.Context, ended chan error) error {
	tick := time.NewTicker(looking)
	defer tick.Stop()
	for control.Call(ctx, t.socket(), control.OpStatus, nil, nil) != nil {
		select {
		case err := <-ended:
			ended <- nil // it is told here
			return fmt.Errorf("the application did not start: %w", err)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// Hurry has the worker drain, and cut what is still open.
func (t *Trial) Hurry() {
	_ = control.Call(context.Background(), t.socket(), control.OpDrain, control.Drain{Within: "0s"}, nil) // it may have ended
}

// looking is how often Started looks.
const looking = 2 * time.Millisecond
