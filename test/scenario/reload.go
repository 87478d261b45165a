package scenario

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/fdtserver/fdt/test/load"
)

// The loads of the main job.
const (
	connectingClients = 16
	sessionClients    = 64
	connectingPace    = 20 * time.Millisecond
	sessionPace       = 50 * time.Millisecond
)

// traffic is the steady load beside a scenario.
type traffic struct {
	connecting, sessions *load.Load
}

func (s *Stage) traffic(ctx context.Context) (*traffic, error) {
	s.say("(load: %d clients that connect, CALL and disconnect, %d that keep their session)", connectingClients, sessionClients)
	t := &traffic{
		connecting: load.Connecting(ctx, s.target(), connectingClients, connectingPace),
		sessions:   load.Sessions(ctx, s.target(), sessionClients, sessionPace),
	}
	return t, t.more(ctx)
}

// underLoad is the opening of a scenario: load, and the status with it.
func (s *Stage) underLoad(ctx context.Context) (*traffic, status, error) {
	t, err := s.traffic(ctx)
	if err != nil {
		return nil, status{}, err
	}
	st, err := s.status(ctx)
	return t, st, err
}

// more waits until both loads have made some more calls, so that what was just done happened under load.
func (t *traffic) more(ctx context.Context) error {
	c, n := t.connecting.Progress(), t.sessions.Progress()
	_, err := until(ctx, "the load goes on", func() (bool, error) {
		return t.connecting.Progress() >= c+2*connectingClients && t.sessions.Progress() >= n+2*sessionClients, nil
	})
	return err
}

// unnoticed ends the load and claims that no client noticed anything.
func (s *Stage) unnoticed(ctx context.Context, t *traffic, what string) error {
	c, n := t.connecting.Stop(), t.sessions.Stop()
	failed := len(c.Calls) - len(c.Acknowledged())
	s.check(failed == 0, what+": every new connection is served", "%s", c.Summary())
	s.check(len(n.Lost()) == 0, what+": no call of a kept session goes unanswered", "%s", n.Summary())
	// A call that is sent before its client could have heard the goodbye is answered by it; audit claims that it was not
	// run. No protocol can help that, but it is the exception of a moment, not how sessions end.
	crossed := len(n.Overrun())
	s.check(crossed <= 1+n.Goodbyes/10, what+": sessions end between calls", "%d did, %d calls crossed the goodbye", n.Goodbyes, crossed)
	for _, lost := range append(c.Lost(), n.Lost()...)[:min(5, len(c.Lost())+len(n.Lost()))] {
		s.say("lost: %s after %s: %v", lost.Body, lost.End.Sub(lost.Start), lost.Err)
	}
	return s.audit(ctx, what, c, n)
}

// audit holds the outbox against the books: acknowledged calls once, those told goodbye not at all.
func (s *Stage) audit(ctx context.Context, what string, books ...*load.Books) error {
	bodies, err := s.outbox(ctx)
	if err != nil {
		return err
	}
	times := map[string]int{}
	for _, b := range bodies {
		times[b]++
	}
	missing, twice, extra, acknowledged := 0, 0, 0, 0
	for _, b := range books {
		for _, body := range b.Acknowledged() {
			acknowledged++
			switch times[body] {
			case 0:
				missing++
			case 1:
			default:
				twice++
			}
		}
		for _, c := range b.Overrun() {
			extra += times[c.Body]
		}
	}
	s.check(missing+twice+extra == 0, what+": the outbox holds each acknowledged call exactly once, and none that a goodbye answered",
		"%d acknowledged: %d missing, %d twice, %d told goodbye but there", acknowledged, missing, twice, extra)
	return nil
}

