package pgwire_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fdtserver/fdt/internal/scram"
	"github.com/fdtserver/fdt/pgwire"
)

// authority signs certificates for tests.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
	n    int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("authority", elliptic.P256(), nil)
	return a
}

// issue makes NAME.crt and NAME.key; curve nil means Ed25519.
func (a *authority) issue(name string, curve elliptic.Curve, mod func(*x509.Certificate)) (*x509.Certificate, crypto.Signer) {
	a.t.Helper()
	var key crypto.Signer
	var err error
	if curve == nil {
		_, key, err = ed25519.GenerateKey(rand.Reader)
	} else {
		key, err = ecdsa.GenerateKey(curve, rand.Reader)
	}
	a.must(err)
	a.n++
	c := &x509.Certificate{
		SerialNumber: big.NewInt(a.n), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
		parent, signer = c, key
	}
	if mod != nil {
		mod(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	a.must(err)
	cert, err := x509.ParseCertificate(der)
	a.must(err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	a.must(err)
	a.must(os.WriteFile(a.path(name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	a.must(os.WriteFile(a.path(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600))
	return cert, key
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

func (a *authority) server(name string) *tls.Config {
	a.t.Helper()
	cert, err := tls.LoadX509KeyPair(a.path(name+".crt"), a.path(name+".key"))
	a.must(err)
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pgwire.TLSConfig(&tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven})
}

// key is of the salts of users that do not exist.
var key = make([]byte, pgwire.SecretSize)

func users(t testing.TB) *pgwire.SCRAM {
	t.Helper()
	s, err := pgwire.NewSCRAM(map[string]string{"alice": scram.New("wonderland").String()}, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// login connects with pgx and calls a procedure.
func login(t *testing.T, address, more string) error {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("host=%s port=%s dbname=db %s", host, port, more))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	_, err = conn.Exec(t.Context(), "CALL enqueue($1)", "x")
	return err
}

func psql(dsn, query string) (string, error) {
	cmd := exec.Command("psql", "-X", "-A", "-t", "-c", query, dsn)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	e, ok := errors.AsType[*pgconn.PgError](err)
	if code == "" && err != nil || code != "" && (!ok || e.Code != code) {
		t.Errorf("%s: %v, want %q", what, err, code)
	}
}

// TestPassword logs in by SCRAM, in the clear.
func TestPassword(t *testing.T) {
	f := newFDT(t, bank{}, onTCP(pgwire.Listener{Auth: users(t)}))
	wantCode(t, "right", login(t, f.tcp, "sslmode=disable user=alice password=wonderland"), "")
	wantCode(t, "wrong", login(t, f.tcp, "sslmode=disable user=alice password=x"), "28P01")
	wantCode(t, "unknown", login(t, f.tcp, "sslmode=disable user=eve password=wonderland"), "28P01")
	host, port, _ := net.SplitHostPort(f.tcp)
	out, err := psql(fmt.Sprintf("host=%s port=%s dbname=db user=alice password=wonderland sslmode=disable", host, port), "SELECT current_user")
	if err != nil || out != "alice\n" {
		t.Errorf("psql: %s, %v", out, err)
	}
	if _, err := pgwire.NewSCRAM(map[string]string{"alice": "md5"}, key); err == nil {
		t.Error("no verifier")
	}
	if _, err := pgwire.NewSCRAM(nil, nil); err == nil {
		t.Error("no secret")
	}
	// Conversations that go wrong.
	sasl := func(b string) []byte { return message('p', []byte(b)...) }
	const chosen = "E FATAL 08P01 client selected an invalid SASL authentication mechanism"
	for name, c := range map[string]struct {
		send []byte
		want string
	}{
		"another message":  {message('Q', 0), "E FATAL 08P01 expected SASL response, got message type 81"},
		"long":             {sasl(strings.Repeat("x", 2000)), "E FATAL 08P01 invalid message length"},
		"no mechanism":     {sasl("x"), "E FATAL 08P01 malformed SASL response"},
		"length lies":      {sasl("SCRAM-SHA-256\x00\x00\x00\x00\x09n,,"), "E FATAL 08P01 malformed SASL response"},
		"other mechanism":  {sasl("PLAIN\x00\x00\x00\x00\x00"), chosen},
		"OAUTHBEARER":      {sasl("OAUTHBEARER\x00\x00\x00\x00\x00"), chosen},
		"not offered":      {sasl("SCRAM-SHA-256-PLUS\x00\x00\x00\x00\x1ep=tls-server-end-point,,n=,r=x"), chosen},
		"no first message": {sasl("SCRAM-SHA-256\x00\xff\xff\xff\xff"), "E FATAL 08P01 malformed SASL response"},
		"bad first":        {sasl("SCRAM-SHA-256\x00\x00\x00\x00\x01n"), `E FATAL 08P01 SCRAM authentication failed for user "alice": scram: malformed message: no gs2 header`},
		"early close":      {nil, ""},
		"noise":            {length('p', 1), ""},
	} {
		cl := dial(t, "tcp", f.tcp)
		cl.raw(startupPacket(version3, pairs("user", "alice")...))
		if m, err := cl.front.Receive(); err != nil {
			t.Fatalf("%s: %v", name, err)
		} else if _, ok := m.(*pgproto3.AuthenticationSASL); !ok {
			t.Fatalf("%s: %T", name, m)
		}
		if c.send == nil {
			_ = cl.conn.Close()
			continue
		}
		cl.raw(c.send)
		if c.want == "" {
			cl.answers(name, cl.read(), "closed")
			continue
		}
		cl.answers(name, cl.read(), c.want, "closed")
	}
	// A client that goes before the second message.
	cl := dial(t, "tcp", f.tcp)
	cl.raw(startupPacket(version3, pairs("user", "alice")...))
	cl.raw(sasl("SCRAM-SHA-256\x00\x00\x00\x00\x09n,,n=,r=x"))
	_ = cl.conn.(*net.TCPConn).CloseWrite()
	cl.answers("half a conversation", cl.read(), "*pgproto3.AuthenticationSASL", "*pgproto3.AuthenticationSASLContinue", "closed")
}

// TestUnknownUser asks as users that exist and that do not: the challenges have the same iterations and length of salt,
// and asking again brings the same salt, also when users have come and another worker answers.
func TestUnknownUser(t *testing.T) {
	verifier := func() string { return scram.Derive("wonderland", []byte("twelve bytes"), 5000).String() }
	serve := func(users map[string]string, key []byte) *fdt {
		s, err := pgwire.NewSCRAM(users, key)
		if err != nil {
			t.Fatal(err)
		}
		return newFDT(t, bank{}, onTCP(pgwire.Listener{Auth: s}))
	}
	challenge := func(f *fdt, user string) (salt, iterations string) {
		cl := dial(t, "tcp", f.tcp)
		cl.raw(startupPacket(version3, pairs("user", user)...))
		cl.raw(message('p', []byte("SCRAM-SHA-256\x00\x00\x00\x00\x09n,,n=,r=x")...))
		for {
			m, err := cl.front.Receive()
			if err != nil {
				t.Fatalf("%s: %v", user, err)
			}
			if c, ok := m.(*pgproto3.AuthenticationSASLContinue); ok {
				_ = cl.conn.Close()
				part := strings.Split(string(c.Data), ",")
				return part[1], part[2]
			}
		}
	}
	f := serve(map[string]string{"alice": verifier()}, key)
	grown := serve(map[string]string{"alice": verifier(), "bob": verifier()}, key)
	foreign := serve(map[string]string{"alice": verifier()}, []byte(strings.Repeat("x", pgwire.SecretSize)))
	salt, iterations := challenge(f, "alice")
	seen := map[string]string{salt: "alice"}
	for _, user := range []string{"eve", "mallory"} {
		one, i := challenge(f, user)
		two, _ := challenge(f, user)
		if one != two || i != iterations || len(one) != len(salt) || seen[one] != "" {
			t.Errorf("%s: %s then %s, %s; alice: %s, %s", user, one, two, i, salt, iterations)
		}
		seen[one] = user
		if later, i := challenge(grown, user); later != one || i != iterations {
			t.Errorf("%s: %s, and %s where there is another user", user, one, later)
		}
		if other, _ := challenge(foreign, user); other == one {
			t.Errorf("%s: %s with another secret", user, other)
		}
	}
}

// TestTLS logs in through TLS: asked for and direct, with each kind of
// certificate, with a password bound to the channel and with a certificate.
func TestTLS(t *testing.T) {
	a := newAuthority(t)
	a.issue("p256", elliptic.P256(), nil)
	a.issue("p384", elliptic.P384(), func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA384 })
	a.issue("p521", elliptic.P521(), func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA512 })
	a.issue("alice", elliptic.P256(), nil)
	root := " sslrootcert=" + a.path("authority.crt") + " "
	for _, name := range []string{"p256", "p384", "p521"} {
		f := newFDT(t, bank{}, onTCP(pgwire.Listener{Auth: users(t), TLS: a.server(name)}))
		for _, more := range []string{"channel_binding=require", "channel_binding=disable", "sslnegotiation=direct"} {
			what := name + " " + more
			dsn := "user=alice password=wonderland sslmode=verify-full" + root
			wantCode(t, what, login(t, f.tcp, dsn+more), "")
			wantCode(t, what, login(t, f.tcp, strings.Replace(dsn, "wonder", "x", 1)+more), "28P01")
		}
		host, port, _ := net.SplitHostPort(f.tcp)
		out, err := psql(fmt.Sprintf("host=%s port=%s dbname=db user=alice password=wonderland sslmode=verify-full channel_binding=require%s",
			host, port, root), "SELECT current_user")
		if err != nil || out != "alice\n" {
			t.Errorf("%s: psql: %s, %v", name, out, err)
		}
	}
	f := newFDT(t, bank{}, onTCP(pgwire.Listener{Auth: users(t), TLS: a.server("p256")}))
	wantCode(t, "plaintext", login(t, f.tcp, "sslmode=disable user=alice password=wonderland"), "28000")

	f = newFDT(t, bank{}, onTCP(pgwire.Listener{Auth: pgwire.Cert{}, TLS: a.server("p256")}))
	own := " sslcert=" + a.path("alice.crt") + " sslkey=" + a.path("alice.key")
	wantCode(t, "certificate", login(t, f.tcp, "user=alice sslmode=verify-full"+root+own), "")
	wantCode(t, "another's", login(t, f.tcp, "user=bob sslmode=verify-full"+root+own), "28000")
	wantCode(t, "none", login(t, f.tcp, "user=alice sslmode=verify-full"+root), "28000")
	f = newFDT(t, bank{}, onTCP(pgwire.Listener{Auth: pgwire.Cert{}}))
	wantCode(t, "no TLS", login(t, f.tcp, "user=alice sslmode=disable"), "28000")
}

// TestNoBinding offers no channel binding where there is none to be had.
func TestNoBinding(t *testing.T) {
	a := newAuthority(t)
	a.cert, a.key = nil, nil
	a.cert, a.key = a.issue("authority", nil, nil)
	a.issue("ed", elliptic.P256(), nil)
	dsn := "user=alice password=wonderland sslmode=verify-full sslrootcert=" + a.path("authority.crt")
	f := newFDT(t, bank{}, onTCP(pgwire.Listener{Auth: users(t), TLS: a.server("ed")}))
	wantCode(t, "Ed25519", login(t, f.tcp, dsn), "")
	two := a.server("ed")
	two.Certificates = append(two.Certificates, two.Certificates[0])
	f = newFDT(t, bank{}, onTCP(pgwire.Listener{Auth: users(t), TLS: two}))
	wantCode(t, "two certificates", login(t, f.tcp, dsn), "")
}

// TestTLSGoesWrong is a table of what TLS does not forgive.
func TestTLSGoesWrong(t *testing.T) {
	a := newAuthority(t)
	a.issue("server", elliptic.P256(), nil)
	f := newFDT(t, bank{}, onTCP(pgwire.Listener{Auth: pgwire.Trust{}, TLS: a.server("server")}))
	ssl := startupPacket(80877103)
	begin := func() *client {
		c := dial(t, "tcp", f.tcp)
		c.raw(ssl)
		var b [1]byte
		if _, err := c.conn.Read(b[:]); err != nil || b[0] != 'S' {
			t.Fatalf("%q, %v", b, err)
		}
		return c
	}
	handshake := func(c *client, protos ...string) *client {
		tc := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true, NextProtos: protos})
		if err := tc.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		return &client{t: t, conn: tc, front: pgproto3.NewFrontend(tc, tc)}
	}
	c := begin()
	c.raw(startupPacket(version3, pairs("user", "a")...))
	if got := c.read(); !strings.HasPrefix(got[len(got)-1], "closed") {
		t.Errorf("plaintext after S: %q", got)
	}
	c = dial(t, "tcp", f.tcp)
	c.raw(append(ssl, 0x16))
	c.answers("more with SSLRequest", c.read(), "closed")
	c = handshake(begin())
	c.raw(startupPacket(80877103))
	c.answers("SSLRequest in TLS", c.read(), "E FATAL 0A000 unsupported frontend protocol 1234.5679: server supports 3.0 to 3.2", "closed")
	c = handshake(begin())
	c.raw(startupPacket(80877104))
	c.answers("GSSENCRequest in TLS", c.read(), "E FATAL 0A000 unsupported frontend protocol 1234.5680: server supports 3.0 to 3.2", "closed")
	c = handshake(dial(t, "tcp", f.tcp))
	c.answers("direct without ALPN", c.read(), "closed")
	c = dial(t, "tcp", f.tcp)
	c.raw([]byte("\x16\x03\x01\x00\x05hello"))
	if got := c.read(); !strings.HasPrefix(got[len(got)-1], "closed") {
		t.Errorf("no handshake: %q", got)
	}
	c = dial(t, "tcp", f.tcp)
	c.raw(startupPacket(80877104))
	var b [1]byte
	if _, err := c.conn.Read(b[:]); err != nil || b[0] != 'N' {
		t.Fatalf("%q, %v", b, err)
	}
	c.raw(ssl)
	if _, err := c.conn.Read(b[:]); err != nil || b[0] != 'S' {
		t.Fatalf("%q, %v", b, err)
	}
	c = handshake(c, "postgresql")
	c.raw(startupPacket(version3, pairs("user", "a")...))
	if hello := c.read(); hello[len(hello)-1] != "Z I" {
		t.Errorf("%q", hello)
	}
	// A CancelRequest may come with TLS and without.
	c = handshake(begin())
	c.raw(startupPacket(80877102, 0, 0, 0, 1, 0, 0, 0, 2))
	c.answers("cancel in TLS", c.read(), "closed")
	cancelRequest(t, "tcp", f.tcp, &pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 2}})
	c = handshake(begin())
	c.raw(startupPacket(version3, []byte("user\x00a\x00")...))
	c.answers("refused in TLS", c.read(), "E FATAL 08P01 invalid startup packet layout: expected terminator as last byte", "closed")
}

// TestOptionalTLS is one port for clients with encryption and without, where the password's exchange is bound to the
// channel of those who have one.
func TestOptionalTLS(t *testing.T) {
	a := newAuthority(t)
	a.issue("server", elliptic.P256(), nil)
	f := newFDT(t, bank{}, onTCP(pgwire.Listener{Auth: users(t), TLS: a.server("server"), Optional: true}))
	const alice = " user=alice password=wonderland"
	wantCode(t, "in the clear", login(t, f.tcp, "sslmode=disable"+alice), "")
	wantCode(t, "with TLS", login(t, f.tcp, "sslmode=verify-full sslrootcert="+a.path("authority.crt")+alice), "")
	wantCode(t, "wrong, in the clear", login(t, f.tcp, "sslmode=disable user=alice password=x"), "28P01")
	host, port, _ := net.SplitHostPort(f.tcp)
	for more, want := range map[string]string{
		"sslmode=disable": "alice\n",
		"sslmode=allow":   "alice\n",
		"sslmode=prefer":  "alice\n",
		"sslmode=require channel_binding=require": "alice\n",
		"sslmode=disable channel_binding=require": "channel binding required",
	} {
		out, err := psql(fmt.Sprintf("host=%s port=%s dbname=db %s %s", host, port, alice, more), "SELECT current_user")
		if (err == nil) != (want == "alice\n") || !strings.Contains(out, want) {
			t.Errorf("%s: %s, %v", more, out, err)
		}
	}
	conn, err := tls.Dial("tcp", f.tcp, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}})
	a.must(err)
	c := &client{t: t, conn: conn, front: pgproto3.NewFrontend(conn, conn)}
	c.raw(startupPacket(version3, pairs("user", "alice")...))
	asked, err := c.front.Receive()
	a.must(err)
	c.answers("directly", []string{c.print(asked)}, "*pgproto3.AuthenticationSASL")
	_ = conn.Close()
}

