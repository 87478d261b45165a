// Package testdb runs real PostgreSQL and MariaDB servers for tests, each in a directory of its own.
// A server listens only on a unix socket in that directory, runs as an unprivileged user and dies with the test binary; nothing of
// an installation on the host is read, written or stopped.
package testdb

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience bounds the start and the stop of one server.
const patience = 60 * time.Second

// server is what both kinds have in common: one process that a test may stop, kill, freeze and start again.
type server struct {
	name  string
	dir   string
	cred  *syscall.Credential // nil if the test does not run as root
	argv  []string
	env   []string
	stop  syscall.Signal // orderly stop
	death syscall.Signal // sent by the kernel when the test binary dies
	ping  func(context.Context) error

	mu     sync.Mutex // protects those below; one method may be called by a Proxy's rule
	cmd    *exec.Cmd
	exited chan struct{}
}

// process returns the main process and what is closed at its end; nil before the first start.
func (s *server) process() (*exec.Cmd, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd, s.exited
}

// account answers the credentials to run as; it is nil if the caller is not root and so runs the server itself.
func account(name string) (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// directory makes a short-named directory (sun_path holds 107 bytes) that belongs to cred.
func directory(prefix string, cred *syscall.Credential) (string, error) {
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		return "", err
	}
	if cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return "", errors.Join(err, os.RemoveAll(dir))
		}
	}
	return dir, nil
}

// environ is the environment of a server's programs. mariadbd deletes other servers' temporary tables from a directory that they share.
func environ(dir string) []string {
	return []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=" + dir, "TMPDIR=" + dir}
}

// run runs one program of the installation to its end.
func run(dir string, cred *syscall.Credential, argv ...string) error {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = environ(dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
	}
	return nil
}

// Start starts the server and returns when it answers.
func (s *server) Start() error {
	deadline := time.Now().Add(patience)
	for {
		err := s.start(deadline)
		// After a SIGKILL the kernel may need a moment to take the shared memory back.
		if err == nil || time.Now().After(deadline) || !strings.Contains(err.Error(), "shared memory") {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (s *server) start(deadline time.Time) error {
	logname := filepath.Join(s.dir, "log")
	// What a killed server's children still say must not be written over the next one's words.
	log, err := os.OpenFile(logname, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(s.argv[0], s.argv[1:]...)
	cmd.Dir = s.dir
	cmd.Env = append(environ(s.dir), s.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred, Setpgid: true, Pdeathsig: s.death}
	exited := make(chan struct{})
	started := make(chan error)
	go func() {
		defer close(exited)
		// Pdeathsig is tied to the thread that forks: this goroutine keeps its own until the server is gone.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		<-exited
		return err
	}
	s.mu.Lock()
	s.cmd, s.exited = cmd, exited
	s.mu.Unlock()
	for {
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		err := s.ping(ctx)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("%s ended at its start:\n%s", s.name, tail(logname))
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("%s does not answer: %w\n%s", s.name, err, tail(logname)), s.Kill())
		}
	}
}

func tail(name string) []byte {
	text, _ := os.ReadFile(name)
	return text[max(0, len(text)-4096):]
}

// Running tells whether the server's main process lives.
func (s *server) Running() bool {
	cmd, exited := s.process()
	if cmd == nil {
		return false
	}
	select {
	case <-exited:
		return false
	default:
		return true
	}
}

// Stop ends the server in good order, which takes a checkpoint.
func (s *server) Stop() error {
	if !s.Running() {
		return nil
	}
	cmd, exited := s.process()
	if err := cmd.Process.Signal(s.stop); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-exited:
		return nil
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("%s does not stop", s.name), s.Kill())
	}
}

// Kill ends all of the server's processes as a failure of the machine would: no checkpoint, no farewell.
func (s *server) Kill() error {
	if !s.Running() {
		return nil
	}
	cmd, exited := s.process()
	if err := still(cmd.Process.Pid); err != nil { // or it has another child by now
		return err
	}
	if err := s.each(syscall.SIGKILL); err != nil {
		return err
	}
	<-exited
	return nil
}

// Freeze stops the server's processes in place (SIGSTOP): it stays connected and answers nothing until Thaw.
func (s *server) Freeze() error {
	if !s.Running() {
		return fmt.Errorf("%s is not running", s.name)
	}
	cmd, _ := s.process()
	err := still(cmd.Process.Pid)
	for _, child := range children(cmd.Process.Pid) {
		err = errors.Join(err, still(child))
	}
	return err
}

// Thaw lets a frozen server go on.
func (s *server) Thaw() error {
	if !s.Running() {
		return fmt.Errorf("%s is not running", s.name)
	}
	return s.each(syscall.SIGCONT)
}

func (s *server) each(sig syscall.Signal) error {
	cmd, _ := s.process()
	pid := cmd.Process.Pid
	for _, p := range append(children(pid), pid) {
		if err := syscall.Kill(p, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// still stops a process, and returns when it stands still or has ended. Each of its threads takes the signal when it next runs, and on
// a busy machine it answers until then.
func still(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); errors.Is(err, syscall.ESRCH) {
		return nil
	} else if err != nil {
		return err
	}
	for end := time.Now().Add(patience); !stopped(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("process %d does not stop", pid)
		}
	}
	return nil
}

// stopped tells whether none of a process's threads runs any more, by the state in proc_pid_stat(5).
func stopped(pid int) bool {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, name := range tasks {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		if _, state, _ := bytes.Cut(text, []byte(") ")); len(state) > 0 && !bytes.ContainsAny(state[:1], "TtZX") {
			return false
		}
	}
	return true
}

// children lists the processes that pid forked itself; it is empty for a program of threads.
func children(pid int) []int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var list []int
	for _, name := range tasks {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		words := bufio.NewScanner(bytes.NewReader(text))
		words.Split(bufio.ScanWords)
		for words.Scan() {
			if n, err := strconv.Atoi(words.Text()); err == nil {
				list = append(list, n)
			}
		}
	}
	return list
}

// Close kills the server and removes its directory.
func (s *server) Close() error { return errors.Join(s.Kill(), os.RemoveAll(s.dir)) }

// Dir is the server's directory: its data and its unix socket.
func (s *server) Dir() string { return s.dir }

// PID is the server's main process.
func (s *server) PID() int {
	cmd, _ := s.process()
	return cmd.Process.Pid
}
