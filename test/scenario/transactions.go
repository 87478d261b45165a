package scenario

import (
	"context"
	"fmt"
	"strings"
)

// client is a psql inside the container that is fed statement by statement.
type client struct {
	*process
	s *Stage
}

// psql starts an interactive psql; the caller ends it.
func (s *Stage) psql(ctx context.Context) (*client, error) {
	p, err := s.start(ctx, "exec "+psql+" -q")
	if err != nil {
		return nil, err
	}
	return &client{p, s}, nil
}

// do sends statements and waits until psql has done them; it returns what psql printed.
func (c *client) do(statements string) (string, error) {
	c.s.say("psql> %s", statements)
	return c.talk(statements+"\n\\echo done\n", "done\n")
}

// kill is kill -9 of that psql.
func (c *client) kill() error {
	c.s.say("kill -9 of that psql")
	return c.process.kill()
}

func transactions(ctx context.Context, s *Stage) error {
	for _, part := range []func(context.Context, *Stage) error{killedInside, killedAfterPrepare} {
		if err := part(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func killedInside(ctx context.Context, s *Stage) error {
	idle, err := s.status(ctx)
	if err != nil {
		return err
	}
	c, err := s.psql(ctx)
	if err != nil {
		return err
	}
	if _, err := c.do("BEGIN; CALL enqueue('doomed');"); err != nil {
		return err
	}
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	s.check(st.Connections == idle.Connections+1, "the open transaction holds a slot", "%d connections", st.Connections)
	if err := c.kill(); err != nil {
		return err
	}
	took, err := until(ctx, "the slot is free", func() (bool, error) {
		st, err := s.status(ctx)
		return st.Connections == idle.Connections, err
	})
	if err != nil {
		return err
	}
	s.check(took < patience/3, "killed inside a transaction: the slot is free at once", "%d ms", took.Milliseconds())
	staged, err := s.quiet(ctx, "find /var/lib/fdt/outbox/tmp /var/lib/fdt/outbox/prepared -type f | wc -l")
	if err != nil {
		return err
	}
	n, err := s.inOutbox(ctx, "doomed")
	s.check(n == 0 && strings.TrimSpace(staged) == "0", "killed inside a transaction: rolled back, nothing in the outbox", "%d delivered, %s staged", n, strings.TrimSpace(staged))
	return err
}

// prepare leaves a prepared transaction behind, its client killed.
func (s *Stage) prepare(ctx context.Context, gid string) error {
	c, err := s.psql(ctx)
	if err != nil {
		return err
	}
	if _, err := c.do(fmt.Sprintf("BEGIN; CALL enqueue('message-%s'); PREPARE TRANSACTION '%s';", gid, gid)); err != nil {
		return err
	}
	return c.kill()
}

// listed claims that the transactions are in doubt, by both ways to ask.
func (s *Stage) listed(ctx context.Context, when string, gids ...string) error {
	list, err := s.must(ctx, "fdtctl txn list")
	if err != nil {
		return err
	}
	rows, err := s.must(ctx, psql+` -At -c "SELECT gid FROM pg_prepared_xacts"`)
	if err != nil {
		return err
	}
	ok := true
	for _, gid := range gids {
		ok = ok && strings.Contains(list, gid) && strings.Contains("\n"+rows, "\n"+gid+"\n")
	}
	delivered := 0
	for _, gid := range gids {
		n, err := s.inOutbox(ctx, "message-"+gid)
		if err != nil {
			return err
		}
		delivered += n
	}
	s.check(ok && delivered == 0, when+": in doubt, by fdtctl txn list and pg_prepared_xacts", "%s; %d delivered", strings.Join(strings.Fields(rows), ", "), delivered)
	return nil
}

// once claims that the message of a settled transaction was delivered exactly once.
func (s *Stage) once(ctx context.Context, how, gid string) error {
	if _, err := until(ctx, gid+" is delivered", func() (bool, error) {
		n, err := s.inOutbox(ctx, "message-"+gid)
		return n > 0, err
	}); err != nil {
		return err
	}
	n, err := s.inOutbox(ctx, "message-"+gid)
	s.check(n == 1, how+" delivers it exactly once", "%d in the outbox", n)
	return err
}

func killedAfterPrepare(ctx context.Context, s *Stage) error {
	for _, gid := range []string{"x", "y", "z"} {
		if err := s.prepare(ctx, gid); err != nil {
			return err
		}
	}
	if err := s.listed(ctx, "client killed after PREPARE TRANSACTION", "x", "y", "z"); err != nil {
		return err
	}
	if _, err := s.must(ctx, "systemctl kill --signal=KILL 'fdt-worker@*.service'"); err != nil {
		return err
	}
	if err := s.serves(ctx); err != nil {
		return err
	}
	if err := s.listed(ctx, "kill -9 of every worker", "x", "y", "z"); err != nil {
		return err
	}
	s.say("reboot of the container")
	if err := s.Bed.Reboot(ctx); err != nil {
		return err
	}
	if err := s.serves(ctx); err != nil {
		return err
	}
	if err := s.listed(ctx, "reboot", "x", "y", "z"); err != nil {
		return err
	}
	if _, err := s.must(ctx, psql+` -c "COMMIT PREPARED 'x'"`); err != nil {
		return err
	}
	if err := s.once(ctx, "COMMIT PREPARED from another connection", "x"); err != nil {
		return err
	}
	out, err := s.show(ctx, psql+` -c "COMMIT PREPARED 'nosuch'"`)
	s.check(err != nil && strings.Contains(out, "does not exist"), "an unknown transaction is an error, never ok", "%s", strings.TrimSpace(out))
	if _, err := s.must(ctx, "fdtctl txn commit y"); err != nil {
		return err
	}
	if err := s.once(ctx, "fdtctl txn commit", "y"); err != nil {
		return err
	}
	if _, err := s.must(ctx, "fdtctl txn rollback z"); err != nil {
		return err
	}
	left, err := s.must(ctx, psql+` -At -c "SELECT gid FROM pg_prepared_xacts"`)
	if err != nil {
		return err
	}
	n, err := s.inOutbox(ctx, "message-z")
	s.check(n == 0 && strings.TrimSpace(left) == "", "fdtctl txn rollback: never delivered, nothing left in doubt", "%d in the outbox, %q in doubt", n, strings.TrimSpace(left))
	return err
}

// serves waits until a new client is served again.
func (s *Stage) serves(ctx context.Context) error {
	_, err := until(ctx, "fdt serves", func() (bool, error) {
		_, err := s.quiet(ctx, psql+` -At -c "SELECT 1"`)
		return err == nil, nil
	})
	return err
}
