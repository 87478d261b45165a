package transient

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/service"
)

// TestRun runs systemd-run(1) with an option that it does not know: its exit code is returned. Without descriptors, without the program,
// when it is killed, and when the exit code is none of the command's, what failed is told.
func TestRun(t *testing.T) {
	for _, test := range []struct {
		name, says string
		most, code int
		fail       func(t *testing.T)
	}{
		{name: "Exit", most: 1, code: 1},
		{name: "ExitOfTheUnit", says: "the unit has failed, see journalctl: exit status 1"},
		{name: "NoDescriptors", says: "too many open files", fail: func(t *testing.T) { limit(t, unix.RLIMIT_NOFILE, 1) }},
		{name: "NoProgram", says: "systemd-run: ", fail: func(t *testing.T) { t.Setenv("PATH", t.TempDir()) }},
		{ // what it writes about the option is more than a file may have
			name: "Killed", most: 1, says: "the unit has failed, see journalctl: signal: file size limit exceeded",
			fail: func(t *testing.T) { limit(t, unix.RLIMIT_FSIZE, 0) },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
			if err != nil {
				t.Fatal(err)
			}
			defer stderr.Close()
			if test.fail != nil {
				test.fail(t)
			}
			code, err := Run(t.Context(), []string{"--no-such-option"}, nil, test.most, new(bytes.Buffer), stderr)
			if code != test.code || (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("%d and %v, want %d and %q", code, err, test.code, test.says)
			}
		})
	}
}

// TestWorkerUnknown: without systemctl(1) a worker is what the package installs.
func TestWorkerUnknown(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := exec.LookPath("systemctl"); err == nil {
		t.Fatal("systemctl is found")
	}
	if w := WorkerOf(t.Context(), service.Default); w.Program != "/usr/lib/fdt/fdt-worker" || !w.PrivateTmp || !w.ProtectHome || w.As != nil {
		t.Errorf("%+v", w)
	}
}

// limit lowers a limit of this process, until the test ends.
func limit(t *testing.T, what int, to uint64) {
	t.Helper()
	var was unix.Rlimit
	if err := unix.Getrlimit(what, &was); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(what, &was); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Setrlimit(what, &unix.Rlimit{Cur: to, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
}
