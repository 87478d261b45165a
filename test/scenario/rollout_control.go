package scenario

import (
	"context"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/bed"
)

// control asks by fdtctl where the answer does not come, or what it needs is not there.
func control(ctx context.Context, s *Stage) error {
	t, err := s.lightTraffic(ctx)
	if err != nil {
		return err
	}
	for _, part := range []func(context.Context, *Stage) error{silentMaster, interruptedWait, otherMaster, whatIsMissing, whoDecided, operatorEnds, removedDirectory, slowCalls, traces} {
		if err := part(ctx, s); err != nil {
			return err
		}
	}
	return s.unnoticed(ctx, t, "a master that does not answer")
}

// waitDrained begins a reload that waits for a session of the old generation, and returns when the new one serves.
func (s *Stage) waitDrained(ctx context.Context, body string) (*client, *process, error) {
	c, err := s.open(ctx, body)
	if err != nil {
		return nil, nil, err
	}
	p, err := s.start(ctx, "exec fdtctl reload --wait-drained")
	if err != nil {
		return nil, nil, err
	}
	_, err = until(ctx, "the new generation serves", func() (bool, error) { return strings.Contains(p.output(), " serves\n"), nil })
	return c, p, err
}

// finished ends the session that waitDrained began.
func (s *Stage) finished(ctx context.Context, c *client) error {
	if _, err := c.do("COMMIT;"); err != nil {
		return err
	}
	if err := c.kill(); err != nil {
		return err
	}
	_, err := s.settled(ctx)
	return err
}

// silentMaster stops the master in place, which is what a host with no memory left comes to.
func silentMaster(ctx context.Context, s *Stage) error {
	c, waiting, err := s.waitDrained(ctx, "silent")
	if err != nil {
		return err
	}
	if _, err := s.must(ctx, Stand+"stand $(systemctl show -P MainPID fdt)"); err != nil {
		return err
	}
	<-waiting.done
	s.check(waiting.err != nil && strings.HasSuffix(waiting.output(), "the master does not answer: systemctl status fdt\n"), "fdtctl tells of a master that does not answer",
		"%s", lastLine(waiting.output()))
	out, err := s.show(ctx, "fdtctl reload --timeout 1s")
	s.check(err != nil && strings.Contains(out, "no answer within 1s; the rollout goes on"), "fdtctl reload waits no longer than --timeout", "%s", lastLine(out))
	if _, err := s.must(ctx, "systemctl kill --kill-who=main -s CONT fdt"); err != nil {
		return err
	}
	return s.finished(ctx, c)
}

// interruptedWait: Ctrl-C ends the wait and nothing else.
func interruptedWait(ctx context.Context, s *Stage) error {
	c, waiting, err := s.waitDrained(ctx, "interrupted")
	if err != nil {
		return err
	}
	if err := bed.Kill(waiting.cmd, unix.SIGINT); err != nil {
		return err
	}
	<-waiting.done
	s.check(waiting.err != nil && strings.Contains(lastLine(waiting.output()), "interrupt"), "Ctrl-C ends fdtctl reload --wait-drained", "%s", lastLine(waiting.output()))
	return s.finished(ctx, c)
}

// otherMaster: the wait outlives the master.
func otherMaster(ctx context.Context, s *Stage) error {
	c, waiting, err := s.waitDrained(ctx, "another")
	if err != nil {
		return err
	}
	if err := s.nextMaster(ctx); err != nil {
		return err
	}
	if err := s.finished(ctx, c); err != nil {
		return err
	}
	<-waiting.done
	s.check(waiting.err == nil && lastLine(waiting.output()) == "older generations are gone", "fdtctl reload --wait-drained waits on while another master comes",
		"%s", lastLine(waiting.output()))
	return nil
}

// whatIsMissing has fdtctl miss one thing after another.
func whatIsMissing(ctx context.Context, s *Stage) error {
	for _, c := range []struct{ what, command, says string }{
		{"no right to act, but to ask", "runuser -u fdt -- fdtctl reload", "only root may do this"},
		{"no systemd to have it done", "unshare --mount sh -c 'mount -t tmpfs none /run/systemd && exec fdtctl txn list'", "systemd does not run here"},
		{"no way to systemd until it is told to end", "unshare --mount sh -c 'mount -t tmpfs none /run/systemd && exec timeout 2 fdtctl stop-hook'", "the stop is not complete"},
	} {
		out, err := s.show(ctx, c.command)
		s.check(err != nil && strings.Contains(out, c.says), c.what+": fdtctl fails and says so", "%s", lastLine(out))
	}
	for _, command := range []string{
		"status", "status --json", "reload", "reload --json", "rollback", "reload", "check", "check --json", "check --schema", "check --live", "version", "version --json",
		"help", "sessions", "sessions --json", "txn help", "txn list", "txn list --json", "txn resolve --all",
	} {
		out, err := s.quiet(ctx, "fdtctl "+command+" 2>&1 >/dev/full; echo exit $?")
		s.check(err == nil && strings.Contains(out, "no space left on device") && strings.HasSuffix(strings.TrimSpace(out), "exit 1"),
			"fdtctl "+command+" >/dev/full fails and says so", "%s", strings.TrimSpace(out))
	}
	return nil
}

// whoDecided: root decides, and the person behind it is recorded, as the kernel's audit knows it.
func whoDecided(ctx context.Context, s *Stage) error {
	if err := s.prepare(ctx, "answered-for"); err != nil {
		return err
	}
	if _, err := s.must(ctx, "useradd auditor && echo $(id -u auditor) >/proc/self/loginuid && fdtctl txn resolve --all --commit"); err != nil {
		return err
	}
	out, err := s.show(ctx, "fdtctl txn show answered-for")
	s.check(err == nil && strings.Contains(out, "committed (operator)") && strings.Contains(out, "auditor"), "who decided a transaction is recorded, by the login behind root",
		"%s", grep(out, "decided by"))
	if err := s.once(ctx, "the decision", "answered-for"); err != nil {
		return err
	}
	_, err = s.must(ctx, "fdtctl txn forget answered-for")
	return err
}
