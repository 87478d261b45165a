package application

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/scram"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/internal/unit"
	"github.com/fdtserver/fdt/pgwire"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// TestRelay passes a CancelRequest to the workers in which the session may have begun, and then to others, until one has it; itself it
// does not ask.
func TestRelay(t *testing.T) {
	dir, err := os.MkdirTemp("", "fdt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	const pid = (1<<10|3)<<16 | 1 // generation 1 or 33, slot 3, first session
	secret := strings.Repeat("\x00\xff", 16)
	got := make(chan string, 10)
	for _, instance := range []string{"1-2", "1-3", "33-3", "1-4", "1-5", "nonsense"} {
		l, err := control.Listen(filepath.Join(dir, instance+".sock"))
		if err != nil {
			t.Fatal(err)
		}
		s := &control.Server{Handlers: control.Handlers{control.OpCancel: func(_ context.Context, args json.RawMessage) (any, error) {
			var key control.Cancel
			if err := json.Unmarshal(args, &key); err != nil || key.PID != pid || string(key.Secret) != secret {
				return nil, fmt.Errorf("%v, %w", key, err)
			}
			got <- instance
			return instance == "1-4", nil
		}}}
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		t.Cleanup(func() {
			_ = s.Close()
			<-done
		})
	}
	relay(dir, filepath.Join(dir, "1-2.sock"))(t.Context(), pid, []byte(secret))
	if a, b := testwait.For(t, "one is asked", got), testwait.For(t, "another is asked", got); a+b != "1-333-3" && a+b != "33-31-3" {
		t.Errorf("asked %s and %s", a, b)
	}
	if a := testwait.For(t, "one to which it may have moved is asked", got); a != "1-4" {
		t.Errorf("asked %s", a)
	}
	if len(got) != 0 {
		t.Errorf("and %s", <-got)
	}
}

// TestSiblings asks the other workers for their sessions, all at once, waits for none that hangs, and asks again only when
// what they said is old.
func TestSiblings(t *testing.T) {
	dir, err := os.MkdirTemp("", "fdt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	var asked atomic.Int32
	release := make(chan struct{})
	for i, instance := range []string{"1-1", "1-2", "2-1", "2-2"} {
		l, err := control.Listen(filepath.Join(dir, instance+".sock"))
		if err != nil {
			t.Fatal(err)
		}
		s := &control.Server{Handlers: control.Handlers{control.OpSessions: func(ctx context.Context, _ json.RawMessage) (any, error) {
			if instance == "2-2" {
				select {
				case <-release:
				case <-ctx.Done():
				}
				return nil, nil
			}
			asked.Add(1)
			return []pgwire.Activity{{PID: uint32(i), User: instance, Text: "SELECT 'ä'", Began: time.Unix(1, 0)}}, nil
		}}}
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		t.Cleanup(func() {
			_ = s.Close()
			<-done
		})
	}
	names := func(list []pgwire.Activity) (s string) {
		for _, a := range list {
			if a.Text != "SELECT 'ä'" || !a.Began.Equal(time.Unix(1, 0)) || !a.Query.IsZero() {
				t.Errorf("%+v", a)
			}
			s += " " + a.User
		}
		return s
	}
	ctx, cancel := context.WithCancel(t.Context())
	others := siblings(dir, filepath.Join(dir, "1-1.sock"), 5*time.Second, time.Hour)
	for range 3 {
		if got := names(others(ctx)); got != " 1-2 2-1" {
			t.Error(got)
		}
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
	again := siblings(dir, filepath.Join(dir, "2-2.sock"), testwait.Patience, 0)
	for range 2 {
		if got := names(again(ctx)); got != " 1-1 1-2 2-1" {
			t.Error(got)
		}
	}
	if n := asked.Load(); n != 8 {
		t.Errorf("asked %d times", n)
	}
	// While one asks, others wait, and not for longer than they are to live.
	waiting := siblings(dir, "", testwait.Patience, 0)
	var one sync.WaitGroup
	one.Go(func() { waiting(ctx) })
	testwait.Until(t, "three have answered", func() bool { return asked.Load() == 11 })
	cancel()
	if got := waiting(ctx); got != nil {
		t.Error(got)
	}
	close(release)
	one.Wait()
}

// TestRelayBounded shows that a flood of CancelRequests for a worker that does not answer takes two places on its control
// socket, and holds up none for another.
func TestRelayBounded(t *testing.T) {
	dir, err := os.MkdirTemp("", "fdt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	asked := make(chan string, 100)
	for _, instance := range []string{"1-3", "1-4"} {
		l, err := control.Listen(filepath.Join(dir, instance+".sock"))
		if err != nil {
			t.Fatal(err)
		}
		s := &control.Server{Handlers: control.Handlers{control.OpCancel: func(ctx context.Context, _ json.RawMessage) (any, error) {
			asked <- instance
			if instance == "1-3" {
				<-ctx.Done()
			}
			return instance == "1-4", nil
		}}}
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		t.Cleanup(func() {
			_ = s.Close()
			<-done
		})
	}
	pass := relay(dir, "")
	ctx, cancel := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	for range 50 {
		flood.Go(func() { pass(ctx, (1<<10|3)<<16|1, nil) })
	}
	for range relays {
		testwait.For(t, "a request for the one that hangs", asked)
	}
	pass(t.Context(), (1<<10|4)<<16|1, nil)
	if got := testwait.For(t, "one for another", asked); got != "1-4" {
		t.Errorf("%s was asked once more", got)
	}
	cancel()
	flood.Wait()
	for range len(asked) { // of those whose turn came in the end
		<-asked
	}
}

func TestLine(t *testing.T) {
	if got := line(drain.Counts{Open: 3, Busy: 2}, txn.Counts{}); got != "3 connections, 2 busy" {
		t.Error(got)
	}
	if got := line(drain.Counts{}, txn.Counts{Pending: 2}); got != "0 connections, 0 busy, 2 decided and not told to a resource yet" {
		t.Error(got)
	}
	if got := line(drain.Counts{}, txn.Counts{Aside: 1}); got != "0 connections, 0 busy, a transaction log was put aside: fdtctl txn list" {
		t.Error(got)
	}
	if got := line(drain.Counts{}, txn.Counts{InDoubt: 1}); got != "0 connections, 0 busy, 1 in doubt" {
		t.Error(got)
	}
}

// TestListeners turns each way of authentication and of encryption into what
// pgwire does.
func TestListeners(t *testing.T) {
	dir := t.TempDir()
	crt, key := filepath.Join(dir, "crt"), filepath.Join(dir, "key")
	certificate(t, crt, key)
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tcp, unix := config.Address{Network: "tcp4", Address: "127.0.0.1:1"}, config.Address{Network: "unix", Address: "/run/fdt/s"}
	users := map[string]config.User{"alice": {Name: "alice", Verifier: scram.New("x").String()}}
	load := func(l config.Listener) (map[string]pgwire.Listener, error) {
		l.Name = "l"
		ways, names, err := listeners(&config.Config{Listen: map[string]config.Listener{"l": l}, Users: users}, make([]byte, pgwire.SecretSize))
		if len(names) != len(ways) {
			t.Errorf("%v for %d", names, len(ways))
		}
		return ways, err
	}
	if _, err := load(config.Listener{Auth: config.AuthProgram, Addresses: []config.Address{tcp}}); err == nil {
		t.Error("served without anybody to authenticate")
	}
	for auth, want := range map[string]string{
		config.AuthPeer: "*pgwire.Peer", config.AuthTrust: "pgwire.Trust", config.AuthSCRAM: "*pgwire.SCRAM", config.AuthCert: "pgwire.Cert",
	} {
		ways, err := load(config.Listener{Auth: auth, Addresses: []config.Address{tcp, unix}, TLS: &config.TLS{Certificate: crt, Key: key, ClientCA: crt, Required: auth != config.AuthSCRAM}})
		if err != nil {
			t.Fatal(err)
		}
		way := ways[unit.FDName(tcp)]
		if got := fmt.Sprintf("%T", way.Auth); got != want || way.TLS == nil || ways[unit.FDName(unix)].TLS != nil || way.Optional != (auth == config.AuthSCRAM) {
			t.Errorf("%s: %s, %v", auth, got, way.TLS)
		}
		asked := tls.VerifyClientCertIfGiven
		if auth == config.AuthCert {
			asked = tls.RequireAndVerifyClientCert
		}
		if way.TLS.ClientAuth != asked {
			t.Errorf("%s: client certificates %s", auth, way.TLS.ClientAuth)
		}
	}
	other := filepath.Join(dir, "other")
	certificate(t, filepath.Join(dir, "other.crt"), other)
	for want, c := range map[string]*config.TLS{
		"listener l: certificate " + dir + "/none and key " + key + ": open ":                    {Certificate: filepath.Join(dir, "none"), Key: key},
		"listener l: certificate " + crt + " and key " + empty + ": tls: failed to find any PEM": {Certificate: crt, Key: empty},
		"listener l: certificate " + crt + " and key " + other + ": tls: private key does not":   {Certificate: crt, Key: other},
		"listener l: tls: client_ca: open ":                                                      {Certificate: crt, Key: key, ClientCA: filepath.Join(dir, "none")},
		"listener l: tls: client_ca: no certificate in " + empty:                                 {Certificate: crt, Key: key, ClientCA: empty},
	} {
		if _, err := load(config.Listener{Auth: config.AuthSCRAM, Addresses: []config.Address{tcp}, TLS: c}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	users["bob"] = config.User{Name: "bob", Verifier: "x"}
	if _, err := load(config.Listener{}); err == nil {
		t.Error("no verifier")
	}
}

// certificate makes one that is its own authority.
func certificate(t *testing.T, crt, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	for path, b := range map[string]*pem.Block{crt: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMetricsSocketFails: that the socket has failed is told.
func TestMetricsSocketFails(t *testing.T) {
	l, err := control.Listen(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var said testwait.Output
	stop := meters{}.tell(l, slog.New(slog.NewTextHandler(&said, nil)))
	testwait.Until(t, "it is told", func() bool { return strings.Contains(said.String(), "the socket of the metrics has failed") })
	stop()
}

// life is an application under test, with what is said to its control socket.
type life struct {
	*Trial
	log   testwait.Output
	addr  string // of its one handler's listener
	ended chan error
}

// newLife runs a handler that serves "own", until the test ends.
func newLife(t *testing.T, h Handler, listener string, outbox ...string) *life {
	t.Helper()
	outbox = append(outbox, t.TempDir())
	dir, err := os.MkdirTemp("", "fdt")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	app := &Application{seating: time.Millisecond}
	app.Handle("own", "here", h)
	f := &life{addr: l.Addr().String(), ended: make(chan error, 1)}
	f.Trial = &Trial{Dir: dir, Listeners: map[string]net.Listener{f.addr: l}, Log: slog.New(slog.NewTextHandler(&f.log, nil))}
	ctx, cancel := context.WithCancel(t.Context())
	text := fmt.Sprintf("listen: {own: {address: %q, serve: own%s}}\nworkers: {threads: 1}\ndrain: {idle: 1ms}\ntransaction: {idle_timeout: 100ms}\n"+
		"resources: {outbox: {type: spool, directory: %s}}", f.addr, listener, outbox[0])
	go func() { f.ended <- f.Run(ctx, app, text) }()
	if err := f.Started(t.Context(), f.ended); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Hurry()
		cancel()
		if err := testwait.For(t, "the application ends", f.ended); err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(dir)
	})
	return f
}

// drain begins an orderly end.
func (f *life) drain(t *testing.T) {
	t.Helper()
	if err := control.Call(t.Context(), f.socket(), control.OpDrain, control.Drain{}, nil); err != nil {
		t.Fatal(err)
	}
}

// TestWebDrains: what is in hand is answered, and tells the client to go; who
// asks nothing is closed.
func TestWebDrains(t *testing.T) {
	in, out := make(chan struct{}), make(chan struct{})
	f := newLife(t, Handler{HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			in <- struct{}{}
			<-out
		}
		_, _ = io.WriteString(w, r.Header.Get("X"))
	})}, "")
	c, err := net.Dial("tcp4", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := bufio.NewReader(c)
	ask := func(path string) {
		if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n", path); err != nil {
			t.Fatal(err)
		}
	}
	answered := func(closing bool) {
		t.Helper()
		resp, err := http.ReadResponse(b, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != "y" || resp.Close != closing {
			t.Errorf("%s, closing %v, %v", body, resp.Close, err)
		}
	}
	ask("/fast")
	answered(false)
	ask("/slow")
	testwait.For(t, "it is in hand", in)
	f.drain(t)
	testwait.Until(t, "nobody accepts", func() bool {
		other, err := net.Dial("tcp4", f.addr)
		if err == nil {
			other.Close()
		}
		return err != nil
	})
	out <- struct{}{}
	answered(false) // its head was made ready before
	if _, err := b.ReadByte(); err != io.EOF {
		t.Error(err)
	}
}

// TestFull: with all slots taken, who comes is told so after a while.
func TestFull(t *testing.T) {
	in, release := make(chan struct{}, 1), make(chan struct{})
	hold := func() {
		select {
		case in <- struct{}{}:
			<-release
		default:
		}
	}
	for name, h := range map[string]Handler{
		"HTTP/1.1 503 Service Unavailable": {HTTP: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hold() })},
		ErrFull.Error(): {Stream: func(_ context.Context, c *Conn) error {
			err := c.Next()
			if err != nil {
				_, _ = io.WriteString(c, err.Error())
			}
			hold()
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newLife(t, h, "")
			first, second := dial(t, f), dial(t, f)
			defer first.Close()
			defer second.Close()
			say(t, first, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			testwait.Until(t, "it has the slot", func() bool { return len(in) == 1 })
			say(t, second, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			answer, err := io.ReadAll(second)
			if !strings.HasPrefix(string(answer), name) || err != nil {
				t.Errorf("%s, %v", answer, err)
			}
			release <- struct{}{}
			<-in
		})
	}
}

func dial(t *testing.T, f *life) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp4", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// TestStreamEnds: a drain lets a request end, and a transaction; then, as with a
// client that is silent in a transaction, the handler is told why.
func TestStreamEnds(t *testing.T) {
	ends := make(chan error, 1)
	asked := make(chan string)
	handler := Handler{Stream: func(ctx context.Context, c *Conn) error {
		for {
			if err := c.Next(); err != nil {
				_, _ = io.WriteString(c, "bye "+c.Peer())
				ends <- err
				return err
			}
			line, err := c.Reader.ReadString('\n')
			if err != nil {
				return err
			}
			asked <- line
			s := ScopeFrom(ctx).Session()
			switch line {
			case "begin\n":
				err = s.Begin(ctx, txn.TxOptions{})
			case "commit\n":
				err = s.Commit(ctx)
			case "fail\n":
				err = io.ErrNoProgress
			}
			if err != nil {
				return err
			}
		}
	}}
	t.Run("drain", func(t *testing.T) {
		f := newLife(t, handler, "")
		c := dial(t, f)
		defer c.Close()
		say(t, c, "one\nbegin\n")
		testwait.For(t, "a request", asked)
		testwait.For(t, "another, sent with it", asked)
		f.drain(t)
		say(t, c, "commit\n")
		testwait.For(t, "the transaction goes on", asked)
		if err := testwait.For(t, "it ends", ends); !errors.Is(err, ErrDraining) {
			t.Error(err)
		}
		if answer, err := io.ReadAll(c); string(answer) != "bye "+c.LocalAddr().String() || err != nil {
			t.Errorf("%s, %v", answer, err)
		}
	})
	t.Run("silent", func(t *testing.T) {
		f := newLife(t, handler, "")
		c := dial(t, f)
		defer c.Close()
		f.drainOf(t, c)
		if err := testwait.For(t, "it ends", ends); !errors.Is(err, ErrDraining) {
			t.Error(err)
		}
	})
	t.Run("idle in a transaction", func(t *testing.T) {
		f := newLife(t, handler, "")
		c := dial(t, f)
		defer c.Close()
		say(t, c, "begin\n")
		testwait.For(t, "a request", asked)
		if err := testwait.For(t, "it ends", ends); !errors.Is(err, ErrIdle) {
			t.Error(err)
		}
	})
	t.Run("failure", func(t *testing.T) {
		f := newLife(t, handler, "")
		c := dial(t, f)
		defer c.Close()
		say(t, c, "fail\n")
		testwait.For(t, "a request", asked)
		testwait.Until(t, "it is logged", func() bool { return strings.Contains(f.log.String(), "a connection's handler has failed") })
	})
}

// drainOf drains once the connection is there.
func (f *life) drainOf(t *testing.T, c net.Conn) {
	t.Helper()
	var st control.Status
	testwait.Until(t, "it was accepted", func() bool {
		return control.Call(t.Context(), f.socket(), control.OpStatus, nil, &st) == nil && st.Open == 1
	})
	f.drain(t)
	_ = c
}

// TestEncrypted serves both kinds of handler by TLS; HTTP has its version 2.
func TestEncrypted(t *testing.T) {
	dir := t.TempDir()
	crt, key := filepath.Join(dir, "crt"), filepath.Join(dir, "key")
	certificate(t, crt, key)
	listener := fmt.Sprintf(", tls: {certificate: %s, key: %s}", crt, key)
	trusting := &tls.Config{InsecureSkipVerify: true}
	t.Run("HTTP", func(t *testing.T) {
		f := newLife(t, Handler{HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })}, listener)
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: trusting, ForceAttemptHTTP2: true}}
		defer client.CloseIdleConnections()
		resp, err := client.Get("https://" + f.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); string(body) != "HTTP/2.0" || err != nil {
			t.Errorf("%s, %v", body, err)
		}
	})
	t.Run("stream", func(t *testing.T) {
		f := newLife(t, Handler{Stream: func(_ context.Context, c *Conn) error {
			err := c.Next()
			_, _ = io.WriteString(c, "hello")
			return err
		}}, listener)
		c, err := tls.Dial("tcp4", f.addr, trusting)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		say(t, c, "x")
		if answer, err := io.ReadAll(c); string(answer) != "hello" || err != nil {
			t.Errorf("%s, %v", answer, err)
		}
	})
}

// TestAgree is a table of programs and configurations that do not fit.
func TestAgree(t *testing.T) {
	serves := func(serve ...string) *config.Config {
		cfg := &config.Config{Listen: map[string]config.Listener{}}
		for _, s := range serve {
			cfg.Listen["for-"+s] = config.Listener{Serve: s}
		}
		return cfg
	}
	app := new(Application)
	if err := app.agree(serves("web")); err == nil || err.Error() != `listener for-web: serve: the program has no handler "web"; it has none` {
		t.Error(err)
	}
	app.Handle("api", "main.go:7", Handler{HTTP: http.NotFoundHandler()})
	if err := app.agree(serves("", "web")); err == nil || err.Error() != `listener for-web: serve: the program has no handler "web"; it has api`+"\n"+
		`main.go:7: no listener is served by handler "api": give one serve: api` {
		t.Error(err)
	}
	if err := app.agree(serves("", "api")); err != nil {
		t.Error(err)
	}
}

// TestTrialFails is a table of what keeps an application from starting.
func TestTrialFails(t *testing.T) {
	for text, want := range map[string]string{
		"listen: {own: {address: \"127.0.0.1:1\", serve: own}}":                                                      "no descriptors were passed",
		"listen: {own: {address: \"127.0.0.1:1\", serve: own, tls: {certificate: /nonexistent, key: /nonexistent}}}": "listener own: certificate /nonexistent",
	} {
		app := new(Application)
		app.Handle("own", "here", Handler{HTTP: http.NotFoundHandler()})
		dir := t.TempDir()
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		trial := &Trial{Dir: dir, Listeners: map[string]net.Listener{"127.0.0.1:2": l}, Log: slog.New(slog.DiscardHandler)}
		ended := make(chan error, 1)
		ended <- trial.Run(t.Context(), app, text)
		if err := trial.Started(t.Context(), ended); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("what no worker has stays open: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		<-ended
		if err := trial.Started(ctx, ended); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// TestRollbackFails: that a transaction could not be rolled back is logged.
func TestRollbackFails(t *testing.T) {
	for name, h := range map[string]func(mess func(*Scope)) Handler{
		"request": func(mess func(*Scope)) Handler {
			return Handler{HTTP: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { mess(ScopeFrom(r.Context())) })}
		},
		"connection": func(mess func(*Scope)) Handler {
			return Handler{Stream: func(ctx context.Context, c *Conn) error {
				err := c.Next()
				mess(c.Scope)
				return err
			}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			outbox := t.TempDir()
			f := newLife(t, h(func(s *Scope) {
				tmp := filepath.Join(outbox, "tmp")
				b, err := s.Session().Branch(t.Context(), "outbox")
				if errors.Is(err, txn.ErrNoTransaction) {
					err = s.Session().Begin(t.Context(), txn.TxOptions{})
					if err == nil {
						b, err = s.Session().Branch(t.Context(), "outbox")
					}
				}
				if err == nil {
					err = b.(*spool.Branch).Put(t.Context(), nil)
				}
				if err := errors.Join(err, os.RemoveAll(tmp), os.WriteFile(tmp, nil, 0o600)); err != nil {
					t.Error(err)
				}
			}), "", outbox)
			c := dial(t, f)
			defer c.Close()
			say(t, c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			testwait.Until(t, "it is logged", func() bool { return strings.Contains(f.log.String(), "rolling back a "+name+"'s transaction failed") })
			if err := errors.Join(os.Remove(filepath.Join(outbox, "tmp")), os.Mkdir(filepath.Join(outbox, "tmp"), 0o700)); err != nil {
				t.Error(err)
			}
		})
	}
}
