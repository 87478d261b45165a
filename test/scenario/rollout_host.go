package scenario

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt/test/load"
)

// disturbances are what an administrator, or a package manager, does to a host without thinking of fdt.
var disturbances = []string{
	"systemctl daemon-reload",
	"systemctl daemon-reexec",
	"apt-get install -q -y --reinstall /var/tmp/other.deb",
	"systemctl restart dbus",
}

// other is a package with a service, whose installation makes systemd load its units again.
const other = `mkdir -p /var/tmp/other/DEBIAN /var/tmp/other/usr/lib/systemd/system && cd /var/tmp/other &&
printf 'Package: other\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: a service\n' >DEBIAN/control &&
printf '#!/bin/sh\nset -e\nsystemctl daemon-reload\nsystemctl restart other\n' >DEBIAN/postinst && chmod 755 DEBIAN/postinst &&
printf '[Service]\nExecStart=/bin/sleep infinity\n' >usr/lib/systemd/system/other.service &&
dpkg-deb --root-owner-group -b . ../other.deb`

// disturbed does those things while an old generation drains with an edited configuration that nobody has applied,
// and in the middle of a reload.
func disturbed(ctx context.Context, s *Stage) error {
	if _, err := s.quiet(ctx, other); err != nil {
		return err
	}
	t, err := s.lightTraffic(ctx)
	if err != nil {
		return err
	}
	for _, command := range disturbances {
		if err := s.whileDraining(ctx, command); err != nil {
			return fmt.Errorf("%s while draining: %w", command, err)
		}
		if err := s.whileReloading(ctx, command); err != nil {
			return fmt.Errorf("%s while reloading: %w", command, err)
		}
	}
	// logind does not get over the restart of its bus, and a reboot would wait for it.
	if _, err := s.quiet(ctx, "systemctl try-restart systemd-logind"); err != nil {
		return err
	}
	return s.unnoticed(ctx, t, "daemon-reload, daemon-reexec, apt-get install, restart of dbus")
}

func (s *Stage) whileDraining(ctx context.Context, command string) error {
	if err := s.configure(ctx, settings{}); err != nil {
		return err
	}
	body := fmt.Sprintf("disturbed-%d", time.Now().UnixNano())
	c, err := s.open(ctx, body)
	if err != nil {
		return err
	}
	if _, err := s.must(ctx, "systemctl reload fdt"); err != nil {
		return err
	}
	draining, err := s.workerUnits(ctx, "deactivating")
	if err != nil {
		return err
	}
	if len(draining) == 0 {
		return errors.New("no worker drains")
	}
	before, err := s.status(ctx)
	if err != nil {
		return err
	}
	// What nobody has applied: other workers, another listener, none of the old ones.
	if err := s.configure(ctx, settings{workers: "{count: 4}", listen: "{extra: {address: " + socketOne + ", auth: peer}}"}); err != nil {
		return err
	}
	if _, err := s.must(ctx, command); err != nil {
		return err
	}
	// Until the master is reached again, it may have seen nothing.
	var after status
	if _, err := until(ctx, "the master answers", func() (bool, error) {
		after, err = s.status(ctx)
		return err == nil, nil
	}); err != nil {
		return err
	}
	still, err := s.workerUnits(ctx, "deactivating")
	if err != nil {
		return err
	}
	out, err := s.quiet(ctx, "systemctl list-units --plain --no-legend --state=active 'fdt-listen@*.socket'")
	if err != nil {
		return err
	}
	s.check(maps.Equal(after.pids(), before.pids()) && after.Generation == before.Generation && strings.Count(out, "\n") == 1,
		command+" with an edited, unapplied configuration: nothing changes", "generation %d, %d workers, %d sockets", after.Generation, len(after.serving()), strings.Count(out, "\n"))
	said, err := c.do("COMMIT;")
	if err != nil {
		return err
	}
	if err := c.kill(); err != nil {
		return err
	}
	n, err := s.inOutbox(ctx, body)
	s.check(slices.ContainsFunc(draining, func(u string) bool { return slices.Contains(still, u) }) && n == 1,
		command+" in the middle of a drain: it goes on, and its transaction commits", "%s, %d in the outbox%s", strings.Join(still, " "), n, said)
	if err != nil {
		return err
	}
	if err := s.configure(ctx, settings{}); err != nil {
		return err
	}
	_, err = s.settled(ctx)
	return err
}

