package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/application"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/meter"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/testcover"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/internal/unit"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// asWorker makes the test binary a worker: only a process of its own can be
// handed descriptors as systemd does it.
const asWorker = "FDT_TEST_AS_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(asWorker) != "" {
		testcover.Exit(m, new(application.Application).Main(os.Args))
	}
	code := m.Run()
	_ = os.RemoveAll(releaseDir)
	os.Exit(code)
}

// host is a directory tree that stands for /run/fdt and /var/lib/fdt.
type host struct {
	t             *testing.T
	dir, run, lib string
	sock          string
	listener      *net.UnixListener
	program       string // that is the worker
}

const configuration = `
listen: {local: {address: %s, auth: peer}}
workers: {count: 1}
drain: {idle: 100ms}
resources: {outbox: {type: spool, directory: %s}}
procedures: {enqueue: {parameters: {body: text}, steps: [{on: outbox, put: ":body"}]}}
`

func newHost(t *testing.T) *host {
	t.Helper()
	dir, err := os.MkdirTemp("", "fdt") // short, for unix sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &host{t: t, dir: dir, run: filepath.Join(dir, "run"), lib: filepath.Join(dir, "lib"),
		sock: filepath.Join(dir, ".s.PGSQL.7432"), program: os.Args[0]}
	for _, d := range []string{"run/generation/1", "run/generation/2", "run/worker", "run/metrics", "run/txn", "lib/auth", "lib/txn", "outbox"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h.configure(configurationOf(h))
	h.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: h.sock, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.listener.Close() })
	return h
}

// in is the host for a subtest: what fails there fails the subtest, not its parent.
func (h *host) in(t *testing.T) *host {
	own := *h
	own.t = t
	return &own
}

func configurationOf(h *host) string {
	return fmt.Sprintf(configuration, h.sock, filepath.Join(h.dir, "outbox"))
}

