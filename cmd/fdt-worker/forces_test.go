package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/pgwire"
)

// twoSpools is a configuration with two writing resources that need no
// database. No worker has room for all connections of a test under load.
const twoSpools = `
listen: {local: {address: %s, auth: trust}}
workers: {count: 2, threads: 12}
resources:
  a: {type: spool, directory: %s}
  b: {type: spool, directory: %s}
procedures:
  one: {steps: [{on: a, put: "x"}]}
  pair: {steps: [{on: a, put: "x"}, {on: b, put: "x"}]}
`

// releaseDir has the shipped programs; TestMain removes it.
var releaseDir = filepath.Join(os.TempDir(), fmt.Sprintf("fdt-release-%d", os.Getpid()))

// release is the shipped worker, and fdtctl as operator: those in the package if
// that was built, else built as the Makefile does.
var release = sync.OnceValues(func() (p programs, err error) {
	dir := releaseDir
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", dir+"/", ".", "../fdtctl")
	p = programs{filepath.Join(dir, "fdt-worker"), filepath.Join(dir, "fdtctl")}
	if deb := os.Getenv("FDT_DEB"); deb != "" {
		build = exec.Command("dpkg-deb", "-x", deb, dir)
		p = programs{filepath.Join(dir, "usr/lib/fdt/fdt-worker"), filepath.Join(dir, "usr/bin/fdtctl")}
	}
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return p, fmt.Errorf("%w\n%s", err, out)
	}
	return p, nil
})

// programs are paths.
type programs struct{ worker, operator string }

// newShipped is a host whose workers are the shipped program, with two spools.
func newShipped(t *testing.T) *host {
	t.Helper()
	h := newHost(t)
	shipped, err := release()
	if err != nil {
		t.Fatal(err)
	}
	h.program = shipped.worker
	a, b := filepath.Join(h.dir, "a"), filepath.Join(h.dir, "b")
	if err := errors.Join(os.Mkdir(a, 0o700), os.Mkdir(b, 0o700)); err != nil {
		t.Fatal(err)
	}
	h.configure(fmt.Sprintf(twoSpools, h.sock, a, b))
	return h
}

const forcing = "trace=write,fsync,fdatasync,sync,syncfs,sync_file_range,msync,pwritev2"

// forces counts how often something was forced whose path begins so.
func forces(calls []call, below string) (n int) {
	for _, c := range calls {
		if c.name != "write" && strings.HasPrefix(c.paths[0], below) {
			n++
		}
	}
	return n
}

// answered are the calls up to the last answer to a client.
func answered(calls []call) []call {
	for len(calls) > 0 && !strings.HasPrefix(calls[len(calls)-1].paths[0], "socket:") {
		calls = calls[:len(calls)-1]
	}
	return calls
}

