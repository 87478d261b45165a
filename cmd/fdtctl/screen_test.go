package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/testgolden"
	"github.com/fdtserver/fdt/master"
)

// noon is the time at which the screens are looked at.
var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return noon.Add(-d) }

// live is a worker's answer.
func live(pid, open, busy int) *control.Status {
	return &control.Status{PID: pid, Open: open, Busy: busy, Idle: open - busy, Threads: 256, Accepted: uint64(100 * open), Memory: 25 << 20}
}

// well is a status in which nothing is wrong.
func well() master.Status {
	return master.Status{
		Generation: 7, Step: "idle", Connections: 3,
		Generations: []master.Generation{{Generation: 7, State: "serving", Configured: 2, Ready: 2, Open: 3, Workers: []master.Worker{
			{Slot: 1, State: "ready", Live: live(4242, 2, 1)}, {Slot: 2, State: "ready", Live: live(4243, 1, 0)}}}},
		Listeners: []master.Listener{{Unit: "fdt-listen@unix-s.PGSQL.7432-d98c2c0e3d3f.socket", Open: true, Name: "local", Address: "/run/fdt/.s.PGSQL.7432"}},
		Resources: []control.Resource{{Name: "outbox", Type: "spool", State: "reachable", Since: ago(3 * time.Hour), Latency: 0.0001}},
	}
}

// ill has about everything that can be wrong, and names that are too long.
func ill() master.Status {
	s := well()
	s.Rejected = "/etc/fdt/config.d/50-shop.yaml:12:5: there is no key \"treads\" in workers; did you mean \"threads\"?\n/etc/fdt/config.d/50-shop.yaml:14:1: a second document begins here; put it into a file of its own in config.d"
	s.Degraded = "fdt-worker@7-3.service: exit status 1: resource shop: the password is wrong"
	s.InDoubt, s.Connections = 2, 260
	g := &s.Generations[0]
	g.Configured = 3
	g.Workers[0].Live = live(4242, 260, 250)
	g.Workers[0].Live.Reserve = 4
	g.Workers = append(g.Workers, master.Worker{Slot: 3, State: "failed"})
	old := live(3120, 1, 1)
	s.Generations = append(s.Generations, master.Generation{Generation: 6, State: "draining", Open: 1, Since: ago(130 * time.Second),
		Deadline: noon.Add(470 * time.Second), Oldest: ago(4 * time.Minute), Workers: []master.Worker{{Slot: 1, State: "draining", Live: old}}},
		master.Generation{Generation: 5, State: "draining", Since: ago(time.Second), Workers: []master.Worker{{Slot: 1, State: "draining", Live: live(3000, 0, 0)}}})
	s.Listeners = append(s.Listeners,
		master.Listener{Unit: "fdt-listen@tcp4-0.0.0.0-7432.socket", Open: true, Name: "public", Address: "0.0.0.0:7432", Queue: 12},
		master.Listener{Unit: "fdt-listen@unix-x-0123456789ab.socket"},
		master.Listener{Unit: "fdt-listen@unix-y-0123456789ab.socket", Name: "app", Address: "/srv/" + strings.Repeat("very-", 18) + "long.sock"})
	s.Resources = append(s.Resources,
		control.Resource{Name: "ledger_of_all_accounts_of_the_branch_offices", Type: "postgres", State: "reachable", Since: ago(26 * time.Hour), Latency: 0.0042,
			InUse: 32, Limit: 32, Waiting: 7, InDoubt: 2,
			Warnings: []string{"resource ledger_of_all_accounts_of_the_branch_offices: max_prepared_transactions is 10, but 32 transactions may be prepared at once: raise it, or lower the pool"}},
		control.Resource{Name: "shop", Type: "mariadb", State: "unreachable", Since: ago(95 * time.Second), Limit: 32, Untold: 3, Fault: "dial tcp 10.0.0.7:3306: connect: connection refused"},
		control.Resource{Name: "stock", Type: "postgres", State: "unknown", Limit: 32})
	s.Missing = "/run/fdt/worker missing: systemd-tmpfiles --create fdt.conf, then systemctl reload fdt"
	s.Warnings = []string{"listen.public.address: what clients send to 0.0.0.0:7432 and get from it crosses the network unencrypted; give listen.public the key tls"}
	return s
}

