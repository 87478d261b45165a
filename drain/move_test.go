package drain_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/testcover"
	"github.com/fdtserver/fdt/internal/testwait"
)

// web is a listener with a name, as systemd passes it.
type web struct{ *net.UnixListener }

func (web) Name() string { return "web" }

// webTCP is the same on TCP.
type webTCP struct{ *net.TCPListener }

func (webTCP) Name() string { return "web" }

// counter is a protocol with a state: each line is answered by who serves it, and the how many-th of the connection it is.
type counter struct {
	name string
	stay bool // consents to nothing
}

func (p counter) handle(_ context.Context, c *drain.Conn) { p.serve(c, 0) }

func (p counter) serve(c *drain.Conn, n int) {
	in := bufio.NewReader(c)
	c.Movable(!p.stay)
	for {
		line, err := in.ReadString('\n')
		if errors.Is(err, drain.ErrMove) {
			if err := c.Move([]byte(strconv.Itoa(n))); err != nil {
				fmt.Fprintf(c, "%s stays: %v\n", p.name, err)
				continue
			}
			return
		}
		if errors.Is(err, drain.ErrTerminated) {
			fmt.Fprintf(c, "%s ends\n", p.name)
		}
		if errors.Is(err, drain.ErrExpired) {
			fmt.Fprintf(c, "%s says goodbye\n", p.name)
		}
		if err != nil {
			return
		}
		c.SetBusy()
		n++
		fmt.Fprintf(c, "%s %d %s", p.name, n, line)
		c.SetIdle()
	}
}

func (p counter) adopt(c *drain.Conn, state []byte) (func(context.Context, bool), error) {
	n, err := strconv.Atoi(string(state))
	if err != nil {
		return nil, err
	}
	return func(_ context.Context, ours bool) {
		if ours {
			p.serve(c, n)
		}
	}, nil
}

// pair is an old server with a client, and where it hands its connections on.
type pair struct {
	*fixture
	path string // of the successor
	in   *bufio.Reader
	conn net.Conn
}

func newPair(t *testing.T) *pair {
	t.Helper()
	path := filepath.Join(t.TempDir(), "next")
	s := &drain.Server{Handler: counter{name: "old"}.handle, Idle: time.Hour, Successors: func() [][]string { return [][]string{{path}} }}
	f := begin(t, s)
	p := &pair{fixture: f, path: path, conn: f.dial()}
	p.in = bufio.NewReader(p.conn)
	p.says("one", "old 1 one")
	return p
}

// begin is start with a listener that has a name.
func begin(t *testing.T, s *drain.Server) *fixture {
	t.Helper()
	l, _ := listen(t, "unix").(*net.UnixListener)
	f := startOn(t, web{l}, s)
	testwait.Until(t, "the accept loop", func() bool { return len(s.Counts().Listeners) > 0 })
	return f
}

// takes starts a server that takes over what is offered at path.
func takes(t *testing.T, path string, s *drain.Server) *fixture {
	t.Helper()
	if s.Handler == nil {
		s.Handler = counter{name: "new"}.handle
	}
	if s.Adopt == nil {
		s.Adopt = counter{name: "new"}.adopt
	}
	f := begin(t, s)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Receive(l) }()
	t.Cleanup(func() {
		_ = l.Close()
		if err := testwait.For(t, "Receive's return", done); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Receive: %v", err)
		}
	})
	return f
}

// says sends a line, and wants the answer, which is the only one.
func (p *pair) says(line, want string) {
	p.t.Helper()
	if _, err := io.WriteString(p.conn, line+"\n"); err != nil {
		p.t.Fatal(err)
	}
	p.hears(want)
}

// hears wants a line of the server, or the end with "".
func (p *pair) hears(want string) {
	p.t.Helper()
	got, err := p.in.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
		p.t.Fatal(err)
	}
	if got = strings.TrimSuffix(got, "\n"); got != want {
		p.t.Fatalf("the client heard %q, and not %q", got, want)
	}
}

