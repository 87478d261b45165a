package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/meter"
	"github.com/fdtserver/fdt/internal/printable"
	"github.com/fdtserver/fdt/internal/testgolden"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/master"
)

// glanced are the sessions of all workers, of which one does not answer, beside a status.
func glanced(s master.Status) glance {
	return glance{
		at: noon, status: s, sessions: sessionsOf("7-1", "6-2"), sessionsFault: fmt.Errorf("worker 7-3: %w", errWorkerSilent),
		load: load{known: true, rate: 1234.5, within: 0.0025},
	}
}

// TestTopScreens holds fdtctl top against golden texts. It fills the screen, and never more.
func TestTopScreens(t *testing.T) {
	quiet := glanced(well())
	quiet.sessions, quiet.sessionsFault, quiet.load = nil, nil, load{}
	lost := glanced(master.Status{})
	lost.statusFault = masterLost()
	full := glanced(crowd())
	full.load.within = math.Inf(1)
	for range 20 {
		full.sessions = append(full.sessions, sessionsOf("7-1")...)
	}
	for _, size := range []struct{ columns, lines int }{{80, 24}, {120, 40}, {40, 12}, {20, 3}} {
		for about, c := range map[string]struct {
			g glance
			v view
		}{
			"ill": {glanced(ill()), view{by: "id"}}, "quiet": {quiet, view{by: "user"}}, "lost": {lost, view{by: "since", reversed: true}},
			"full": {full, view{by: "state", skip: 1000}},
		} {
			got := topScreen(c.g, &c.v, size.columns, size.lines)
			lines := strings.Split(got, "\n")
			if len(lines) != size.lines {
				t.Errorf("%s: %d lines on %d", about, len(lines), size.lines)
			}
			for _, line := range lines {
				if n := utf8.RuneCountInString(line); n > size.columns {
					t.Errorf("%s on %d columns: a line of %d: %s", about, size.columns, n, line)
				}
			}
			testgolden.Compare(t, filepath.Join("testdata", "screen", fmt.Sprintf("top-%s-%dx%d.txt", about, size.columns, size.lines)), got+"\n")
		}
	}
}

// TestTopKeys: each order has a key that the last line names, and lists are scrolled.
func TestTopKeys(t *testing.T) {
	v := view{by: "id"}
	for _, c := range []struct {
		keys string
		want view
	}{
		{"u", view{by: "user"}}, {"r", view{"user", true, 0}}, {"jj", view{"user", true, 2}}, {"\x1b[B\x1bOBk", view{"user", true, 3}},
		{"x\x1b[C\x1b", view{"user", true, 3}}, {"\x1b[A\x1bOA", view{"user", true, 1}}, {"kk", view{"user", true, 0}},
		{"\x1b[6~ rp", view{"procedure", false, 20}}, {"b\x1b[5~", view{by: "procedure"}},
	} {
		if !v.typed(c.keys) || v != c.want {
			t.Errorf("after %q it is %+v, not %+v", c.keys, v, c.want)
		}
	}
	if v.typed("iq") || v.by != "id" {
		t.Errorf("%+v", v)
	}
	if len(sortKeys) != len(sessionOrders) {
		t.Error("an order has no key")
	}
	for key, by := range sortKeys {
		if !strings.Contains(topKeys, strings.Replace(by, key, "["+key+"]", 1)) {
			t.Errorf("%s is not told for %s", key, by)
		}
	}
}

// TestTopLoad: the load is what was counted since the look before, by whoever told both times or began meanwhile.
func TestTopLoad(t *testing.T) {
	worker := func(slot int, started time.Time, counts ...uint64) meter.Worker {
		return meter.Worker{Generation: 7, Slot: slot, Started: started, Calls: map[string]meter.Calls{
			"transfer": {Duration: meter.Distribution{Bounds: []float64{0.001, 0.5}, Counts: counts}}}}
	}
	var l looker
	old := ago(time.Hour)
	for i, c := range []struct {
		workers []meter.Worker
		want    load
	}{
		{[]meter.Worker{worker(1, old, 1000, 1, 1)}, load{}},
		{[]meter.Worker{worker(1, old, 1099, 2, 1), worker(2, old, 500, 500, 500)}, load{known: true, rate: 50, within: 0.001}},
		{[]meter.Worker{worker(1, old, 1099, 2, 1), worker(2, old, 500, 502, 500), worker(3, ago(-3*time.Second), 2, 0, 0)}, load{known: true, rate: 2, within: 0.5}},
		{[]meter.Worker{worker(1, old, 1099, 2, 2)}, load{known: true, rate: 0.5, within: math.Inf(1)}},
		{nil, load{known: true}},
	} {
		if got := l.since(c.workers, noon.Add(time.Duration(2*i)*time.Second)); got != c.want {
			t.Errorf("%d: %+v, not %+v", i, got, c.want)
		}
	}
}

