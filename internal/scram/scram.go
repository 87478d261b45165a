// Package scram is the server's side of SCRAM-SHA-256 and
// SCRAM-SHA-256-PLUS. It never holds a password: it works from the verifier
// that PostgreSQL keeps in pg_authid, and takes the same steps for a user that
// does not exist as for a wrong password.
//
// The rules are RFC 5802 and RFC 7677; channel binding is tls-server-end-point
// of RFC 5929.
package scram

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The mechanisms, as they are called in SASL.
const (
	Mechanism     = "SCRAM-SHA-256"
	MechanismPlus = "SCRAM-SHA-256-PLUS"
)

// DefaultIterations is PostgreSQL's scram_iterations.
const DefaultIterations = 4096

const (
	saltSize  = 16
	nonceSize = 18 // bytes, as PostgreSQL
)

// ErrFailed is a wrong password or an unknown user.
var ErrFailed = errors.New("scram: authentication failed")

// ErrMalformed is a message that the protocol does not allow.
var ErrMalformed = errors.New("scram: malformed message")

// ErrBinding is a channel binding that is not the channel's: somebody may be in
// between.
var ErrBinding = errors.New("scram: channel binding does not match")

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }

// Verifier is what proves a password without being one.
type Verifier struct {
	Iterations int
	Salt       []byte
	StoredKey  []byte
	ServerKey  []byte

	mock bool // nobody's: every password fails
}

// Derive makes the verifier of a password, which the caller has normalised.
func Derive(password string, salt []byte, iterations int) *Verifier {
	salted, _ := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size) // fails for longer keys only
	stored := sha256.Sum256(sign(salted, "Client Key"))
	return &Verifier{Iterations: iterations, Salt: salt, StoredKey: stored[:], ServerKey: sign(salted, "Server Key")}
}

// New makes a verifier with a fresh salt.
func New(password string) *Verifier {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails, crypto/rand.Read
	return Derive(password, salt, DefaultIterations)
}

// String prints the verifier as PostgreSQL does:
// SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey.
func (v *Verifier) String() string {
	b := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s$%d:%s$%s:%s", Mechanism, v.Iterations, b(v.Salt), b(v.StoredKey), b(v.ServerKey))
}

// Parse reads what String prints.
func Parse(s string) (*Verifier, error) {
	bad := errors.New("scram: not a SCRAM-SHA-256 verifier")
	parts := strings.Split(s, "$")
	if len(parts) != 3 || parts[0] != Mechanism {
		return nil, bad
	}
	iterations, salt, ok1 := strings.Cut(parts[1], ":")
	stored, server, ok2 := strings.Cut(parts[2], ":")
	n, err := strconv.Atoi(iterations)
	if !ok1 || !ok2 || err != nil || n < 1 {
		return nil, bad
	}
	v := &Verifier{Iterations: n}
	for _, f := range []struct {
		text string
		into *[]byte
		size int
	}{{salt, &v.Salt, 0}, {stored, &v.StoredKey, sha256.Size}, {server, &v.ServerKey, sha256.Size}} {
		if *f.into, err = base64.StdEncoding.DecodeString(f.text); err != nil || f.size > 0 && len(*f.into) != f.size {
			return nil, bad
		}
	}
	return v, nil
}

func sign(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write([]byte(text)) // never fails, hash.Hash
	return h.Sum(nil)
}

// Exchange is one authentication: First, then Final.
type Exchange struct {
	verifier *Verifier
	binding  []byte // tls-server-end-point; nil if there is no TLS
	plus     bool   // the client chose the mechanism with channel binding

	header string // gs2-header, as the client sent it
	bare   string // client-first-message-bare
	server string // server-first-message
	nonce  string
}