// crowd has more workers than a screen has lines.
func crowd() master.Status {
	s := well()
	g := &s.Generations[0]
	g.Configured, g.Ready, g.Workers = 30, 30, nil
	for slot := range 30 {
		g.Workers = append(g.Workers, master.Worker{Slot: slot + 1, State: "ready", Live: live(5000+slot, slot, slot/2)})
	}
	return s
}

// foreign has workers of other makes: one tells everything but connections, one nothing, and one is about to start.
func foreign() master.Status {
	s := well()
	s.Resources = nil
	counts := live(4242, 0, 3)
	counts.Threads = 8
	s.Generations[0].Workers = []master.Worker{
		{Slot: 1, State: "ready", Live: counts, NotTold: []string{"open", "accepted", "memory"}},
		{Slot: 2, State: "draining", NotTold: []string{"pid", "open", "busy", "threads", "memory", "accepted"}},
		{Slot: 3, State: "ready", Live: &control.Status{PID: 4244, Open: 2, Memory: 60 << 20, Accepted: 9}, NotTold: []string{"threads"}},
		{Slot: 4, State: "starting"}}
	return s
}

// TestScreens holds fdtctl status against golden texts on narrow and wide terminals and without one: no line is wider than the
// terminal, and what matters most is where one looks first, at the top, and last, above the prompt.
func TestScreens(t *testing.T) {
	for name, s := range map[string]master.Status{"well": well(), "ill": ill(), "crowd": crowd(), "foreign": foreign(), "none": {Step: "idle"}} {
		for _, width := range []int{0, 20, 80, 120} {
			got := screen(s, width, noon)
			lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
			for _, line := range lines {
				if n := utf8.RuneCountInString(line); width >= 80 && n > width {
					t.Errorf("%s on %d columns: a line of %d: %s", name, width, n, line)
				}
			}
			first, _, _ := strings.Cut(wrapped(s.Line(), width, ""), "\n")
			if len(lines) > 24 && (lines[0] != first || !strings.HasSuffix(got, "\n\n"+wrapped(s.Line(), width, ""))) {
				t.Errorf("%s on %d columns: the headline is not first and last", name, width)
			}
			testgolden.Compare(t, filepath.Join("testdata", "screen", fmt.Sprintf("%s-%d.txt", name, width)), got)
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		s    string
		n    int
		want string
	}{{"short", 5, "short"}, {"longer", 5, "lo…er"}, {"löngär", 4, "l…är"}, {"x", 1, "x"}, {"xy", 1, "…"}} {
		if got := cut(c.s, c.n); got != c.want {
			t.Errorf("cut(%q, %d) = %q, want %q", c.s, c.n, got, c.want)
		}
	}
}

// TestReloadScreens: what a reload shows while it waits, in one line, and at its end.
func TestReloadScreens(t *testing.T) {
	during := well()
	during.Pending, during.Step = 8, "settling"
	during.Generations = append([]master.Generation{{Generation: 8, State: "starting", Configured: 2, Ready: 1}}, during.Generations...)
	after := ill()
	for _, width := range []int{0, 80, 120} {
		got := rolledOut{Generation: 8, Warnings: cautions(after)}.text(width)
		if width > 0 {
			got = oneLine(during, width) + "\n" + oneLine(after, width) + "\n" + got
		}
		for line := range strings.Lines(got) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); width > 0 && n > width {
				t.Errorf("on %d columns: a line of %d: %s", width, n, line)
			}
		}
		testgolden.Compare(t, filepath.Join("testdata", "screen", fmt.Sprintf("reload-%d.txt", width)), got)
	}
}
