package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/fdtserver/fdt/internal/service"
)

// Others returns the scenarios of workers in other languages, each with the example that the package ships. They need python3,
// gunicorn and nodejs in the container, and no database. Install comes first; the others may play alone after it.
func Others() []Scenario {
	others := []Scenario{{"Install", "apt install, quick reloads", rolloutInstall}}
	for _, o := range []struct {
		name, title string
		language
	}{
		{"Asyncio", "a worker in Python on asyncio", language{example: "asyncio", counts: true}},
		{"Gunicorn", "gunicorn as worker", language{example: "gunicorn"}},
		{"Node", "a worker on Node", language{example: "node", counts: true}},
	} {
		others = append(others, Scenario{o.name, o.title, o.play})
	}
	return others
}

// language is a worker in another language.
type language struct {
	example string // its directory
	counts  bool   // its connections are told
}

// play installs an example as its text says, reloads it under load, and has fdtctl count and cut its connections.
func (l language) play(ctx context.Context, s *Stage) error {
	shipped := "/usr/share/doc/fdt/examples/" + l.example
	if _, err := s.must(ctx, "mkdir -p /srv/app && cp "+shipped+"/* /srv/app/"); err != nil {
		return err
	}
	conf, err := s.quiet(ctx, "cat "+shipped+"/fdt-worker.conf")
	if err != nil {
		return err
	}
	if err := s.foreignWorker(ctx, l.example, conf); err != nil {
		return err
	}
	generation, err := s.settled(ctx)
	if err != nil {
		return err
	}
	if err := s.told(ctx, l); err != nil {
		return err
	}
	if err := s.cut(ctx, l, generation); err != nil {
		return err
	}
	return s.ordinary(ctx)
}

// ordinary has fdt's own workers back.
func (s *Stage) ordinary(ctx context.Context) error {
	if err := errors.Join(s.program(ctx, ""), s.local(ctx, true)); err != nil {
		return err
	}
	if err := s.roll(ctx, settings{}); err != nil {
		return err
	}
	_, err := s.settled(ctx)
	return err
}

// silent opens a connection on which nothing is asked, but for the beginning of a request.
func (s *Stage) silent(ctx context.Context) (net.Conn, error) {
	conn, err := s.Bed.Dial(ctx, "tcp", "127.0.0.1:8080")
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, "POST /hangs HTTP/1.1\r\nHost: fdt\r\nContent-Length: 1\r\n\r\n"); err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	return conn, nil
}

// told claims what fdtctl status has of such workers.
func (s *Stage) told(ctx context.Context, l language) error {
	conn, err := s.silent(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	var st status
	_, err = until(ctx, "the status tells of the request in hand", func() (bool, error) {
		if st, err = s.status(ctx); err != nil {
			return false, err
		}
		busy := 0
		for _, w := range st.serving() {
			busy += w.Live.Busy
		}
		return busy == 1, nil
	})
	if err != nil {
		return err
	}
	for _, w := range st.serving() {
		pid, err := s.quiet(ctx, "systemctl show -P MainPID "+w.Unit)
		if err != nil {
			return err
		}
		s.check(strings.TrimSpace(pid) == fmt.Sprint(w.Live.PID), w.Unit+" tells its process", "%d, and systemd says %s", w.Live.PID, strings.TrimSpace(pid))
	}
	wanted := 0
	if l.counts {
		wanted = 1
	}
	s.check(st.Connections == wanted, "connections are told where they can be", "%d", st.Connections)
	for _, w := range st.serving() {
		s.check(slices.Contains(w.Left, "open") != l.counts && !slices.Contains(w.Left, "pid"), w.Unit+" is said not to tell the rest", "%q", w.Left)
	}
	out, err := s.quiet(ctx, "fdtctl status")
	if err != nil {
		return err
	}
	s.check(l.counts || strings.Contains(out, "not told"), "so is it on the screen", "%s", out)
	return nil
}

// cut has fdtctl end an old generation that a client holds.
func (s *Stage) cut(ctx context.Context, l language, generation int) error {
	conn, err := s.silent(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if _, err := s.must(ctx, "systemctl reload fdt"); err != nil {
		return err
	}
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	s.check(len(st.Generations) == 2, "a client holds its generation", "%d generations", len(st.Generations))
	if _, err := s.must(ctx, fmt.Sprintf("fdtctl status; fdtctl drain %d --within 500ms", generation)); err != nil {
		return err
	}
	now, err := s.settled(ctx)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(conn) // gunicorn tells its client by a status 500
	s.check(now == generation+1 && !strings.Contains(string(answer), "200 OK"), l.example+": fdtctl drain cuts what is left", "generation %d; the client reads %.40q, %v",
		now, answer, err)
	out, err := s.quiet(ctx, fmt.Sprintf("journalctl -b -o cat -u '%s' _PID=1 | grep -c 'Failed with result' || true", strings.Replace(service.Default.WorkerPattern(), "*", fmt.Sprintf("%d-*", generation), 1)))
	s.check(err == nil && strings.TrimSpace(out) == "0", "none of its workers has failed", "%s", strings.TrimSpace(out))
	return nil
}
