package pgwire

import (
	"bytes"
	"crypto/sha256"
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
	models []*scram.Verifier // the same, in the order of the names: what users that do not exist look like
	secret []byte            // of the salts of users that do not exist
}

// NewSCRAM takes the users' verifiers, as PostgreSQL prints them, by name.
func NewSCRAM(users map[string]string) (*SCRAM, error) {
	s := &SCRAM{users: make(map[string]*scram.Verifier, len(users))}
	// Alike in every worker, and known only to who knows the verifiers.
	secret := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(users)) {
		v, err := scram.Parse(users[name])
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		s.users[name] = v
		s.models = append(s.models, v)
		fmt.Fprintf(secret, "%q %s\n", name, users[name])
	}
	s.secret = secret.Sum(nil)
	return s, nil
}

// Authenticate holds the conversation of RFC 5802.
func (s *SCRAM) Authenticate(c Client, asked string) (Identity, error) {
	v, ok := s.users[asked]
	if !ok {
		v = scram.Mock(s.secret, asked, s.models)
	}
	err := converse(c, v)
	switch {
	case err == nil:
		return Identity{User: asked}, nil
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
	if err != nil {
		return err
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
