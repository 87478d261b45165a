package scenario

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/fdtserver/fdt/test/load"
)

func stop(ctx context.Context, s *Stage) error {
	for _, part := range []func(context.Context, *Stage) error{restart, stopWithOpenTransaction, stopRepeatedly, stopWhileDraining, stopWithoutMaster} {
		if err := part(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func restart(ctx context.Context, s *Stage) error {
	t, before, err := s.underLoad(ctx)
	if err != nil {
		return err
	}
	if _, err := s.must(ctx, "systemctl restart fdt"); err != nil {
		return err
	}
	_, err = until(ctx, "a new generation serves", func() (bool, error) {
		st, err := s.status(ctx)
		return st.Generation > before.Generation, ignoreExit(err)
	})
	if err != nil {
		return err
	}
	gen, err := s.settled(ctx)
	if err != nil {
		return err
	}
	if err := t.more(ctx); err != nil {
		return err
	}
	s.check(gen > before.Generation, "systemctl restart fdt rolls the workers", "generation %d after %d", gen, before.Generation)
	return s.unnoticed(ctx, t, "systemctl restart fdt")
}

// refused reports whether a new connection is refused at once.
func (s *Stage) refused(ctx context.Context) (bool, string) {
	conn, err := s.target().Connect(ctx)
	if err == nil {
		_ = conn.Close(ctx)
		return false, "served"
	}
	return load.Kind(err) == "refused", load.Kind(err)
}

// open starts a client with a transaction open.
func (s *Stage) open(ctx context.Context, body string) (*client, error) {
	c, err := s.psql(ctx)
	if err != nil {
		return nil, err
	}
	_, err = c.do(fmt.Sprintf("BEGIN; CALL enqueue('%s');", body))
	return c, err
}

// gone claims that nothing of fdt is left running.
func (s *Stage) gone(ctx context.Context, when string) error {
	_, err := until(ctx, "everything is gone", func() (bool, error) {
		left, err := s.remains(ctx)
		return left == "", err
	})
	left, _ := s.remains(ctx)
	s.check(err == nil, when+": then everything is gone", "%q left", left)
	return nil
}

func (s *Stage) remains(ctx context.Context) (string, error) {
	out, err := s.quiet(ctx, "systemctl list-units --plain --no-legend --state=active,activating,deactivating,reloading 'fdt*.service' 'fdt*.socket' | grep -v -e '^fdt-metrics' -e '^fdt-sweep' | awk '{print $1}'")
	return strings.Join(strings.Fields(out), " "), ignoreExit(err)
}

func stopWithOpenTransaction(ctx context.Context, s *Stage) error {
	c, err := s.open(ctx, "survivor")
	if err != nil {
		return err
	}
	stopping, err := s.start(ctx, "systemctl stop fdt")
	if err != nil {
		return err
	}
	s.say("# systemctl stop fdt &")
	took, err := until(ctx, "new connections are refused", func() (bool, error) {
		ok, _ := s.refused(ctx)
		return ok, nil
	})
	if err != nil {
		return err
	}
	s.check(!stopping.exited(), "stop with an open transaction: new connections are refused at once", "after %d ms", took.Milliseconds())
	out, err := s.show(ctx, "systemctl show -P StatusText fdt-stop.service fdt.service")
	if err != nil {
		return err
	}
	s.check(!stopping.exited(), "stop with an open transaction: it waits for it", "%s", strings.Join(strings.Fields(out), " "))
	out, err = c.do("COMMIT;")
	s.check(err == nil && !strings.Contains(out, "ERROR"), "stop with an open transaction: the open one may commit", "%q", strings.TrimSpace(out))
	if err := stopping.wait(); err != nil {
		return fmt.Errorf("systemctl stop: %w", err)
	}
	if err := c.kill(); err != nil {
		return err
	}
	if err := s.gone(ctx, "stop with an open transaction"); err != nil {
		return err
	}
	n, err := s.inOutbox(ctx, "survivor")
	if err != nil {
		return err
	}
	s.check(n == 1, "stop with an open transaction: what it committed is there", "%d in the outbox", n)
	if _, err := s.must(ctx, "systemctl start fdt"); err != nil {
		return err
	}
	out, err = s.show(ctx, psql+` -At -c "SELECT 1"`)
	s.check(err == nil && strings.TrimSpace(out) == "1", "systemctl start fdt serves again", "SELECT 1 answers %q", strings.TrimSpace(out))
	return nil
}

const stops = 20

// stopRepeatedly stops under knocking clients, again and again.
func stopRepeatedly(ctx context.Context, s *Stage) error {
	s.say("%d times: systemctl stop fdt under clients that keep knocking, then systemctl start fdt", stops)
	revived, broken := 0, 0
	var sample string
	for range stops {
		knock := load.Connecting(ctx, s.target(), connectingClients, 5*time.Millisecond)
		if _, err := until(ctx, "clients knock", func() (bool, error) { return knock.Progress() > 2*connectingClients, nil }); err != nil {
			return err
		}
		if out, err := s.quiet(ctx, "systemctl stop fdt"); err != nil {
			return fmt.Errorf("systemctl stop fdt: %w: %s", err, out)
		}
		n := knock.Progress()
		if _, err := until(ctx, "clients knock on", func() (bool, error) { return knock.Progress() > n+10*connectingClients, nil }); err != nil {
			return err
		}
		left, err := s.remains(ctx)
		if err != nil {
			return err
		}
		if left != "" {
			revived++
			sample = left
		}
		for _, c := range knock.Stop().Lost() {
			if kind := load.Kind(c.Err); kind != "refused" {
				broken++
				sample = kind + ": " + c.Err.Error()
			}
		}
		if out, err := s.quiet(ctx, "systemctl start fdt"); err != nil {
			return fmt.Errorf("systemctl start fdt: %w: %s", err, out)
		}
		if err := s.serves(ctx); err != nil {
			return err
		}
	}
	s.check(revived == 0, fmt.Sprintf("stopped %d times under knocking clients: it stays stopped", stops), "%d false starts %s", revived, sample)
	s.check(broken == 0, fmt.Sprintf("stopped %d times under knocking clients: served or refused, nothing else", stops), "%d otherwise %s", broken, sample)
	return nil
}

func stopWhileDraining(ctx context.Context, s *Stage) error {
	c, err := s.open(ctx, "old-generation")
	if err != nil {
		return err
	}
	if _, err := s.must(ctx, "systemctl reload fdt"); err != nil {
		return err
	}
	units, err := s.workerUnits(ctx, "deactivating")
	if err != nil {
		return err
	}
	s.check(len(units) > 0, "an old generation drains beside the new one", "%s", strings.Join(units, " "))
	stopping, err := s.start(ctx, "systemctl stop fdt")
	if err != nil {
		return err
	}
	if _, err := until(ctx, "new connections are refused", func() (bool, error) { ok, _ := s.refused(ctx); return ok, nil }); err != nil {
		return err
	}
	out, err := c.do("COMMIT;")
	s.check(err == nil && !strings.Contains(out, "ERROR"), "stop while an old generation drains: its open transaction may commit", "%q", strings.TrimSpace(out))
	if err := stopping.wait(); err != nil {
		return fmt.Errorf("systemctl stop: %w", err)
	}
	if err := c.kill(); err != nil {
		return err
	}
	if err := s.gone(ctx, "stop while an old generation drains"); err != nil {
		return err
	}
	_, err = s.must(ctx, "systemctl start fdt")
	return err
}

func stopWithoutMaster(ctx context.Context, s *Stage) error {
	// A master whose restart fails at once stays in its restart delay most of the time.
	for _, when := range []string{"the master in its restart delay", "the master dead for good"} {
		if when == "the master in its restart delay" {
			if _, err := s.must(ctx, "kill -9 $(systemctl show -P MainPID fdt)"); err != nil {
				return err
			}
		} else {
			if _, err := s.must(ctx, "mv /usr/lib/fdt/fdt-master /usr/lib/fdt/fdt-master.away; kill -9 $(systemctl show -P MainPID fdt); "+
				// For a moment at each attempt to restart it, the stopper is being restarted as well.
				"for i in {1..200}; do [ $(systemctl show -P NRestarts fdt) != 0 -a $(systemctl show -P SubState fdt) = auto-restart ] && systemctl -q is-active fdt-stop && break; sleep 0.02; done; "+
				"systemctl show -P SubState fdt"); err != nil {
				return err
			}
		}
		knock := load.Connecting(ctx, s.target(), connectingClients, 5*time.Millisecond)
		out, err := s.show(ctx, "systemctl stop fdt")
		s.check(err == nil, "stop with "+when+": systemctl stop fdt succeeds", "%s", strings.TrimSpace(out))
		n := knock.Progress()
		if _, err := until(ctx, "clients knock on", func() (bool, error) { return knock.Progress() > n+10*connectingClients, nil }); err != nil {
			return err
		}
		knock.Stop()
		if err := s.gone(ctx, "stop with "+when); err != nil {
			return err
		}
		if _, err := s.quiet(ctx, "test ! -e /usr/lib/fdt/fdt-master.away || mv /usr/lib/fdt/fdt-master.away /usr/lib/fdt/fdt-master"); err != nil {
			return err
		}
		if _, err := s.must(ctx, "systemctl start fdt"); err != nil {
			return err
		}
		if err := s.serves(ctx); err != nil {
			return err
		}
	}
	return nil
}

func activation(ctx context.Context, s *Stage) error {
	if _, err := s.must(ctx, "systemctl stop fdt fdt-sockets.target"); err != nil {
		return err
	}
	if err := s.gone(ctx, "before"); err != nil {
		return err
	}
	if _, err := s.must(ctx, "systemctl start fdt-sockets.target"); err != nil {
		return err
	}
	out, err := s.quiet(ctx, "systemctl is-active fdt")
	s.check(strings.TrimSpace(out) == "inactive", "fdt-sockets.target alone: fdt is not running", "%s", strings.TrimSpace(out))
	_ = ignoreExit(err)
	if _, err := s.must(ctx, psql+` -c "CALL enqueue('first')"`); err != nil {
		return err
	}
	n, err := s.inOutbox(ctx, "first")
	if err != nil {
		return err
	}
	out, err = s.must(ctx, "systemctl is-active fdt")
	s.check(n == 1, "the first connection starts fdt and is served", "%d in the outbox, fdt is %s", n, strings.TrimSpace(out))
	return err
}