// TestTopLook asks workers on their sockets, and a master that is not there.
func TestTopLook(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+t.TempDir()+"/none")
	l := looker{sockets: workers(t, map[string]control.Handlers{"7-1": telling(guests()["7-1"]), "6-2": nil}), counts: t.TempDir()}
	g := l.look(t.Context())
	if len(g.sessions) != 2 || g.sessionsFault == nil || g.statusFault == nil || g.at.IsZero() || g.load.known {
		t.Errorf("%+v", g)
	}
	if g = l.look(t.Context()); !g.load.known {
		t.Errorf("%+v", g)
	}
}

// screened is a terminal on which something runs, of which what it shows is read.
type screened struct {
	master, slave *os.File
	said          chan string
}

func newScreened(t *testing.T, columns, lines uint16) *screened {
	t.Helper()
	master, slave := terminal(t)
	s := &screened{master, slave, make(chan string, 1000)}
	s.resize(t, columns, lines)
	go func() {
		defer close(s.said)
		buffer := make([]byte, 4096)
		for {
			n, err := master.Read(buffer)
			if err != nil {
				return
			}
			s.said <- string(buffer[:n])
		}
	}()
	return s
}

func (s *screened) resize(t *testing.T, columns, lines uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(s.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: lines}); err != nil {
		t.Fatal(err)
	}
}

