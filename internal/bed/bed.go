// Package bed boots real systemd in a container of its own, for tests that need units, sockets, a package
// manager or databases. Whatever ends the owner - a failed test, a panic, Ctrl-C, SIGKILL - the container
// ends too, and no process, mount, cgroup or file of it stays behind.
//
// To try something by hand, with the package built from the working tree installed:
//
//	make bed-shell                                # a shell inside
//	make bed-shell CMD='systemctl status fdt'     # one command
//	go run ./internal/bed/cmd/bed -deb dist/fdt_*.deb -release trixie -databases -- CMD…
//
// It needs root, systemd-nspawn(1) and mmdebstrap(1). Root trees are kept in $FDT_CACHE (default
// /var/cache/fdt-bed) and made once per release and list of packages.
package bed

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed guard.sh
var guard string

// ErrEnded reports that the container ended by itself.
var ErrEnded = errors.New("the container has ended")

// Options say what to boot.
type Options struct {
	// Release is the Debian release: "bookworm" (the default) or "trixie".
	Release string
	// Packages are the Debian packages to have inside beyond systemd and common tools, in place of the databases,
	// Python and web servers that are there by default. Their daemons do not start by themselves.
	Packages []string
	// Databases starts PostgreSQL and MariaDB at boot; they are installed in any case.
	Databases bool
	// Disk keeps the container's writes on disk and not in memory: for tests of durability.
	Disk bool
	// Binds are mounts in the form of systemd-nspawn's --bind=, HOST:INSIDE.
	Binds []string
	// Files are written before the boot: path inside to content, mode 0644.
	Files map[string]string
	// Cover is a directory on this host that everyone may write to: the programs of a package built with
	// go build -cover leave their counters there. It defaults to $FDT_COVER; none if that is empty too.
	Cover string
	// Env is added to the environment of every command that is run inside, as NAME=VALUE.
	Env []string
}

// Bed is a booted container. Its methods may be called from several goroutines, except Reboot, PowerCut
// and Close, which need it alone.
type Bed struct {
	name   string
	dir    string
	env    []string
	guard  *exec.Cmd
	hand   io.WriteCloser // the guard's standard input
	notify *net.UnixConn
	booted chan struct{} // one boot each has ended; closed by listen at its end
	leader atomic.Int64  // the container's PID 1, as seen here
	ended  chan struct{} // closed when the guard has ended, and so everything
}

// Boot starts a container and waits until systemd in it has finished booting. The caller owns the result and
// must Close it; ctx bounds the boot only.
func Boot(ctx context.Context, o Options) (_ *Bed, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("bed: needs root")
	}
	if o.Release == "" {
		o.Release = "bookworm"
	}
	o = o.withCover()
	tree, err := Tree(ctx, o.Release, o.Packages...)
	if err != nil {
		return nil, err
	}
	id := make([]byte, 16)
	rand.Read(id)
	b := &Bed{
		name:   "fdt-" + hex.EncodeToString(id[:4]),
		env:    o.Env,
		booted: make(chan struct{}, 1),
		ended:  make(chan struct{}),
	}
	lock, err := b.prepare(filepath.Join(cacheDir(), "run"), o)
	if err != nil {
		return nil, fmt.Errorf("bed: %w", errors.Join(err, os.RemoveAll(b.dir)))
	}
	err = b.start(tree, lock, nspawnArguments(o, hex.EncodeToString(id)), o.Disk)
	if err = errors.Join(err, lock.Close()); err != nil {
		return nil, fmt.Errorf("bed: start: %w", errors.Join(err, os.RemoveAll(b.dir)))
	}
	if err := b.await(ctx); err != nil {
		console := b.Console()
		io.WriteString(b.hand, "kill\n") //nolint:errcheck // half booted, it would not shut down in order
		return nil, errors.Join(fmt.Errorf("bed: boot: %w\n%s", err, console), b.Close())
	}
	return b, nil
}

