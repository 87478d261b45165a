package scram

import (
	"crypto/sha256"
	"crypto/sha3"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Mocks are the verifiers of users that do not exist. What is asked twice has
// the same answer, so that asking tells nothing, as long as the secret stays;
// other users may come and go.
type Mocks struct {
	secret []byte
	shares map[looks]float64 // how many users that exist look so
}

// looks are what a client is told of a verifier before it has proven anything,
// but for the salt itself.
type looks struct{ iterations, salt int }

// NewMocks makes verifiers that only who knows the secret can foretell, and
// that look like those of the users that exist, however these were made.
func NewMocks(secret []byte, existing []*Verifier) *Mocks {
	m := &Mocks{secret: slices.Clone(secret), shares: map[looks]float64{}}
	for _, v := range existing {
		m.shares[looks{v.Iterations, len(v.Salt)}]++
	}
	return m
}

// Verifier returns a user's verifier, which no password fits. Each of the looks
// of users that exist has its share of those that do not, by weighted rendezvous
// hashing: when a share grows or shrinks by a user, only so many change theirs,
// and their salt with it, as if they had a new password.
func (m *Mocks) Verifier(user string) *Verifier {
	best, as := 0.0, looks{DefaultIterations, saltSize}
	for l, n := range m.shares {
		hash := binary.BigEndian.Uint64(sign(m.secret, l.of(user)))
		if rank := n / -math.Log((float64(hash>>11)+0.5)/(1<<53)); rank > best {
			best, as = rank, l
		}
	}
	return &Verifier{
		Iterations: as.iterations, Salt: sha3.SumSHAKE256(append(slices.Clip(m.secret), as.of(user)...), as.salt),
		StoredKey: make([]byte, sha256.Size), ServerKey: make([]byte, sha256.Size), mock: true,
	}
}

func (l looks) of(user string) string { return fmt.Sprintf("%d %d %s", l.iterations, l.salt, user) }
