package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// call is one system call of a worker on files below the host's directory, or
// on a socket.
type call struct {
	name     string
	paths    []string // without the directory
	injected bool
}

// traced has strace(1) look at running workers until stop, which returns the
// calls in their order.
func (h *host) traced(workers []*exec.Cmd, options ...string) (stop func() []call) {
	h.t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		h.t.Skip("NOT TESTED: strace is not installed")
	}
	file := filepath.Join(h.t.TempDir(), "calls")
	args := append([]string{"-f", "-y", "-s", "0", "-o", file}, options...)
	for _, w := range workers {
		args = append(args, "-p", strconv.Itoa(w.Process.Pid))
	}
	cmd := exec.Command(strace, args...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	said := bufio.NewScanner(stderr)
	for range workers { // it says so of each, and later of new threads
		if !said.Scan() || !strings.Contains(said.Text(), "attached") {
			_ = cmd.Wait()
			h.t.Skipf("NOT TESTED: strace may not trace here: %s", said.Text())
		}
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, stderr)
	}()
	return func() []call {
		h.t.Helper()
		_ = cmd.Process.Signal(unix.SIGTERM) // unless the worker, and strace with it, has ended
		<-drained
		_ = cmd.Wait()
		return h.calls(file)
	}
}

var (
	traceLine = regexp.MustCompile(`^(\d+) +(?:(\w+)\(|<\.\.\. \w+ resumed>)`)
	tracePath = regexp.MustCompile(`[<"]([/s][^">]*)`)
)

// calls reads what strace wrote: a line for each call, and a second one with
// its end if lines of other threads came between.
func (h *host) calls(file string) (found []call) {
	h.t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		h.t.Fatal(err)
	}
	last := map[string]int{} // of each thread
	for line := range strings.Lines(string(raw)) {
		at := traceLine.FindStringSubmatch(line)
		if at == nil {
			continue // a signal, or an end
		}
		if at[2] != "" {
			var paths []string
			for _, p := range tracePath.FindAllStringSubmatch(line, -1) {
				if below, ok := strings.CutPrefix(p[1], h.dir+"/"); ok || strings.HasPrefix(p[1], "socket:") {
					paths = append(paths, below)
				}
			}
			last[at[1]] = len(found)
			found = append(found, call{name: at[2], paths: paths})
		}
		if strings.Contains(line, "(INJECTED)") {
			found[last[at[1]]].injected = true
		}
	}
	return slices.DeleteFunc(found, func(c call) bool { return len(c.paths) == 0 })
}
