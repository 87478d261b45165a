package scenario

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/fdtserver/fdt/internal/scram"
	"github.com/fdtserver/fdt/test/load"
)

// Rollouts returns what reloads must stand beyond the main job. They need a container of their own and play in any
// order after Install; each leaves fdt serving.
func Rollouts() []Scenario {
	return []Scenario{
		{"Install", "apt install, quick reloads", rolloutInstall},
		{"Listeners", "addresses come, go and change under load on those that stay", listeners},
		{"Sockets", "what people do to listeners behind fdt's back, and what they edit while it is stopped", sockets},
		{"Canary", "generations that say READY=1 and are no good", canary},
		{"Rehearsal", "a transaction prepared on PostgreSQL and MariaDB before a generation may serve", rehearsal},
		{"Check", "fdtctl check and check --live of what would not serve", checks},
		{"Doubt", "resources that go or change their store while a transaction is in doubt there", doubt},
		{"Surge", "workers exchanged in batches", surge},
		{"Generations", "old generations are bounded, and hurry when told", generations},
		{"Queue", "reloads at once, by SIGHUP, with progress, during a stop", queue},
		{"Moving", "sessions move to the new workers, through reloads and a restart; those that may not are told", moving},
		{"Rollback", "fdtctl rollback, and a boot with a broken configuration", rollback},
		{"CrashLoop", "a worker dies again and again", crashLoop},
		{"Recycling", "workers are replaced by age and by memory", recycling},
		{"Foreign", "gunicorn and a Go HTTP service as workers", foreign},
		{"Metrics", "scrapes of a fdt that serves, hangs, drains and is stopped; their address changes", metrics},
		{"Bus", "the master on D-Bus: who may ask what, properties and signals", onBus},
		{"Control", "fdtctl before a master that does not answer, and where things are missing", control},
		{"Adoption", "the master ends at each step of a reload; the next finishes or takes back", adoption},
		{"Disturbed", "daemon-reload, daemon-reexec, apt-get install and a restart of dbus, at bad moments", disturbed},
		{"HostShutdown", "a reboot with open and prepared transactions", hostShutdown},
		{"Upgrade", "a newer package, the older one, and none, under load with open and prepared transactions", upgrade},
	}
}

// rolloutInstall installs the package, and has rollouts take no longer than they must.
func rolloutInstall(ctx context.Context, s *Stage) error {
	if said, err := s.Bed.Install(ctx, s.Deb); err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	if err := s.configure(ctx, settings{}); err != nil {
		return err
	}
	if _, err := s.must(ctx, "systemctl reload fdt"); err != nil {
		return err
	}
	out, err := s.must(ctx, "for p in /usr/lib/fdt/fdt-master /usr/lib/fdt/fdt-worker; do $p -version; done; fdtctl --version; dpkg-query -W -f '${Version}' fdt")
	f := strings.Fields(out)
	s.check(len(slices.Compact([]string{f[1], f[3], f[len(f)-2], f[len(f)-1]})) == 1, "every program tells the package's version", "%s", strings.Join(f, " "))
	return err
}

// settings are what a scenario adds to the installed configuration, as YAML in braces; the zero value rolls out quickly.
type settings struct {
	workers, drain, reload, listen, resources, procedures, users, metrics string
}

// alice is a user with a password, for a listener that wants one.
func alice() string { return "{alice: \"" + scram.New("secret").String() + "\"}" }

// configure writes the settings to a file beside the installed one, without applying them.
func (s *Stage) configure(ctx context.Context, c settings) error {
	var b strings.Builder
	for _, part := range []struct{ key, value, fallback string }{
		{"workers", c.workers, "{count: 2}"},
		{"drain", c.drain, "{idle: 2s, timeout: 60s}"},
		{"reload", c.reload, "{settle: 200ms, ready_timeout: 2m}"},
		{"listen", c.listen, ""},
		{"resources", c.resources, ""},
		{"procedures", c.procedures, ""},
		{"users", c.users, ""},
		{"metrics", address(c.metrics), ""},
	} {
		if value := part.value; value != "" || part.fallback != "" {
			if value == "" {
				value = part.fallback
			}
			fmt.Fprintf(&b, "%s: %s\n", part.key, value)
		}
	}
	return s.Bed.WriteFile(ctx, "/etc/fdt/config.d/50-rollout.yaml", []byte(b.String()))
}

// address is the metrics' part of the configuration.
func address(of string) string {
	if of == "" {
		return ""
	}
	return fmt.Sprintf("{address: %q}", of)
}

// roll applies settings by systemctl reload.
func (s *Stage) roll(ctx context.Context, c settings) error {
	if err := s.configure(ctx, c); err != nil {
		return err
	}
	_, err := s.must(ctx, "systemctl reload fdt")
	return err
}

// at is the target of another unix socket.
func (s *Stage) at(path string) load.Target {
	t := s.target()
	t.Address = path
	return t
}

// asked is how one new client fares: served, refused, or else.
func (s *Stage) asked(ctx context.Context, target load.Target) string {
	conn, err := target.Connect(ctx)
	if err != nil {
		return load.Kind(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "SELECT 1").ReadAll(); err != nil {
		return load.Kind(err)
	}
	return "served"
}

// outcomes counts how calls of a load ended.
func outcomes(b *load.Books) string {
	kinds := map[string]int{}
	for _, c := range b.Calls {
		kind := "served"
		if c.Err != nil {
			kind = load.Kind(c.Err)
		}
		kinds[kind]++
	}
	var out []string
	for kind, n := range kinds {
		out = append(out, fmt.Sprintf("%d %s", n, kind))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// servedOrRefused claims that each client either was served or was refused.
func (s *Stage) servedOrRefused(books *load.Books, when string) {
	s.servedOrElse(books, when, "refused")
}

// servedOrElse claims that each client either was served or met one of these ends.
func (s *Stage) servedOrElse(books *load.Books, when string, ends ...string) {
	odd := slices.ContainsFunc(books.Lost(), func(c load.Call) bool { return !slices.Contains(ends, load.Kind(c.Err)) })
	s.check(!odd, when+": clients are served or "+strings.Join(ends, " or ")+", nothing else", "%s", outcomes(books))
}

// lightTraffic is steady load that leaves the processors to what is shown beside it.
func (s *Stage) lightTraffic(ctx context.Context) (*traffic, error) {
	t := &traffic{
		connecting: load.Connecting(ctx, s.target(), 4, connectingPace),
		sessions:   load.Sessions(ctx, s.target(), 8, sessionPace),
	}
	return t, t.more(ctx)
}