// TestMove hands a connection over that is idle, and ends the old server with that.
func TestMove(t *testing.T) {
	p := newPair(t)
	next := takes(t, p.path, &drain.Server{Threads: 1})
	ended := p.shutdown(t.Context())
	testwait.Until(t, "the move", func() bool { return p.s.Counts().Moved == 1 })
	p.says("two", "new 2 two")
	if err := testwait.For(t, "the end of the old server", ended); err != nil {
		t.Error(err)
	}
	if n := p.s.Counts(); n.Moved != 1 || n.Drained != 0 || n.Open != 0 {
		t.Errorf("the old server counts %+v", n)
	}
	if n := next.s.Counts(); n.Open != 1 || n.Accepted != 0 {
		t.Errorf("the new server counts %+v", n)
	}
	_ = p.conn.Close()
	testwait.Until(t, "the end at the new server", func() bool { return next.s.Counts().Open == 0 })
}

// TestMoveOfTCP keeps who the peer is, also behind a proxy, and what came while nobody read.
func TestMoveOfTCP(t *testing.T) {
	path := filepath.Join(t.TempDir(), "next")
	client := netip.MustParseAddrPort("192.0.2.7:1234")
	reading, held := make(chan struct{}), make(chan struct{})
	since := make(chan time.Time, 2)
	old := &drain.Server{
		Successors: func() [][]string { return [][]string{{path}} },
		Handler: func(_ context.Context, c *drain.Conn) {
			since <- c.Since()
			c.SpeaksFor(client)
			c.Watch(true)
			close(reading)
			<-held // the client speaks now
			if err := c.Move(nil); err != nil {
				t.Error(err)
			}
		},
	}
	l, _ := listen(t, "tcp").(*net.TCPListener)
	f := startOn(t, webTCP{l}, old)
	conn := f.dial()
	testwait.For(t, "the handler", reading)
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		t.Fatal(err)
	}
	takes(t, path, &drain.Server{Adopt: func(c *drain.Conn, _ []byte) (func(context.Context, bool), error) {
		return func(_ context.Context, ours bool) {
			since <- c.Since()
			line, _ := bufio.NewReader(c).ReadString('\n')
			fmt.Fprintf(c, "%t %s %s", ours, c.Peer(), line)
		}, nil
	}})
	close(held)
	if got, _ := bufio.NewReader(conn).ReadString('\n'); got != "true 192.0.2.7:1234 hello\n" {
		t.Errorf("the client heard %q", got)
	}
	if a, b := <-since, <-since; !a.Equal(b) {
		t.Errorf("accepted %s, and then %s", a, b)
	}
}

// TestStays is of connections that nobody takes over: they are served on, and told as without successors.
func TestStays(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, p *pair) string{
		"nobody": func(*testing.T, *pair) string { return drain.ErrNoSuccessor.Error() },
		"leaving": func(t *testing.T, p *pair) string {
			n := takes(t, p.path, new(drain.Server))
			_ = n.s.Close()
			return drain.ErrNoSuccessor.Error()
		},
		"full": func(t *testing.T, p *pair) string {
			n := takes(t, p.path, &drain.Server{Threads: 1})
			c := n.dial()
			_, _ = io.WriteString(c, "hello\n")
			_, _ = bufio.NewReader(c).ReadString('\n')
			return drain.ErrRefused.Error()
		},
		"unwelcome": func(t *testing.T, p *pair) string {
			n := takes(t, p.path, &drain.Server{Adopt: func(*drain.Conn, []byte) (func(context.Context, bool), error) {
				return nil, errors.New("the user was removed")
			}})
			t.Cleanup(func() {
				if n.s.Counts().Open != 0 {
					t.Errorf("%+v", n.s.Counts())
				}
			})
			return drain.ErrRefused.Error()
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			why := prepare(t, p)
			_ = p.shutdown(t.Context())
			p.hears("old stays: " + why)
			p.says("two", "old 2 two")
			if n := p.s.Counts(); n.Moved != 0 {
				t.Errorf("%d moved", n.Moved)
			}
		})
	}
}

// TestNoConsent is of a handler that does not ask.
func TestNoConsent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "next")
	f := begin(t, &drain.Server{Handler: counter{name: "old", stay: true}.handle, Idle: time.Millisecond,
		Successors: func() [][]string { return [][]string{{path}} }})
	takes(t, path, new(drain.Server))
	p := &pair{fixture: f, conn: f.dial()}
	p.in = bufio.NewReader(p.conn)
	p.says("one", "old 1 one")
	_ = f.shutdown(t.Context())
	p.hears("old says goodbye")
}

