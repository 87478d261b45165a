package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/fdtserver/fdt/test/load"
)

// foreign has other programs for workers, by a drop-in alone.
func foreign(ctx context.Context, s *Stage) error {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("where are the examples: %w", err)
	}
	examples := filepath.Join(strings.TrimSpace(string(root)), "examples")
	if err := s.copyExamples(ctx, examples); err != nil {
		return err
	}
	for _, example := range []string{"http", "gunicorn"} {
		conf, err := os.ReadFile(filepath.Join(examples, example, "fdt-worker.conf"))
		if err != nil {
			return err
		}
		if err := s.foreignWorker(ctx, example, string(conf)); err != nil {
			return fmt.Errorf("%s: %w", example, err)
		}
	}
	for _, broken := range []struct{ what, app, reason string }{
		{"an application that cannot be imported", "import nowhere", "nowhere"},
		{"an application that fails when it is asked", `def app(environ, start_response): raise RuntimeError("out of order")`, "out of order"},
		{"an application that answers its self-check with an error", "def app(environ, start_response): start_response(\"503 Not Today\", []); return []", "503 Not Today"},
	} {
		if err := s.Bed.WriteFile(ctx, "/srv/app/app.py", []byte(broken.app+"\n")); err != nil {
			return err
		}
		s.refusedForeign(ctx, broken.what, broken.reason)
	}
	if err := s.ordinary(ctx); err != nil {
		return err
	}
	kind := s.asked(ctx, s.target())
	s.check(kind == "served", "without the drop-in fdt's own workers are back", "%s", kind)
	return nil
}

// refusedForeign claims that a broken application never goes live.
func (s *Stage) refusedForeign(ctx context.Context, what, reason string) {
	out, err := s.show(ctx, "fdtctl reload")
	target := s.at("/run/fdt/web.sock")
	gerr := target.Get(ctx, "/still-there")
	s.check(err != nil && strings.Contains(out, reason) && gerr == nil, "gunicorn with "+what+": the reload fails, the old one serves on",
		"%s; a request: %v", grep(out, reason), gerr)
}

// copyExamples puts the programs where their drop-ins expect them.
func (s *Stage) copyExamples(ctx context.Context, examples string) error {
	dir, err := os.MkdirTemp("", "fdt-http-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, "http"), "github.com/fdtserver/fdt/examples/http")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	if _, err := s.quiet(ctx, "mkdir -p /srv/app"); err != nil {
		return err
	}
	for from, to := range map[string]string{
		filepath.Join(dir, "http"):                           "/usr/local/bin/fdt-http",
		filepath.Join(examples, "gunicorn/app.py"):           "/srv/app/app.py",
		filepath.Join(examples, "gunicorn/gunicorn.conf.py"): "/srv/app/gunicorn.conf.py",
	} {
		data, err := os.ReadFile(from)
		if err == nil {
			err = s.Bed.WriteFile(ctx, to, data)
		}
		if err != nil {
			return err
		}
	}
	_, err = s.quiet(ctx, "chmod 755 /usr/local/bin/fdt-http")
	return err
}

// local has the listener that is configured by default, or not.
func (s *Stage) local(ctx context.Context, there bool) error {
	edit := "s/^listen:/#&/; s/^  local:/#&/"
	if there {
		edit = "s/^#\\(listen:\\|  local:\\)/\\1/"
	}
	_, err := s.quiet(ctx, "sed -i '"+edit+"' /etc/fdt/config.yaml")
	return err
}

// web are the addresses on which the other programs listen.
const web = "{web: {address: [\"127.0.0.1:8080\", \"[::1]:8080\", /run/fdt/web.sock], auth: program}}"

// foreignWorker puts the drop-in in place and rolls that program out, over and over, under load.
func (s *Stage) foreignWorker(ctx context.Context, name, conf string) error {
	if err := s.dropIn(ctx, conf); err != nil {
		return err
	}
	if err := errors.Join(s.local(ctx, true), s.configure(ctx, settings{listen: web, reload: "{settle: 1s}"})); err != nil {
		return err
	}
	if err := s.refusedRollout(ctx, name+" on a listener with auth: peer", "does not go by auth: peer of listener local"); err != nil {
		return err
	}
	if err := s.local(ctx, false); err != nil {
		return err
	}
	if err := s.roll(ctx, settings{listen: web, reload: "{settle: 1s}"}); err != nil {
		return err
	}
	if _, err := s.settled(ctx); err != nil && !errors.Is(err, errPatience) {
		return err
	}
	var loads []*load.Load
	for _, address := range []struct{ network, address string }{{"tcp", "127.0.0.1:8080"}, {"tcp", "[::1]:8080"}, {"unix", "/run/fdt/web.sock"}} {
		target := s.at(address.address)
		target.Network = address.network
		loads = append(loads, load.Requests(ctx, target, 4, 10*time.Millisecond))
	}
	more := func() error {
		for _, l := range loads {
			n := l.Progress()
			if _, err := until(ctx, "requests go on", func() (bool, error) { return l.Progress() > n+20, nil }); err != nil {
				return err
			}
		}
		return nil
	}
	const times = 3
	for range times {
		if err := more(); err != nil {
			return err
		}
		if _, err := s.must(ctx, "systemctl reload fdt"); err != nil {
			return err
		}
	}
	if err := more(); err != nil {
		return err
	}
	all := &load.Books{}
	for _, l := range loads {
		all.Calls = append(all.Calls, l.Stop().Calls...)
	}
	for _, c := range all.Lost()[:min(5, len(all.Lost()))] {
		s.say("lost: %s after %s: %v", c.Body, c.End.Sub(c.Start), c.Err)
	}
	s.check(len(all.Lost()) == 0, fmt.Sprintf("%s under fdt by a drop-in alone, reloaded %d times on tcp4, tcp6 and unix: no request is lost", name, times), "%s", outcomes(all))
	return nil
}
