package pgwire

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"net"

	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sys/unix"
)

// alpn is the protocol's name in a TLS handshake, which a client that begins
// with one must use.
const alpn = "postgresql"

// tlsHandshake is the first byte of a TLS connection.
const tlsHandshake = 0x16

// TLSConfig completes a configuration for a [Listener]: version and protocol.
func TLSConfig(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	c.NextProtos = []string{alpn}
	return c
}

// ahead is a connection of which some input was read already.
type ahead struct {
	net.Conn
	input *bytes.Reader
}

// Read reads what was read ahead first.
func (a *ahead) Read(b []byte) (int, error) {
	if a.input.Len() > 0 {
		return a.input.Read(b)
	}
	return a.Conn.Read(b)
}

// encrypt goes on in TLS. Direct is for a client that did not ask before.
func (se *session) encrypt(cfg *tls.Config, direct bool) error {
	conn := se.wire.conn
	if direct {
		w := &se.wire
		conn = &ahead{conn, bytes.NewReader(bytes.Clone(w.inbox[w.start:w.end]))}
		w.start = w.end
	}
	t := tls.Server(conn, cfg)
	se.turn.take(se.ctx)
	err := t.HandshakeContext(se.ctx)
	se.turn.rest()
	if err != nil {
		se.log().Debug("TLS handshake failed", "error", err)
		return errGarbage
	}
	if direct && t.ConnectionState().NegotiatedProtocol != alpn {
		return errGarbage // RFC 7301: it may be another protocol's client that was led here
	}
	se.tls, se.wire.conn = t, t
	se.conn.Heard()
	return nil
}

// endPoint is the channel binding of RFC 5929, section 4.1: a hash of the
// server's certificate by the hash of its signature, or SHA-256 for those that
// are weaker; nil for a signature that has none.
func endPoint(cert *x509.Certificate) []byte {
	switch cert.SignatureAlgorithm {
	case x509.SHA384WithRSA, x509.ECDSAWithSHA384, x509.SHA384WithRSAPSS:
		h := sha512.Sum384(cert.Raw)
		return h[:]
	case x509.SHA512WithRSA, x509.ECDSAWithSHA512, x509.SHA512WithRSAPSS:
		h := sha512.Sum512(cert.Raw)
		return h[:]
	case x509.PureEd25519, x509.UnknownSignatureAlgorithm:
		return nil
	default:
		h := sha256.Sum256(cert.Raw)
		return h[:]
	}
}

// applicant is a session's connection in the eyes of an Authenticator.
type applicant struct{ se *session }

func (a applicant) PeerCred() (*unix.Ucred, error) { return a.se.conn.PeerCred() }

func (a applicant) PeerGroups() ([]uint32, error) { return a.se.conn.PeerGroups() }

func (a applicant) TLS() *tls.ConnectionState {
	if a.se.tls == nil {
		return nil
	}
	state := a.se.tls.ConnectionState()
	return &state
}

func (a applicant) Binding() []byte {
	if a.se.tls == nil {
		return nil
	}
	certs := a.se.server.Listeners[a.se.conn.Listener()].TLS.Certificates
	if len(certs) != 1 || certs[0].Leaf == nil { // which one was shown is not known
		return nil
	}
	return endPoint(certs[0].Leaf)
}

func (a applicant) Tell(m pgproto3.BackendMessage) { a.se.wire.send(m) }

func (a applicant) Ask(m pgproto3.BackendMessage) ([]byte, error) {
	w := &a.se.wire
	w.send(m)
	w.flush() // a client that has gone is heard to
	if err := w.await(); err != nil {
		return nil, err
	}
	kind, size, err := w.head()
	switch {
	case err != nil:
		return nil, err
	case kind != 'p':
		return nil, fatalf("08P01", "expected SASL response, got message type %d", kind)
	case size > maxSASL:
		return nil, fatalf("08P01", "invalid message length")
	}
	return w.body(size)
}