func reload(ctx context.Context, s *Stage) error {
	t, before, err := s.underLoad(ctx)
	if err != nil {
		return err
	}
	for i, count := range []int{2, 3, 4, 1, 2} {
		name := fmt.Sprintf("enqueue_v%d", i+1)
		edit := fmt.Sprintf(`sed -i 's/^#*workers:.*/workers: {count: %d}/; s/^procedures:.*/procedures:\n  %s:\n    parameters: {body: text}\n    steps: [{on: outbox, put: ":body"}]/' /etc/fdt/config.yaml`, count, name)
		if _, err := s.must(ctx, edit); err != nil {
			return err
		}
		if _, err := s.must(ctx, "systemctl reload fdt"); err != nil {
			return err
		}
		out, err := s.show(ctx, fmt.Sprintf(`%s -c "CALL %s('reload-%d')"`, psql, name, i+1))
		s.check(err == nil && strings.TrimSpace(out) == "CALL", fmt.Sprintf("reload %d: the new procedure is callable right after", i+1), "%s", strings.TrimSpace(out))
		st, err := s.status(ctx)
		if err != nil {
			return err
		}
		mine := len(st.serving())
		s.check(st.Generation == before.Generation+i+1 && mine == count, fmt.Sprintf("reload %d: the new generation serves with its worker count", i+1), "generation %d, %d workers", st.Generation, mine)
		if err := t.more(ctx); err != nil {
			return err
		}
	}
	if _, err := s.show(ctx, "fdtctl status"); err != nil {
		return err
	}
	gen, err := s.settled(ctx)
	if err != nil {
		return err
	}
	s.check(true, "old workers are gone", "only generation %d remains", gen)
	return s.unnoticed(ctx, t, "five reloads")
}

func badReload(ctx context.Context, s *Stage) error {
	t, before, err := s.underLoad(ctx)
	if err != nil {
		return err
	}
	faults := []struct{ what, edit, reason string }{
		{"a broken configuration", `sed -i 's/^workers:/wrokers:/' /etc/fdt/config.yaml`, "config.yaml:"},
		{"new workers that cannot start", `sed -i 's/^resources:.*/resources:\n  nowhere: {type: spool, directory: \/var\/lib\/nowhere}/' /etc/fdt/config.yaml`, "nowhere"},
	}
	if _, err := s.quiet(ctx, "cp -p /etc/fdt/config.yaml /root/config.good"); err != nil {
		return err
	}
	for _, f := range faults {
		if _, err := s.must(ctx, f.edit); err != nil {
			return err
		}
		_, err := s.show(ctx, "systemctl reload fdt")
		s.check(err != nil, f.what+": systemctl reload fdt fails", "%s", exitStatus(err))
		out, err := s.show(ctx, "fdtctl reload")
		s.check(err != nil && strings.Contains(out, f.reason), f.what+": fdtctl reload prints the reason", "%s", grep(out, f.reason))
		out, err = s.show(ctx, "systemctl show -P StatusText fdt")
		s.check(err == nil && strings.Contains(out, f.reason), f.what+": STATUS has it", "%s", strings.TrimSpace(out))
		out, err = s.quiet(ctx, "journalctl -u fdt.service -o cat -n 50 --no-pager")
		s.check(err == nil && strings.Contains(out, f.reason), f.what+": the journal has it", "%s", grep(out, f.reason))
		if err := t.more(ctx); err != nil {
			return err
		}
		st, err := s.status(ctx)
		if err != nil {
			return err
		}
		s.check(st.Generation == before.Generation && maps.Equal(st.pids(), before.pids()), f.what+": the old generation serves on untouched",
			"generation %d, %d workers, the same processes", st.Generation, len(st.serving()))
		if _, err := s.must(ctx, "cp -p /root/config.good /etc/fdt/config.yaml"); err != nil {
			return err
		}
	}
	if _, err := s.must(ctx, "systemctl reload fdt"); err != nil {
		return err
	}
	if _, err := s.settled(ctx); err != nil {
		return err
	}
	return s.unnoticed(ctx, t, "two failed reloads and a good one")
}
