package scenario

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt/test/load"
)

const (
	idleSessions = 100 // of the move's scenario: all stay through its reloads
	moves        = 10
	goodbye      = "SQLSTATE 57P01"
)

// keeper is a session that is kept, with what must not get lost.
type keeper struct {
	conn *pgconn.PgConn
	own  string
}

// keep opens a session with a setting and statements of its own.
func keep(ctx context.Context, target load.Target, own string) (keeper, error) {
	conn, err := target.Connect(ctx)
	if err != nil {
		return keeper{}, err
	}
	k := keeper{conn, own}
	err = conn.Exec(ctx, "SET my.own = '"+own+"'").Close()
	for name, text := range map[string]string{"stays": "CALL enqueue($1)", "goes": "CALL passing($1)", "shape": "CALL shape($1)"} {
		if err == nil {
			_, err = conn.Prepare(ctx, name, text, nil)
		}
	}
	return k, err
}

// run executes a statement that was prepared before.
func (k keeper) run(ctx context.Context, name, arg string) error {
	return k.conn.ExecPrepared(ctx, name, [][]byte{[]byte(arg)}, nil, nil).Read().Err
}

// same tells what is not as it was.
func (k keeper) same(ctx context.Context) error {
	r, err := k.conn.Exec(ctx, "SHOW my.own").ReadAll()
	if err != nil {
		return err
	}
	if got := string(r[0].Rows[0][0]); got != k.own {
		return fmt.Errorf("my.own is %q, and not %q", got, k.own)
	}
	return k.run(ctx, "stays", "kept-"+k.own)
}

// moving has sessions, busy and idle, go through reloads, and tells those that may not.
func moving(ctx context.Context, s *Stage) error {
	with := settings{
		listen: `{moving: {address: "/run/fdt/moving.sock", auth: trust}}`,
		procedures: `{passing: {parameters: {body: text}, steps: [{on: outbox, put: ":body"}]},
  shape: {parameters: {body: text}, steps: [{on: outbox, put: ":body"}], returns: {body: text}}}`,
	}
	if err := s.roll(ctx, with); err != nil {
		return err
	}
	var kept []keeper
	for i := range idleSessions {
		target := s.target()
		if i == 0 { // whose listener goes
			target = s.at("/run/fdt/moving.sock")
		}
		k, err := keep(ctx, target, fmt.Sprintf("own-%d", i))
		if err != nil {
			return err
		}
		defer func() { _ = k.conn.Close(context.WithoutCancel(ctx)) }()
		kept = append(kept, k)
	}
	t, err := s.lightTraffic(ctx)
	if err != nil {
		return err
	}
	for i := range moves {
		if _, err := s.must(ctx, "systemctl reload fdt"); err != nil {
			return err
		}
		if i%3 == 0 {
			if err := t.more(ctx); err != nil {
				return err
			}
		}
	}
	if _, err := s.show(ctx, "systemctl restart fdt"); err != nil {
		return err
	}
	var lost []error
	for _, k := range kept {
		if err := k.same(ctx); err != nil {
			lost = append(lost, fmt.Errorf("%s: %w", k.own, err))
		}
	}
	s.check(len(lost) == 0, fmt.Sprintf("%d idle sessions keep connection, setting and prepared statements through %d reloads and a restart", idleSessions, moves),
		"%d did not: %v", len(lost), errors.Join(lost[:min(3, len(lost))]...))
	c, n := t.connecting.Stop(), t.sessions.Stop()
	s.check(n.Goodbyes == 0 && len(n.Overrun()) == 0 && len(n.Lost()) == 0 && len(c.Lost()) == 0, "sessions that work meanwhile hear no goodbye", "%s", n.Summary())
	if err := s.audit(ctx, "moves", c, n); err != nil {
		return err
	}
	if err := s.movedAreFound(ctx, kept[1]); err != nil {
		return err
	}

	with.listen = ""
	with.procedures = `{shape: {parameters: {body: text, again: {type: text, default: ""}}, steps: [{on: outbox, put: ":body"}], returns: {body: text, again: text}}}`
	if err := s.roll(ctx, with); err != nil {
		return err
	}
	if _, err := s.settled(ctx); err != nil {
		return err
	}
	gone, shape := load.Kind(kept[2].run(ctx, "goes", "x")), load.Kind(kept[2].run(ctx, "shape", "x"))
	s.check(gone == "SQLSTATE 42883" && shape == "SQLSTATE 0A000" && kept[2].same(ctx) == nil, "a statement that does not fit the new procedures fails at its use, and its session stays",
		"gone: %s, changed: %s", gone, shape)
	err = kept[0].conn.WaitForNotification(ctx) // it reads what the server says unasked
	s.check(load.Kind(err) == goodbye, "a session whose listener was removed is told to go", "%v", err)
	return s.configure(ctx, settings{})
}

// movedAreFound has an operator see and end a session that has moved.
func (s *Stage) movedAreFound(ctx context.Context, k keeper) error {
	out, err := s.quiet(ctx, fmt.Sprintf("fdtctl sessions --json | grep -c '\"id\": %d,'", k.conn.PID()))
	s.check(err == nil, "fdtctl sessions lists a session that has moved, by its number", "%s", lastLine(out))
	out, err = s.show(ctx, fmt.Sprintf("fdtctl session kill %d", k.conn.PID()))
	s.check(err == nil, "an operator ends it", "%s", lastLine(out))
	err = k.conn.WaitForNotification(ctx)
	s.check(load.Kind(err) == goodbye, "its client hears why", "%v", err)
	return nil
}
