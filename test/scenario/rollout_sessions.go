package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// sessionsOf asks fdtctl sessions for those of all workers that a psql has.
func (s *Stage) sessionsOf(ctx context.Context, state string) (ids []int, err error) {
	out, err := s.quiet(ctx, "fdtctl sessions --json")
	if err != nil {
		return nil, err
	}
	var list []struct {
		ID                                               int
		Application, State, From, User, Worker, Listener string
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, err
	}
	for _, of := range list {
		if of.Application == "psql" && of.State == state && of.User == "root" && strings.HasPrefix(of.From, "unix:uid=0,") && of.Worker != "" && of.Listener == "local" {
			ids = append(ids, of.ID)
		}
	}
	return ids, nil
}

// operatorEnds has root find a session among those of all workers, and end it.
func operatorEnds(ctx context.Context, s *Stage) error {
	c, err := s.psql(ctx)
	if err != nil {
		return err
	}
	if _, err := c.do("BEGIN; CALL enqueue('ended');"); err != nil {
		return err
	}
	ids, err := s.sessionsOf(ctx, "in transaction")
	if err != nil || len(ids) != 1 {
		return fmt.Errorf("%d sessions of psql are in a transaction: %w", len(ids), err)
	}
	out, err := s.show(ctx, "fdtctl sessions --sort since | head -5")
	s.check(err == nil && strings.HasPrefix(out, "ID "), "fdtctl sessions shows who is connected", "%s", lastLine(out))
	if err := onScreen(ctx, s, ids[0]); err != nil {
		return err
	}
	out, err = s.show(ctx, fmt.Sprintf("fdtctl session cancel %d", ids[0]))
	s.check(err != nil && strings.Contains(out, "there is no statement to cancel"), "a session that runs nothing has nothing to cancel", "%s", lastLine(out))
	out, err = s.show(ctx, fmt.Sprintf("runuser -u nobody -- fdtctl session kill %d", ids[0]))
	s.check(err != nil && strings.Contains(out, "permission denied"), "only an operator ends a session", "%s", lastLine(out))
	out, err = s.show(ctx, fmt.Sprintf("fdtctl session kill %d", ids[0]))
	s.check(err == nil && strings.Contains(out, "of root was told to end"), "fdtctl session kill ends a session", "%s", lastLine(out))
	said, _ := c.talk("COMMIT;\n\\echo done\n", "done\n") // psql may end with its session
	s.check(strings.Contains(said, "terminating connection due to administrator command"), "its client hears why", "%s", lastLine(said))
	n, err := s.inOutbox(ctx, "ended")
	if err != nil {
		return err
	}
	s.check(n == 0, "what the session had not prepared is rolled back", "%d delivered", n)
	out, err = s.show(ctx, fmt.Sprintf("fdtctl session kill %d", ids[0]))
	s.check(err != nil && strings.Contains(out, "there is no such session"), "it is gone", "%s", lastLine(out))
	out, err = s.quiet(ctx, "journalctl -o cat -u 'fdt-worker@*' | grep 'an operator ends a session'")
	s.check(err == nil && strings.Contains(out, "an operator ends a session"), "the journal tells who ended it", "%s", lastLine(out))
	return c.kill()
}

// onScreen has a person look at fdtctl top, on a terminal that script(1) makes, until it shows the session and the load.
func onScreen(ctx context.Context, s *Stage, id int) error {
	if _, err := s.must(ctx, "mkfifo /run/keys"); err != nil {
		return err
	}
	out, err := s.quiet(ctx, fmt.Sprintf(`exec 3<>/run/keys
		TERM=xterm script -qefc 'fdtctl top --interval 200ms' /run/screen <&3 >/dev/null & of=$!
		until grep -q 'K%d ' /run/screen && grep -q 'calls [0-9]' /run/screen; do kill -0 $of || break; sleep 0.1; done
		printf q >&3; wait $of && cat /run/screen; rc=$?; rm -f /run/keys /run/screen; exit $rc`, id))
	s.check(err == nil && strings.Contains(out, "reachable") && strings.Contains(out, "generation "), "fdtctl top shows who is connected, the load and the resources", "%v", err)
	return nil
}
