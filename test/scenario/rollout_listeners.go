package scenario

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/fdtserver/fdt/test/load"
)

// Addresses that come and go beside the default listener.
const (
	socketOne   = "/run/fdt/one.sock"
	socketTwo   = "/run/fdt/two.sock"
	socketThree = "/run/fdt/three.sock"
)

func listeners(ctx context.Context, s *Stage) error {
	t, err := s.lightTraffic(ctx)
	if err != nil {
		return err
	}
	for _, part := range []func(context.Context, *Stage) error{listenerAdded, listenerRemoved, listenerTCP, listenerChanged, listenerTakenBack, listenerMode,
		listenerCertificate} {
		if err := part(ctx, s); err != nil {
			return err
		}
		if err := t.more(ctx); err != nil {
			return err
		}
	}
	return s.unnoticed(ctx, t, "listeners come and go")
}

const both = "{extra: {address: [" + socketOne + ", " + socketTwo + "], auth: peer, mode: 0660, group: fdt}}"

func listenerAdded(ctx context.Context, s *Stage) error {
	if err := s.roll(ctx, settings{listen: both}); err != nil {
		return err
	}
	one, two := s.asked(ctx, s.at(socketOne)), s.asked(ctx, s.at(socketTwo))
	s.check(one == "served" && two == "served", "a listener with two addresses is added: both serve right after", "%s, %s", one, two)
	out, err := s.quiet(ctx, "stat -c '%a %U:%G' "+socketOne)
	s.check(strings.TrimSpace(out) == "660 root:fdt", "an added unix socket has its mode and group", "%s", strings.TrimSpace(out))
	return err
}

func listenerRemoved(ctx context.Context, s *Stage) error {
	without := settings{listen: "{extra: {address: " + socketOne + ", auth: peer, mode: 0660, group: fdt}}"}
	if err := s.removedUnderLoad(ctx, 3, settings{listen: both}, without, s.at(socketTwo)); err != nil {
		return err
	}
	one := s.asked(ctx, s.at(socketOne))
	s.check(one == "served", "the other address of that listener serves on", "%s", one)
	return nil
}

// listenerTCP: the same for both families of TCP.
func listenerTCP(ctx context.Context, s *Stage) error {
	users := alice()
	with := settings{users: users, listen: `{public: {address: ["127.0.0.1:7432", "[::1]:7432"], auth: scram}}`}
	var targets []load.Target
	for _, address := range []string{"127.0.0.1:7432", "[::1]:7432"} {
		t := s.at(address)
		t.Network, t.User, t.Password = "tcp", "alice", "secret"
		targets = append(targets, t)
	}
	return s.removedUnderLoad(ctx, 1, with, settings{users: users}, targets...)
}

// removedUnderLoad adds and removes addresses while clients knock on them: these are served or refused, and nothing
// else.
func (s *Stage) removedUnderLoad(ctx context.Context, rounds int, with, without settings, targets ...load.Target) error {
	all := &load.Books{}
	late := 0
	for range rounds {
		if err := s.roll(ctx, with); err != nil {
			return err
		}
		var knocks []*load.Load
		for _, t := range targets {
			knocks = append(knocks, load.Connecting(ctx, t, connectingClients/len(targets), 10*time.Millisecond))
		}
		knocking := func() error {
			for _, k := range knocks {
				n := k.Progress()
				if _, err := until(ctx, "clients knock", func() (bool, error) { return k.Progress() > n+2*connectingClients, nil }); err != nil {
					return err
				}
			}
			return nil
		}
		if err := knocking(); err != nil {
			return err
		}
		if err := s.roll(ctx, without); err != nil {
			return err
		}
		for _, t := range targets {
			if s.asked(ctx, t) != "refused" {
				late++
			}
		}
		if err := knocking(); err != nil {
			return err
		}
		for _, k := range knocks {
			all.Calls = append(all.Calls, k.Stop().Calls...)
		}
	}
	odd := 0
	for _, c := range all.Lost() {
		if load.Kind(c.Err) != "refused" {
			odd++
			s.say("%s after %s: %v", c.Body, c.End.Sub(c.Start), c.Err)
		}
	}
	var names []string
	for _, t := range targets {
		names = append(names, t.Address)
	}
	what := fmt.Sprintf("%s removed %d times under knocking clients", strings.Join(names, " and "), rounds)
	s.check(odd == 0, what+": served or refused, nothing else", "%s", outcomes(all))
	s.check(late == 0, what+": refused as soon as the reload has returned", "%d times not", late)
	return nil
}

