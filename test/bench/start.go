package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// startTime is how long the installed worker takes from execve(2) to READY=1, beside a Go program that does nothing before it says
// so; and how long the whole unit takes, which is mostly its sandbox.
func startTime(ctx context.Context, s *site) ([]row, error) {
	if err := s.serve(ctx, "workers: {count: 1}\nreload: {settle: 0s}\n", ""); err != nil {
		return nil, err
	}
	fdt, bare, stop, err := s.starters(ctx)
	if err != nil {
		return nil, err
	}
	figures, err := interleave(ctx, 9, fdt, bare)
	if err = errors.Join(err, stop()); err != nil {
		return nil, err
	}
	unit, err := s.shell(ctx, `
		for i in {1..5}; do
			fdtctl reload >/dev/null
			systemctl show -P ExecMainStartTimestampMonotonic -P ActiveEnterTimestampMonotonic 'fdt-worker@*' | awk NF | paste - -
		done | awk '{print ($2 > $1 ? $2 - $1 : $1 - $2) / 1000}'`)
	if err != nil {
		return nil, err
	}
	var whole series
	for word := range strings.FieldsSeq(unit) {
		took, err := strconv.ParseFloat(word, 64)
		if err != nil {
			return nil, err
		}
		whole = append(whole, took)
	}
	return []row{{
		measure: "a worker's start, exec to READY",
		fdt:     fmt.Sprintf("%.1f ms", figures[0].median()), peer: fmt.Sprintf("empty Go program %.1f ms", figures[1].median()),
		ratio: figures[0], aim: below(50, "%.1f ms"),
	}, {
		measure: "a worker's start, unit with its sandbox, fork to active",
		fdt:     fmt.Sprintf("%.1f ms", whole.median()),
		ratio:   whole, aim: noAim("%.1f ms"),
	}}, nil
}

// starters are two sides that start a program with a listener and wait for its READY=1: fdt-worker, in directories of its own, and
// the bare loop. The figures are milliseconds.
func (s *site) starters(ctx context.Context) (fdt, bare side, stop func() error, err error) {
	dir, err := os.MkdirTemp("/run", "bench-start-")
	if err != nil {
		return nil, nil, nil, err
	}
	stop = func() error { return os.RemoveAll(dir) }
	_, err = s.shell(ctx, fmt.Sprintf(`cd %s
		mkdir -p generation worker txn %s/start-txn
		cp -a /run/fdt/generation/$(ls -t /run/fdt/generation | head -n 1) generation/1`, dir, scratch))
	if err != nil {
		return nil, nil, nil, errors.Join(err, stop())
	}
	name, err := s.shell(ctx, `systemctl show -P FileDescriptorName 'fdt-listen@unix*.socket' | head -n 1`)
	if err != nil {
		return nil, nil, nil, errors.Join(err, stop())
	}
	worker := []string{"/usr/lib/fdt/fdt-worker", "-instance", "1-0", "-run", dir, "-lib", filepath.Join(scratch, "start")}
	for _, state := range []string{"txn", "auth"} {
		if err := os.MkdirAll(filepath.Join(scratch, "start", state), 0o755); err != nil {
			return nil, nil, nil, errors.Join(err, stop())
		}
	}
	starter := func(args ...string) side {
		return func(ctx context.Context) (float64, error) { return started(ctx, dir, strings.TrimSpace(name), args) }
	}
	return starter(worker...), starter(inside+"/bench", "bare"), stop, nil
}

// started starts a program as systemd would, but for the sandbox, waits for its READY=1 and stops it. It returns the milliseconds
// from execve(2) on.
func started(ctx context.Context, dir, fdName string, args []string) (took float64, err error) {
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: filepath.Join(dir, "notify")})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, notify.Close(), os.Remove(filepath.Join(dir, "notify"))) }()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(dir, "listener")})
	if err != nil {
		return 0, err
	}
	defer l.Close()
	listener, err := l.File()
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	c := exec.CommandContext(ctx, inside+"/bench", append([]string{"exec"}, args...)...)
	c.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(dir, "notify"), "LISTEN_FDS=1", "LISTEN_FDNAMES="+fdName)
	c.ExtraFiles = []*os.File{listener}
	var said bytes.Buffer
	c.Stderr = &said
	if err := c.Start(); err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w: %s", err, &said)
		}
	}()
	defer func() {
		if kill := c.Process.Signal(unix.SIGTERM); kill != nil {
			err = errors.Join(err, kill)
		}
		// The bare loop ends by the signal.
		if wait := c.Wait(); wait != nil && c.ProcessState.Exited() {
			err = errors.Join(err, wait)
		}
	}()
	if err := notify.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return 0, err
	}
	var begun time.Time
	buffer := make([]byte, 4096)
	for {
		n, err := notify.Read(buffer)
		if err != nil {
			return 0, fmt.Errorf("%v does not get ready: %w", args, err)
		}
		switch message := string(buffer[:n]); {
		case message == "EXEC=1":
			begun = time.Now()
		case strings.HasPrefix(message, "READY=1"):
			return ms(time.Since(begun)), nil
		}
	}
}
