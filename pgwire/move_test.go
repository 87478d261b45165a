package pgwire_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/scram"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/pgwire"
)

// succeeded is a server whose sessions may move to another.
type succeeded struct {
	*fdt
	path string // of the successor
}

// newSucceeded starts one; idle is how long a session that stays may be silent.
func newSucceeded(t *testing.T, b bank, idle time.Duration, tunes ...tune) *succeeded {
	t.Helper()
	path := filepath.Join(t.TempDir(), "next")
	return &succeeded{newFDT(t, b, append(tunes, func(f *fdt, _ *config.Config) {
		f.server.Idle = idle
		f.server.Successors = func() [][]string { return [][]string{{path}} }
	})...), path}
}

// alias is a listener with the name of another.
type alias struct {
	*net.UnixListener
	name string
}

func (a alias) Name() string { return a.name }

// next starts the successor: with listeners of the names of the old one's, if there is a way for them.
func (s *succeeded) next(b bank, ways map[string]pgwire.Listener, tunes ...tune) *fdt {
	s.t.Helper()
	f := newFDT(s.t, b, append(tunes, func(f *fdt, _ *config.Config) {
		maps.Copy(f.wire.Listeners, ways)
		f.server.Adopt = f.wire.Adopt
	})...)
	for i, name := range slices.Sorted(maps.Keys(ways)) {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fmt.Sprint(f.dir, "/alias", i), Net: "unix"})
		if err != nil {
			s.t.Fatal(err)
		}
		f.serve(alias{l, name})
		testwait.Until(s.t, "its accept loop", func() bool { _, ok := f.server.Counts().Listeners[name]; return ok })
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.path, Net: "unix"})
	if err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.server.Receive(l) // until it is closed
	}()
	s.t.(*testing.T).Cleanup(func() { //nolint:forcetypeassert // newSucceeded has it
		_ = l.Close()
		<-done
	})
	return f
}

// trusted is that everybody may come by the old server's unix socket.
func (s *succeeded) trusted() map[string]pgwire.Listener {
	return map[string]pgwire.Listener{s.sock: {Auth: pgwire.Trust{}, Name: "local"}}
}

// moved waits until so many sessions have moved.
func (s *succeeded) moved(n uint64) {
	s.t.Helper()
	testwait.Until(s.t, "the moves", func() bool { return s.server.Counts().Moved == n })
}

// TestSessionMoves goes on in another server: with who it is, its number and secret, settings and statements.
func TestSessionMoves(t *testing.T) {
	s := newSucceeded(t, bank{}, time.Hour)
	c := s.connect("alice", "application_name", "till", "options", "-c statement_timeout=1min")
	c.want("SET TimeZone = 'Europe/Berlin'; SET my.own = 'x'", "C SET", "C SET", "S TimeZone=Europe/Berlin", "Z I")
	for _, line := range []string{"P call 25 CALL enqueue($1)", "P rows - SELECT $1::int + 1 AS n", "P _ - SELECT 7 AS seven", "P none - ", "S"} {
		c.say(line)
	}
	c.answers("Parse", c.flush(), "1", "1", "1", "1", "Z I")
	pid := c.query("SELECT pg_backend_pid()")
	began := s.wire.Activity()[0].Began

	next := s.next(bank{}, s.trusted())
	<-s.shutdown()
	s.moved(1)
	c.answers("number", c.query("SELECT pg_backend_pid()"), pid...)
	c.want("SHOW my.own", "T my.own:25/-1/0", "D x", "C SHOW", "Z I")
	c.want("SHOW TimeZone", "T TimeZone:25/-1/0", "D Europe/Berlin", "C SHOW", "Z I")
	c.want("SHOW statement_timeout", "T statement_timeout:25/-1/0", "D 60000", "C SHOW", "Z I")
	c.want("CALL secret()", "C CALL", "Z I") // alice is
	for range 2 {
		for _, line := range []string{"B _ call t moved", "D S call", "E _ 0", "D S rows", "B _ rows t 1", "E _ 0", "B _ none t", "D P _", "E _ 0", "S"} {
			c.say(line)
		}
		c.answers("statements", c.flush(), "2", "t 25", "n", "C CALL", "t 23", "T n:23/4/0", "2", "D 2", "C SELECT 1", "2", "n", "I", "Z I")
	}
	c.want("RESET ALL", "C RESET", "S TimeZone=UTC", "Z I")
	next.delivered("secret", "moved", "moved")
	is := next.wire.Activity()
	if len(is) != 1 || is[0].PID != c.key.ProcessID || is[0].User != "alice" || is[0].Application != "till" || is[0].Listener != "local" || !is[0].Began.Equal(began) {
		t.Errorf("it is told as %+v", is)
	}
	if !next.wire.Cancel(c.key.ProcessID, c.key.SecretKey) || s.wire.Cancel(c.key.ProcessID, c.key.SecretKey) {
		t.Error("a CancelRequest does not find it where it is")
	}
	if _, here := next.wire.Interrupt(c.key.ProcessID, true); !here {
		t.Error("an operator does not find it")
	}
	c.answers("end", c.read(), goodbye, "closed")
}

