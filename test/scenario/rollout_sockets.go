package scenario

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/fdtserver/fdt/test/load"
)

// The TCP listener that stands beside the default one, and its unit.
const (
	portAddress = "127.0.0.1:7433"
	portUnit    = "fdt-listen@tcp4-127.0.0.1-7433.socket"
)

// sockets: whatever is done to the listeners' units and files while fdt serves, clients reach it again by itself; and a
// start from stopped opens what the configuration says then.
func sockets(ctx context.Context, s *Stage) error {
	users := alice()
	with := settings{users: users, listen: "{public: {address: \"" + portAddress + "\", auth: scram}}"}
	if err := s.roll(ctx, with); err != nil {
		return err
	}
	port := s.at(portAddress)
	port.Network, port.User, port.Password = "tcp", "alice", "secret"
	for _, part := range []func(context.Context, *Stage, load.Target) error{
		socketUnitsByHand, socketFileRemoved, socketStopped, socketInTheWay,
	} {
		if err := part(ctx, s, port); err != nil {
			return err
		}
	}
	return s.roll(ctx, settings{})
}

// unixUnit is the default listener's socket.
func (s *Stage) unixUnit(ctx context.Context) (string, error) {
	out, err := s.quiet(ctx, "systemctl list-units --all --plain --no-legend 'fdt-listen@unix-s.PGSQL.7432-*.socket'")
	if f := strings.Fields(out); err == nil && len(f) > 0 {
		return f[0], nil
	}
	return "", fmt.Errorf("no unit of %s: %w: %s", socketPath, err, out)
}

// reachable waits until a new client is served by each target, and says so.
func (s *Stage) reachable(ctx context.Context, what string, targets ...load.Target) error {
	seen := make([]string, len(targets))
	took, err := until(ctx, "clients are served", func() (bool, error) {
		all := true
		for i, t := range targets {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			seen[i] = s.asked(ctx, t)
			cancel()
			all = all && seen[i] == "served"
		}
		return all, nil
	})
	s.check(err == nil, what+": clients of every listener are served again", "%s after %s", strings.Join(seen, ", "), took.Round(time.Millisecond))
	return ctx.Err()
}

// content waits until the status names nothing that is wrong.
func (s *Stage) content(ctx context.Context, what string) error {
	line := ""
	_, err := until(ctx, "the status is clean", func() (bool, error) {
		var err error
		line, err = s.quiet(ctx, "systemctl show -P StatusText fdt")
		return !strings.Contains(line, "degraded") && !strings.Contains(line, "not applied") && strings.Contains(line, "2 listeners"), err
	})
	s.check(err == nil, what+": STATUS tells of the present, both listeners and nothing wrong", "%s", strings.TrimSpace(line))
	return ctx.Err()
}

// socketUnitsByHand stops and restarts units while a client has a transaction open.
func socketUnitsByHand(ctx context.Context, s *Stage, port load.Target) error {
	local, err := s.unixUnit(ctx)
	if err != nil {
		return err
	}
	for i, command := range []string{
		"systemctl restart fdt-sockets.target",
		"systemctl stop fdt-sockets.target",
		"systemctl enable fdt-sockets.target; systemctl disable --now fdt-sockets.target",
		"systemctl stop " + portUnit,
		"systemctl restart " + portUnit,
		"systemctl stop " + local,
		"systemctl restart " + local,
	} {
		conn, err := s.target().Connect(ctx)
		if err != nil {
			return err
		}
		body := fmt.Sprintf("kept-%d", i)
		if _, err := conn.Exec(ctx, "BEGIN; CALL enqueue('"+body+"')").ReadAll(); err != nil {
			return err
		}
		if _, err := s.show(ctx, command); err != nil {
			s.say("%v", err)
		}
		if err := s.reachable(ctx, command, s.target(), port); err != nil {
			return err
		}
		_, err = conn.Exec(ctx, "COMMIT").ReadAll()
		n, lost := s.inOutbox(ctx, body)
		s.check(err == nil && n == 1, command+": the transaction that was open commits", "%v, %d delivered", err, n)
		_ = conn.Close(ctx)
		if lost != nil {
			return lost
		}
		if err := s.content(ctx, command); err != nil {
			return err
		}
	}
	// Opened anew while the master does not look: the units are as active as ever.
	blind := fmt.Sprintf(Stand+"p=$(systemctl show -P MainPID fdt); stand $p; c=%s; systemctl stop $c.service $c.socket; systemctl start $c.socket; kill -CONT $p", strings.TrimSuffix(local, ".socket"))
	if _, err := s.must(ctx, blind); err != nil {
		return err
	}
	if err := s.reachable(ctx, "a restart that the master does not see", s.target(), port); err != nil {
		return err
	}
	if err := s.content(ctx, "a restart that the master does not see"); err != nil {
		return err
	}
	out, err := s.quiet(ctx, "journalctl -t fdt-master -t fdt -o cat | grep 'opening it, with new workers' | sort | uniq -c")
	s.check(strings.Contains(out, "it is closed") && strings.Contains(out, "opened anew"), "the journal says what was found and done", "%s", strings.Join(strings.Fields(out), " "))
	return err
}

