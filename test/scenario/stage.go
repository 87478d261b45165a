// Package scenario is fdt's main job, told once: install, serve, reload, kill, settle, stop, in a booted systemd.
// The demonstration narrates it and the test suite proves it, with the same code; every claim becomes a Finding, and none
// is made without having been seen.
package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/fdtserver/fdt/internal/bed"
	"github.com/fdtserver/fdt/test/load"
)

// Scenario is one part of the main job.
type Scenario struct {
	// Name is one word, for go test -run.
	Name string
	// Title says what is shown.
	Title string
	// Run plays it. It returns an error when it cannot go on; a claim that did not hold is a Finding instead.
	Run func(ctx context.Context, s *Stage) error
}

// All returns the scenarios in their order. Each leaves fdt serving, for the next.
func All() []Scenario {
	return []Scenario{
		{"Install", "apt install, a live STATUS line, one CALL and one file in the outbox", install},
		{"Reload", "five reloads under load, not one connection or call lost", reload},
		{"BadReload", "a broken configuration and workers that cannot start: the old generation serves on", badReload},
		{"Transactions", "clients killed inside a transaction and after PREPARE; kill -9 of all workers; a reboot", transactions},
		{"Crashes", "SIGKILL of a worker, SIGKILL of the master", crashes},
		{"Stop", "restart unnoticed; stop with an open transaction; it stays stopped", stop},
		{"Activation", "the sockets alone: the first connection starts fdt", activation},
	}
}

// Finding is one claim and whether it held.
type Finding struct {
	Scenario string
	Claim    string
	Seen     string
	OK       bool
}

// Stage is what a scenario plays on.
type Stage struct {
	Bed *bed.Bed
	// Deb is the path of the package to install, on this host.
	Deb string
	// Out takes the narration.
	Out io.Writer
	// Findings are what the scenarios saw, in order.
	Findings []Finding

	scenario string
}

// Play runs one scenario on the stage.
func (s *Stage) Play(ctx context.Context, sc Scenario) error {
	s.scenario = sc.Name
	fmt.Fprintf(s.Out, "\n== %s: %s\n", sc.Name, sc.Title)
	if err := sc.Run(ctx, s); err != nil {
		return fmt.Errorf("%s: %w", sc.Name, err)
	}
	return nil
}

// Failed returns the findings that did not hold.
func (s *Stage) Failed() []Finding {
	return slices.DeleteFunc(slices.Clone(s.Findings), func(f Finding) bool { return f.OK })
}

// Table writes the findings as a table.
func (s *Stage) Table(w io.Writer) {
	last := ""
	for _, f := range s.Findings {
		if f.Scenario != last {
			fmt.Fprintf(w, "\n%s\n", f.Scenario)
			last = f.Scenario
		}
		mark := "ok  "
		if !f.OK {
			mark = "FAIL"
		}
		fmt.Fprintf(w, "  %s  %-72s %s\n", mark, f.Claim, f.Seen)
	}
}

func (s *Stage) say(format string, args ...any) {
	fmt.Fprintf(s.Out, "   "+format+"\n", args...)
}

// check records a claim with what was seen.
func (s *Stage) check(ok bool, claim, format string, args ...any) {
	f := Finding{Scenario: s.scenario, Claim: claim, Seen: fmt.Sprintf(format, args...), OK: ok}
	s.Findings = append(s.Findings, f)
	mark := "ok"
	if !ok {
		mark = "FAIL"
	}
	fmt.Fprintf(s.Out, "   -> %s: %s: %s\n", mark, f.Claim, f.Seen)
}

// show runs a command in the container, printing it and what it answers, and returns the output also when it failed.
func (s *Stage) show(ctx context.Context, command string) (string, error) {
	fmt.Fprintf(s.Out, "   # %s\n", command)
	out, err := s.quiet(ctx, command)
	for line := range strings.Lines(out) {
		fmt.Fprintf(s.Out, "     %s\n", strings.TrimRight(line, "\n"))
	}
	if err != nil {
		fmt.Fprintf(s.Out, "     (%s)\n", exitStatus(err))
	}
	return out, err
}

// quiet is show without the printing.
func (s *Stage) quiet(ctx context.Context, command string) (string, error) {
	return s.Bed.Run(ctx, "bash", "-c", "exec 2>&1; "+command)
}

// exitStatus is how a command ended that the shell ran inside.
func exitStatus(err error) string {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.Error()
	}
	return fmt.Sprint(err)
}

// must is show, for commands without which the scenario cannot go on.
func (s *Stage) must(ctx context.Context, command string) (string, error) {
	out, err := s.show(ctx, command)
	if err != nil {
		return out, fmt.Errorf("%s: %w: %s", command, err, out)
	}
	return out, nil
}

