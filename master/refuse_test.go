package master

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/snapshot"
)

// refuser speaks D-Bus over a unix socket and answers by member, or by member and argument, also with an error; what its table does not have is refused, but for Ping.
// One that is "deaf" does not answer the first message.
type refuser map[string][]any

// refused is the name of its errors.
const refused = "org.freedesktop.DBus.Error.AccessDenied"

// serve returns the server's address. It ends with the test.
func (r refuser) serve(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		conns.Wait()
	})
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer func() { _ = c.Close() }()
				r.answer(c)
			})
		}
	})
	return "unix:path=" + path
}

// answer is one connection: authentication by lines, then messages. A member "hang up" closes it at the first call.
func (r refuser) answer(c net.Conn) {
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		reply := "OK 0123456789abcdef0123456789abcdef"
		switch line = strings.Trim(line, "\x00\r\n"); line {
		case "AUTH":
			reply = "REJECTED EXTERNAL"
		case "NEGOTIATE_UNIX_FD":
			reply = "ERROR"
		case "BEGIN":
			r.messages(c, in)
			return
		}
		if _, err := c.Write([]byte(reply + "\r\n")); err != nil {
			return
		}
	}
}

func (r refuser) messages(c net.Conn, in *bufio.Reader) {
	for serial := uint32(1); ; serial++ {
		msg, err := dbus.DecodeMessage(in)
		if err != nil {
			return
		}
		member, _ := msg.Headers[dbus.FieldMember].Value().(string)
		if _, hangs := r["hang up"]; hangs && member != "Hello" && member != "RequestName" {
			return
		}
		reply := &dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldReplySerial: dbus.MakeVariant(msg.Serial())}}
		if _, deaf := r["deaf"]; deaf && serial == 1 {
			continue
		}
		body, ok := r[member]
		for _, arg := range msg.Body {
			if in, mode := arg.(string); mode && r[member+" "+in] != nil {
				body, ok = r[member+" "+in], true
			}
		}
		if !ok && member != "Ping" {
			body = []any{&dbus.Error{Name: refused, Body: []any{member + " is refused"}}}
		}
		if len(body) == 1 {
			if e, fails := body[0].(*dbus.Error); fails {
				reply.Type, body = dbus.TypeError, e.Body
				reply.Headers[dbus.FieldErrorName] = dbus.MakeVariant(e.Name)
			}
		}
		if reply.Body = body; len(body) > 0 {
			reply.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
		}
		var out bytes.Buffer
		if err := reply.EncodeTo(&out, binary.LittleEndian); err != nil {
			return
		}
		binary.LittleEndian.PutUint32(out.Bytes()[8:], serial) // its place in every header
		if _, err := c.Write(out.Bytes()); err != nil {
			return
		}
	}
}