func (s *screened) keys(t *testing.T, keys string) {
	t.Helper()
	if _, err := s.master.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// until reads what is shown up to a text.
func (s *screened) until(t *testing.T, text string) (all string) {
	t.Helper()
	for !strings.Contains(all, text) {
		said := testwait.For(t, "the screen says "+text, s.said)
		if all += said; said == "" {
			t.Fatalf("the terminal ended before it said %q: %q", text, all)
		}
	}
	return all
}

// settings are the terminal's.
func (s *screened) settings(t *testing.T) unix.Termios {
	t.Helper()
	is, err := unix.IoctlGetTermios(int(s.slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *is
}

// TestTopOnTerminal: fdtctl on a terminal of its own draws, sorts, follows its size, and gives the terminal back as it was by each
// way out.
func TestTopOnTerminal(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for about, c := range map[string]struct {
		keys   string
		signal os.Signal
	}{"q": {"q", nil}, "^C": {"\x03", nil}, `^\`: {"\x1c", nil}, "SIGTERM": {"", unix.SIGTERM}, "SIGHUP": {"", unix.SIGHUP}} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			s := newScreened(t, 100, 30)
			before := s.settings(t)
			cmd := exec.CommandContext(t.Context(), self, "top", "--interval", "100ms")
			cmd.Env = []string{asFdtctl + "=1", "FDT_COVER=" + os.Getenv("FDT_COVER"), "TERM=vt100", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=" + t.TempDir() + "/none"}
			cmd.Stdin, cmd.Stdout, cmd.Stderr = s.slave, s.slave, s.slave
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			s.until(t, enterScreen)
			s.until(t, "[q]uit")
			if s.settings(t) == before {
				t.Error("the terminal waits for whole lines")
			}
			s.keys(t, "ur")
			s.until(t, "by user, reversed")
			s.resize(t, 30, 10) // the kernel tells whoever has it
			s.until(t, eraseBelow+topKeys[:30])
			s.keys(t, c.keys)
			if c.signal != nil {
				if err := cmd.Process.Signal(c.signal); err != nil {
					t.Fatal(err)
				}
			}
			s.until(t, leaveScreen)
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			if after := s.settings(t); after != before {
				t.Errorf("the terminal was %+v and is %+v", before, after)
			}
		})
	}
}

// TestTopHere: the same within this process, to its ends that no person chooses.
func TestTopHere(t *testing.T) {
	steady := func(context.Context) glance { return glanced(well()) }
	run := func(ctx context.Context, s *screened, look func(context.Context) glance) chan error {
		done := make(chan error, 1)
		go func() { done <- top(ctx, s.slave, s.slave, time.Hour, look) }()
		return done
	}
	t.Run("keys", func(t *testing.T) {
		s := newScreened(t, 0, 0) // it does not know
		done := run(t.Context(), s, steady)
		s.until(t, "by id")
		s.keys(t, "s")
		s.until(t, "by state")
		if err := unix.Kill(unix.Getpid(), unix.SIGWINCH); err != nil {
			t.Fatal(err)
		}
		s.until(t, "by state")
		s.keys(t, "q")
		if err := testwait.For(t, "it ends", done); err != nil {
			t.Error(err)
		}
	})
	silent := func(ctx context.Context) glance {
		<-ctx.Done() // whoever is asked does not answer
		return glance{}
	}
	t.Run("nothing to show", func(t *testing.T) {
		s := newScreened(t, 80, 24)
		done := run(t.Context(), s, silent)
		s.until(t, enterScreen)
		s.keys(t, "u")
		s.keys(t, "q")
		if err := testwait.For(t, "it ends", done); err != nil {
			t.Error(err)
		}
	})
	t.Run("nowhere to show it", func(t *testing.T) {
		_, slave := terminal(t)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		err = top(t.Context(), slave, w, time.Hour, func(context.Context) glance {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			return glanced(well())
		})
		if !errors.Is(err, errTerminalGone) || !errors.Is(err, unix.EPIPE) {
			t.Error(err)
		}
	})
	t.Run("told to end", func(t *testing.T) {
		s := newScreened(t, 80, 24)
		ctx, cancel := context.WithCancel(t.Context())
		done := run(ctx, s, silent)
		s.until(t, enterScreen)
		cancel()
		if err := testwait.For(t, "it ends", done); err != nil {
			t.Error(err)
		}
	})
	t.Run("panic", func(t *testing.T) {
		s := newScreened(t, 80, 24)
		before := s.settings(t)
		err := testwait.For(t, "it ends", run(t.Context(), s, func(context.Context) glance { panic("no way") }))
		if err == nil || !strings.Contains(err.Error(), "panic: no way\n") || s.settings(t) != before {
			t.Error(err)
		}
		s.until(t, leaveScreen)
	})
	t.Run("gone", func(t *testing.T) {
		master, slave := terminal(t)
		s := &screened{slave: slave}
		done := run(t.Context(), s, steady)
		buffer, shown := make([]byte, 4096), ""
		for !strings.Contains(shown, "[q]uit") {
			n, err := master.Read(buffer)
			if err != nil {
				t.Fatal(err)
			}
			shown += string(buffer[:n])
		}
		if err := master.Close(); err != nil { // while nobody reads it, so that it is really closed
			t.Fatal(err)
		}
		if err := testwait.For(t, "it ends", done); !errors.Is(err, errTerminalGone) {
			t.Error(err)
		}
		screen := &fullScreen{in: s.slave, out: s.slave}
		if err := screen.draw("x"); !errors.Is(err, errTerminalGone) {
			t.Error(err)
		}
		if _, err := takeScreen(s.slave, s.slave); err == nil {
			t.Error("a terminal that is gone was taken")
		}
	})
}

// TestTopRefused: what cannot work is said, with what can.
func TestTopRefused(t *testing.T) {
	_, slave := terminal(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if _, err := takeScreen(slave, full); !errors.Is(err, unix.ENOSPC) {
		t.Error(err)
	}
	t.Setenv("TERM", "vt100")
	withStdin(t, "q", func() {
		var said bytes.Buffer
		if code := runTop(nil, printable.NewWriter(slave), &said); code != 1 || !strings.Contains(said.String(), errNoScreen.Error()+" (tcgetattr: ") {
			t.Errorf("exit %d: %s", code, said.String())
		}
	})
	for _, c := range []struct {
		args, says string
		code       int
	}{
		{"top", "fdtctl top: this needs a terminal; without one there is fdtctl sessions --json\n", 1},
		{"top --interval 1ms", "fdtctl top: --interval is 100ms at least\n", 2},
		{"top now", "0 wanted", 2},
		{"help top", "again each second", 0},
	} {
		var out bytes.Buffer
		if code := run(strings.Fields(c.args), &out, &out); code != c.code || !strings.Contains(out.String(), c.says) {
			t.Errorf("%q: exit %d: %s", c.args, code, out.String())
		}
	}
}
