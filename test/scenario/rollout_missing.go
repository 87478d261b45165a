package scenario

import (
	"context"
	"strings"
)

// removedDirectory has somebody remove what tmpfiles.d made: it is said, with what to do, and that heals it.
func removedDirectory(ctx context.Context, s *Stage) error {
	if _, err := s.must(ctx, "rm -r /run/fdt/worker"); err != nil {
		return err
	}
	const says = "/run/fdt/worker missing: systemd-tmpfiles --create fdt.conf, then systemctl reload fdt"
	if _, err := until(ctx, "the status tells", func() (bool, error) {
		out, err := s.quiet(ctx, "systemctl show -P StatusText fdt")
		return strings.Contains(out, says), err
	}); err != nil {
		return err
	}
	out, err := s.show(ctx, "fdtctl status | head -8")
	s.check(err == nil && strings.Contains(out, "Directories are missing:\n"), "fdtctl status says which directory is missing, and what makes it", "%s", grep(out, "tmpfiles"))
	out, err = s.show(ctx, "fdtctl reload")
	s.check(err != nil && strings.Contains(out, says), "a reload fails and says so", "%s", grep(out, "tmpfiles"))
	out, err = s.show(ctx, "systemd-tmpfiles --create fdt.conf && systemctl reload fdt && systemctl show -P StatusText fdt")
	s.check(err == nil && !strings.Contains(out, "missing"), "what it says heals it", "%s", lastLine(out))
	_, err = s.settled(ctx)
	return err
}