// TestTooMuchState is refused before anybody is asked, as is moving when all workers stop.
func TestTooMuchState(t *testing.T) {
	errs := make(chan error, 2)
	s := &drain.Server{Successors: func() [][]string { return nil }}
	s.Handler = func(_ context.Context, c *drain.Conn) {
		errs <- c.Move(make([]byte, drain.MaxState+1))
		s.Final()
		errs <- c.Move(nil)
	}
	begin(t, s).dial()
	if err := testwait.For(t, "Move", errs); err == nil || errors.Is(err, drain.ErrNoSuccessor) {
		t.Errorf("Move of too much: %v", err)
	}
	if err := testwait.For(t, "Move", errs); !errors.Is(err, drain.ErrNoSuccessor) {
		t.Errorf("Move at a stop: %v", err)
	}
}

// TestNextGroup is asked where the newest processes leave, and not where they refuse.
func TestNextGroup(t *testing.T) {
	for _, c := range []struct {
		newest *drain.Server
		want   string
	}{
		{&drain.Server{Adopt: func(*drain.Conn, []byte) (func(context.Context, bool), error) { return nil, errors.New("no") }}, "old stays: " + drain.ErrRefused.Error()},
		{nil, "older 2 two"},
	} {
		dir := t.TempDir()
		newest, older := filepath.Join(dir, "newest"), filepath.Join(dir, "older")
		f := begin(t, &drain.Server{Handler: counter{name: "old"}.handle, Idle: time.Hour,
			Successors: func() [][]string { return [][]string{{newest}, {older}} }})
		if c.newest != nil {
			takes(t, newest, c.newest)
		}
		takes(t, older, &drain.Server{Adopt: counter{name: "older"}.adopt})
		p := &pair{fixture: f, conn: f.dial()}
		p.in = bufio.NewReader(p.conn)
		p.says("one", "old 1 one")
		_ = f.shutdown(t.Context())
		if c.newest != nil {
			p.hears(c.want)
		} else {
			testwait.Until(t, "the move", func() bool { return f.s.Counts().Moved == 1 })
			p.says("two", c.want)
		}
	}
}

// TestDeaths has each side of the talk die, or fall silent, at each step: a process of its own takes the part, and dies by itself.
// However it ends, who serves the client is the one that the table in move.go names, and nobody else; or the client reads the end, if the
// owner has died.
func TestDeaths(t *testing.T) {
	for script, want := range map[string]string{ // what the client hears, of a real old server
		"accept exit":                    "old 2 two",
		"accept take exit":               "old 2 two",
		"accept take refuse exit":        "old 2 two",
		"accept take leave exit":         "old 2 two",
		"accept take shut yes silent":    "old 2 two",
		"accept silent":                  "old 2 two",
		"accept take yes await-go exit":  "",
		"accept take yes await-go serve": "new 2 two",
	} {
		t.Run("new/"+script, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			if script == "accept silent" {
				drain.SetMoveFor(p.s, 50*time.Millisecond)
			}
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.path, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			file, err := l.File()
			if err != nil {
				t.Fatal(err)
			}
			play(t, script, file)
			_ = l.Close()
			_ = p.shutdown(t.Context())
			if strings.HasPrefix(want, "old") {
				if got, _ := p.in.ReadString('\n'); !strings.HasPrefix(got, "old stays") {
					t.Fatalf("the client heard %q", got)
				}
			}
			if want == "" {
				p.hears("")
				return
			}
			if strings.HasPrefix(want, "new") {
				testwait.Until(t, "the move", func() bool { return p.s.Counts().Moved == 1 })
			}
			p.says("two", want)
		})
	}
	for script, want := range map[string]string{ // of a real new one
		"dial exit":                      "",
		"dial half exit":                 "",
		"dial offer exit":                "",
		"dial offer read exit":           "",
		"dial offer read go exit":        "new 2 two",
		"dial offer read keep":           "old 2 two", // the old one thinks better of it
		"dial offer read eof go-in-vain": "old 2 two", // both live, and the new one's time is up
		"dial bare eof keep":             "old 2 two",
	} {
		t.Run("old/"+script, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "next")
			s := &drain.Server{Threads: 1}
			if strings.Contains(script, "eof") {
				drain.SetMoveFor(s, 50*time.Millisecond)
			}
			next := takes(t, path, s)
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			own := os.NewFile(uintptr(pair[0]), "client")
			conn, err := net.FileConn(own)
			if err != nil {
				t.Fatal(err)
			}
			_ = own.Close()
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(testwait.Patience))
			play(t, script+" "+path, os.NewFile(uintptr(pair[1]), "server"))
			p := &pairOf{t: t, conn: conn, in: bufio.NewReader(conn)}
			p.wants(want)
			_ = conn.Close()
			testwait.Until(t, "the new server's last connection", func() bool { return next.s.Counts().Open == 0 })
		})
	}
}

