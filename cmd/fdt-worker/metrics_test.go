package main

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/meter"
	"github.com/fdtserver/fdt/internal/testwait"
)

// TestMetricsSocket: who may ask for counts may ask for nothing else.
func TestMetricsSocket(t *testing.T) {
	h := newHost(t)
	cmd, out := h.start("1-0", h.name())
	path := filepath.Join(h.run, "metrics", "1-0.sock")
	var counts meter.Worker
	testwait.Until(t, "it tells its counts", func() bool {
		return control.Call(t.Context(), path, control.OpMetrics, nil, &counts) == nil
	})
	if counts.Generation != 1 || counts.Threads != 256 {
		t.Errorf("%+v", counts)
	}
	for _, op := range []string{control.OpStatus, control.OpDrain, control.OpCheck, control.OpCancel} {
		if err := control.Call(t.Context(), path, op, nil, nil); !errors.Is(err, control.ErrUnknownOp) {
			t.Errorf("%s: %v", op, err)
		}
	}
	ends(t, cmd, out)
}

// TestNoMetricsSocket: without a place to tell its counts a worker serves all the same.
func TestNoMetricsSocket(t *testing.T) {
	h := newHost(t)
	defer h.moved(filepath.Join(h.run, "metrics"))()
	cmd, out := h.start("1-0", h.name())
	testwait.Until(t, "it serves", func() bool {
		return control.Call(t.Context(), filepath.Join(h.run, "worker", "1-0.sock"), control.OpStatus, nil, nil) == nil
	})
	ends(t, cmd, out)
	for _, said := range []string{"not told to the metrics", "last counts are lost"} {
		if !strings.Contains(out.String(), said) {
			t.Errorf("no %q in\n%s", said, out)
		}
	}
}

// ends tells a worker to end, and demands that it does so in order.
func ends(t *testing.T, cmd *exec.Cmd, out *testwait.Output) {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
