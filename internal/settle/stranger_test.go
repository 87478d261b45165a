package settle

import (
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStranger: who may not read the log is told so, and nothing else.
func TestStranger(t *testing.T) {
	h := newHost(t)
	done := make(chan int)
	go func() {
		runtime.LockOSThread() // it ends with the goroutine, and the user that it has for files with it
		if err := unix.Setfsuid(65534); err != nil {
			t.Error(err)
		}
		done <- txnIn(t.Context(), new(Own), []string{"list", "-run", h.run, "-lib", h.lib, "-etc", h.etc}, &h.stdout, &h.stderr)
	}()
	if code := <-done; code != 1 || h.stdout.Len() > 0 || strings.Count(h.stderr.String(), "\n") != 1 ||
		!strings.HasPrefix(h.stderr.String(), "fdtctl txn list: this is for root: ") || !strings.Contains(h.stderr.String(), "permission denied") {
		t.Errorf("exit status %d: %s%s", code, h.stdout.String(), h.stderr.String())
	}
}