// pairOf is a client whose server is a process of its own.
type pairOf struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func (p *pairOf) wants(want string) {
	p.t.Helper()
	_, _ = io.WriteString(p.conn, "two\n") // of whom nobody has, it fails
	got, _ := p.in.ReadString('\n')
	if got = strings.TrimSuffix(got, "\n"); got != want {
		p.t.Errorf("the client heard %q, and not %q", got, want)
	}
	if want == "" {
		return
	}
	_ = p.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if more, err := p.in.ReadString('\n'); more != "" || !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, io.EOF) {
		p.t.Errorf("the client heard more: %q, %v", more, err)
	}
}

// play runs a script in a process of its own, which has the file as its descriptor 3, and nobody else has.
func play(t *testing.T, script string, file *os.File) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "FDT_DRAIN_SCRIPT="+script)
	cmd.ExtraFiles = []*os.File{file}
	cmd.Stderr = os.Stderr
	alive, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	t.Cleanup(func() {
		_ = alive.Close()
		if t.Failed() { // it may wait for what does not come
			_ = cmd.Process.Kill()
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", script, err)
		}
	})
}

func TestMain(m *testing.M) {
	if script := os.Getenv("FDT_DRAIN_SCRIPT"); script != "" {
		act(strings.Fields(script))
		testcover.Exit(m, 0)
	}
	os.Exit(m.Run())
}

// act does the steps of a script; what fails ends the process with a word.
func act(steps []string) {
	var talk *net.UnixConn
	kept := 3                             // the connection
	late := slices.Contains(steps, "eof") // the other side's time may be up at any step
	must := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, steps, err)
			os.Exit(1)
		}
	}
	byteOf := func() (byte, error) {
		var b [1]byte
		_, err := io.ReadFull(talk, b[:])
		return b[0], err
	}
	send := func(b string) { _, err := io.WriteString(talk, b); must(err) }
	reply := func(who string) {
		c, err := net.FileConn(os.NewFile(uintptr(kept), "connection"))
		must(err)
		line, err := bufio.NewReader(c).ReadString('\n')
		must(err)
		_, err = fmt.Fprintf(c, "%s 2 %s", who, line)
		must(err)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
	head := func(body string) []byte { return binary.BigEndian.AppendUint32([]byte("fdtmove1"), uint32(len(body))) }
	const body = `{"listener":"web","client":"","since":"2026-01-02T03:04:05Z","state":"MQ=="}` // the state is 1
	for _, step := range steps {
		switch step {
		case "exit":
			return
		case "accept":
			l, err := net.FileListener(os.NewFile(3, "listener"))
			must(err)
			c, err := l.Accept()
			must(err)
			talk, _ = c.(*net.UnixConn)
			must(l.Close())
			must(unix.Close(3))
		case "offer":
			_, _, err := talk.WriteMsgUnix(append(head(body), body...), unix.UnixRights(3), nil)
			if !late {
				must(err)
			}
		case "take":
			kept = readOffer(talk, must)
		case "await-go":
			b, err := byteOf()
			must(err)
			if b != 'G' {
				must(fmt.Errorf("%q is not go", b))
			}
		case "refuse":
			send("R")
		case "leave":
			send("L")
		case "yes":
			send("A")
		case "shut":
			must(talk.CloseRead())
		case "silent":
			_, _ = io.Copy(io.Discard, os.Stdin)
		case "serve":
			reply("new")
		case "dial":
			c, err := net.Dial("unix", steps[len(steps)-1])
			must(err)
			talk, _ = c.(*net.UnixConn)
		case "half":
			_, _, err := talk.WriteMsgUnix(head(body), unix.UnixRights(3), nil)
			must(err)
		case "bare":
			_, _, _ = talk.WriteMsgUnix(append(head(body), body...), nil, nil) // as the other's time may be up
		case "read":
			_, _ = byteOf()
		case "eof":
			_, err := byteOf()
			if err == nil {
				must(errors.New("a byte too many"))
			}
		case "go":
			send("G")
		case "go-in-vain":
			if _, err := io.WriteString(talk, "G"); err == nil {
				must(errors.New("go was taken"))
			}
			reply("old")
		case "keep":
			must(talk.Close())
			reply("old")
		}
	}
}