// TestUnnamedStatementMoves, as a driver may bind it later.
func TestUnnamedStatementMoves(t *testing.T) {
	s := newSucceeded(t, bank{}, time.Hour)
	c := s.connect("a")
	c.say("P _ - SELECT 7 AS seven")
	c.say("S")
	c.answers("Parse", c.flush(), "1", "Z I")
	s.next(bank{}, s.trusted())
	<-s.shutdown()
	c.say("B _ _ t")
	c.say("E _ 0")
	c.say("S")
	c.answers("Bind", c.flush(), "2", "D 7", "C SELECT 1", "Z I")
}

// TestMovesWhenItRests is of sessions that cannot move when the drain begins: they do after their next reply, or hear the goodbye.
func TestMovesWhenItRests(t *testing.T) {
	s := newSucceeded(t, bank{}, time.Hour)
	open, pipe, cursor := s.connect("a"), s.connect("a"), s.connect("a")
	open.want("BEGIN; CALL enqueue('open')", "C BEGIN", "C CALL", "Z T")
	pipe.say("P p - SELECT 1")
	pipe.say("H")
	if err := pipe.front.Flush(); err != nil {
		t.Fatal(err)
	}
	if m, err := pipe.front.Receive(); err != nil || pipe.print(m) != "1" {
		t.Fatalf("%v, %v", m, err)
	}
	cursor.want("BEGIN; DECLARE d CURSOR WITH HOLD FOR SELECT 7 AS n; COMMIT", "C BEGIN", "C DECLARE CURSOR", "C COMMIT", "Z I")
	next := s.next(bank{}, s.trusted())
	ended := s.shutdown()
	open.want("COMMIT", "C COMMIT", "Z I")
	pipe.say("S")
	pipe.answers("Sync", pipe.flush(), "Z I")
	s.moved(2)
	open.want("CALL enqueue('then')", "C CALL", "Z I")
	pipe.want("DEALLOCATE p", "C DEALLOCATE", "Z I")
	cursor.want("FETCH d", "T n:23/4/0", "D 7", "C FETCH 1", "Z I")
	cursor.want("CLOSE d", "C CLOSE CURSOR", "Z I")
	s.moved(3)
	<-ended
	s.delivered("open")
	next.delivered("then")
}

// TestChangedProcedures has statements that fit the new procedures no more: each fails at its use, and the session goes on.
func TestChangedProcedures(t *testing.T) {
	const was = `
  gone:
    steps: [{on: outbox, put: "gone"}]
  shape:
    parameters: {a: bigint}
    steps: [{on: outbox, put: "shape"}]
    returns: {a: bigint}
  grown:
    steps: [{on: outbox, put: "grown"}]
`
	const is = `
  shape:
    parameters: {a: bigint, b: {type: bigint, default: 1}}
    steps: [{on: outbox, put: "shape"}]
    returns: {a: bigint, b: bigint}
  grown:
    parameters: {a: bigint}
    steps: [{on: outbox, put: "grown"}]
`
	s := newSucceeded(t, bank{procedures: was}, time.Hour)
	c := s.connect("a")
	for _, line := range []string{"P gone - CALL gone()", "P shape 20 CALL shape($1)", "P grown - CALL grown()", "P good 25 CALL enqueue($1)", "S"} {
		c.say(line)
	}
	c.answers("Parse", c.flush(), "1", "1", "1", "1", "Z I")
	s.next(bank{procedures: is}, s.trusted())
	<-s.shutdown()
	s.moved(1)
	for range 2 {
		for line, want := range map[string]string{
			"B _ gone t":    "E ERROR 42883 procedure gone() does not exist @6",
			"D S gone":      "E ERROR 42883 procedure gone() does not exist @6",
			"B _ shape t 1": "E ERROR 0A000 cached plan must not change result type",
			"B _ grown t":   "E ERROR 42883 procedure grown() does not exist @6",
		} {
			c.say(line)
			c.say("S")
			c.answers(line, c.flush(), want, "Z I")
		}
	}
	c.say("B _ good t x")
	c.say("E _ 0")
	c.say("S")
	c.answers("good", c.flush(), "2", "C CALL", "Z I")
}

// TestMayNotStay is of sessions that the new configuration does not let in: they are told as without moving.
func TestMayNotStay(t *testing.T) {
	for name, way := range map[string]func(s *succeeded) map[string]pgwire.Listener{
		"listener": func(*succeeded) map[string]pgwire.Listener { return nil },
		"authentication": func(s *succeeded) map[string]pgwire.Listener {
			return map[string]pgwire.Listener{s.sock: {Auth: new(pgwire.Peer)}}
		},
		"certificate": func(s *succeeded) map[string]pgwire.Listener {
			return map[string]pgwire.Listener{s.sock: {Auth: pgwire.Cert{}}}
		},
		"limits": (*succeeded).trusted,
	} {
		t.Run(name, func(t *testing.T) {
			s := newSucceeded(t, bank{}, time.Millisecond)
			c := s.connect("a")
			c.want("SET my.own = 'x'", "C SET", "Z I")
			s.next(bank{}, way(s), func(f *fdt, _ *config.Config) {
				if name == "limits" {
					f.wire.MaxMemory = 1
				}
			})
			ended := s.shutdown()
			c.answers("end", c.read(), goodbye, "closed")
			<-ended
			if n := s.server.Counts().Moved; n != 0 {
				t.Errorf("%d moved", n)
			}
		})
	}
}

