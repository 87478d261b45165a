package master

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/snapshot"
)

func TestLastWords(t *testing.T) {
	for _, c := range []struct {
		result, status, journal, want string
		code                          int32
		other                         string
	}{
		{"exit-code", "", "", "u: exit status 1", 1, ""},
		{"exit-code", "no listener", "", "u: exit status 1: no listener", 1, ""},
		{"exit-code", "no listener", "fdt-worker: no listener", "u: exit status 1: fdt-worker: no listener", 1, ""},
		{"exit-code", "serving", "panic: x\nmain.main()", "u: exit status 2:\n\tserving\n\tpanic: x\n\tmain.main()", 2, ""},
		{"exit-code", "", "", "u: its program cannot be executed", 203, ""},
		{"exit-code", "", "", "u: a directory that its unit names (ReadWritePaths=) is missing, such as one on a volume that is not mounted", 226, ""},
		{"exit-code", "", "", "u: /r/txn missing: mend it", 226, "missing"},
		{"exit-code", "", "no", "u: ExecStartPost=/bin/sh: exit status 4: no", 0, "ExecStartPost=/bin/sh: exit status 4"},
		{"exit-code", "", `the worker has failed: error="listener \"local\": no socket"`, `u: exit status 1: the worker has failed: listener "local": no socket`, 1, ""},
		{"exit-code", "", `odd: error="\q"`, `u: exit status 1: odd: error="\q"`, 1, ""},
		{"signal", "", "", "u: killed by signal 9, SIGKILL", 9, ""},
		{"timeout", "", "", "u: not READY in time", 0, ""},
		{"protocol", "", "", "u: ended without having said READY=1", 0, ""},
		{"watchdog", "", "", "u: watchdog", 0, ""},
	} {
		missing := map[bool]string{true: "/r/txn missing: mend it"}[c.other == "missing"]
		if got := lastWords("u", c.result, c.code, missing, c.other, c.status, c.journal); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if got := lastLines("a\nb\nc", 2); got != "b\nc" {
		t.Errorf("%q", got)
	}
}

func TestFailedCommand(t *testing.T) {
	command := func(path string, pid uint32, status int32) []any {
		return []any{path, []string{path}, false, uint64(1), uint64(1), uint64(1), uint64(1), pid, int32(1), status}
	}
	service := map[string]dbus.Variant{"ExecStartPost": dbus.MakeVariant([][]any{command("/bin/true", 7, 0), command("/bin/check", 8, 4)})}
	if what, pid := failedCommand(service); what != "ExecStartPost=/bin/check: exit status 4" || pid != 8 {
		t.Errorf("%q, process %d", what, pid)
	}
	if what, pid := failedCommand(nil); what != "" || pid != 0 {
		t.Errorf("%q, process %d", what, pid)
	}
}

func TestPhaseOf(t *testing.T) {
	for _, c := range []struct {
		active, sub, job string
		want             phase
		there            bool
	}{
		{"inactive", "dead", "start", starting, true},
		{"activating", "start", "start", starting, true},
		{"activating", "auto-restart", "", crashed, true},
		{"activating", "auto-restart-queued", "", crashed, true},
		{"active", "running", "", ready, true},
		{"reloading", "reload", "", ready, true},
		{"active", "running", "stop", draining, true},
		{"deactivating", "stop-sigterm", "stop", draining, true},
		{"deactivating", "stop-sigterm", "", draining, true},
		{"failed", "failed", "", crashed, true},
		{"inactive", "dead", "", crashed, false},
		{"inactive", "dead", "stop", crashed, false},
	} {
		if p, there := phaseOf(c.active, c.sub, c.job); p != c.want || there != c.there {
			t.Errorf("%s/%s job %q: %s %t, want %s %t", c.active, c.sub, c.job, p, there, c.want, c.there)
		}
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	now := time.Unix(1e9, 0)
	for _, want := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second,
		16 * time.Second, 30 * time.Second, 30 * time.Second} {
		if got := b.next(now); got != want || !b.until.Equal(now.Add(want)) {
			t.Errorf("%s until %s, want %s", got, b.until, want)
		}
		now = b.until
	}
	if got := b.next(now.Add(time.Hour)); got != backoffFirst {
		t.Errorf("after a long peace: %s", got)
	}
	b = backoff{limits: config.Backoff{First: time.Second, Longest: 3 * time.Second}}
	for _, want := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second} {
		if got := b.next(now); got != want {
			t.Errorf("with limits: %s, want %s", got, want)
		}
	}
}