// prepare removes what dead guards have left in runs, and makes this container's directory there, with the lock
// that tells a living guard from a dead one.
func (b *Bed) prepare(runs string, o Options) (*os.File, error) {
	if err := os.MkdirAll(runs, 0o700); err != nil {
		return nil, err
	}
	// Nobody may sweep a directory that has no lock yet.
	door, err := os.Open(runs)
	if err != nil {
		return nil, err
	}
	defer door.Close()
	if err := unix.Flock(int(door.Fd()), unix.LOCK_EX); err != nil {
		return nil, err
	}
	if err := sweep(runs); err != nil {
		return nil, fmt.Errorf("sweep: %w", err)
	}
	b.dir = filepath.Join(runs, b.name)
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		return nil, err
	}
	for path, content := range o.Files {
		path = filepath.Join(b.dir, "seed", path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	lock, err := os.Create(filepath.Join(b.dir, "lock"))
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	address := &net.UnixAddr{Name: filepath.Join(b.dir, "notify"), Net: "unixgram"}
	if b.notify, err = net.ListenUnixgram("unixgram", address); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// nspawnArguments are those of systemd-nspawn(1), but for directory and name; id is the machine id.
func nspawnArguments(o Options, id string) []string {
	args := []string{
		"--uuid=" + id, "--hostname=bed",
		"--register=no", "--keep-unit", "--notify-ready=yes", "--console=read-only", "--link-journal=no",
		"--private-network", "--resolv-conf=off",
		// Or tzdata's postinst fails on a bind-mounted /etc/localtime, and PostgreSQL's with it.
		"--timezone=off",
	}
	for _, bind := range o.Binds {
		args = append(args, "--bind="+bind)
	}
	args = append(args, "--boot")
	if o.Databases {
		args = append(args, "systemd.wants=postgresql.service", "systemd.wants=mariadb.service")
	}
	return args
}

// start runs the guard. Its end closes b.ended.
func (b *Bed) start(tree string, lock *os.File, args []string, disk bool) error {
	console, err := os.Create(b.consolePath())
	if err != nil {
		return errors.Join(err, b.notify.Close())
	}
	defer console.Close()
	b.guard = exec.Command("bash", append([]string{"-c", guard, "guard", "run"}, args...)...)
	b.guard.Env = append(os.Environ(), "BED_NAME="+b.name, "BED_DIR="+b.dir, "BED_TREE="+tree,
		"NOTIFY_SOCKET="+filepath.Join(b.dir, "notify"))
	if disk {
		b.guard.Env = append(b.guard.Env, "BED_DISK=1")
	}
	b.guard.Stdout, b.guard.Stderr = console, console
	b.guard.ExtraFiles = []*os.File{lock}
	b.guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Unshareflags: syscall.CLONE_NEWNS}
	if b.hand, err = b.guard.StdinPipe(); err != nil {
		return errors.Join(err, b.notify.Close())
	}
	if err := b.guard.Start(); err != nil {
		return errors.Join(err, b.notify.Close())
	}
	// Both end with the guard, for which Close waits.
	go b.listen()
	go func() {
		defer close(b.ended)
		b.guard.Wait() //nolint:errcheck // how it ended stands in the console's log
		b.notify.Close()
	}()
	return nil
}

// listen reads what systemd-nspawn and, through it, the systemd inside have to say, until the socket is closed. It
// reads all the time: with the socket's queue full, that systemd would stand still.
func (b *Bed) listen() {
	defer close(b.booted)
	buffer := make([]byte, 4096)
	leader, ready := false, false
	for {
		n, err := b.notify.Read(buffer)
		if err != nil {
			return
		}
		for line := range strings.Lines(string(buffer[:n])) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			switch {
			case key == "X_NSPAWN_LEADER_PID":
				if pid, err := strconv.Atoi(value); err == nil {
					b.leader.Store(int64(pid))
					// What was said before is the last boot's: systemd says READY=1 after each daemon-reload.
					leader, ready = true, false
				}
			case key == "READY" && value == "1":
				ready = true
			}
		}
		if leader && ready {
			select {
			case b.booted <- struct{}{}:
			default: // nobody asked for this boot
			}
			leader, ready = false, false
		}
	}
}

