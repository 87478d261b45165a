package scenario

import (
	"context"
	"fmt"
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
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	victim := st.Workers[0]
	s.say("worker %d-%d (pid %d) has %d of %d connections", victim.Generation, victim.Slot, victim.PID, victim.Open, st.Connections)
	if _, err := s.must(ctx, fmt.Sprintf("kill -9 %d", victim.PID)); err != nil {
		return err
	}
	instance := fmt.Sprintf("%d-%d", victim.Generation, victim.Slot)
	_, err = until(ctx, "systemd brings the worker back", func() (bool, error) {
		st, err := s.status(ctx)
		for _, w := range st.Workers {
			if w.Generation == victim.Generation && w.Slot == victim.Slot && w.PID != victim.PID && w.State == "serving" {
				return true, err
			}
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	s.check(true, "SIGKILL of a worker: systemd brings it back", "worker %s serves again", instance)
	n := sessions.Progress()
	if _, err := until(ctx, "the load goes on", func() (bool, error) { return sessions.Progress() > n+2*sessionClients, nil }); err != nil {
		return err
	}
	books := sessions.Stop()
	s.check(len(books.Lost()) > 0 && len(books.Lost()) <= victim.Open, "SIGKILL of a worker: its own clients fail, nobody else notices",
		"%d lost, the worker had %d; %s", len(books.Lost()), victim.Open, books.Summary())
	return s.audit(ctx, "SIGKILL of a worker", books)
}

func masterKilled(ctx context.Context, s *Stage) error {
	t, err := s.traffic(ctx)
	if err != nil {
		return err
	}
	before, err := s.status(ctx)
	if err != nil {
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
	same := len(after.Workers) == len(before.Workers) && after.Generation == before.Generation
	for i := range min(len(after.Workers), len(before.Workers)) {
		same = same && after.Workers[i].PID == before.Workers[i].PID
	}
	s.check(same, "SIGKILL of the master: the new master adopts the same workers", "generation %d, %d workers", after.Generation, len(after.Workers))
	return s.unnoticed(ctx, t, "SIGKILL of the master")
}

// ignoreExit is for commands whose exit status is an answer, not a failure.
func ignoreExit(error) error { return nil }