// psql is the command line of a client inside the container.
const psql = "psql -X -h /run/fdt -p 7432 -v ON_ERROR_STOP=1"

// socketPath is the default listener, as seen inside.
const socketPath = "/run/fdt/.s.PGSQL.7432"

// target is the default listener for clients outside the container.
func (s *Stage) target() load.Target {
	return load.Target{Network: "unix", Address: socketPath, User: "root", Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		return s.Bed.Dial(ctx, network, address)
	}}
}

// outboxDir is the default spool's delivered messages.
const outboxDir = "/var/lib/fdt/outbox/new"

// outbox returns the bodies of all delivered messages, one file each.
func (s *Stage) outbox(ctx context.Context) ([]string, error) {
	out, err := s.quiet(ctx, "cd "+outboxDir+` && find . -type f -exec awk 1 {} +`)
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	return strings.Fields(out), nil
}

// inOutbox counts the delivered messages with exactly that body.
func (s *Stage) inOutbox(ctx context.Context, body string) (int, error) {
	bodies, err := s.outbox(ctx)
	n := 0
	for _, b := range bodies {
		if b == body {
			n++
		}
	}
	return n, err
}

// status is what the scenarios read of `fdtctl status --json`.
type status struct {
	Generation  int    `json:"generation"`
	Connections int    `json:"connections"`
	Rejected    string `json:"rejected"`
	Generations []struct {
		Generation int      `json:"generation"`
		Workers    []worker `json:"workers"`
	} `json:"generations"`
}

// worker is one worker in status; Live is nil when it did not answer.
type worker struct {
	Unit string   `json:"unit"`
	Slot int      `json:"slot"`
	Left []string `json:"not_told"`
	Live *struct {
		PID   int    `json:"pid"`
		State string `json:"state"`
		Open  int    `json:"open"`
		Busy  int    `json:"busy"`
	} `json:"live"`
}

// serving returns the answering workers of the applied generation.
func (st *status) serving() []worker {
	var all []worker
	for _, g := range st.Generations {
		if g.Generation == st.Generation {
			all = append(all, g.Workers...)
		}
	}
	return slices.DeleteFunc(all, func(w worker) bool { return w.Live == nil || w.Live.State != "serving" })
}

// pids are the processes of the serving workers, by unit.
func (st *status) pids() map[string]int {
	pids := map[string]int{}
	for _, w := range st.serving() {
		pids[w.Unit] = w.Live.PID
	}
	return pids
}

func (s *Stage) status(ctx context.Context) (status, error) {
	var st status
	out, err := s.quiet(ctx, "fdtctl status --json")
	if err != nil {
		return st, fmt.Errorf("fdtctl status: %w: %s", err, out)
	}
	if err := json.Unmarshal([]byte(out), &st); err != nil {
		return st, fmt.Errorf("fdtctl status --json: %w in %q", err, out)
	}
	return st, nil
}

// pollEvery is how often until looks; patience is how long before it gives up.
const (
	pollEvery = 50 * time.Millisecond
	patience  = 2 * time.Minute
)

var errPatience = errors.New("did not come true in time")

// until waits for a condition and returns how long it took.
func until(ctx context.Context, what string, condition func() (bool, error)) (time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
	defer cancel()
	start := time.Now()
	for {
		ok, err := condition()
		if err != nil {
			return 0, fmt.Errorf("%s: %w", what, err)
		}
		if ok {
			return time.Since(start), nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%s: %w", what, context.Cause(ctx))
		case <-time.After(pollEvery):
		}
	}
}

// workerUnits returns the instances GEN-SLOT whose unit is in one of the states.
func (s *Stage) workerUnits(ctx context.Context, states string) ([]string, error) {
	out, err := s.quiet(ctx, "systemctl list-units --plain --no-legend --state="+states+" 'fdt-worker@*.service'")
	if err != nil {
		return nil, fmt.Errorf("list worker units: %w: %s", err, out)
	}
	var units []string
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) > 0 {
			name := strings.TrimSuffix(strings.TrimPrefix(fields[0], "fdt-worker@"), ".service")
			units = append(units, name)
		}
	}
	return units, nil
}

// settled waits until only workers of the serving generation remain and returns that generation.
func (s *Stage) settled(ctx context.Context) (int, error) {
	var st status
	_, err := until(ctx, "only the serving generation's workers remain", func() (bool, error) {
		var err error
		if st, err = s.status(ctx); err != nil {
			return false, err
		}
		units, err := s.workerUnits(ctx, "activating,active,deactivating,reloading")
		prefix := fmt.Sprintf("%d-", st.Generation)
		stray := slices.ContainsFunc(units, func(u string) bool { return !strings.HasPrefix(u, prefix) })
		return err == nil && len(units) > 0 && !stray, err
	})
	return st.Generation, err
}
