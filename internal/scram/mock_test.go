package scram

import (
	"bytes"
	"errors"
	"strconv"
	"testing"
)

// TestMock shows that nobody gets in as nobody, after the same conversation.
func TestMock(t *testing.T) {
	m := NewMocks([]byte("secret"), nil)
	a, b, c := m.Verifier("eve"), m.Verifier("eve"), m.Verifier("mallory")
	if a.String() != b.String() || a.String() == c.String() || len(a.Salt) != saltSize || a.Iterations != DefaultIterations {
		t.Errorf("%s, %s, %s", a, b, c)
	}
	e, err := NewExchange(a, Mechanism, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.first(rfcClientFirst, rfcNonce); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Final(rfcClientFinal); !errors.Is(err, ErrFailed) {
		t.Error(err)
	}
}

// TestMockLooksReal shows that iterations and the length of the salt tell nobody who exists: both are always those of
// real users, and as often.
func TestMockLooksReal(t *testing.T) {
	rare := Derive("c", make([]byte, 300), 1)
	existing := []*Verifier{
		Derive("a", make([]byte, 16), 4096), Derive("b", make([]byte, 12), 1000), rare,
		Derive("d", make([]byte, 16), 4096), Derive("e", make([]byte, 12), 1000),
	}
	seen, own := map[looks]int{}, NewMocks([]byte("secret"), existing)
	other := NewMocks([]byte("other"), existing)
	for i := range 1000 {
		user := strconv.Itoa(i)
		v := own.Verifier(user)
		if again := NewMocks([]byte("secret"), existing).Verifier(user); again.String() != v.String() {
			t.Errorf("asked twice about %s: %s, %s", user, v, again)
		}
		if bytes.Equal(other.Verifier(user).Salt, v.Salt) {
			t.Errorf("the salt of %s does not depend on the secret", user)
		}
		seen[looks{v.Iterations, len(v.Salt)}]++
	}
	for l, n := range own.shares {
		if share := float64(seen[l]) / 1000; share < n/5-0.05 || share > n/5+0.05 {
			t.Errorf("%.3f look like %+v, of those that exist %.3f", share, l, n/5)
		}
	}
	if len(seen) != len(own.shares) {
		t.Errorf("looks of nobody: %v", seen)
	}
}

// TestMockStays shows that users who come and go change nothing of those who do not exist, unless they change how many
// have which looks; and then for that share alone, all of it.
func TestMockStays(t *testing.T) {
	common, rare := Derive("a", make([]byte, 16), 4096), Derive("b", make([]byte, 12), 1000)
	secret := []byte("secret")
	one, two := NewMocks(secret, []*Verifier{common}), NewMocks(secret, []*Verifier{New("x"), New("y"), common})
	mixed := NewMocks(secret, []*Verifier{common, common, common, common, common, common, common, rare, common, common})
	changed := 0
	for i := range 1000 {
		user := strconv.Itoa(i)
		was := one.Verifier(user)
		if is := two.Verifier(user); is.String() != was.String() {
			t.Errorf("%s was %s, is %s", user, was, is)
		}
		switch is := mixed.Verifier(user); {
		case len(is.Salt) != len(was.Salt):
			changed++
			if bytes.HasPrefix(was.Salt, is.Salt) {
				t.Errorf("%s has the same salt in other looks", user)
			}
		case is.String() != was.String():
			t.Errorf("%s was %s, is %s", user, was, is)
		}
	}
	if changed < 50 || changed > 150 {
		t.Errorf("%d of 1000 changed where a tenth of the users are new", changed)
	}
}
