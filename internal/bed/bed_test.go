package bed

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/testwait"
)

// root skips unless FDT_BED=1 asks for tests that boot containers.
func root(t *testing.T) {
	t.Helper()
	if os.Getenv("FDT_BED") != "1" {
		t.Skip("set FDT_BED=1 (as root) to boot containers")
	}
}

// traces are what a machine of this name has left on the host.
func traces(t *testing.T, name string) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{
		"/sys/fs/cgroup/" + name, "/sys/fs/cgroup/*/" + name, filepath.Join(cacheDir(), "run", name),
		"/run/systemd/nspawn/*/*" + name + "*", "/run/systemd/nspawn/locks/*" + name + "*",
	} {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, matches...)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, name) {
			found = append(found, line)
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, process := range processes {
		if line, err := os.ReadFile(process); err == nil && strings.Contains(string(line), name) {
			found = append(found, process+": "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

func TestBed(t *testing.T) {
	root(t)
	t.Parallel()
	ctx := t.Context()
	b, err := Boot(ctx, Options{Files: map[string]string{"/etc/seed": "sown"}, Env: []string{"WHO=me"}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()

	if out, err := b.Run(ctx, "sh", "-c", "echo $WHO; cat /etc/seed; systemctl is-system-running"); err != nil || out != "me\nsownrunning\n" {
		t.Errorf("Run: %q, %v", out, err)
	}
	if out, err := b.Shell(ctx, "echo before; false; echo after"); err == nil || out != "before\n" {
		t.Errorf("Shell goes on after a failure: %q, %v", out, err)
	}
	_, err = b.Run(ctx, "sh", "-c", "echo complaint >&2; exit 3")
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 3 || !strings.Contains(err.Error(), "complaint") {
		t.Errorf("Run's error: %v", err)
	}
	if err := b.WriteFile(ctx, "/root/file", []byte("a\x00b")); err != nil {
		t.Error(err)
	}
	if got, err := b.ReadFile(ctx, "/root/file"); err != nil || string(got) != "a\x00b" {
		t.Errorf("ReadFile: %q, %v", got, err)
	}
	if got, err := os.ReadFile(b.Path("/root/file")); err != nil || string(got) != "a\x00b" {
		t.Errorf("Path: %q, %v", got, err)
	}
	if out, err := b.Journal(ctx, "-b", "-n", "1", "-o", "cat"); err != nil || out == "" {
		t.Errorf("Journal: %q, %v", out, err)
	}
	if !strings.Contains(b.Console(), "Debian GNU/Linux 12") {
		t.Errorf("Console: %s", b.Console())
	}
	if _, err := b.Install(ctx, "/nonexistent.deb"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Install of nothing: %v", err)
	}

	// systemd inside reports each job to the host's side, which must go on reading.
	if _, err := b.Shell(ctx, "for i in {1..60}; do systemctl restart systemd-logind; systemctl reset-failed; done"); err != nil {
		t.Fatal(err)
	}
	if err := b.Reboot(ctx); err != nil {
		t.Fatalf("Reboot: %v", err)
	}
	if _, err := b.ReadFile(ctx, "/root/file"); err != nil {
		t.Errorf("after the reboot: %v", err)
	}
	if err := b.PowerCut(ctx); err != nil {
		t.Fatalf("PowerCut: %v", err)
	}
	if _, err := b.ReadFile(ctx, "/root/file"); err != nil {
		t.Errorf("after the power cut: %v", err)
	}

	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if left := traces(t, b.Name()); len(left) > 0 {
		t.Errorf("left behind: %s", left)
	}
}

// Dial reaches TCP and unix listeners inside, and the next dial of the host stays at home.
func TestDial(t *testing.T) {
	root(t)
	t.Parallel()
	ctx := t.Context()
	b, err := Boot(ctx, Options{Release: "trixie"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, address := range []struct{ network, listen, dial string }{
		{"tcp", "TCP-LISTEN:7432,bind=127.0.0.1", "127.0.0.1:7432"},
		{"tcp", "TCP6-LISTEN:7432,bind=[::1]", "[::1]:7432"},
		{"unix", "UNIX-LISTEN:/run/echo", "/run/echo"},
	} {
		if _, err := b.Run(ctx, "systemd-run", "--quiet", "--unit=echo", "--collect", "socat", address.listen+",fork", "EXEC:cat"); err != nil {
			t.Fatal(err)
		}
		var conn net.Conn
		testwait.Until(t, "it listens", func() bool {
			if conn, err = b.Dial(ctx, address.network, address.dial); err != nil && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			return err == nil
		})
		fmt.Fprintln(conn, "hello")
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "hello\n" {
			t.Errorf("%s %s: %q, %v", address.network, address.dial, line, err)
		}
		conn.Close()
		if _, err := b.Run(ctx, "systemctl", "stop", "echo"); err != nil {
			t.Fatal(err)
		}
	}
	var d net.Dialer
	if conn, err := d.DialContext(ctx, "tcp", "127.0.0.1:7432"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("the host's port 7432: %v, %v", conn, err)
	}
}

// Cancelling a command's context kills it inside, with its children.
func TestCancel(t *testing.T) {
	root(t)
	t.Parallel()
	b, err := Boot(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := b.Command(ctx, "sh", "-c", "sleep 4711 & echo started; wait")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	cancel()
	c.Wait()
	if out, err := b.Run(t.Context(), "pgrep", "-f", "sleep 4711"); err == nil {
		t.Errorf("still there: %s", out)
	}
}

// The environment says to TestOwner that it is the owner to be killed.
const ownerEnv = "FDT_BED_OWNER"

// TestOwner is no test, but the program that TestKilledOwner kills.
func TestOwner(t *testing.T) {
	if os.Getenv(ownerEnv) == "" {
		t.Skip("runs as a child of TestKilledOwner only")
	}
	b, err := Boot(t.Context(), Options{Disk: true})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("\nbooted %s %d\n", b.Name(), b.guard.Process.Pid)
	io.Copy(io.Discard, os.Stdin)
	if os.Getenv(ownerEnv) == "panic" {
		panic("as a test does that runs out of time")
	}
	t.Fatal("as a test does that forgets to close")
}

// However the owner ends, nothing of its container stays; and when the guard is killed too, the next boot
// cleans up after it.
func TestKilledOwner(t *testing.T) {
	root(t)
	for _, end := range []struct {
		name   string
		signal unix.Signal // 0: end by itself
		guard  bool        // kill the guard as well
	}{
		{name: "fatal"},
		{name: "panic"},
		{name: "Ctrl-C", signal: unix.SIGINT},
		{name: "kill", signal: unix.SIGKILL},
		{name: "guard", signal: unix.SIGKILL, guard: true},
	} {
		t.Run(end.name, func(t *testing.T) {
			t.Parallel()
			c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOwner$")
			c.Env = append(os.Environ(), ownerEnv+"="+end.name)
			in, err := c.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			name, pid := "", 0
			for lines := bufio.NewScanner(out); name == "" && lines.Scan(); {
				fmt.Sscanf(lines.Text(), "booted %s %d", &name, &pid)
			}
			if name == "" {
				t.Fatal("the owner has booted nothing")
			}
			if len(traces(t, name)) == 0 {
				t.Error("a running container leaves no trace: this test sees nothing")
			}
			guard, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(guard)
			if end.guard {
				unix.PidfdSendSignal(guard, unix.SIGKILL, nil, 0)
			}
			if end.signal != 0 {
				c.Process.Signal(end.signal)
			} else {
				in.Close()
			}
			c.Wait()
			await(t, guard)
			if end.guard {
				b, err := Boot(t.Context(), Options{})
				if err != nil {
					t.Fatal(err)
				}
				b.Close()
			}
			if left := traces(t, name); len(left) > 0 {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}

// await waits until a process has ended.
func await(t *testing.T, pidfd int) {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(time.Minute/time.Millisecond))
		switch {
		case n == 1:
			return
		case err != unix.EINTR:
			t.Fatalf("the process still runs: %v", err)
		}
	}
}

// A boot that fails, or whose caller gives up, leaves nothing.
func TestBootFails(t *testing.T) {
	root(t)
	t.Parallel()
	if _, err := Boot(t.Context(), Options{Release: "no-such-release"}); err == nil {
		t.Error("no error for an unknown release")
	}
	if _, err := Boot(t.Context(), Options{Binds: []string{"/nonexistent:/x"}}); !errors.Is(err, ErrEnded) {
		t.Errorf("a bind of nothing: %v", err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errors.New("patience"))
	defer cancel()
	if _, err := Boot(ctx, Options{}); err == nil || !strings.Contains(err.Error(), "patience") {
		t.Errorf("no patience: %v", err)
	}
}

// The port that Debian's package chose while another server had the usual one is the usual one in the tree.
func TestUsualPort(t *testing.T) {
	tree := t.TempDir()
	path := filepath.Join(tree, "etc/postgresql/15/main/postgresql.conf")
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("#port = 1\nport = 5433\t\t# 1 restart\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time changes nothing
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", usualPort, "sh", tree).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "#port = 1\nport = 5432\t\t# 1 restart\n" {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.RemoveAll(filepath.Join(tree, "etc/postgresql")); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", usualPort, "sh", tree).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestRemove: of a tree that was not finished, what is mounted from elsewhere stays as it is.
func TestRemove(t *testing.T) {
	root(t)
	elsewhere, tree := t.TempDir(), filepath.Join(t.TempDir(), `a \ tree.partial`)
	kept := filepath.Join(elsewhere, "kept")
	for _, dir := range []string{kept, filepath.Join(tree, "dev/shm")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // one upon the other
		if err := unix.Mount(elsewhere, filepath.Join(tree, "dev/shm"), "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := remove(tree); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(tree); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the tree is there: %v", err)
	}
}
