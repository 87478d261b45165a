package scenario

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// sampled is what systemd said of the workers' units, asked all the time.
type sampled struct {
	looks             int
	least, most       int // units active; active or activating
	appeared, starts  int // units seen; times one of them was seen activating anew
	cancel            context.CancelFunc
	done              chan error
	seen, wasStarting map[string]bool
}

// sample looks at the workers' units every few milliseconds until stop.
func (s *Stage) sample(ctx context.Context) (*sampled, error) {
	// Not systemd's private socket: systemd cannot tell who a process outside of the container is.
	conn, err := dbus.Connect("unix:path=" + s.Bed.Path("/run/dbus/system_bus_socket"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	m := &sampled{least: 1 << 30, cancel: cancel, done: make(chan error, 1), seen: map[string]bool{}, wasStarting: map[string]bool{}}
	go func() { // stop waits for it
		err := m.run(ctx, conn.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1"))
		m.done <- errors.Join(err, conn.Close())
	}()
	return m, nil
}

func (m *sampled) run(ctx context.Context, manager dbus.BusObject) error {
	for ctx.Err() == nil {
		var units []struct {
			Name, Description, Load, Active, Sub, Following string
			Path                                            dbus.ObjectPath
			JobID                                           uint32
			JobType                                         string
			JobPath                                         dbus.ObjectPath
		}
		call := manager.Call("org.freedesktop.systemd1.Manager.ListUnitsByPatterns", 0, []string{}, []string{"fdt-worker@*.service"})
		if err := call.Store(&units); err != nil {
			return err
		}
		active, starting := 0, 0
		for _, u := range units {
			m.seen[u.Name] = true
			now := u.Active == "activating" && u.Sub == "start"
			if now && !m.wasStarting[u.Name] {
				m.starts++
			}
			m.wasStarting[u.Name] = now
			switch {
			case u.Active == "active":
				active++
			case now:
				starting++
			}
		}
		m.looks++
		m.least, m.most = min(m.least, active), max(m.most, active+starting)
		m.appeared = len(m.seen)
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

func (m *sampled) stop() error {
	m.cancel()
	return <-m.done
}

// surge rolls many workers with little room, and claims the bounds.
func surge(ctx context.Context, s *Stage) error {
	t, err := s.lightTraffic(ctx)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		surge string
		most  int
	}{{"1", 5}, {"50%", 6}, {"100%", 8}} {
		set := settings{workers: "{count: 4}", reload: "{settle: 100ms, surge: " + c.surge + "}"}
		if err := s.roll(ctx, set); err != nil {
			return err
		}
		if _, err := s.settled(ctx); err != nil {
			return err
		}
		m, err := s.sample(ctx)
		if err != nil {
			return err
		}
		_, err = s.must(ctx, "systemctl reload fdt")
		if err := errors.Join(m.stop(), err); err != nil {
			return err
		}
		s.check(m.least >= 4 && m.most <= c.most, "surge "+c.surge+" of 4 workers: never fewer than 4, never more than "+strconv.Itoa(c.most),
			"%d to %d in %d looks", m.least, m.most, m.looks)
	}
	if err := s.roll(ctx, settings{}); err != nil {
		return err
	}
	if _, err := s.settled(ctx); err != nil {
		return err
	}
	return s.unnoticed(ctx, t, "generations exchanged in batches")
}

// generations keeps an old one busy on each of several reloads.
func generations(ctx context.Context, s *Stage) error {
	bounded := settings{drain: "{idle: 200ms, timeout: 5m, generations: 2}"}
	if err := s.roll(ctx, bounded); err != nil {
		return err
	}
	first, err := s.status(ctx)
	if err != nil {
		return err
	}
	if err := s.prepare(ctx, "in-phase-two"); err != nil {
		return err
	}
	var clients []*client
	defer func() {
		for _, c := range clients {
			_ = c.kill()
		}
	}()
	for i := range 4 {
		c, err := s.open(ctx, fmt.Sprintf("generation-%d", i))
		if err != nil {
			return err
		}
		clients = append(clients, c)
		if _, err := s.must(ctx, "systemctl reload fdt"); err != nil {
			return err
		}
	}
	count := func() (map[string]bool, error) {
		units, err := s.workerUnits(ctx, "deactivating")
		gens := map[string]bool{}
		for _, u := range units {
			gen, _, _ := strings.Cut(u, "-")
			gens[gen] = true
		}
		return gens, err
	}
	all, err := count()
	if err != nil {
		return err
	}
	took, err := until(ctx, "the oldest ones hurry", func() (bool, error) {
		gens, err := count()
		return len(gens) <= 2, err
	})
	left, cerr := count()
	if err := errors.Join(err, cerr); err != nil {
		return err
	}
	s.check(len(all) > 2 && !left[strconv.Itoa(first.Generation)], "drain.generations: 2: of four busy old generations the oldest two hurry",
		"%v left of %v after %s", slices.Sorted(maps.Keys(left)), slices.Sorted(maps.Keys(all)), took.Round(100*time.Millisecond))

	// By hand.
	oldest := slices.Min(slices.Collect(maps.Keys(left)))
	if _, err := s.must(ctx, "fdtctl drain "+oldest+" --now"); err != nil {
		return err
	}
	took, err = until(ctx, "that generation is gone", func() (bool, error) {
		gens, err := count()
		return !gens[oldest], err
	})
	s.check(err == nil, "fdtctl drain GENERATION --now ends it, five minutes before its time", "generation %s is gone after %d ms", oldest, took.Milliseconds())
	out, err := s.show(ctx, "fdtctl drain "+oldest+" --now")
	s.check(err != nil && strings.Contains(out, "draining"), "fdtctl drain of a generation that is gone says so", "%s", strings.TrimSpace(out))
	said, err := clients[3].do("COMMIT;")
	if err != nil {
		return err
	}
	delivered := make([]int, 4)
	for i := range delivered {
		if delivered[i], err = s.inOutbox(ctx, fmt.Sprintf("generation-%d", i)); err != nil {
			return err
		}
	}
	s.check(slices.Equal(delivered, []int{0, 0, 0, 1}), "what was cut is rolled back, what was left in peace commits", "%v in the outbox%s", delivered, said)
	if err := s.listed(ctx, "a generation told to hurry", "in-phase-two"); err != nil {
		return err
	}
	if _, err := s.must(ctx, "fdtctl txn rollback in-phase-two"); err != nil {
		return err
	}
	for _, c := range clients {
		if err := c.kill(); err != nil {
			return err
		}
	}
	clients = nil
	if err := s.roll(ctx, settings{}); err != nil {
		return err
	}
	_, err = s.settled(ctx)
	return err
}

// crashLoop has one worker die again and again.
func crashLoop(ctx context.Context, s *Stage) error {
	if err := s.roll(ctx, settings{workers: "{count: 2, backoff: {first: 500ms, longest: 4s}}"}); err != nil {
		return err
	}
	if _, err := s.settled(ctx); err != nil {
		return err
	}
	before, err := s.status(ctx)
	if err != nil {
		return err
	}
	if err := s.program(ctx, "echo no luck today; exit 3"); err != nil {
		return err
	}
	m, err := s.sample(ctx)
	if err != nil {
		return err
	}
	victim, other := before.serving()[0], before.serving()[1]
	if _, err := s.must(ctx, fmt.Sprintf("kill -9 %d", victim.Live.PID)); err != nil {
		return err
	}
	t, err := s.lightTraffic(ctx)
	if err != nil {
		return err
	}
	_, err = until(ctx, "STATUS says degraded", func() (bool, error) {
		out, err := s.quiet(ctx, "systemctl show -P StatusText fdt")
		return strings.Contains(out, "degraded") && strings.Contains(out, "exit status 3"), err
	})
	out, _ := s.quiet(ctx, "fdtctl status | head -n 6")
	s.check(err == nil && strings.Contains(out, "no luck today"), "a worker that dies again and again: STATUS says degraded, fdtctl status says why", "%s", strings.Join(strings.Fields(out), " "))
	time.Sleep(10 * time.Second) // of looping
	if err := m.stop(); err != nil {
		return err
	}
	after, err := s.status(ctx)
	if err != nil {
		return err
	}
	// Four by systemd, then one after 0.5, 1, 2, 4 s … each; without back-off it would be some forty.
	s.check(m.starts >= 4 && m.starts <= 10, "it is backed off", "%d starts in some 11 s", m.starts)
	s.check(after.pids()[other.Unit] == other.Live.PID, "the other worker lives on", "%s is still pid %d", other.Unit, after.pids()[other.Unit])
	if err := s.program(ctx, ""); err != nil {
		return err
	}
	took, err := until(ctx, "it comes back", func() (bool, error) {
		st, err := s.status(ctx)
		return len(st.serving()) == 2, err
	})
	s.check(err == nil, "once it can start it is back by itself", "after %d ms", took.Milliseconds())
	if err := s.unnoticed(ctx, t, "a worker in a crash loop"); err != nil {
		return err
	}
	return s.roll(ctx, settings{})
}

// recycling replaces workers by age, and one that has grown by its memory.
func recycling(ctx context.Context, s *Stage) error {
	if err := s.roll(ctx, settings{workers: "{count: 2, recycle: {after: 1s}}"}); err != nil {
		return err
	}
	if _, err := s.settled(ctx); err != nil {
		return err
	}
	t, err := s.lightTraffic(ctx)
	if err != nil {
		return err
	}
	err = s.recycled(ctx, "workers.recycle.after: replaced one at a time", func(before, after status) bool {
		old := slices.Collect(maps.Values(before.pids()))
		return !slices.ContainsFunc(slices.Collect(maps.Values(after.pids())), func(pid int) bool { return slices.Contains(old, pid) })
	})
	if err != nil {
		return err
	}

	// A session makes its worker grow by what it sends, from less than 30 MiB to more than 50, and keeps it so.
	if err := s.roll(ctx, settings{workers: "{count: 2, recycle: {memory: 44MiB, grace: 1s}}", drain: "{idle: 200ms, timeout: 60s}"}); err != nil {
		return err
	}
	if _, err := s.settled(ctx); err != nil {
		return err
	}
	glutton, err := s.target().Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = glutton.Close(ctx) }()
	message := strings.Repeat("x", 8<<20)
	if _, err := glutton.Exec(ctx, "BEGIN").ReadAll(); err != nil {
		return err
	}
	err = s.recycled(ctx, "workers.recycle.memory: the one that has grown is replaced", func(before, after status) bool {
		_, _ = glutton.Exec(ctx, "CALL enqueue('"+message+"')").ReadAll()
		gone := 0
		for unit, pid := range before.pids() {
			if after.pids()[unit] != pid {
				gone++
			}
		}
		return gone == 1
	})
	if err != nil {
		return err
	}
	if _, err := glutton.Exec(ctx, "ROLLBACK").ReadAll(); err != nil {
		return fmt.Errorf("the session that made a worker grow: %w", err)
	}
	if err := s.roll(ctx, settings{}); err != nil {
		return err
	}
	if _, err := s.settled(ctx); err != nil {
		return err
	}
	return s.unnoticed(ctx, t, "recycling")
}

// recycled waits until workers are replaced as done tells, and claims that new ones came before old ones went.
func (s *Stage) recycled(ctx context.Context, claim string, done func(before, after status) bool) error {
	before, err := s.status(ctx)
	if err != nil {
		return err
	}
	m, err := s.sample(ctx)
	if err != nil {
		return err
	}
	var after status
	took, err := until(ctx, claim, func() (bool, error) {
		after, err = s.status(ctx)
		return err == nil && len(after.serving()) == 2 && done(before, after), err
	})
	if err := errors.Join(m.stop(), err); err != nil {
		return err
	}
	s.check(m.least >= 2 && m.most <= 3 && after.Generation == before.Generation, claim+", new before old, in the same generation",
		"%d to %d workers in %d looks, %v then %v, after %s", m.least, m.most, m.looks, before.pids(), after.pids(), took.Round(100*time.Millisecond))
	return nil
}