// TestForcesSeen has strace(1) count what the shipped program forces until it
// has answered: of the log nothing with one writing resource, once for a local
// decision, twice for an outside coordinator's.
func TestForcesSeen(t *testing.T) {
	h := newShipped(t)
	w, _ := h.start("1-0", h.name())
	c := h.connect()
	do := func(statements ...string) {
		t.Helper()
		for _, s := range statements {
			if _, err := c.Exec(t.Context(), s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
	}
	do("CALL one()") // when this is done, the log has been made
	_ = h.log(w)
	for _, of := range []struct {
		want       int
		own        string // the resource's own forces, to see that they are seen
		statements []string
	}{
		{0, "a", []string{"CALL one()"}},
		{0, "a", []string{"BEGIN", "CALL one()", "CALL one()", "COMMIT"}},
		{1, "b", []string{"CALL pair()"}},
		{1, "b", []string{"BEGIN", "CALL one()", "CALL pair()", "COMMIT"}},
		{2, "b", []string{"BEGIN", "CALL pair()", "PREPARE TRANSACTION 'x'", "COMMIT PREPARED 'x'"}},
		{1, "b", []string{"BEGIN", "CALL pair()", "PREPARE TRANSACTION 'y'"}}, // a name that was in use needs one more, see txn
		{1, "b", []string{"COMMIT PREPARED 'y'"}},
	} {
		h.swept()
		stop := h.traced([]*exec.Cmd{w}, "-e", forcing)
		do(of.statements...)
		seen := answered(stop())
		n, own := forces(seen, "lib/txn/"), forces(seen, of.own+"/")
		t.Logf("%s: %d of the log, %d of spool %s", strings.Join(of.statements, "; "), n, own, of.own)
		if n != of.want || own == 0 {
			t.Errorf("%q: want %d forces of the log, and some of spool %s, of\n%v", of.statements, of.want, of.own, seen)
		}
	}
}

// log is the log of a worker. It is not open in a way that forces each write,
// which then would be no call of its own to count.
func (h *host) log(w *exec.Cmd) (path string) {
	h.t.Helper()
	proc := fmt.Sprintf("/proc/%d/", w.Process.Pid)
	entries, err := os.ReadDir(proc + "fd")
	if err != nil {
		h.t.Fatal(err)
	}
	for _, e := range entries {
		to, _ := os.Readlink(proc + "fd/" + e.Name())
		below, ok := strings.CutPrefix(to, h.dir+"/")
		if !ok || filepath.Ext(below) != ".log" {
			continue
		}
		info, err := os.ReadFile(proc + "fdinfo/" + e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // a scan has read it
		}
		if err != nil {
			h.t.Fatal(err)
		}
		var at int64
		var flags uint32
		_, err = fmt.Sscanf(string(info), "pos: %d\nflags: %o", &at, &flags)
		if err == nil && flags&syscall.O_ACCMODE == syscall.O_RDONLY {
			continue // a scan reads it
		}
		if err != nil || flags&syscall.O_DSYNC != 0 || path != "" {
			h.t.Errorf("%s beside %q, %v:\n%s", below, path, err, info)
		}
		path = below
	}
	if path == "" {
		h.t.Fatal("the worker has no log")
	}
	return path
}

// swept waits until proofs of commits are gone. Once a second at most one force
// of the log precedes that, for all transactions since, and no client waits for
// it.
func (h *host) swept() {
	h.t.Helper()
	testwait.Until(h.t, "no proof is left", func() bool {
		left, err := filepath.Glob(filepath.Join(h.dir, "[ab]", "prepared", "*.committed"))
		return err == nil && len(left) == 0
	})
}

// TestForcesShared has 20 clients commit at once on two workers: each worker
// forces its log less often than it commits. The disk is given the latency that
// a memory's has not.
func TestForcesShared(t *testing.T) {
	const clients, each = 20, 15
	h := newShipped(t)
	var workers []*exec.Cmd
	for _, instance := range []string{"1-0", "1-1"} {
		w, _ := h.start(instance, h.name())
		workers = append(workers, w)
	}
	conns := make([]*pgx.Conn, clients)
	for i := range conns {
		conns[i] = h.connect()
		if _, err := conns[i].Exec(t.Context(), "CALL one()"); err != nil {
			t.Fatal(err)
		}
	}
	stop := h.traced(workers, "-e", forcing, "-e", "inject=fdatasync:delay_enter=5ms")
	var all sync.WaitGroup
	var commits [2]atomic.Int64
	for _, c := range conns {
		second := pgwire.Origin{Generation: 1, Slot: 1}.Owns(c.PgConn().PID())
		all.Go(func() {
			for range each {
				if _, err := c.Exec(t.Context(), "CALL pair()"); err != nil {
					t.Error(err)
					return
				}
				commits[map[bool]int{true: 1}[second]].Add(1)
			}
		})
	}
	all.Wait()
	seen := stop()
	for i, w := range workers {
		n, forced := commits[i].Load(), int64(forces(seen, h.log(w)))
		t.Logf("worker %d: %d commits, %d forces of the log", i, n, forced)
		if forced == 0 || forced >= n {
			t.Errorf("worker %d: %d forces for %d commits", i, forced, n)
		}
	}
}
