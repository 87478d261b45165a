package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/bed"
)

// Stand is a function of the shell that stops a process, and returns when it stands still. Each of its threads takes the signal
// when it next runs, and on a busy machine it answers until then.
const Stand = `stand() { test $1 -gt 0 && kill -STOP $1 && while grep -qs '^State:.[^T]' /proc/$1/task/*/status; do sleep 0.02; done; }; `

// process is a command running inside the container, with what it has printed so far.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{} // closed when it has ended
	err   error         // how; valid after done

	mu  sync.Mutex
	out strings.Builder
}

// Write takes the output of the command.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// start starts a shell command inside; its end, by itself or with ctx, is awaited by wait or kill.
func (s *Stage) start(ctx context.Context, command string) (*process, error) {
	p := &process{cmd: s.Bed.Command(ctx, "bash", "-c", "exec 2>&1; "+command), done: make(chan struct{})}
	p.cmd.Stdout = p
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	return p, nil
}

func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) wait() error {
	<-p.done
	if p.err != nil {
		return fmt.Errorf("%w: %s", p.err, p.output())
	}
	return nil
}

// kill ends the command with SIGKILL, with all that it started.
func (p *process) kill() error {
	if err := bed.Kill(p.cmd, unix.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.done
	return nil
}

// talk writes to the command and returns what it prints up to and without the mark.
func (p *process) talk(text, mark string) (string, error) {
	seen := len(p.output())
	if _, err := io.WriteString(p.stdin, text); err != nil {
		return "", fmt.Errorf("%w: %s", err, p.output())
	}
	deadline := time.Now().Add(patience)
	for {
		out := p.output()[seen:]
		if answer, _, ok := strings.Cut(out, mark); ok {
			return answer, nil
		}
		if p.exited() || time.Now().After(deadline) {
			return out, fmt.Errorf("no %q from the command: %q", mark, out)
		}
		time.Sleep(pollEvery / 10)
	}
}
