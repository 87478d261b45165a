package scenario

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// queue asks for reloads in every way there is, several at once, and while stopping.
func queue(ctx context.Context, s *Stage) error {
	t, err := s.lightTraffic(ctx)
	if err != nil {
		return err
	}
	for _, part := range []func(context.Context, *Stage) error{reloadsAtOnce, waitDrained, hangup, progressShown} {
		if err := part(ctx, s); err != nil {
			return err
		}
	}
	if err := s.unnoticed(ctx, t, "reloads in a queue"); err != nil {
		return err
	}
	return reloadWhileStopping(ctx, s)
}

// reloadsAtOnce: callers of a configuration that holds, and of one that does not, while a reload goes on.
func reloadsAtOnce(ctx context.Context, s *Stage) error {
	before, err := s.status(ctx)
	if err != nil {
		return err
	}
	if err := s.configure(ctx, settings{reload: "{settle: 1s}"}); err != nil {
		return err
	}
	first, _, err := s.reloadUntil(ctx, "settling")
	if err != nil {
		return err
	}
	if err := s.configure(ctx, settings{workers: "{cuont: 2}"}); err != nil {
		return err
	}
	var rest []*process
	for range 3 {
		p, err := s.start(ctx, "fdtctl reload")
		if err != nil {
			return err
		}
		rest = append(rest, p)
	}
	<-first.done
	good := first.err == nil && lastLine(first.output()) == fmt.Sprintf("generation %d serves", before.Generation+1)
	for _, p := range rest {
		<-p.done
		good = good && p.err != nil && strings.Contains(p.output(), `did you mean "count"`)
	}
	s.check(good, "reloads queue, and each of four callers gets the answer to what it asked", "the first: %s; the others: %s",
		lastLine(first.output()), grep(rest[0].output(), "cuont"))
	s.check(strings.Contains(first.output(), "workers\n"), "without a terminal fdtctl reload prints its progress in plain lines", "%s",
		strings.Join(strings.Split(strings.TrimSpace(first.output()), "\n"), " | "))
	return s.configure(ctx, settings{})
}

func waitDrained(ctx context.Context, s *Stage) error {
	c, err := s.open(ctx, "waited-for")
	if err != nil {
		return err
	}
	p, err := s.start(ctx, "fdtctl reload --wait-drained")
	if err != nil {
		return err
	}
	_, err = until(ctx, "the new generation serves", func() (bool, error) { return strings.Contains(p.output(), " serves"), nil })
	if err != nil {
		return fmt.Errorf("%w: %s", err, p.output())
	}
	early := p.exited()
	if _, err := c.do("COMMIT;"); err != nil {
		return err
	}
	if err := c.kill(); err != nil {
		return err
	}
	err = p.wait()
	s.check(err == nil && !early && strings.Contains(p.output(), "older generations are gone"), "fdtctl reload --wait-drained returns when the last old connection has ended", "%s", lastLine(p.output()))
	return nil
}

func hangup(ctx context.Context, s *Stage) error {
	before, err := s.status(ctx)
	if err != nil {
		return err
	}
	if _, err := s.must(ctx, "systemctl kill --kill-who=main -s HUP fdt"); err != nil {
		return err
	}
	took, err := until(ctx, "a new generation serves", func() (bool, error) {
		st, err := s.status(ctx)
		return st.Generation > before.Generation, err
	})
	s.check(err == nil, "SIGHUP reloads", "after %d ms", took.Milliseconds())
	return err
}

// progressShown runs fdtctl on a terminal.
func progressShown(ctx context.Context, s *Stage) error {
	if err := s.configure(ctx, settings{reload: "{settle: 1s}"}); err != nil {
		return err
	}
	out, err := s.quiet(ctx, "script -qec 'fdtctl reload' /dev/null </dev/null")
	s.check(err == nil && strings.Contains(out, "\r\x1b[K") && strings.Contains(out, "settling"), "on a terminal fdtctl reload shows one line that lives", "%q", grep(strings.ReplaceAll(out, "\r", "\n"), "settling"))
	return s.roll(ctx, settings{})
}

// reloadWhileStopping: a reload is refused, a start serves at once.
func reloadWhileStopping(ctx context.Context, s *Stage) error {
	c, err := s.open(ctx, "stopped-and-started")
	if err != nil {
		return err
	}
	stopping, err := s.start(ctx, "systemctl stop fdt")
	if err != nil {
		return err
	}
	if _, err := until(ctx, "new connections are refused", func() (bool, error) { ok, _ := s.refused(ctx); return ok, nil }); err != nil {
		return err
	}
	out, err := s.show(ctx, "fdtctl reload")
	s.check(err != nil && strings.Contains(out, "being stopped"), "a reload during a stop is refused with the reason", "%s", strings.TrimSpace(out))
	began := time.Now()
	starting, err := s.start(ctx, "systemctl start fdt")
	if err != nil {
		return err
	}
	if err := s.serves(ctx); err != nil {
		return err
	}
	took := time.Since(began)
	said, err := c.do("COMMIT;")
	if err != nil {
		return err
	}
	if err := c.kill(); err != nil {
		return err
	}
	n, err := s.inOutbox(ctx, "stopped-and-started")
	if err != nil {
		return err
	}
	s.check(n == 1, "a start during a draining stop serves at once, and the old transaction commits", "after %d ms; %d in the outbox%s", took.Milliseconds(), n, said)
	<-stopping.done // cancelled by the start: its exit status says so
	if err := starting.wait(); err != nil {
		return err
	}
	if _, err := s.settled(ctx); err != nil {
		return err
	}
	return s.roll(ctx, settings{})
}