// TestPasswordsOfMoved lets a user stay whose password is the same, and tells those who were removed or have another.
func TestPasswordsOfMoved(t *testing.T) {
	key := make([]byte, pgwire.SecretSize)
	same, other := scram.New("wonderland").String(), scram.New("wonderland").String()
	for name, of := range map[string]struct {
		users map[string]string
		stays bool
	}{
		"same":    {map[string]string{"alice": same}, true},
		"changed": {map[string]string{"alice": other}, false},
		"removed": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			old, err := pgwire.NewSCRAM(map[string]string{"alice": same}, key)
			if err != nil {
				t.Fatal(err)
			}
			s := newSucceeded(t, bank{}, time.Millisecond, onTCP(pgwire.Listener{Auth: old}))
			ctx := t.Context()
			conn, err := pgx.Connect(ctx, fmt.Sprintf("postgres://alice:wonderland@%s/db?sslmode=disable", s.tcp))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.WithoutCancel(ctx))
			now, err := pgwire.NewSCRAM(of.users, key)
			if err != nil {
				t.Fatal(err)
			}
			s.next(bank{}, map[string]pgwire.Listener{s.tcp: {Auth: now}})
			<-s.shutdown()
			if _, err = conn.Exec(ctx, "CALL by_password()"); (err == nil) != of.stays {
				t.Error(err)
			}
		})
	}
}

// TestPeerStays is asked of the kernel anew.
func TestPeerStays(t *testing.T) {
	s := newSucceeded(t, bank{}, time.Hour, func(f *fdt, _ *config.Config) {
		f.onUnix = []pgwire.Listener{{Auth: &pgwire.Peer{Group: "nobody-has-it"}}}
	})
	c := connect(t, "unix", s.socks[0], "root")
	s.next(bank{}, map[string]pgwire.Listener{s.socks[0]: {Auth: &pgwire.Peer{Group: "nor-this"}}})
	<-s.shutdown()
	s.moved(1)
	c.want("-- ping", "I", "Z I")
	p := new(pgwire.Peer)
	for _, c := range []processOf{{}, {cred: new(unix.Ucred)}} {
		if _, err := p.Proof(c, pgwire.Identity{User: "root", Method: pgwire.MethodPeer}); err == nil {
			t.Errorf("%+v stays who was no operator", c.cred)
		}
	}
}

// processOf is a client of whom the kernel says this much, or nothing.
type processOf struct {
	pgwire.Client
	cred *unix.Ucred
}

func (p processOf) PeerCred() (*unix.Ucred, error) {
	if p.cred == nil {
		return nil, net.ErrClosed
	}
	return p.cred, nil
}

// TestStrangeStates are refused, whoever wrote them.
func TestStrangeStates(t *testing.T) {
	next := func(state map[string]any) string {
		b, err := json.Marshal(state)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	good := map[string]any{"format": 1, "identity": map[string]any{"User": "a", "Method": "trust"}, "pid": 7, "startup": map[string]string{}}
	with := func(key string, value any) string {
		state := maps.Clone(good)
		state[key] = value
		return next(state)
	}
	statement := func(what string, v any) string {
		return with("statements", []any{map[string]any{"name": "s", "text": "SELECT 1", what: v}})
	}
	states := []string{
		"", "{}", with("format", 2), with("startup", map[string]string{"no_such": "1"}), with("settings", map[string]string{"no_such": "1"}),
		statement("params", []int{4_000_000_000}), statement("columns", []any{map[string]any{"type": 4_000_000_000}}),
		next(good), next(good), // the second has a number that is taken
	}
	errs := make(chan error, len(states))
	s := newSucceeded(t, bank{}, time.Hour, func(f *fdt, _ *config.Config) {
		i := 0
		f.server.Handler = func(_ context.Context, c *drain.Conn) {
			state := states[i]
			i++
			errs <- c.Move([]byte(state))
		}
	})
	f := s.next(bank{}, s.trusted(), func(f *fdt, _ *config.Config) { f.limits.Prepared = 3 })
	for i, state := range states {
		conn, err := net.Dial("unix", s.sock)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		err = testwait.For(t, "the move", errs)
		if stays := i != len(states)-2; stays != (err != nil) {
			t.Errorf("%s: %v", state, err)
		}
		if err == nil {
			testwait.Until(t, "the session", func() bool { return len(f.wire.Activity()) == 1 })
		}
	}
}