// TestTLSPipelineBeforeGoodbye is TestPipelineBeforeGoodbye where input may
// also wait in TLS records that were read.
func TestTLSPipelineBeforeGoodbye(t *testing.T) {
	a := newAuthority(t)
	a.issue("server", elliptic.P256(), nil)
	f := newFDT(t, bank{}, onTCP(pgwire.Listener{Auth: pgwire.Trust{}, TLS: a.server("server")}))
	conn, err := tls.Dial("tcp", f.tcp, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}})
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, conn: conn, front: pgproto3.NewFrontend(conn, conn)}
	c.raw(startupPacket(version3, pairs("user", "a")...))
	c.read()
	c.want("BEGIN", "C BEGIN", "Z T")
	ended := f.shutdown()
	c.front.Send(&pgproto3.Query{String: "COMMIT"})
	const n = 50
	for range n {
		c.front.Send(&pgproto3.Query{String: "CALL enqueue('x')"})
	}
	c.answers("commit", c.flush(), "C COMMIT", "Z I")
	for range n {
		c.answers("call", c.read(), "C CALL", "Z I")
	}
	c.answers("then", c.read(), goodbye, "closed")
	_ = conn.Close()
	<-ended
	if got := len(f.messages()); got != n {
		t.Errorf("%d messages", got)
	}
}