// readOffer is the new side's first step; the state is checked by the answers.
func readOffer(talk *net.UnixConn, must func(error)) int {
	head, oob := make([]byte, 12), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := talk.ReadMsgUnix(head, oob)
	must(err)
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	must(err)
	fds, err := unix.ParseUnixRights(&messages[0])
	must(err)
	_, err = io.CopyN(io.Discard, talk, int64(binary.BigEndian.Uint32(head[8:])))
	must(err)
	return fds[0]
}

// TestMoveOfBusy is invited when the drain began in the midst of its request, and asks by itself; Terminate and a limit come first.
func TestMoveOfBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "next")
	var s *drain.Server
	draining, errs := make(chan struct{}), make(chan error, 3)
	s = &drain.Server{Successors: func() [][]string { return [][]string{{path}} }, Handler: func(_ context.Context, c *drain.Conn) {
		c.SetBusy()
		c.Movable(true)
		<-draining
		c.SetIdle()
		_ = c.SetReadDeadline(time.Now().Add(time.Hour)) // puts nothing off
		_, err := c.Read(make([]byte, 1))
		errs <- err
		c.Movable(true)
		c.SetBusy()
		if !c.Terminate() {
			errs <- errors.New("it has moved")
		}
		errs <- c.Move([]byte("1"))
	}}
	f := begin(t, s)
	takes(t, path, new(drain.Server))
	p := &pairOf{t: t, conn: f.dial()}
	_ = f.shutdown(t.Context())
	<-s.Draining()
	close(draining)
	for _, want := range []error{drain.ErrMove, drain.ErrStays} {
		if err := testwait.For(t, "the handler", errs); !errors.Is(err, want) {
			t.Errorf("%v, and not %v", err, want)
		}
	}
	p.in = bufio.NewReader(p.conn)
	if more, err := p.in.ReadString('\n'); more != "" || !errors.Is(err, io.EOF) {
		t.Errorf("the client heard %q, %v", more, err)
	}
}

// TestInvitedAtInput takes the invitation back when input came at the same moment.
func TestInvitedAtInput(t *testing.T) {
	invited, read := make(chan struct{}), make(chan error, 1)
	s := &drain.Server{Successors: func() [][]string { return nil }}
	s.Handler = func(_ context.Context, c *drain.Conn) {
		<-s.Draining()
		c.Movable(true)
		c.SetBusy()
		close(invited)
		_, err := c.Read(make([]byte, 1))
		read <- err
	}
	f := begin(t, s)
	conn := f.dial()
	_ = f.shutdown(t.Context())
	testwait.For(t, "the invitation", invited)
	_, _ = io.WriteString(conn, "x")
	if err := testwait.For(t, "the handler", read); err != nil {
		t.Errorf("Read: %v", err)
	}
}

// TestSpread tells idle connections one after another, evenly, however many there are, and none later than after idle.
func TestSpread(t *testing.T) {
	for _, n := range []int{8, 64, 1000} {
		const idle = time.Second
		s := &drain.Server{Spread: time.Hour}
		var at []time.Duration
		for id := range n {
			at = append(at, drain.Sooner(s, uint64(id)+7, idle))
		}
		slices.Sort(at)
		for i, d := range at {
			if d < 0 || d >= idle {
				t.Fatalf("%d of %d is told %s before the end", i, n, d)
			}
			if i > 0 && d-at[i-1] > 3*idle/time.Duration(n)+idle/512 {
				t.Errorf("of %d, between two there are %s", n, d-at[i-1])
			}
		}
	}
	if d := drain.Sooner(new(drain.Server), 7, time.Second); d != 0 {
		t.Errorf("without a spread one is told %s before the end", d)
	}
	const n = 16
	told := make(chan error, n)
	s := &drain.Server{Idle: 50 * time.Millisecond, Spread: 50 * time.Millisecond, Handler: func(_ context.Context, c *drain.Conn) {
		_, err := c.Read(make([]byte, 1))
		told <- err
	}}
	f := begin(t, s)
	for range n {
		f.dial()
	}
	testwait.Until(t, "all connections", func() bool { return s.Counts().Open == n })
	if err := testwait.For(t, "the drain", f.shutdown(t.Context())); err != nil {
		t.Fatal(err)
	}
	for range n {
		if err := <-told; !errors.Is(err, drain.ErrExpired) {
			t.Errorf("one is told %v", err)
		}
	}
}