// configure writes both generations' snapshots.
func (h *host) configure(text string) {
	h.t.Helper()
	for _, gen := range []string{"1", "2"} {
		if err := os.WriteFile(filepath.Join(h.run, "generation", gen, "config.yaml"), []byte(text), 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
}

// start starts a worker as systemd would, with the descriptor passed by name.
func (h *host) start(instance, name string) (*exec.Cmd, *testwait.Output) {
	h.t.Helper()
	file, err := h.listener.File()
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	// LISTEN_PID is the process's own number: the shell becomes the worker.
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, h.program, "-instance="+instance, "-run="+h.run, "-lib="+h.lib)
	cmd.Env = append(os.Environ(), asWorker+"=1", "LISTEN_FDS=1", "LISTEN_FDNAMES="+name, "MACHINE=")
	cmd.ExtraFiles = []*os.File{file}
	out := new(testwait.Output)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return cmd, out
}

func (h *host) name() string { return unit.FDName(config.Address{Network: "unix", Address: h.sock}) }

func (h *host) connect() *pgx.Conn {
	h.t.Helper()
	c, err := pgx.Connect(h.t.Context(), fmt.Sprintf("host=%s port=7432 user=root dbname=db", h.dir))
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// TestWorker is a worker's whole life, with one that follows it.
func TestWorker(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("peer authentication wants root here: run as root")
	}
	h := newHost(t)
	cmd, out := h.start("1-0", h.name())
	c := h.connect()
	if _, err := c.Exec(t.Context(), "CALL enqueue($1)", "hello"); err != nil {
		t.Fatal(err)
	}
	var st control.Status
	path := filepath.Join(h.run, "worker", "1-0.sock")
	if err := control.Call(t.Context(), path, control.OpStatus, nil, &st); err != nil {
		t.Fatal(err)
	}
	if st.Generation != 1 || st.Slot != 0 || st.PID != cmd.Process.Pid || st.State != "serving" || st.Open != 1 || st.Accepted != 1 {
		t.Errorf("%+v", st)
	}
	var counts meter.Worker
	if err := control.Call(t.Context(), filepath.Join(h.run, "metrics", "1-0.sock"), control.OpMetrics, nil, &counts); err != nil {
		t.Fatal(err)
	}
	enqueue := counts.Calls["enqueue"]
	if counts.Generation != 1 || counts.Slot != 0 || counts.CPU <= 0 || counts.Memory <= 0 || counts.Threads != 256 || enqueue.Classes["00"] != 1 ||
		counts.Listeners["local"] != (meter.Listener{Accepted: 1, Idle: 1}) || counts.Transactions["committed"] != 1 || len(counts.Transactions) != 4 || len(counts.Resources) != 1 {
		t.Errorf("%+v", counts)
	}
	if _, err := c.Exec(t.Context(), "BEGIN; CALL enqueue('doubtful'); PREPARE TRANSACTION 'x'", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	if err := control.Call(t.Context(), path, control.OpStatus, nil, &st); err != nil || st.InDoubt != 1 || st.DoubtAge <= 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if err := control.Call(t.Context(), filepath.Join(h.run, "metrics", "1-0.sock"), control.OpMetrics, nil, &counts); err != nil || counts.InDoubt != 1 || counts.Oldest.IsZero() {
		t.Errorf("%+v, %v", counts, err)
	}
	if _, err := c.Exec(t.Context(), "ROLLBACK PREPARED 'x'"); err != nil {
		t.Fatal(err)
	}
	h.interrupted(path, out)
	testwait.Until(t, "the connection of the session that was told to end is over", func() bool {
		err := control.Call(t.Context(), path, control.OpStatus, nil, &st)
		return err == nil && st.Open == 1
	})
	if _, err := c.Exec(t.Context(), "BEGIN"); err != nil { // it may not end before it is asked
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	key := control.Cancel{PID: c.PgConn().PID(), Secret: make([]byte, 4)}
	if err := control.Call(t.Context(), path, control.OpCancel, key, nil); err != nil {
		t.Error(err) // it drains, and answers
	}
	if _, err := c.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := c.Exec(t.Context(), "CALL enqueue($1)", "late"); err == nil {
		t.Error("served after the end")
	}
	_ = c.Close(context.WithoutCancel(t.Context()))
	left, err := meter.Left(filepath.Join(h.run, "metrics"))
	if err != nil || len(left) != 1 || left[0].Calls["enqueue"].Classes["00"] != 3 || left[0].Drained != 1 {
		t.Errorf("%+v, %v", left, err)
	}

	cmd, out = h.start("2-1", h.name())
	c = h.connect()
	if _, err := c.Exec(t.Context(), "CALL enqueue($1)", "again"); err != nil {
		t.Fatal(err)
	}
	_ = c.Close(t.Context())
	defer h.moved(filepath.Join(h.run, "metrics"))() // it loses no more than its last counts
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	entries, err := os.ReadDir(filepath.Join(h.dir, "outbox", "new"))
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
}

// TestFailures is a table of workers that cannot start: each says why.
func TestFailures(t *testing.T) {
	h := newHost(t)
	if err := (snapshot.Dir(h.run)).WriteState(snapshot.State{Schema: 1, Next: 3, Applied: 1, Pending: 2}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, instance, fd, want string
		code                     int
		prepare                  func(h *host) (undo func())
	}{
		{"no instance", "x", h.name(), `-instance "x" is not GENERATION-SLOT`, 2, nil},
		{"no snapshot", "9-0", h.name(), "configuration of generation 9: ", 1, nil},
		{"missing listener", "2-0", "other", h.name(), 1, nil},
		{"no spool", "1-0", h.name(), "spool outbox: ", 1, func(h *host) func() {
			return h.moved(filepath.Join(h.dir, "outbox"))
		}},
		{"no place for a secret", "1-0", h.name(), "secret of unknown users: open ", 1, func(h *host) func() { return h.moved(filepath.Join(h.lib, "auth")) }},
		{"no log", "1-0", h.name(), "transaction log: ", 1, func(h *host) func() { return h.moved(filepath.Join(h.lib, "txn")) }},
		{"stranded transaction", "2-0", h.name(), `is not configured, and transactions wait there: `, 1, (*host).strand},
		{"no control socket", "1-0", h.name(), "control: ", 1, func(h *host) func() { return h.moved(filepath.Join(h.run, "worker")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			if c.prepare != nil {
				defer c.prepare(h)()
			}
			cmd, out := h.start(c.instance, c.fd)
			err := cmd.Wait()
			ee, ok := errors.AsType[*exec.ExitError](err)
			if !ok || ee.ExitCode() != c.code || !strings.Contains(out.String(), c.want) {
				t.Errorf("%v\n%s\nwant %s", err, out, c.want)
			}
		})
	}
}

// strand leaves a transaction in doubt on a resource that the configuration does not name.
func (h *host) strand() (undo func()) {
	h.t.Helper()
	elsewhere, err := spool.Open("elsewhere", filepath.Join(h.dir, "outbox"))
	if err != nil {
		h.t.Fatal(err)
	}
	m, err := txn.Open(h.t.Context(), txn.Options{
		LogDir: filepath.Join(h.lib, "txn"), ClaimDir: filepath.Join(h.run, "txn"), Resources: []txn.Resource{elsewhere},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	s := m.NewSession(txn.Principal{User: "root"})
	if err := s.Begin(h.t.Context(), txn.TxOptions{}); err != nil {
		h.t.Fatal(err)
	}
	b, err := s.Branch(h.t.Context(), "elsewhere")
	if err != nil {
		h.t.Fatal(err)
	}
	if err := errors.Join(b.(*spool.Branch).Put(h.t.Context(), nil), s.Prepare(h.t.Context(), "x")); err != nil {
		h.t.Fatal(err)
	}
	return func() {
		if err := errors.Join(s.RollbackPrepared(h.t.Context(), "x"), s.Acknowledge(), m.Close(h.t.Context())); err != nil {
			h.t.Error(err)
		}
	}
}

// moved hides a directory until undo.
func (h *host) moved(dir string) (undo func()) {
	h.t.Helper()
	if err := os.Rename(dir, dir+".away"); err != nil {
		h.t.Fatal(err)
	}
	return func() {
		_ = os.RemoveAll(dir)
		if err := os.Rename(dir+".away", dir); err != nil {
			h.t.Error(err)
		}
	}
}

func TestFlags(t *testing.T) {
	for arg, want := range map[string]int{"-version": 0, "-h": 0, "-nonsense": 2} {
		if got := new(application.Application).Main([]string{"fdt-worker", arg}); got != want {
			t.Errorf("%s: %d", arg, got)
		}
	}
}