// TestGreeted: what systemd did not see at first it is asked again, and a connection that breaks meanwhile is an error.
func TestGreeted(t *testing.T) {
	s, err := connect(refuser{"deaf": nil}.serve(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if s, err := connect(refuser{"hang up": nil}.serve(t), nil); err == nil || !strings.HasPrefix(err.Error(), "connect to systemd: ") {
		t.Error(s, err)
	}
}

// against prepares a master whose systemd is r, with directories of its own; what it logs is in the buffer.
func against(t *testing.T, r refuser) (*Master, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	log := new(bytes.Buffer)
	m := New(Options{Run: snapshot.Dir(dir + "/run"), Etc: dir + "/etc", LastGood: dir + "/good", Generated: dir + "/units",
		Private: r.serve(t), Logger: slog.New(slog.NewTextHandler(log, nil))})
	sd, err := connect(m.opt.Private, m.prompts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sd.Close() })
	m.sd, m.living = sd, t.Context()
	return m, log
}

// TestRefused wants every call that systemd refuses to say what was asked for, and why not.
func TestRefused(t *testing.T) {
	m, log := against(t, refuser{})
	_, units := m.sd.units("x")
	_, running := m.sd.running("/job")
	_, all := m.sd.all("/u")
	_, load := m.sd.load("u")
	_, down := m.sd.goingDown()
	_, read := m.read()
	_, _, stopping := m.worker(found{Name: "w", Active: "active", JobType: "stop", JobPath: "/job"}, 1, 1)
	_, _, crash := m.worker(found{Name: "w", Active: "failed", Path: "/u"}, 1, 1)
	_, wake := m.advance()
	m.last.sockets = map[string]socket{"f": {failed: true}}
	for _, c := range []struct {
		err  error
		want string
	}{
		{units, "list units: "}, {running, "read State of /job: "}, {all, "read properties of /u: "}, {load, "load u: "},
		{down, "read SystemState of /org/freedesktop/systemd1: "}, {m.sd.start("u", "replace"), "start u: "}, {m.sd.stop("u", "replace"), "stop u: "},
		{m.sd.terminate("u"), "terminate u: "}, {m.sd.cancel(7), "cancel job 7: "}, {m.sd.resetFailed("u"), "reset u: "},
		{m.sd.reload(), "daemon-reload: "}, {read, "list units: "}, {stopping, "read State of /job: "}, {crash, "read properties of /u: "},
		{wake, "list units: "}, {m.begin(false), "start " + service.Default.Stopper() + ": "},
		{m.apply([]action{{verb: doStart, unit: "f"}}), "reset f: "},
		{m.closeAhead(view{sockets: map[string]socket{"s": {unit: "s"}}}), "stop s: "},
	} {
		if name := errorName(c.err); name != refused || !strings.HasPrefix(c.err.Error(), c.want) {
			t.Errorf("%v, want %q and %s", c.err, c.want, refused)
		}
	}
	if units, binary := m.hashes(); units != "" || binary != "" {
		t.Errorf("hashes of what cannot be read: %q %q", units, binary)
	}
	if m.shutdown() {
		t.Error("a host of unknown state goes down")
	}
	m.tellLast(service.Default.WorkerName(1, 1), nil)
	m.helpers.Wait()
	if err := m.Run(t.Context()); errorName(err) != refused {
		t.Error(err)
	}
	if err := m.Stop(t.Context()); errorName(err) != refused {
		t.Error(err)
	}
	for _, want := range []string{"the workers' unit cannot be read", "the state of the system cannot be read", "a worker cannot be told to go yet"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not logged:\n%s", want, log)
		}
	}
}

// TestNoSystemd meets an address where nobody is, a peer that is no D-Bus, and the end of its own time.
func TestNoSystemd(t *testing.T) {
	if _, err := connect("unix:path="+filepath.Join(t.TempDir(), "absent"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	path := filepath.Join(t.TempDir(), "mute")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var peer sync.WaitGroup
	peer.Go(func() {
		if c, err := l.Accept(); err == nil {
			_ = c.Close()
		}
	})
	if _, err := connect("unix:path="+path, nil); err == nil || !strings.HasPrefix(err.Error(), "connect to systemd: ") {
		t.Error(err)
	}
	_ = l.Close()
	peer.Wait()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+path)
	ctx, cancel := context.WithCancel(t.Context())
	// The first attempt fails, and says so; there is no second.
	m := New(Options{Private: "unix:path=" + path, Logger: slog.New(slog.NewTextHandler(onWrite(func([]byte) { cancel() }), nil))})
	if err := m.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := m.Run(ctx); err != nil {
		t.Errorf("a master that was told to exit: %v", err)
	}
}

// onWrite is called for each line of a log.
type onWrite func(line []byte)

// Write implements io.Writer.
func (f onWrite) Write(line []byte) (int, error) {
	f(line)
	return len(line), nil
}

// TestSystemBus has the bus away, refuse the name, and go away in use.
func TestSystemBus(t *testing.T) {
	m := New(Options{Logger: slog.New(slog.DiscardHandler)})
	for _, c := range []struct {
		r    refuser
		want string
	}{
		{refuser{}, "connect to the system bus: "},
		{refuser{"Hello": {":1.1"}}, "offer " + service.Default.BusName() + ": RequestName is refused"},
	} {
		t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", c.r.serve(t))
		if err := m.serveOnce(t.Context()); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", refuser{"Hello": {":1.1"}, "RequestName": {uint32(1)}, "hang up": nil}.serve(t))
	m.publish(Status{Generation: 3}) // a signal: the peer hangs up at it
	if err := m.serveOnce(t.Context()); err == nil || err.Error() != "the system bus is gone" {
		t.Error(err)
	}
}

// TestAskedOnce has workers asked for their counts while the last answer is still out.
func TestAskedOnce(t *testing.T) {
	m, _ := against(t, refuser{})
	m.asking = true
	m.ask(t.Context())
	m.helpers.Wait()
	if len(m.counted) != 0 {
		t.Error("they were asked again")
	}
	m.asking = false
	m.ask(t.Context())
	m.helpers.Wait()
	if len(m.counted) != 1 || !m.asking {
		t.Error("they were not asked")
	}
}