func listenerChanged(ctx context.Context, s *Stage) error {
	if err := s.roll(ctx, settings{listen: "{extra: {address: " + socketThree + ", auth: peer}}"}); err != nil {
		return err
	}
	one, three := s.asked(ctx, s.at(socketOne)), s.asked(ctx, s.at(socketThree))
	s.check(one == "refused" && three == "served", "a listener's address changes by reload alone", "the old one %s, the new one %s", one, three)
	return s.roll(ctx, settings{})
}

// listenerTakenBack: what a failed reload had added refuses again, and systemd forgets its units.
func listenerTakenBack(ctx context.Context, s *Stage) error {
	nowhere := "{nowhere: {type: spool, directory: /var/lib/nowhere}}"
	if err := s.configure(ctx, settings{listen: both, resources: nowhere}); err != nil {
		return err
	}
	out, err := s.show(ctx, "fdtctl reload")
	s.check(err != nil && strings.Contains(out, "nowhere"), "a reload that adds listeners and fails says why", "%s", grep(out, "nowhere"))
	one, two := s.asked(ctx, s.at(socketOne)), s.asked(ctx, s.at(socketTwo))
	s.check(one == "refused" && two == "refused", "the listeners that it had added are taken back", "%s, %s", one, two)

	// One that cannot be opened at all.
	if _, err := s.must(ctx, "mkdir -p "+socketTwo+"/in-the-way"); err != nil {
		return err
	}
	if err := s.configure(ctx, settings{listen: both}); err != nil {
		return err
	}
	out, err = s.show(ctx, "fdtctl reload")
	s.check(err != nil && strings.Contains(out, "two.sock"), "an address that cannot be opened fails the reload", "%s", strings.TrimSpace(out))
	one = s.asked(ctx, s.at(socketOne))
	s.check(one == "refused", "and the one opened beside it is taken back", "%s", one)
	if _, err := s.must(ctx, "rm -r "+socketTwo); err != nil {
		return err
	}
	if err := s.configure(ctx, settings{}); err != nil {
		return err
	}
	_, err = until(ctx, "systemd forgets them", func() (bool, error) {
		out, err = s.quiet(ctx, "systemctl list-units --all --plain --no-legend 'fdt-listen@*'")
		return strings.Count(out, "\n") == 2, err
	})
	s.check(err == nil, "nothing of them is left in systemd", "%s", strings.Join(strings.Fields(out), " "))
	return nil
}

// listenerMode: a mode or group that cannot be given to an open socket is refused, with the way out.
func listenerMode(ctx context.Context, s *Stage) error {
	if err := s.roll(ctx, settings{listen: both}); err != nil {
		return err
	}
	for _, changed := range []string{
		"{extra: {address: [" + socketOne + ", " + socketTwo + "], auth: peer, mode: 0600, group: fdt}}",
		"{extra: {address: [" + socketOne + ", " + socketTwo + "], auth: peer, mode: 0660, group: adm}}",
	} {
		if err := s.configure(ctx, settings{listen: changed}); err != nil {
			return err
		}
		out, err := s.show(ctx, "fdtctl reload")
		s.check(err != nil && strings.Contains(out, socketOne), "a changed mode or group of an open socket is refused with the way out", "%s", strings.TrimSpace(out))
	}
	return s.roll(ctx, settings{})
}
