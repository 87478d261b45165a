package bed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// packages are what a tree holds beyond Debian's essential ones: systemd with the common tools, and those that
// were asked for, or else what most tests need.
func packages(asked []string) []string {
	if len(asked) == 0 {
		asked = []string{"postgresql", "mariadb-server", "python3", "python3-psycopg2", "python3-psycopg", "gunicorn", "nginx", "haproxy"}
	}
	return append([]string{
		"systemd", "systemd-sysv", "dbus", "libpam-systemd", "procps", "psmisc", "iproute2", "lsof", "socat", "strace", "curl",
	}, asked...)
}

// hooks end the making of a tree: nothing but systemd itself starts unasked, and each boot has an identity of
// its own.
func hooks(packages []string) []string {
	disable := []string{`chroot "$1" systemctl disable`}
	for _, daemon := range []struct{ pkg, unit string }{
		{"postgresql", "postgresql.service"}, {"mariadb-server", "mariadb.service"}, {"nginx", "nginx.service"},
		{"haproxy", "haproxy.service"}, {"pgbouncer", "pgbouncer.service"},
	} {
		if slices.Contains(packages, daemon.pkg) {
			disable = append(disable, daemon.unit)
		}
	}
	hooks := []string{`: >"$1"/etc/machine-id`, usualPort}
	if len(disable) > 1 {
		hooks = append(hooks, strings.Join(disable, " "))
	}
	return hooks
}

func cacheDir() string {
	if dir := os.Getenv("FDT_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/fdt-bed"
}

// Tree returns the directory of a release's root tree, which nobody may write to, with these Debian packages or,
// if none are named, those that most tests need. The first call makes it by mmdebstrap(1), in one to two minutes;
// several processes may ask at once.
func Tree(ctx context.Context, release string, asked ...string) (string, error) {
	include := packages(asked)
	hooks := hooks(include)
	key := sha256.New()
	for _, input := range [][]string{{release, runtime.GOARCH}, include, hooks} {
		fmt.Fprintln(key, strings.Join(input, "\n"))
	}
	dir := filepath.Join(cacheDir(), release+"-"+hex.EncodeToString(key.Sum(nil)[:6]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(cacheDir(), 0o755); err != nil {
		return "", fmt.Errorf("bed: %w", err)
	}
	lock, err := os.Create(dir + ".lock")
	if err != nil {
		return "", fmt.Errorf("bed: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("bed: lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := build(ctx, release, dir, include, hooks); err != nil {
		return "", fmt.Errorf("bed: tree of %s: %w", release, err)
	}
	return dir, nil
}

// usualPort is a hook that gives PostgreSQL the port that clients expect. Debian's package takes the next one where that is in use
// while the tree is made: on this host, by whoever.
const usualPort = `find "$1"/etc -name postgresql.conf -exec sed -i '/^port = /s/[0-9][0-9]*/5432/' {} +`

// build makes a tree beside dir and renames it, so that dir is whole or absent.
func build(ctx context.Context, release, dir string, include, hooks []string) error {
	partial := dir + ".partial"
	if err := remove(partial); err != nil {
		return err
	}
	args := []string{"--variant=apt", "--include=" + strings.Join(include, ",")}
	for _, hook := range hooks {
		args = append(args, "--customize-hook="+hook)
	}
	c := exec.CommandContext(ctx, "mmdebstrap", append(args, release, partial)...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	c.Cancel = func() error { return c.Process.Signal(unix.SIGTERM) }
	c.WaitDelay = time.Minute
	if out, err := c.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("mmdebstrap: %w: %s", err, out), remove(partial))
	}
	return os.Rename(partial, dir)
}

// remove takes a tree away that was not finished. A mmdebstrap that was killed leaves file systems of this machine mounted in it, as
// /dev/shm, which must not be emptied.
func remove(tree string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, line := range slices.Backward(strings.Split(string(mounts), "\n")) { // the last one mounted goes first
		fields := strings.Fields(line) // proc_pid_mountinfo(5); the fifth is where
		if len(fields) < 5 {
			continue
		}
		at := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4])
		if !strings.HasPrefix(at, tree+"/") {
			continue
		}
		if err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", at, err)
		}
	}
	return os.RemoveAll(tree)
}

// sweep removes what guards that were killed have left: a directory in runs whose lock nobody holds. The caller
// holds the lock on runs itself.
func sweep(runs string) error {
	entries, err := os.ReadDir(runs)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		dir := filepath.Join(runs, entry.Name())
		if alive(dir) {
			continue
		}
		c := exec.Command("bash", "-c", guard, "guard", "clean")
		c.Env = append(os.Environ(), "BED_NAME="+entry.Name(), "BED_DIR="+dir)
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("clean %s: %w: %s", dir, err, out)
		}
	}
	return nil
}

// alive says whether a container's guard lives.
func alive(dir string) bool {
	lock, err := os.Open(filepath.Join(dir, "lock"))
	if err != nil {
		return false
	}
	defer lock.Close()
	return unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
}