// NewExchange begins an authentication by the mechanism that the client chose.
// binding is the channel's tls-server-end-point data, nil without TLS.
func NewExchange(v *Verifier, mechanism string, binding []byte) (*Exchange, error) {
	switch {
	case mechanism == Mechanism:
		return &Exchange{verifier: v, binding: binding}, nil
	case mechanism == MechanismPlus && binding != nil:
		return &Exchange{verifier: v, binding: binding, plus: true}, nil
	}
	return nil, malformed("mechanism " + strconv.Quote(mechanism))
}

// First takes the client's first message and returns the server's.
func (e *Exchange) First(message string) (string, error) {
	return e.first(message, nonce())
}

func nonce() string {
	b := make([]byte, nonceSize)
	_, _ = rand.Read(b) // never fails, crypto/rand.Read
	return base64.StdEncoding.EncodeToString(b)
}

func (e *Exchange) first(message, nonce string) (string, error) {
	flag, rest, ok1 := strings.Cut(message, ",")
	authzid, bare, ok2 := strings.Cut(rest, ",")
	switch {
	case !ok1 || !ok2:
		return "", malformed("no gs2 header")
	case authzid != "":
		return "", malformed("an authorization identity")
	case e.plus && flag != "p=tls-server-end-point":
		return "", malformed("channel binding " + strconv.Quote(flag))
	case !e.plus && flag == "y" && e.binding != nil:
		// The client thinks that we cannot bind, though we said so.
		return "", fmt.Errorf("%w: the offer of %s did not arrive", ErrBinding, MechanismPlus)
	case !e.plus && flag != "n" && flag != "y":
		return "", malformed("channel binding " + strconv.Quote(flag))
	}
	user, rest, ok := strings.Cut(bare, ",")
	if !ok || !strings.HasPrefix(user, "n=") { // the name itself is the startup message's
		return "", malformed("no user name")
	}
	own, _, _ := strings.Cut(rest, ",") // extensions follow, none known
	own, ok = strings.CutPrefix(own, "r=")
	if !ok || own == "" || strings.ContainsFunc(own, func(r rune) bool { return r < '!' || r > '~' }) {
		return "", malformed("no nonce")
	}
	e.header, e.bare = flag+",,", bare
	e.nonce = own + nonce
	e.server = fmt.Sprintf("r=%s,s=%s,i=%d", e.nonce, base64.StdEncoding.EncodeToString(e.verifier.Salt), e.verifier.Iterations)
	return e.server, nil
}

// Final takes the client's final message and returns the server's, or
// ErrFailed.
func (e *Exchange) Final(message string) (string, error) {
	i := strings.LastIndex(message, ",p=")
	if i < 0 || e.server == "" {
		return "", malformed("no proof")
	}
	without := message[:i]
	proof, err := base64.StdEncoding.DecodeString(message[i+len(",p="):])
	if err != nil || len(proof) != sha256.Size {
		return "", malformed("proof")
	}
	c, rest, _ := strings.Cut(without, ",")
	r, _, _ := strings.Cut(rest, ",")
	if !strings.HasPrefix(c, "c=") || !strings.HasPrefix(r, "r=") {
		return "", malformed("no channel binding or no nonce")
	}
	bound, err := base64.StdEncoding.DecodeString(c[len("c="):])
	if err != nil {
		return "", malformed("channel binding")
	}
	want := []byte(e.header)
	if e.plus {
		want = append(want, e.binding...)
	}
	if !bytes.Equal(bound, want) {
		return "", ErrBinding
	}
	if r[len("r="):] != e.nonce {
		return "", malformed("nonce")
	}

	auth := e.bare + "," + e.server + "," + without
	signature := sign(e.verifier.StoredKey, auth)
	key := make([]byte, sha256.Size)
	for i := range key {
		key[i] = proof[i] ^ signature[i]
	}
	stored := sha256.Sum256(key)
	if !hmac.Equal(stored[:], e.verifier.StoredKey) || e.verifier.mock {
		return "", ErrFailed
	}
	return "v=" + base64.StdEncoding.EncodeToString(sign(e.verifier.ServerKey, auth)), nil
}
