package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/testwait"
)

// TestTroubles starts a worker at boot whose database is away, and with a
// transaction on a resource that is configured no more: it serves, and tells.
func TestTroubles(t *testing.T) {
	h := newHost(t)
	defer h.strand()()
	text := fmt.Sprintf(configuration, h.sock, filepath.Join(h.dir, "outbox"))
	h.configure(strings.Replace(text, "resources: {", `resources: {bank: {type: postgres, dsn: "host=/nowhere user=x dbname=x"}, `, 1))
	cmd, out := h.start("1-0", h.name())
	testwait.Until(t, "the log tells of both", func() bool {
		said := out.String()
		return strings.Contains(said, "transactions cannot be finished") && strings.Contains(said, "a resource cannot be reached")
	})
	path := filepath.Join(h.run, "worker", "1-0.sock")
	var err error
	testwait.Until(t, "it listens", func() bool {
		err = control.Call(t.Context(), path, control.OpCancel, map[string]string{"pid": "none"}, nil)
		return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED)
	})
	if err == nil || !strings.Contains(err.Error(), "cannot unmarshal") {
		t.Errorf("a cancel without a key: %v", err)
	}
	if err := control.Call(t.Context(), path, control.OpInterrupt, map[string]string{"pid": "none"}, nil); err == nil || !strings.Contains(err.Error(), "cannot unmarshal") {
		t.Errorf("an interrupt of nobody: %v", err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestLogFails has strace(1) fail the force of the log in a vote: the worker
// gives up, and leaves to the next one what became of it.
func TestLogFails(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("peer authentication wants root here: run as root")
	}
	h := newHost(t)
	cmd, out := h.start("1-0", h.name())
	c := h.connect()
	for _, s := range []string{"BEGIN", "CALL enqueue('x')", "PREPARE TRANSACTION 'x'", "COMMIT PREPARED 'x'", "BEGIN", "CALL enqueue('y')"} {
		if _, err := c.Exec(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	stop := h.traced([]*exec.Cmd{cmd}, "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO", "-P", filepath.Join(h.dir, h.log(cmd)))
	_, err := c.Exec(t.Context(), "PREPARE TRANSACTION 'y'")
	failed := cmd.Wait()
	stop()
	if err == nil || failed == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(out.String(), "the worker has failed") {
		t.Errorf("told %v; ended with %v\n%s", err, failed, out)
	}
	_ = c.Close(t.Context())

	_, _ = h.start("2-0", h.name())
	c = h.connect()
	testwait.Until(t, "the vote, of which the log may have something, is rolled back", func() bool {
		_, _ = c.Exec(t.Context(), "ROLLBACK PREPARED 'y'")
		return h.count("outbox/tmp/*/*")+h.count("outbox/prepared/*/*") == 0
	})
	_ = c.Close(t.Context())
	if n := h.count("outbox/new/*"); n != 1 {
		t.Errorf("%d messages, want the first", n)
	}
}