// await waits until systemd inside has finished booting.
func (b *Bed) await(ctx context.Context) error {
	select {
	case _, ok := <-b.booted:
		if !ok {
			return ErrEnded
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	out, err := b.Run(ctx, "systemctl", "is-system-running", "--wait")
	if err != nil {
		failed, _ := b.Run(ctx, "systemctl", "--failed", "--no-legend")
		return fmt.Errorf("system is %s: %w\n%s", strings.TrimSpace(out), err, failed)
	}
	return nil
}

// Command is a command inside, leader of a session of its own, to be started by the caller. Cancelling ctx kills
// it as Kill does; the container's end ends it too.
func (b *Bed) Command(ctx context.Context, args ...string) *exec.Cmd {
	c := b.Terminal(ctx, append([]string{"/usr/bin/setsid", "--"}, args...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return Kill(c, unix.SIGKILL) }
	c.WaitDelay = 10 * time.Second
	return c
}

// Terminal is a command inside that stays in the caller's session, so that it may be given a terminal.
func (b *Bed) Terminal(ctx context.Context, args ...string) *exec.Cmd {
	enter := []string{"--target=" + strconv.Itoa(b.Leader()), "--all", "--", "/usr/bin/env", "-i",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8",
		"TERM=" + os.Getenv("TERM"), "DEBIAN_FRONTEND=noninteractive", "SYSTEMD_PAGER="}
	return exec.CommandContext(ctx, "nsenter", append(append(enter, b.env...), args...)...)
}

// Kill sends a signal to a started Command and all processes of its group. It fails with os.ErrProcessDone
// if the command has ended.
func Kill(c *exec.Cmd, signal unix.Signal) error {
	// What was started is nsenter, which stays outside, as its child cannot change its own PID namespace. It
	// must outlive the child: nobody else reaps it here, and systemd inside waits for it at shutdown.
	path := fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", c.Process.Pid)
	children, err := os.ReadFile(path)
	pid, convert := strconv.Atoi(strings.TrimSpace(string(children)))
	if err != nil || convert != nil {
		return os.ErrProcessDone
	}
	if err := unix.Kill(-pid, signal); !errors.Is(err, unix.ESRCH) {
		return err
	}
	// Not yet a leader.
	if err := unix.Kill(pid, signal); err != nil {
		return os.ErrProcessDone
	}
	return nil
}

// Run runs a command inside and returns its standard output. The error of one that fails holds its standard error.
func (b *Bed) Run(ctx context.Context, args ...string) (string, error) {
	return b.feed(ctx, nil, args...)
}

// Shell runs a script inside with bash, ending at its first failing command.
func (b *Bed) Shell(ctx context.Context, script string) (string, error) {
	return b.feed(ctx, nil, "bash", "-euo", "pipefail", "-c", script)
}

func (b *Bed) feed(ctx context.Context, in io.Reader, args ...string) (string, error) {
	c := b.Command(ctx, args...)
	var out, complaint bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = in, &out, &complaint
	if err := c.Run(); err != nil {
		what := strings.Join(args, " ")
		if len(what) > 200 {
			what = what[:200] + "…"
		}
		return out.String(), fmt.Errorf("%s: %w: %s", what, errors.Join(err, context.Cause(ctx)),
			strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

// WriteFile writes a file inside; its directory must exist.
func (b *Bed) WriteFile(ctx context.Context, path string, data []byte) error {
	_, err := b.feed(ctx, bytes.NewReader(data), "sh", "-c", `cat >"$1"`, "sh", path)
	return err
}

// ReadFile reads a file inside.
func (b *Bed) ReadFile(ctx context.Context, path string) ([]byte, error) {
	out, err := b.Run(ctx, "cat", path)
	return []byte(out), err
}

// Path is the name on this side of a file inside, valid until the next boot. Absolute symbolic links on the
// way lead astray.
func (b *Bed) Path(inside string) string {
	return filepath.Join("/proc", strconv.Itoa(b.Leader()), "root", inside)
}

// Install installs a package by apt, as an operator would, and returns what apt said.
func (b *Bed) Install(ctx context.Context, deb string) (string, error) {
	data, err := os.ReadFile(deb)
	if err != nil {
		return "", err
	}
	path := "/var/tmp/" + filepath.Base(deb)
	if err := b.WriteFile(ctx, path, data); err != nil {
		return "", err
	}
	return b.Shell(ctx, "apt-get install -q -y --no-install-recommends "+path+" 2>&1")
}

// Journal is what journalctl(1) prints for these arguments.
func (b *Bed) Journal(ctx context.Context, args ...string) (string, error) {
	return b.Run(ctx, append([]string{"journalctl", "--no-pager", "--quiet"}, args...)...)
}

// Console is what systemd-nspawn and the container's systemd have printed.
func (b *Bed) Console() string {
	data, err := os.ReadFile(b.consolePath())
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func (b *Bed) consolePath() string { return filepath.Join(b.dir, "console.log") }

// Name is the machine's name, unique on this host.
func (b *Bed) Name() string { return b.name }

// Leader is the container's PID 1 as this side numbers it. It changes with each boot.
func (b *Bed) Leader() int { return int(b.leader.Load()) }

// Ended is closed when the container is gone.
func (b *Bed) Ended() <-chan struct{} { return b.ended }

// Reboot reboots in order and waits for the end of the boot. Without Options.Disk too what was written stays.
func (b *Bed) Reboot(ctx context.Context) error {
	// The reboot kills the command that asks for it, sooner or later.
	b.Run(ctx, "systemctl", "reboot") //nolint:errcheck // see above
	return b.await(ctx)
}

// PowerCut kills every process inside at one stroke and boots again. What a process has written without
// forcing it to disk is still there: the kernel lives on.
func (b *Bed) PowerCut(ctx context.Context) error {
	if err := os.WriteFile(filepath.Join(b.dir, "again"), nil, 0o600); err != nil {
		return err
	}
	if err := unix.Kill(b.Leader(), unix.SIGKILL); err != nil {
		return err
	}
	return b.await(ctx)
}

// Close shuts the container down and returns when nothing of it is left; more than one call is harmless.
func (b *Bed) Close() error {
	b.hand.Close()
	<-b.ended
	for range b.booted { // until listen has ended
	}
	if _, err := os.Stat(b.dir); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("bed: %s is still there: %w", b.dir, errors.Join(err, errors.New("the guard did not clean up")))
	}
	return nil
}
