package application

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/drain"
)

// TestSuccessors are the other workers, the newest generation first; what is no worker's is left out.
func TestSuccessors(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"9-0.move", "10-0.move", "10-1.move", "10-2.move", "10-0.sock", "x.move"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	groups := successors(dir, filepath.Join(dir, "10-1.move"))()
	if len(groups) != 2 {
		t.Fatalf("%q", groups)
	}
	slices.Sort(groups[0])
	if got := strings.ReplaceAll(strings.Join(slices.Concat(groups...), " "), dir+"/", ""); got != "10-0.move 10-2.move 9-0.move" {
		t.Error(got)
	}
}

// TestReceive takes offers while the worker lives; where it cannot, the worker serves all the same.
func TestReceive(t *testing.T) {
	dir, err := os.MkdirTemp("", "fdt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "1-0.move")
	log := slog.New(slog.DiscardHandler)
	stop := receive(t.Context(), new(drain.Server), path, log)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	receive(t.Context(), new(drain.Server), path, log)() // it is another's
	stop()
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket is left behind")
	}
}
