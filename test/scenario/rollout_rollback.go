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
	return s.roll(ctx, settings{})
}
