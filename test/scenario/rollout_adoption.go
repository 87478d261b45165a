package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/service"
)

// steps are the steps of a rollout, in order, by the names that the state file has for them.
var steps = []string{"opening", "starting", "settling", "telling", "retiring"}

// adoption ends the master at each step of a reload, by SIGKILL and by a restart. Each reload adds or removes a
// listener and has old sessions to drain, so that every step has something to do.
func adoption(ctx context.Context, s *Stage) error {
	t, err := s.lightTraffic(ctx)
	if err != nil {
		return err
	}
	if err := s.nextMaster(ctx); err != nil {
		return err
	}
	cases := map[string][]string{
		"SIGKILL": append(slices.Clone(steps), "taking-back", "draining"),
		"restart": {"starting", "telling", "taking-back"},
	}
	for _, how := range []string{"SIGKILL", "restart"} {
		for i, step := range cases[how] {
			err := s.interrupted(ctx, how, step, i%2 == 0)
			for tries := 1; errors.Is(err, errMissed) && tries < 10; tries++ {
				err = s.interrupted(ctx, how, step, (i+tries)%2 == 0)
			}
			if err != nil {
				return fmt.Errorf("%s while %s: %w", how, step, err)
			}
		}
	}
	if err := t.more(ctx); err != nil {
		return err
	}
	return s.unnoticed(ctx, t, "the master ends at each step of a reload")
}

// interrupted ends the master at a step of a reload and claims that the next one leaves exactly one generation serving.
func (s *Stage) interrupted(ctx context.Context, how, step string, extra bool) error {
	before, err := s.status(ctx)
	if err != nil {
		return err
	}
	c := settings{}
	if extra {
		c.listen = "{extra: {address: " + socketOne + ", auth: peer}}"
	}
	if step == "taking-back" {
		c.resources = "{nowhere: {type: spool, directory: /var/lib/nowhere}}"
	}
	if err := s.configure(ctx, c); err != nil {
		return err
	}
	master, err := s.masterPID(ctx)
	if err != nil {
		return err
	}
	wanted := step
	if step == "draining" {
		wanted = "idle"
	}
	reload, seen, err := s.reloadUntil(ctx, wanted)
	if err != nil {
		return err
	}
	if how == "SIGKILL" {
		err = unix.Kill(master, unix.SIGKILL)
	} else {
		_, err = s.quiet(ctx, "systemctl restart fdt")
	}
	if err != nil {
		return err
	}
	<-reload.done
	if step == "taking-back" {
		if err := s.configure(ctx, settings{}); err != nil {
			return err
		}
	}
	var now state
	took, err := until(ctx, "one generation serves, nothing is pending", func() (bool, error) {
		now, err = s.state()
		if err != nil || now.Pending != 0 || now.Step != "idle" && now.Step != "" || how == "restart" && step != "taking-back" && now.Applied <= seen.Applied {
			return false, ignoreMissing(err)
		}
		serving, err := s.workerUnits(ctx, "active,activating,reloading")
		if err != nil || len(serving) != 2 {
			return false, err
		}
		for _, u := range serving {
			if gen, _, ok := service.ParseInstance(u); !ok || gen != now.Applied {
				return false, nil
			}
		}
		st, err := s.status(ctx)
		return len(st.serving()) == 2, ignoreExit(err)
	})
	if err != nil {
		return fmt.Errorf("%w: %+v", err, now)
	}
	outcome := "took it back"
	if now.Applied >= seen.Pending && seen.Pending != 0 || step == "draining" {
		outcome = "finished it"
	}
	s.check((reload.err == nil) == (outcome == "finished it"), fmt.Sprintf("%s of the master while %s: its caller still gets the answer", how, step),
		"%s", lastLine(reload.output()))
	s.check(true, fmt.Sprintf("%s of the master while %s: the next one leaves one generation serving", how, step),
		"%s: generation %d, after %d, in %d ms", outcome, now.Applied, before.Generation, took.Milliseconds())
	if _, err := s.settled(ctx); err != nil {
		return err
	}
	return s.nextMaster(ctx)
}

