package scenario

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fdtserver/fdt/test/load"
)

func crashes(ctx context.Context, s *Stage) error {
	for _, part := range []func(context.Context, *Stage) error{workerKilled, masterKilled} {
		if err := part(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func workerKilled(ctx context.Context, s *Stage) error {
	sessions := load.Sessions(ctx, s.target(), sessionClients, sessionPace)
	if _, err := until(ctx, "the sessions are open", func() (bool, error) { return sessions.Progress() > 4*sessionClients, nil }); err != nil {
		return err
	}
	var st status
	_, err := until(ctx, "the master has heard of them", func() (_ bool, err error) {
		st, err = s.status(ctx)
		return len(st.serving()) > 0 && st.Connections >= sessionClients, err
	})
	if err != nil {
		return err
	}
	victim := slices.MaxFunc(st.serving(), func(a, b worker) int { return a.Live.Open - b.Live.Open })
	s.say("%s (pid %d) has %d of %d connections", victim.Unit, victim.Live.PID, victim.Live.Open, st.Connections)
	if _, err := s.must(ctx, fmt.Sprintf("kill -9 %d", victim.Live.PID)); err != nil {
		return err
	}
	_, err = until(ctx, "systemd brings the worker back", func() (bool, error) {
		st, err := s.status(ctx)
		pid, ok := st.pids()[victim.Unit]
		return ok && pid != victim.Live.PID, err
	})
	if err != nil {
		return err
	}
	s.check(true, "SIGKILL of a worker: systemd brings it back", "%s serves again", victim.Unit)
	n := sessions.Progress()
	if _, err := until(ctx, "the load goes on", func() (bool, error) { return sessions.Progress() > n+2*sessionClients, nil }); err != nil {
		return err
	}
	books := sessions.Stop()
	s.check(len(books.Lost()) > 0 && len(books.Lost()) <= victim.Live.Open, "SIGKILL of a worker: its own clients fail, nobody else notices",
		"%d lost, the worker had %d; %s", len(books.Lost()), victim.Live.Open, books.Summary())
	return s.audit(ctx, "SIGKILL of a worker", books)
}

func masterKilled(ctx context.Context, s *Stage) error {
	t, before, err := s.underLoad(ctx)
	if err != nil {
		return err
	}
	if err := s.nextMaster(ctx); err != nil {
		return err
	}
	old, err := s.must(ctx, "systemctl show -P MainPID fdt")
	if err != nil {
		return err
	}
	if _, err := s.must(ctx, "kill -9 "+strings.TrimSpace(old)); err != nil {
		return err
	}
	_, err = until(ctx, "a new master serves", func() (bool, error) {
		now, err := s.quiet(ctx, "systemctl show -P MainPID fdt; systemctl is-active fdt")
		f := strings.Fields(now)
		return len(f) == 2 && f[0] != "0" && f[0] != strings.TrimSpace(old) && f[1] == "active", ignoreExit(err)
	})
	if err != nil {
		return err
	}
	if err := t.more(ctx); err != nil {
		return err
	}
	after, err := s.status(ctx)
	if err != nil {
		return err
	}
	same := maps.Equal(after.pids(), before.pids()) && after.Generation == before.Generation
	s.check(same, "SIGKILL of the master: the new master adopts the same workers", "generation %d, %d workers", after.Generation, len(after.serving()))
	return s.unnoticed(ctx, t, "SIGKILL of the master")
}

// ignoreExit is for commands whose exit status is an answer, not a failure.
func ignoreExit(error) error { return nil }
