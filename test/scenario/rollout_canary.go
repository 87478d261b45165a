package scenario

import (
	"context"
	"errors"
	"maps"
	"strings"
)

// workerDropIn is a drop-in for the template of the workers, by which what starts from now on is another program.
const workerDropIn = "/etc/systemd/system/fdt-worker@.service.d/99-test.conf"

// program has workers that start from now on run a shell script, which may say READY=1 by systemd-notify(1), or be
// fdt's own again if it is empty.
func (s *Stage) program(ctx context.Context, script string) error {
	if script == "" {
		_, err := s.quiet(ctx, "rm -f "+workerDropIn+" && systemctl daemon-reload")
		return err
	}
	return s.dropIn(ctx, "NotifyAccess=all\nExecStart=\nExecStart=/bin/sh -c '"+script+"'")
}

// dropIn changes the workers' template.
func (s *Stage) dropIn(ctx context.Context, service string) error {
	if _, err := s.quiet(ctx, "mkdir -p $(dirname "+workerDropIn+")"); err != nil {
		return err
	}
	if err := s.Bed.WriteFile(ctx, workerDropIn, []byte("[Service]\n"+service+"\n")); err != nil {
		return err
	}
	_, err := s.quiet(ctx, "systemctl daemon-reload")
	return err
}

// canary rolls out generations that say READY=1 and are none the better for it.
func canary(ctx context.Context, s *Stage) error {
	t, err := s.lightTraffic(ctx)
	if err != nil {
		return err
	}
	settle := func(ready string) settings { return settings{reload: "{settle: 5s, ready_timeout: " + ready + "}"} }
	if err := s.roll(ctx, settle("30s")); err != nil {
		return err
	}
	for _, bad := range []struct{ what, script, ready, reason string }{
		{"workers that die right after READY=1", "systemd-notify --ready; sleep 0.3; echo its last words; exit 3", "30s", "its last words"},
		{"workers that are killed while they settle", "systemd-notify --ready; sleep 0.3; kill -SEGV $$$$", "30s", "SEGV"},
		{"workers that never say READY=1", "sleep 60", "2s", "READY=1"},
		{"workers that cannot be executed", "exec /nowhere/worker", "30s", "/nowhere/worker"},
	} {
		late := settle(bad.ready) // a port that opens for them alone is no reason for others to go
		late.users, late.listen = alice(), `{late: {address: "127.0.0.1:7431", auth: scram}}`
		if err := errors.Join(s.configure(ctx, late), s.program(ctx, bad.script)); err != nil {
			return err
		}
		if err := s.refusedRollout(ctx, bad.what, bad.reason); err != nil {
			return err
		}
	}
	if err := s.dropIn(ctx, "ExecStartPost=/bin/sh -c 'echo the check says no; sleep 0.2; exit 4'"); err != nil {
		return err
	}
	if err := s.refusedRollout(ctx, "workers whose ExecStartPost= fails", "the check says no"); err != nil {
		return err
	}
	if err := s.program(ctx, ""); err != nil {
		return err
	}

	// A spool that opens, but in which nothing can be prepared.
	if _, err := s.must(ctx, "install -d -o fdt -g fdt -m 2770 /var/lib/fdt/second /var/lib/fdt/second/{tmp,new,prepared}"); err != nil {
		return err
	}
	seal, unseal := "chown root /var/lib/fdt/second/prepared && chmod 0555 /var/lib/fdt/second/prepared", "chmod 2770 /var/lib/fdt/second/prepared && chown fdt /var/lib/fdt/second/prepared"
	if _, err := s.must(ctx, seal); err != nil {
		return err
	}
	second := settings{} // with time to start: what is refused is the rehearsal
	second.resources = "{second: {type: spool, directory: /var/lib/fdt/second}}"
	if err := s.configure(ctx, second); err != nil {
		return err
	}
	if err := s.refusedRollout(ctx, "workers that cannot prepare on a new resource", "second"); err != nil {
		return err
	}
	if _, err := s.must(ctx, unseal); err != nil {
		return err
	}
	if err := s.roll(ctx, second); err != nil {
		return err
	}
	staged, err := s.quiet(ctx, "find /var/lib/fdt/second/{tmp,prepared,new} -type f | wc -l")
	if err != nil {
		return err
	}
	s.check(strings.TrimSpace(staged) == "0", "a self-check leaves nothing behind", "%s files", strings.TrimSpace(staged))

	// What fails for those who serve as well must not stand in the way: the reload may be what mends it.
	if _, err := s.must(ctx, seal); err != nil {
		return err
	}
	out, err := s.show(ctx, "fdtctl reload")
	s.check(err == nil, "a resource that fails for the serving generation as well does not hold up a reload", "%s", lastLine(out))
	if _, err := s.must(ctx, unseal); err != nil {
		return err
	}
	if err := s.roll(ctx, settings{}); err != nil {
		return err
	}
	if _, err := s.settled(ctx); err != nil {
		return err
	}
	return s.unnoticed(ctx, t, "generations that were no good")
}

// refusedRollout claims that a reload fails with the reason, and that what served goes on serving.
func (s *Stage) refusedRollout(ctx context.Context, what, reason string) error {
	before, err := s.status(ctx)
	if err != nil {
		return err
	}
	out, err := s.show(ctx, "fdtctl reload")
	s.check(err != nil && strings.Contains(out, reason), what+": the reload fails and says why", "%s", grep(out, reason))
	after, err := s.status(ctx)
	if err != nil {
		return err
	}
	s.check(after.Generation == before.Generation && maps.Equal(after.pids(), before.pids()), what+": the old generation serves on untouched",
		"generation %d, %d workers, the same processes", after.Generation, len(after.serving()))
	return nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
