package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/testwait"
)

// counter is a worker with two databases, of which one has transactions that end one after the other when it is paused.
type counter struct {
	run      snapshot.Dir
	branches atomic.Int64
	stuck    atomic.Bool  // none of them ends
	silent   atomic.Int64 // so many looks fail while something is paused
	looked   func()       // when something is paused; nil: nothing
	fault    error        // of a rehearsal of the bank; nil: none
}

func (c *counter) uses(context.Context, json.RawMessage) (any, error) {
	paused, err := c.run.Pauses()
	if err != nil {
		return nil, err
	}
	bank := control.Use{Branches: int(c.branches.Load()), Connections: 3}
	if is, ok := paused["bank"]; ok {
		if c.looked != nil {
			c.looked()
		}
		if c.silent.Add(-1) >= 0 {
			return nil, errors.New("a moment, please")
		}
		if bank.Branches > 0 && !c.stuck.Load() {
			c.branches.Add(-1)
		}
		if is.Detached {
			bank.Connections = 0
		}
	}
	return map[string]control.Use{"bank": bank, "store": {}}, nil
}

func (c *counter) check(context.Context, json.RawMessage) (any, error) {
	if errors.Is(c.fault, os.ErrDeadlineExceeded) {
		return nil, c.fault
	}
	answer := control.Check{Faults: map[string]string{"store": "down, too"}}
	if c.fault != nil {
		answer.Faults["bank"] = c.fault.Error()
	}
	return answer, nil
}

// counting serves such a worker, and one of another program.
func counting(t *testing.T) *counter {
	t.Helper()
	c := new(counter)
	sockets := workers(t, map[string]control.Handlers{
		"7-1": {control.OpUses: c.uses, control.OpCheck: c.check}, "7-2": {control.OpCheck: c.check}, "8-1": {},
	})
	c.run = snapshot.Dir(t.TempDir())
	if err := os.Symlink(sockets, filepath.Join(string(c.run), "worker")); err != nil {
		t.Fatal(err)
	}
	return c
}