func (s *Stage) whileReloading(ctx context.Context, command string) error {
	reload, at, err := s.reloadUntil(ctx, "starting")
	if err != nil {
		return err
	}
	if _, err := s.must(ctx, command); err != nil {
		return err
	}
	<-reload.done
	var now state
	_, err = until(ctx, "the reload ends", func() (bool, error) {
		now, err = s.state()
		return now.Pending == 0 && now.Applied > at.Applied, ignoreMissing(err)
	})
	if err != nil {
		return fmt.Errorf("%w: %+v: %s", err, now, reload.output())
	}
	s.check(reload.err == nil, command+" in the middle of a reload: it ends well", "generation %d; %s", now.Applied, lastLine(reload.output()))
	if _, err := until(ctx, "the master answers", func() (bool, error) {
		_, err := s.status(ctx)
		return err == nil, nil
	}); err != nil {
		return err
	}
	_, err = s.settled(ctx)
	return err
}

// hostShutdown reboots with a transaction that ends in time, one that does not, and one that is prepared.
func hostShutdown(ctx context.Context, s *Stage) error {
	const within, delay = 10 * time.Second, 5 * time.Second
	if err := s.roll(ctx, settings{drain: "{idle: 200ms, timeout: 5m, shutdown: 10s, delay: 5s}"}); err != nil {
		return err
	}
	if err := s.prepare(ctx, "kept"); err != nil {
		return err
	}
	sessions := map[string]*pgconn.PgConn{}
	for _, body := range []string{"in-time", "too-late"} {
		conn, err := s.target().Connect(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close(ctx) }()
		if _, err := conn.Exec(ctx, "BEGIN; CALL enqueue('"+body+"')").ReadAll(); err != nil {
			return err
		}
		sessions[body] = conn
	}
	knock := load.Connecting(ctx, s.target(), connectingClients, 5*time.Millisecond)
	s.say("reboot of the container")
	rebooted, asked := make(chan error, 1), time.Now()
	go func() { rebooted <- s.Bed.Reboot(ctx) }()
	_, err := until(ctx, "new connections are refused", func() (bool, error) {
		ok, _ := s.refused(ctx)
		return ok, nil
	})
	start := time.Now()
	s.check(start.Sub(asked) > delay, "host shutdown: the listeners stay open for drain.delay", "refused after %s", start.Sub(asked).Round(time.Millisecond))
	if err == nil {
		time.Sleep(within / 10) // well within the time that it has
		_, err = sessions["in-time"].Exec(ctx, "COMMIT").ReadAll()
		s.check(err == nil, "host shutdown: an open transaction may commit within drain.shutdown", "%v", err)
	}
	s.servedOrElse(knock.Stop(), "host shutdown", "refused", "reset") // systemd may drop a queue, see ARCHITECTURE.md
	if err := errors.Join(<-rebooted, ctx.Err()); err != nil {
		return err
	}
	took := time.Since(start)
	s.check(took > within && took < 4*time.Minute, "host shutdown: drain.shutdown bounds it, not drain.timeout", "down and up again in %s", took.Round(time.Millisecond))
	if err := s.serves(ctx); err != nil {
		return err
	}
	inTime, err := s.inOutbox(ctx, "in-time")
	if err != nil {
		return err
	}
	tooLate, err := s.inOutbox(ctx, "too-late")
	if err != nil {
		return err
	}
	s.check(inTime == 1 && tooLate == 0, "host shutdown: what committed is there, what did not is rolled back", "%d and %d in the outbox", inTime, tooLate)
	if err := s.listed(ctx, "host shutdown", "kept"); err != nil {
		return err
	}
	if _, err := s.must(ctx, "fdtctl txn commit kept"); err != nil {
		return err
	}
	if err := s.once(ctx, "after the reboot fdtctl txn commit", "kept"); err != nil {
		return err
	}
	return s.roll(ctx, settings{})
}
