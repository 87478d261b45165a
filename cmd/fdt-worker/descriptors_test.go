package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/testwait"
)

// A worker that has no descriptor left goes on telling the watchdog that it lives; what it cannot do meanwhile it refuses or
// leaves waiting, and nothing of it has ended for good when there are descriptors again.
func TestDescriptorsRunOut(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("peer authentication wants root here: run as root")
	}
	h := newHost(t)
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(h.dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	t.Setenv("NOTIFY_SOCKET", filepath.Join(h.dir, "notify"))
	t.Setenv("WATCHDOG_USEC", "100000")
	pings := make(chan string, 1<<16)
	go func() {
		for b := make([]byte, 4096); ; {
			n, err := notify.Read(b)
			if err != nil {
				return
			}
			if said := string(b[:n]); strings.HasPrefix(said, "WATCHDOG=1") {
				pings <- said
			}
		}
	}()
	cmd, out := h.start("1-0", h.name())
	c := h.connect()
	work := func(c *pgx.Conn, gid string) error {
		_, err := c.Exec(t.Context(), "CALL enqueue('body')")
		if err == nil {
			_, err = c.Exec(t.Context(), "BEGIN; CALL enqueue('body'); PREPARE TRANSACTION '"+gid+"'", pgx.QueryExecModeSimpleProtocol)
		}
		if err == nil {
			_, err = c.Exec(t.Context(), "COMMIT PREPARED '"+gid+"'")
		}
		return err
	}
	if err := work(c, "before"); err != nil {
		t.Fatal(err)
	}

	var was unix.Rlimit
	if err := unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: was.Max}, nil); err != nil {
		t.Fatal(err)
	}
	if err := work(c, "meanwhile"); err == nil || !strings.Contains(err.Error(), "too many open files") {
		t.Errorf("work without a descriptor: %v", err)
	}
	waiting := make(chan error, 2)
	go func() {
		c, err := pgx.Connect(context.Background(), "host="+h.dir+" port=7432 user=root dbname=db")
		if err == nil {
			err = work(c, "waited")
			_ = c.Close(context.Background())
		}
		waiting <- err
	}()
	path := filepath.Join(h.run, "worker", "1-0.sock")
	go func() { waiting <- control.Call(context.Background(), path, control.OpStatus, nil, nil) }()
	testwait.Until(t, "accepting fails", func() bool { return strings.Contains(out.String(), "cannot accept") })
	for len(pings) > 0 {
		<-pings
	}
	for range 5 {
		testwait.For(t, "the watchdog is answered", pings)
	}

	if err := unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_NOFILE, &was, nil); err != nil {
		t.Fatal(err)
	}
	for range cap(waiting) {
		if err := testwait.For(t, "who waited is served", waiting); err != nil {
			t.Errorf("who waited: %v", err)
		}
	}
	if _, err := c.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := work(c, "after"); err != nil {
		t.Errorf("with descriptors again: %v", err)
	}
	_ = c.Close(t.Context())
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if t.Failed() || strings.Contains(out.String(), "has failed") {
		t.Errorf("the worker said:\n%s", out)
	}
}

// More connections at once than there can ever be descriptors: no READY, and the numbers.
func TestDescriptorsTooFew(t *testing.T) {
	h := newHost(t)
	h.configure(strings.Replace(configurationOf(h), "workers: {count: 1}", "workers: {count: 1, threads: 1000000}", 1))
	cmd, out := h.start("1-0", h.name())
	if err := cmd.Wait(); err == nil {
		t.Error("it serves")
	}
	if said := out.String(); !strings.Contains(said, "too few file descriptors") || !strings.Contains(said, "LimitNOFILE=") || !strings.Contains(said, "may need 3000") {
		t.Errorf("the worker said:\n%s", said)
	}
}