func TestIdentity(t *testing.T) {
	name := filepath.Join(t.TempDir(), "program")
	absent := identity(name)
	if err := os.WriteFile(name, []byte("a"), 0o644); err != nil {
		t.Fatal(err)
	}
	first := identity(name)
	if err := os.WriteFile(name+".new", []byte("a"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
	if second := identity(name); absent == first || first == second || second != identity(name) {
		t.Errorf("%q %q %q", absent, first, second)
	}
}

func TestUnitFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"fdt-listen@a.socket", "fdt-listen-shop@a.socket", "other.socket", "fdt-worker@.service.d/50.conf", "other.d/fdt-listen@x"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("fdt-listen@a.socket", filepath.Join(dir, "fdt-listen@link.socket")); err != nil {
		t.Fatal(err)
	}
	files, err := new(Master).unitFiles(dir)
	if err != nil || len(files) != 2 || files["fdt-listen@a.socket"] != "fdt-listen@a.socket" || files["fdt-worker@.service.d/50.conf"] == "" {
		t.Errorf("%q %v", files, err)
	}
	if files, err := new(Master).unitFiles(filepath.Join(dir, "absent")); err != nil || len(files) != 0 {
		t.Errorf("%q %v", files, err)
	}
}

func TestBusErrors(t *testing.T) {
	missing := dbus.Error{Name: "org.freedesktop.systemd1.NoSuchUnit"}
	if !isNotLoaded(missing) || !isNotLoaded(&missing) || isNotLoaded(errTest) {
		t.Error("isNotLoaded")
	}
	if !isNoProcess(dbus.Error{Name: "org.freedesktop.systemd1.NoSuchProcess"}) || isNoProcess(errTest) {
		t.Error("isNoProcess")
	}
	if busError(nil) != nil {
		t.Error("no error")
	}
	if e := busError(ErrStopping); e.Name != errorStopped {
		t.Error(e.Name)
	}
	if e := busError(errTest); e.Name != errorFailed || e.Error() != "test" {
		t.Error(e.Name, e)
	}
}

// TestLine holds the line of systemctl status for each situation that an operator meets.
func TestLine(t *testing.T) {
	open := []Listener{{Unit: "a", Open: true}, {Unit: "b", Open: true}, {Unit: "c"}}
	for _, c := range []struct {
		s    Status
		want string
	}{
		{Status{}, "no workers"},
		{Status{Listeners: open, Generations: []Generation{
			{Generation: 7, State: "serving", Configured: 4, Ready: 4, Open: 131}, {Generation: 6, State: "draining", Open: 12}}, InDoubt: 3, Untold: 2, Aside: 1},
			"generation 7: 4/4 workers, 2 listeners, 131 connections, 3 in doubt, 2 decided and not told to a resource yet, 1 transaction log put aside: fdtctl txn list; generation 6: draining 12 connections"},
		{Status{Step: "settling", Listeners: open[:1], Generations: []Generation{
			{Generation: 8, State: "starting", Configured: 2, Ready: 2}, {Generation: 7, State: "serving", Configured: 1, Ready: 1, Open: 1}}},
			"generation 8: settling, 2/2 workers; generation 7: 1/1 workers, 1 listener, 1 connection"},
		{Status{Missing: "/run/fdt/txn missing: mend it", Degraded: "dead"}, "no workers; /run/fdt/txn missing: mend it; degraded: dead"},
		{Status{Stopping: true, Degraded: "worker 3:\n\tpanic", Rejected: "file:1:2: no\n  1 | x"},
			"stopping; no workers; degraded: worker 3; configuration not applied: file:1:2: no"},
	} {
		if got := c.s.Line(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestCount(t *testing.T) {
	s := Status{Generations: []Generation{
		{Generation: 2, Workers: []Worker{{Unit: "a"}, {Unit: "b"}}}, {Generation: 1, Workers: []Worker{{Unit: "c"}}}}}
	s.count(counts{"a": {Status: control.Status{Open: 2, InDoubt: 3, Untold: 1}},
		"c": {Status: control.Status{Open: 5, InDoubt: 2, Untold: 2, Aside: 1}, left: []string{"memory"}}})
	if s.Connections != 7 || s.Untold != 3 || s.Aside != 1 || s.InDoubt != 3 || s.Generations[0].Open != 2 || s.Generations[1].Open != 5 ||
		s.Generations[0].Workers[1].Live != nil || !reflect.DeepEqual(*s.Generations[1].Workers[0].Live, control.Status{Open: 5, InDoubt: 2, Untold: 2, Aside: 1}) {
		t.Errorf("%+v", s)
	}
	if n := len(s.workers()); n != 3 {
		t.Error(n)
	}
}

// TestNotTold has workers tell all that is shown, some of it, and nothing: what runs is told apart from what is about to.
func TestNotTold(t *testing.T) {
	s := Status{Generations: []Generation{{Workers: []Worker{
		{Unit: "all", State: "ready"}, {Unit: "some", State: "draining"}, {Unit: "silent", State: "ready"}, {Unit: "soon", State: "starting"}}}}}
	answers := counts{}
	for name, text := range map[string]string{
		"all":  `{"pid": 4, "open": 0, "busy": 0, "threads": 8, "memory": 1, "accepted": 0, "color": "blue"}`,
		"some": `{"pid": 5, "busy": 2, "threads": 8}`,
	} {
		var err error
		if answers[name], err = hear([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	s.count(answers)
	for i, want := range [][]string{nil, {"open", "memory", "accepted"}, {"pid", "open", "busy", "threads", "memory", "accepted"}, nil} {
		if w := s.Generations[0].Workers[i]; !slices.Equal(w.NotTold, want) || (w.Live != nil) != (i < 2) {
			t.Errorf("%s: %q is not told, %v", w.Unit, w.NotTold, w.Live)
		}
	}
	for _, text := range []string{`{"pid": "five"}`, `[]`, ``} {
		if answer, err := hear([]byte(text)); err == nil {
			t.Errorf("%q is read as %+v", text, answer)
		}
	}
}

// TestStatus orders generations from the newest, workers by slot, and lists what should listen but does not.
func TestStatus(t *testing.T) {
	m := New(Options{Version: "1", Run: snapshot.Dir(t.TempDir())})
	m.state.Next, m.state.Applied, m.state.Pending, m.step = 4, 2, 3, Starting
	m.last = view{
		applied: &target{gen: 2, count: 2, sockets: []string{"a", "b"}}, pending: &target{gen: 3, count: 1},
		workers: []worker{{unit: "y", gen: 2, slot: 2, phase: ready}, {unit: "x", gen: 2, slot: 1, phase: crashed, words: "dead"},
			{unit: "z", gen: 1, slot: 1, phase: draining}},
		sockets: map[string]socket{"a": {open: true}, "b": {}, "stale": {}},
	}
	m.crash = "dead"
	s := m.status()
	if len(s.Generations) != 3 || s.Generations[0].Generation != 3 || s.Generations[1].Workers[0].Words != "dead" ||
		s.Generations[1].Ready != 1 || s.Generations[2].State != "draining" || len(s.Listeners) != 2 || s.Listeners[1].Open ||
		s.Step != "starting" || s.Degraded != "dead" {
		t.Errorf("%+v", s)
	}
	m.state.Degraded = "no port"
	if err := m.healed(); err != nil || m.status().Degraded != "" || m.state.Degraded != "" {
		t.Errorf("all is well, and still: %s, %v", m.status().Degraded, err)
	}
}

// TestRequests answers each at once or queues it, and refuses all while fdt is being stopped.
func TestRequests(t *testing.T) {
	m := New(Options{})
	ask := func(r request) request {
		r.reply = make(chan answer, 1)
		m.handle(r)
		return r
	}
	first, second := ask(request{kind: kindReload}), ask(request{kind: kindRollback})
	if len(m.wanted) != 2 {
		t.Fatal("not queued")
	}
	m.callers, m.wanted = m.wanted[:1], m.wanted[1:]
	m.answer(7, nil)
	m.flush()
	if a := <-first.reply; a.gen != 7 || a.err != nil {
		t.Error(a)
	}
	m.refuse(ErrStopping)
	if a := <-second.reply; !errors.Is(a.err, ErrStopping) {
		t.Error(a)
	}
	if a := <-ask(request{kind: kindDrain, gen: 3}).reply; !errors.Is(a.err, ErrUnknownGeneration) {
		t.Error(a)
	}
	if a := <-ask(request{kind: kindStatus}).reply; a.status.Step != "idle" {
		t.Error(a)
	}
	m.wasStopping = true
	if a := <-ask(request{kind: kindReload}).reply; !errors.Is(a.err, ErrStopping) {
		t.Error(a)
	}
}

func TestProperties(t *testing.T) {
	p := properties(Status{Version: "1", Generation: 7, Step: "idle", InDoubt: 2,
		Generations: []Generation{{Generation: 7, State: "serving", Configured: 2, Ready: 1, Open: 3, Workers: []Worker{{Slot: 1, State: "ready"}}}},
		Listeners:   []Listener{{Unit: "a", Open: true}}})
	for name, want := range map[string]string{
		"Version": "s", "Generation": "u", "Pending": "u", "Step": "s", "StatusText": "s", "Rejected": "s", "InDoubt": "u",
		"Generations": "a(usuuu)", "Workers": "a(uus)", "Listeners": "a(sb)",
	} {
		if got := dbus.SignatureOf(p[name].Value).String(); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	m := New(Options{})
	m.publish(Status{Generation: 1})
	m.publish(Status{Generation: 2})
	if s := <-m.shows; s.Generation != 2 {
		t.Errorf("an old status is kept: %+v", s)
	}
}

func TestOutlived(t *testing.T) {
	limit := config.Recycle{After: time.Hour, Memory: 1000, Grace: time.Minute}
	at := func(age time.Duration, memory int64) control.Status {
		return control.Status{State: "serving", Since: noon.Add(-age), Memory: memory}
	}
	for _, c := range []struct {
		limit config.Recycle
		s     control.Status
		want  bool
	}{
		{limit, at(time.Hour, 0), false},
		{limit, at(time.Hour+1, 0), true},
		{limit, at(limit.Grace, 1001), false},
		{limit, at(limit.Grace+1, 1001), true},
		{limit, at(limit.Grace+1, 1000), false},
		{config.Recycle{}, at(1000*time.Hour, 1e12), false},
		{limit, control.Status{State: "draining", Since: noon.Add(-2 * time.Hour)}, false},
		{limit, control.Status{State: "serving"}, false},
	} {
		if got := outlived(c.limit, c.s, noon); got != c.want {
			t.Errorf("%+v %+v: %t", c.limit, c.s, got)
		}
	}
}

// TestMissing names what tmpfiles.d makes and is not there.
func TestMissing(t *testing.T) {
	m := New(Options{Run: snapshot.Dir(t.TempDir())})
	for _, name := range madeAtBoot {
		if err := os.Mkdir(filepath.Join(string(m.opt.Run), name), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.missing(); got != "" {
		t.Error(got)
	}
	for _, name := range []string{"worker", "metrics"} {
		if err := os.Remove(filepath.Join(string(m.opt.Run), name)); err != nil {
			t.Fatal(err)
		}
	}
	want := string(m.opt.Run) + "/metrics, " + string(m.opt.Run) + "/worker missing: systemd-tmpfiles --create fdt.conf, then systemctl reload fdt"
	if got := m.missing(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
