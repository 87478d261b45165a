package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fdtserver/fdt/internal/scram"
)

// maxSASL is the longest message of an authentication, as
// PG_MAX_SASL_MESSAGE_LENGTH.
const maxSASL = 1024

// SCRAM lets users in who prove that they know their password. What a client
// sees of a user that does not exist is what it sees of a wrong password.
type SCRAM struct {
	users  map[string]*scram.Verifier
	nobody *scram.Mocks
}

// SecretSize is the length in bytes of the secret of [NewSCRAM].
const SecretSize = 32

// NewSCRAM takes the users' verifiers, as PostgreSQL prints them, by name, and
// SecretSize random bytes from which the salts of users that do not exist are
// made. They must be the same in all workers, and stay when users come and go:
// a user whose salt changes with those of others does not exist.
func NewSCRAM(users map[string]string, secret []byte) (*SCRAM, error) {
	if len(secret) != SecretSize {
		return nil, fmt.Errorf("the secret has %d bytes and not %d", len(secret), SecretSize)
	}
	s := &SCRAM{users: make(map[string]*scram.Verifier, len(users))}
	for name, text := range users {
		v, err := scram.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		s.users[name] = v
	}
	s.nobody = scram.NewMocks(secret, slices.Collect(maps.Values(s.users)))
	return s, nil
}

// Authenticate holds the conversation of RFC 5802.
func (s *SCRAM) Authenticate(c Client, asked string) (Identity, error) {
	v := s.nobody.Verifier(asked) // also for those who exist, in the same time
	if known, ok := s.users[asked]; ok {
		v = known
	}
	err := converse(c, v)
	switch {
	case err == nil:
		return Identity{User: asked, Method: MethodSCRAM}, nil
	case errors.Is(err, scram.ErrFailed):
		return Identity{}, fatalf("28P01", "password authentication failed for user %q", asked)
	case errors.Is(err, scram.ErrMalformed), errors.Is(err, scram.ErrBinding):
		return Identity{}, fatalf("08P01", "SCRAM authentication failed for user %q: %v", asked, err)
	}
	return Identity{}, err
}

func converse(c Client, v *scram.Verifier) error {
	offer := []string{scram.Mechanism}
	binding := c.Binding()
	if binding != nil {
		offer = []string{scram.MechanismPlus, scram.Mechanism}
	}
	first, err := c.Ask(&pgproto3.AuthenticationSASL{AuthMechanisms: offer})
	if err != nil {
		return err
	}
	mechanism, message, err := initial(first)
	if err != nil {
		return err
	}
	e, err := scram.NewExchange(v, mechanism, binding)
	if err != nil { // as OAUTHBEARER, which nobody offered
		return fatalf("08P01", "client selected an invalid SASL authentication mechanism")
	}
	challenge, err := e.First(message)
	if err != nil {
		return err
	}
	final, err := c.Ask(&pgproto3.AuthenticationSASLContinue{Data: []byte(challenge)})
	if err != nil {
		return err
	}
	signature, err := e.Final(string(final))
	if err != nil {
		return err
	}
	c.Tell(&pgproto3.AuthenticationSASLFinal{Data: []byte(signature)})
	return nil
}

// initial reads a SASLInitialResponse: the mechanism's name and the client's
// first message, whose length is -1 if there is none.
func initial(body []byte) (mechanism, message string, err error) {
	name, rest, ok := bytes.Cut(body, []byte{0})
	if !ok || len(rest) < 4 || int64(int32(binary.BigEndian.Uint32(rest))) != int64(len(rest)-4) { //nolint:gosec // two's complement
		return "", "", fatalf("08P01", "malformed SASL response")
	}
	return string(name), string(rest[4:]), nil
}