// socketFileRemoved takes the file of a unix socket away, and puts another socket in its place.
func socketFileRemoved(ctx context.Context, s *Stage, port load.Target) error {
	for _, command := range []string{
		"rm " + socketPath,
		"mv " + socketPath + " /run/fdt/elsewhere && python3 -c 'import socket; s=socket.socket(socket.AF_UNIX); s.bind(\"" + socketPath + "\"); s.listen()'",
	} {
		if _, err := s.must(ctx, command); err != nil {
			return err
		}
		if err := s.reachable(ctx, command, s.target(), port); err != nil {
			return err
		}
		if err := s.content(ctx, command); err != nil {
			return err
		}
	}
	_, err := s.must(ctx, "rm -f /run/fdt/elsewhere")
	return err
}

// socketStopped edits the configuration while fdt is stopped: what opens is what it says then.
func socketStopped(ctx context.Context, s *Stage, _ load.Target) error {
	before := "{one: {address: " + socketOne + ", auth: peer, mode: 0666}, two: {address: " + socketTwo + ", auth: peer}}"
	after := "{one: {address: " + socketOne + ", auth: peer, mode: 0600, backlog: 77}, three: {address: " + socketThree + ", auth: peer}}"
	for _, start := range []string{"systemctl start fdt", "systemctl start fdt-sockets.target", "systemctl start fdt-sockets.target # edited again"} {
		if err := s.configure(ctx, settings{listen: before}); err != nil {
			return err
		}
		if _, err := s.must(ctx, "systemctl stop fdt; systemctl start fdt; systemctl stop fdt"); err != nil {
			return err
		}
		again := strings.HasSuffix(start, "edited again")
		if again { // the listeners wait already, with nobody behind them
			if _, err := s.must(ctx, start); err != nil {
				return err
			}
		}
		if err := s.configure(ctx, settings{listen: after}); err != nil {
			return err
		}
		since, err := s.must(ctx, "date +@%s.%N")
		if err != nil {
			return err
		}
		if !again {
			if _, err := s.must(ctx, start); err != nil {
				return err
			}
		}
		if err := s.reachable(ctx, start, s.target()); err != nil {
			return err
		}
		if err := s.reachable(ctx, start, s.at(socketOne), s.at(socketThree)); err != nil {
			return err
		}
		mode, err := s.quiet(ctx, "stat -c %a "+socketOne+" "+socketThree)
		s.check(err == nil && strings.HasPrefix(mode, "600\n"), start+": a changed mode is the one that is opened", "%s", strings.Join(strings.Fields(mode), " "))
		queue, err := s.quiet(ctx, "ss -xlH src "+socketOne+" | awk '{print $4}'")
		s.check(err == nil && strings.TrimSpace(queue) == "77", start+": so is a changed backlog", "%s", strings.TrimSpace(queue))
		two := s.asked(ctx, s.at(socketTwo))
		opened, err := s.quiet(ctx, "journalctl -o cat _PID=1 --since='"+strings.TrimSpace(since)+"' | grep -c 'Listening on.*two.sock' || true")
		s.check(err == nil && two == "refused" && strings.TrimSpace(opened) == "0", start+": a removed listener is never opened", "%s, opened %s times", two, strings.TrimSpace(opened))
	}
	if _, err := s.must(ctx, "systemctl start fdt"); err != nil {
		return err
	}
	return s.roll(ctx, settings{})
}

// socketInTheWay names paths at which something is that fdt did not make.
func socketInTheWay(ctx context.Context, s *Stage, _ load.Target) error {
	listens := "python3 -c 'import socket,time; s=socket.socket(socket.AF_UNIX); s.bind(\"/srv/taken\"); s.listen(); time.sleep(600)'"
	if _, err := s.must(ctx, "echo precious >/srv/list.txt; ln -s /srv/nothing /srv/link; systemd-run --quiet --unit=taken "+listens+"; while [ ! -S /srv/taken ]; do sleep 0.05; done"); err != nil {
		return err
	}
	for _, path := range []string{"/srv/list.txt", "/srv/link", "/srv/taken"} {
		c := settings{listen: "{typo: {address: " + path + ", auth: peer}}"}
		if err := s.configure(ctx, c); err != nil {
			return err
		}
		out, err := s.show(ctx, "fdtctl reload")
		s.check(err != nil && strings.Contains(out, path) && strings.Contains(out, "name another path"), path+" in the place of a socket is refused at the reload", "%s", strings.TrimSpace(out))
		// From stopped nothing serves that could go on: what cannot open stays closed, the rest serves.
		if _, err := s.must(ctx, "systemctl stop fdt; systemctl start fdt"); err != nil {
			return err
		}
		if err := s.reachable(ctx, "a start with "+path, s.target()); err != nil {
			return err
		}
		_, err = until(ctx, "the status tells", func() (bool, error) {
			out, err = s.quiet(ctx, "systemctl show -P StatusText fdt")
			return strings.Contains(out, path), err
		})
		s.check(err == nil, "a start with "+path+" says what is wrong", "%s", strings.TrimSpace(out))
	}
	out, err := s.must(ctx, "cat /srv/list.txt; readlink /srv/link; systemctl is-active taken; stat -c %F /srv/taken; systemctl stop taken; rm /srv/list.txt /srv/link /srv/taken")
	s.check(err == nil && strings.Join(strings.Fields(out), " ") == "precious /srv/nothing active socket", "nothing that was in the way was touched", "%s", strings.Join(strings.Fields(out), " "))
	return err
}