// runs is the outcome of a command.
func (c *counter) runs(args string) (code int, out, told string) {
	var stdout, stderr bytes.Buffer
	p := newPausing(c.run, "an operator")
	words := strings.Fields(args)
	of := map[string]func(context.Context, []string, *bytes.Buffer, *bytes.Buffer) int{
		"pause":  func(ctx context.Context, a []string, o, e *bytes.Buffer) int { return p.pause(ctx, a, o, e) },
		"resume": func(ctx context.Context, a []string, o, e *bytes.Buffer) int { return p.resume(ctx, a, o, e) },
	}[words[0]]
	code = of(context.Background(), words[1:], &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// wants demands an exit code and a part of what is printed.
func (c *counter) wants(t *testing.T, args string, want int, says string) {
	t.Helper()
	if code, out, told := c.runs(args); code != want || !strings.Contains(out+told, says) {
		t.Errorf("fdtctl %s: exit %d, want %d with %q\n%s%s", args, code, want, says, out, told)
	}
}

// names are what is paused.
func (c *counter) names(t *testing.T) map[string]snapshot.Pause {
	t.Helper()
	all, err := c.run.Pauses()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestPauseResume(t *testing.T) {
	c := counting(t)
	c.branches.Store(2)
	c.silent.Store(1)
	code, out, told := c.runs("pause bank")
	if code != 0 || out != "bank is paused: nothing uses it, and fdt has no connection to it. fdtctl resume bank ends that.\n" ||
		!strings.HasPrefix(told, "waiting for workers: worker 7-1: ") || !strings.Contains(told, "\nwaiting for bank (transactions there: 2, decisions untold: 0, connections: 3; waiting: 0)\n") {
		t.Errorf("%d %s%s", code, out, told)
	}
	is := c.names(t)["bank"]
	if !is.Detached || is.By != "an operator" || time.Since(is.Since) > time.Hour || len(c.names(t)) != 1 {
		t.Errorf("%+v", c.names(t))
	}
	c.wants(t, "pause --json bank", 0, `"by": "an operator"`)
	if again := c.names(t)["bank"]; again.Since != is.Since || len(again.Asked) != 2 {
		t.Errorf("it is paused anew: %+v", again)
	}
	c.wants(t, "pause --all", 0, "store is paused")
	c.wants(t, "resume store", 0, "store is used again: who waited goes on.\n")
	c.wants(t, "resume store", 1, "store is not paused")
	c.wants(t, "resume --json --all", 0, "[\n  \"bank\"\n]")
	c.wants(t, "resume --all", 1, "nothing is paused")
}

// TestPauseTakenBack: what cannot be paused for a while, or at all, is as before.
func TestPauseTakenBack(t *testing.T) {
	c := counting(t)
	c.branches.Store(1)
	c.stuck.Store(true)
	c.wants(t, "pause --timeout 50ms --all", 1, "not within the timeout; waiting for bank (transactions there: 1")
	if all := c.names(t); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	c.wants(t, "pause outbox", 1, `there is no postgres or mariadb "outbox" that a worker uses: there is bank, store`)
	c.stuck.Store(false)

	// What is paused cannot be read any more when all is as asked for.
	other := filepath.Join(string(c.run), "paused", "other.json")
	c.looked = func() {
		if c.names(t)["bank"].Detached {
			_ = os.WriteFile(other, []byte("{"), 0o600)
		}
	}
	c.wants(t, "pause --json bank", 1, "other.json: unexpected end of JSON input")
	if err := os.Remove(other); err != nil {
		t.Error(err)
	}
	c.looked = nil

	// A directory in the way of the file, at first and when it is to say that nothing is open any more.
	way := filepath.Join(string(c.run), "paused", "bank.json.new")
	inTheWay := func() { _ = os.MkdirAll(way, 0o700) }
	inTheWay()
	c.wants(t, "pause bank", 1, "is a directory")
	c.looked = inTheWay
	c.wants(t, "pause bank", 1, "is a directory")
	if all := c.names(t); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	c.looked = nil

	if err := os.WriteFile(other, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"pause bank", "resume bank", "resume --all"} {
		c.wants(t, args, 1, "other.json")
	}
}

// waits has a command wait for what never ends, and returns its outcome.
func (c *counter) waits(t *testing.T, args string, asked int) <-chan string {
	t.Helper()
	outcome := make(chan string, 1)
	go func() {
		code, out, told := c.runs(args)
		outcome <- fmt.Sprintf("%d %s%s", code, out, told)
	}()
	testwait.Until(t, args, func() bool { return len(c.names(t)["bank"].Asked) == asked })
	return outcome
}

// TestPauseResumedMeanwhile: a resume ends for good what others still wait for, who are told by whom.
func TestPauseResumedMeanwhile(t *testing.T) {
	c := counting(t)
	c.branches.Store(1)
	c.stuck.Store(true)
	first := c.waits(t, "pause bank", 1)
	second := c.waits(t, "pause --all", 2)
	c.wants(t, "resume bank", 0, "bank is used again")
	for _, outcome := range []<-chan string{first, second} {
		if out := testwait.For(t, "the outcome", outcome); !strings.HasPrefix(out, "1 ") || !strings.Contains(out, "bank is not paused any more: an operator resumed it at ") {
			t.Error(out)
		}
	}
	if all := c.names(t); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}

// TestPauseOfOthers: each command takes back its own part alone.
func TestPauseOfOthers(t *testing.T) {
	c := counting(t)
	c.branches.Store(1)
	c.stuck.Store(true)
	first := c.waits(t, "pause --timeout 200ms bank", 1)
	other := c.waits(t, "pause bank", 2)
	if out := testwait.For(t, "the first", first); !strings.HasPrefix(out, "1 ") || !strings.Contains(out, "not within the timeout") {
		t.Error(out)
	}
	if is := c.names(t)["bank"]; len(is.Asked) != 1 {
		t.Errorf("%+v", is)
	}
	c.wants(t, "pause --timeout 50ms bank", 1, "not within the timeout")
	c.branches.Store(0)
	if out := testwait.For(t, "the other", other); !strings.HasPrefix(out, "0 ") {
		t.Error(out)
	}
	if is := c.names(t)["bank"]; !is.Detached || len(is.Asked) != 1 {
		t.Errorf("%+v", is)
	}
}

// TestPauseUnheard: what nobody can hear of is no pause, also where all is as asked for.
func TestPauseUnheard(t *testing.T) {
	c := counting(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, args := range []string{"bank", "--json bank", "--all"} {
		var stderr bytes.Buffer
		if code := newPausing(c.run, "").pause(t.Context(), strings.Fields(args), full, &stderr); code != 1 || !strings.Contains(stderr.String(), "the output is lost") {
			t.Errorf("%d: %s", code, stderr.String())
		}
	}
	c.branches.Store(1)
	c.stuck.Store(true)
	if code := newPausing(c.run, "").pause(t.Context(), []string{"bank"}, io.Discard, full); code != 1 {
		t.Error(code)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	heard := newPausing(c.run, "")
	heard.heard = func() error { return hangup(w, full) }
	outcome := make(chan int, 1)
	var stderr bytes.Buffer
	go func() { outcome <- heard.pause(t.Context(), []string{"bank"}, io.Discard, &stderr) }()
	testwait.Until(t, "it waits", func() bool { return len(c.names(t)["bank"].Asked) == 1 })
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if code := testwait.For(t, "the outcome", outcome); code != 1 || !strings.Contains(stderr.String(), "nobody reads the output any more") {
		t.Errorf("%d: %s", code, stderr.String())
	}
	if all := c.names(t); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}

// TestResumeRehearses: what no reload has tried is tried then, once for each generation.
func TestResumeRehearses(t *testing.T) {
	c := counting(t)
	for _, is := range []struct {
		fault error
		says  string
	}{
		{nil, ""}, {errors.New("no such database"), "warning: bank: transactions of generation 7 fail there: no such database\n"},
		{os.ErrDeadlineExceeded, "warning: not rehearsed: worker 7-"},
	} {
		c.wants(t, "pause bank", 0, "bank is paused")
		c.fault = is.fault
		code, out, told := c.runs("resume bank")
		if code != 0 || out != "bank is used again: who waited goes on.\n" || !strings.HasPrefix(told, is.says) || strings.Count(told, "\n") > 1 || is.says == "" && told != "" {
			t.Errorf("%d %s%s", code, out, told)
		}
	}
	c.wants(t, "pause --all", 0, "store is paused")
	applied := []control.Resource{{Name: "bank"}, {Name: "other"}}
	want := []string{"bank is paused: it was not rehearsed; fdtctl resume bank does that",
		"store is paused, and no resource any more: should one have the name again, it is paused until fdtctl resume store"}
	if got := unrehearsed(c.run, applied); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := stranded(c.names(t), nil); len(got) > 0 {
		t.Errorf("no worker tells: %q", got)
	}
	if err := os.WriteFile(filepath.Join(string(c.run), "paused", "z.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := unrehearsed(c.run, applied); len(got) != 3 || !strings.HasPrefix(got[1], "what is paused cannot be read: ") {
		t.Errorf("%q", got)
	}
}

func TestPauseCalledWrongly(t *testing.T) {
	c := counting(t)
	for args, says := range map[string]string{
		"pause": "Usage: fdtctl pause", "pause --all bank": "Usage: fdtctl pause", "resume a b": "Usage: fdtctl resume", "pause --within 1s bank": "not defined",
	} {
		c.wants(t, args, 2, says)
	}
	var out bytes.Buffer
	if code := runPause(nil, &out, &out) + runResume(nil, &out, &out); code != 4 {
		t.Errorf("exit codes make %d: %s", code, out.String())
	}
	empty := &counter{run: snapshot.Dir(t.TempDir())}
	empty.wants(t, "pause --all", 1, "systemd-tmpfiles")
	if err := os.Mkdir(filepath.Join(string(empty.run), "worker"), 0o700); err != nil {
		t.Fatal(err)
	}
	empty.wants(t, "pause --all", 1, "no worker has a resource that can be paused")
}