// nextMaster ends the master by SIGTERM and waits for the next one. Unlike one that is killed, an instrumented master
// leaves its counters then.
func (s *Stage) nextMaster(ctx context.Context) error {
	old, err := s.quiet(ctx, "systemctl show -P MainPID fdt")
	if err != nil {
		return err
	}
	if _, err := s.quiet(ctx, "kill "+old); err != nil {
		return err
	}
	_, err = until(ctx, "the next master serves", func() (bool, error) {
		now, err := s.quiet(ctx, "systemctl show -P MainPID fdt; systemctl is-active fdt; fdtctl status")
		f := strings.Fields(now)
		return err == nil && f[0] != "0" && f[0] != strings.TrimSpace(old) && f[1] == "active", nil
	})
	return err
}

// state is the part of /run/fdt/state.json that matters here.
type state struct {
	Next    int    `json:"next"`
	Applied int    `json:"applied"`
	Pending int    `json:"pending"`
	Step    string `json:"step"`
}

func (s *Stage) state() (state, error) {
	var st state
	text, err := os.ReadFile(s.Bed.Path("/run/fdt/state.json"))
	if err == nil {
		err = json.Unmarshal(text, &st)
	}
	return st, err
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// masterPID is the master's process as this side numbers it: a signal to it costs microseconds.
func (s *Stage) masterPID(ctx context.Context) (int, error) {
	inside, err := s.quiet(ctx, "systemctl show -P MainPID fdt")
	if err != nil {
		return 0, err
	}
	home, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", s.Bed.Leader()))
	if err != nil {
		return 0, err
	}
	all, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		return 0, err
	}
	for _, path := range all {
		text, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(text, []byte("Name:\tfdt-master\n")) {
			continue
		}
		if ns, err := os.Readlink(filepath.Join(filepath.Dir(path), "ns/pid")); err != nil || ns != home {
			continue
		}
		ids := strings.Fields(grep(string(text), "NSpid:"))
		if ids[len(ids)-1] == strings.TrimSpace(inside) {
			return strconv.Atoi(ids[1])
		}
	}
	return 0, fmt.Errorf("no process of the master, pid %s inside", strings.TrimSpace(inside))
}

// watch tells of every change of the state file as it happens.
type watch struct {
	stage *Stage
	file  *os.File
}

func (s *Stage) watch() (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	w := &watch{s, os.NewFile(uintptr(fd), "inotify")}
	if _, err := unix.InotifyAddWatch(fd, s.Bed.Path("/run/fdt"), unix.IN_MOVED_TO); err != nil {
		w.close()
		return nil, os.NewSyscallError("inotify_add_watch", err)
	}
	return w, nil
}

func (w *watch) close() { _ = w.file.Close() }

// reloadUntil begins a reload and returns when it is at the step, with the state of then.
func (s *Stage) reloadUntil(ctx context.Context, step string) (*process, state, error) {
	before, err := s.status(ctx)
	if err != nil {
		return nil, state{}, err
	}
	w, err := s.watch()
	if err != nil {
		return nil, state{}, err
	}
	defer w.close()
	reload, err := s.start(ctx, "fdtctl reload")
	if err != nil {
		return nil, state{}, err
	}
	at, err := w.until(before.Generation, step, reload)
	if err != nil {
		return nil, at, fmt.Errorf("%w: %s", err, reload.output())
	}
	return reload, at, nil
}

// errMissed says that a step was over before anybody looked.
var errMissed = errors.New("the step was missed")

// until returns as soon as a rollout beyond the generation is at the step, or errMissed when the reload has ended.
func (w *watch) until(after int, step string, reload *process) (state, error) {
	buffer := make([]byte, 4096)
	for {
		ended := reload.exited()
		st, err := w.stage.state()
		if err != nil {
			return st, err
		}
		if st.Step == step && max(st.Pending, st.Applied) > after {
			return st, nil
		}
		if ended {
			return st, fmt.Errorf("%w: %s: %s", errMissed, step, reload.output())
		}
		if err := w.file.SetReadDeadline(time.Now().Add(pollEvery)); err != nil {
			return st, err
		}
		if _, err := w.file.Read(buffer); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return st, fmt.Errorf("inotify: %w", err)
		}
	}
}
