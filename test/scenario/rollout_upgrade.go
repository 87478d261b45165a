package scenario

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/fdtserver/fdt/test/load"
)

// upgrade installs a newer package under load, then the older one again, then a newer one in the middle of a reload,
// and removes it.
func upgrade(ctx context.Context, s *Stage) error {
	pack := `cd /var/tmp && rm -rf newer && dpkg-deb -R %s newer && sed -i 's/^Version: .*/&+1/' newer/DEBIAN/control &&
		dpkg-deb --root-owner-group -Znone -b newer newer.deb`
	if _, err := s.quiet(ctx, fmt.Sprintf(pack, filepath.Base(s.Deb))); err != nil {
		return err
	}
	t, err := s.lightTraffic(ctx)
	if err != nil {
		return err
	}
	for _, change := range []struct{ what, command string }{
		{"upgrade", "apt-get install -q -y /var/tmp/newer.deb"},
		{"downgrade", "apt-get install -q -y --allow-downgrades /var/tmp/" + filepath.Base(s.Deb)},
	} {
		if err := s.changed(ctx, change.what, change.command); err != nil {
			return fmt.Errorf("%s: %w", change.what, err)
		}
	}
	if err := s.upgradedMidway(ctx); err != nil {
		return err
	}
	if err := t.more(ctx); err != nil {
		return err
	}
	if err := s.unnoticed(ctx, t, "upgrade and downgrade"); err != nil {
		return err
	}
	return s.removed(ctx)
}

func (s *Stage) changed(ctx context.Context, what, command string) error {
	before, err := s.status(ctx)
	if err != nil {
		return err
	}
	if err := s.prepare(ctx, what); err != nil {
		return err
	}
	c, err := s.open(ctx, "open-"+what)
	if err != nil {
		return err
	}
	if _, err := s.must(ctx, command+" 2>&1 | tail -n 1"); err != nil {
		return err
	}
	if err := s.fresh(ctx, what, before.Generation); err != nil {
		return err
	}
	out, err := c.do("COMMIT;")
	if err != nil {
		return err
	}
	if err := c.kill(); err != nil {
		return err
	}
	n, err := s.inOutbox(ctx, "open-"+what)
	if err != nil {
		return err
	}
	s.check(n == 1, what+": the transaction that was open commits", "%d in the outbox%s", n, out)
	if err := s.listed(ctx, what, what); err != nil {
		return err
	}
	if _, err := s.must(ctx, psql+` -c "COMMIT PREPARED '`+what+`'"`); err != nil {
		return err
	}
	if err := s.once(ctx, what+": COMMIT PREPARED", what); err != nil {
		return err
	}
	_, err = s.settled(ctx)
	return err
}

// fresh waits for a generation whose workers run the program that is installed now.
func (s *Stage) fresh(ctx context.Context, what string, after int) error {
	var links string
	took, err := until(ctx, "the workers run the new program", func() (bool, error) {
		st, err := s.status(ctx)
		if err != nil || st.Generation <= after || len(st.serving()) != 2 {
			return false, ignoreExit(err)
		}
		var exes []string
		for _, pid := range st.pids() {
			exes = append(exes, fmt.Sprintf("/proc/%d/exe", pid))
		}
		links, err = s.quiet(ctx, "readlink "+strings.Join(exes, " "))
		return err == nil && !strings.Contains(links, "deleted"), nil
	})
	s.check(err == nil, what+": the workers run the program that is installed now", "%s, after %d ms", strings.Join(strings.Fields(links), " "), took.Milliseconds())
	return err
}

// upgradedMidway replaces the program when the workers of a reload in progress have been started from the old one.
func (s *Stage) upgradedMidway(ctx context.Context) error {
	if err := s.configure(ctx, settings{reload: "{settle: 8s}"}); err != nil {
		return err
	}
	reload, pending, err := s.reloadUntil(ctx, "settling")
	if err != nil {
		return err
	}
	if err := s.configure(ctx, settings{}); err != nil {
		return err
	}
	if _, err := s.must(ctx, "apt-get install -q -y /var/tmp/newer.deb 2>&1 | tail -n 1"); err != nil {
		return err
	}
	<-reload.done
	if err := s.fresh(ctx, "upgrade in the middle of a reload", pending.Pending); err != nil {
		return err
	}
	_, err = s.settled(ctx)
	return err
}

// removed removes the package under knocking clients, with a transaction open and one prepared, and installs it again.
func (s *Stage) removed(ctx context.Context) error {
	if err := s.prepare(ctx, "stays"); err != nil {
		return err
	}
	conn, err := s.target().Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "BEGIN; CALL enqueue('open-removed')").ReadAll(); err != nil {
		return err
	}
	knock := load.Connecting(ctx, s.target(), connectingClients, 5*time.Millisecond)
	remove, err := s.start(ctx, "apt-get remove -q -y fdt")
	if err != nil {
		return err
	}
	if _, err := until(ctx, "new connections are refused", func() (bool, error) {
		ok, _ := s.refused(ctx)
		return ok, nil
	}); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "COMMIT").ReadAll()
	s.check(err == nil && !remove.exited(), "remove: it waits for the open transaction, which commits", "%v", err)
	_ = conn.Close(ctx)
	if err := remove.wait(); err != nil {
		return err
	}
	s.servedOrRefused(knock.Stop(), "remove")
	said := remove.output()
	s.check(strings.Contains(said, "before it is purged") && strings.Contains(said, "stays"), "remove: it names what is in doubt", "%s", lastLine(said))
	out, err := s.quiet(ctx, "systemctl list-units --plain --no-legend 'fdt*' 'system-fdt.slice'; pgrep -l fdt || true")
	s.check(err == nil && strings.TrimSpace(out) == "", "remove: nothing of it runs", "%q", strings.TrimSpace(out))
	if out, err := s.Bed.Install(ctx, s.Deb); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if err := s.serves(ctx); err != nil {
		return err
	}
	if err := s.listed(ctx, "removed and installed again", "stays"); err != nil {
		return err
	}
	if _, err := s.must(ctx, "fdtctl txn rollback stays"); err != nil {
		return err
	}
	_, err = s.must(ctx, "systemctl reload fdt")
	return err
}
