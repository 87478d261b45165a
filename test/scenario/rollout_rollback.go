package scenario

import (
	"context"
	"strings"
)

// rollback goes back to an earlier configuration, by hand and at boot.
func rollback(ctx context.Context, s *Stage) error {
	procedure := func(name string) settings {
		return settings{procedures: "{" + name + `: {parameters: {body: text}, steps: [{on: outbox, put: ":body"}]}}`}
	}
	t, err := s.lightTraffic(ctx)
	if err != nil {
		return err
	}
	for _, name := range []string{"older", "newer"} {
		if err := s.roll(ctx, procedure(name)); err != nil {
			return err
		}
	}
	if _, err := s.must(ctx, "fdtctl rollback"); err != nil {
		return err
	}
	older, oerr := s.show(ctx, psql+` -c "CALL older('rolled-back')"`)
	newer, nerr := s.show(ctx, psql+` -c "CALL newer('rolled-back')"`)
	s.check(oerr == nil && nerr != nil, "fdtctl rollback serves the previous generation's configuration", "older: %s, newer: %s", strings.TrimSpace(older), grep(newer, "ERROR"))
	line, err := s.quiet(ctx, "systemctl show -P StatusText fdt")
	s.check(err == nil && strings.Contains(line, "rolled back"), "STATUS says so", "%s", strings.TrimSpace(line))
	if _, err := s.must(ctx, "systemctl reload fdt"); err != nil {
		return err
	}
	_, nerr = s.show(ctx, psql+` -c "CALL newer('reloaded')"`)
	s.check(nerr == nil, "the next reload applies /etc/fdt again", "%v", nerr)
	if err := s.unnoticed(ctx, t, "rollback and reload"); err != nil {
		return err
	}
	if err := s.rollbackFails(ctx, procedure("newer")); err != nil {
		return err
	}

	if err := s.configure(ctx, settings{workers: "{cuont: 2}"}); err != nil {
		return err
	}
	s.say("reboot of the container, with a broken configuration")
	if err := s.Bed.Reboot(ctx); err != nil {
		return err
	}
	if err := s.serves(ctx); err != nil {
		return err
	}
	_, err = s.show(ctx, psql+` -c "CALL newer('booted')"`)
	s.check(err == nil, "a boot with a broken configuration serves the last good one", "%v", err)
	line, err = s.quiet(ctx, "systemctl show -P StatusText fdt")
	s.check(err == nil && strings.Contains(line, "last good") && strings.Contains(line, "50-rollout.yaml"), "STATUS says so", "%s", strings.TrimSpace(line))
	out, err := s.quiet(ctx, "journalctl -b -u fdt -o cat --no-pager")
	s.check(err == nil && strings.Contains(out, "last good") && strings.Contains(out, "cuont"), "the journal says so, and why", "%s", grep(out, "last good"))
	return s.startsWith(ctx)
}

// rollbackFails goes back to a configuration whose spool is lost since, and ends with c.
func (s *Stage) rollbackFails(ctx context.Context, c settings) error {
	const lost = "/var/lib/fdt/lost"
	if _, err := s.must(ctx, "install -d -o fdt -g fdt -m 2770 "+lost); err != nil {
		return err
	}
	older := c
	older.resources = "{lost: {type: spool, directory: " + lost + "}}"
	for _, c := range []settings{older, c} {
		if err := s.roll(ctx, c); err != nil {
			return err
		}
	}
	if _, err := s.must(ctx, "rm -r "+lost); err != nil {
		return err
	}
	out, err := s.show(ctx, "fdtctl rollback")
	s.check(err != nil && strings.Contains(out, lost), "a rollback to what cannot serve any more fails and says why", "%s", grep(out, lost))
	if _, err := s.must(ctx, "fdtctl reload"); err != nil {
		return err
	}
	line, err := s.quiet(ctx, "systemctl show -P StatusText fdt")
	s.check(err == nil && !strings.Contains(line, "not applied"), "the reload after it leaves nothing of it in STATUS", "%s", strings.TrimSpace(line))
	return nil
}

// startsWith starts fdt with a configuration that no worker can serve, and with nothing that could be served.
func (s *Stage) startsWith(ctx context.Context) error {
	if err := s.configure(ctx, settings{resources: "{nowhere: {type: spool, directory: /var/lib/nowhere}}"}); err != nil {
		return err
	}
	if _, err := s.must(ctx, "systemctl stop fdt && systemctl start fdt"); err != nil {
		return err
	}
	kind := s.asked(ctx, s.target())
	line, err := s.quiet(ctx, "systemctl show -P StatusText fdt; fdtctl status --json")
	s.check(err == nil && kind == "served" && strings.Contains(line, "last good") && strings.Contains(line, "nowhere"),
		"started with a configuration that no worker can serve, the last good one serves, and status says why", "%s; %s", kind, grep(line, "last good"))

	if err := s.configure(ctx, settings{workers: "{cuont: 2}"}); err != nil {
		return err
	}
	if _, err := s.must(ctx, "systemctl stop fdt && find /var/lib/fdt/last-good -mindepth 1 -delete"); err != nil {
		return err
	}
	out, serr := s.show(ctx, "systemctl start fdt")
	_, err = until(ctx, "new connections are refused", func() (bool, error) {
		ok, _ := s.refused(ctx)
		return ok, nil
	})
	s.check(serr != nil && err == nil, "with nothing that could be served the start fails, and clients are refused", "%s", strings.TrimSpace(out))
	_, err = until(ctx, "the journal says why", func() (bool, error) { // which nobody waits for
		var err error
		out, err = s.quiet(ctx, "journalctl -b -u fdt -o cat --no-pager -n 20")
		return strings.Contains(out, "cuont"), err
	})
	s.check(err == nil, "the journal says why", "%s", grep(out, "cuont"))
	if err := s.configure(ctx, settings{}); err != nil {
		return err
	}
	if _, err := s.must(ctx, "systemctl start fdt"); err != nil {
		return err
	}
	return s.serves(ctx)
}
