package scram

import (
	"errors"
	"strings"
	"testing"
)

// The example of RFC 7677, section 3.
const (
	rfcPassword    = "pencil"
	rfcClientFirst = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
	rfcNonce       = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	rfcServerFirst = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	rfcClientFinal = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	rfcServerFinal = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
)

var rfcSalt = []byte("[m\x99h\x9d\x125\x8e\xec\xa0K\x14\x126\xfa\x81")

func derive(t testing.TB) *Verifier {
	t.Helper()
	return Derive(rfcPassword, rfcSalt, DefaultIterations)
}

func TestRFC7677(t *testing.T) {
	v, err := Parse(derive(t).String())
	if err != nil {
		t.Fatal(err)
	}
	e, err := NewExchange(v, Mechanism, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := e.first(rfcClientFirst, rfcNonce); err != nil || got != rfcServerFirst {
		t.Fatalf("%s, %v", got, err)
	}
	if got, err := e.Final(rfcClientFinal); err != nil || got != rfcServerFinal {
		t.Fatalf("%s, %v", got, err)
	}
}

func TestNew(t *testing.T) {
	if a, b := New("x"), New("x"); a.String() == b.String() {
		t.Error("two verifiers with one salt")
	}
	if a, b := nonce(), nonce(); a == b {
		t.Error("the same nonce twice")
	}
}

func TestParseBad(t *testing.T) {
	good := derive(t).String()
	for _, s := range []string{
		"", "md5abc", strings.Replace(good, "4096:", "4096", 1), strings.Replace(good, "4096", "0", 1), strings.Replace(good, "4096", "x", 1),
		strings.Replace(good, "SCRAM-SHA-256", "SCRAM-SHA-1", 1), good[:len(good)-2], good + "$", strings.Replace(good, "==$", "$", 1),
	} {
		if v, err := Parse(s); err == nil {
			t.Errorf("%q: %v", s, v)
		}
	}
}

// TestMessages is a table of conversations that fail.
func TestMessages(t *testing.T) {
	binding := []byte("binding")
	const first, final = rfcClientFirst, rfcClientFinal
	for _, c := range []struct {
		mechanism    string
		binding      []byte
		first, final string
		want         error
	}{
		{"SCRAM-SHA-1", nil, first, final, ErrMalformed},
		{MechanismPlus, nil, first, final, ErrMalformed},
		{Mechanism, nil, "n", final, ErrMalformed},
		{Mechanism, nil, "n,", final, ErrMalformed},
		{Mechanism, nil, "n,a=bob,n=user,r=x", final, ErrMalformed},
		{Mechanism, nil, "p=tls-unique,,n=user,r=x", final, ErrMalformed},
		{Mechanism, nil, "x,,n=user,r=x", final, ErrMalformed},
		{MechanismPlus, binding, "n,,n=user,r=x", final, ErrMalformed},
		{MechanismPlus, binding, "p=tls-unique,,n=user,r=x", final, ErrMalformed},
		{Mechanism, binding, "y,,n=user,r=x", final, ErrBinding},
		{Mechanism, nil, "n,,m=ext,n=user,r=x", final, ErrMalformed},
		{Mechanism, nil, "n,,n=user", final, ErrMalformed},
		{Mechanism, nil, "n,,n=user,r=", final, ErrMalformed},
		{Mechanism, nil, "n,,n=user,r=a b", final, ErrMalformed},
		{Mechanism, nil, first, "c=biws,r=x", ErrMalformed},
		{Mechanism, nil, first, "c=biws,r=x,p=!", ErrMalformed},
		{Mechanism, nil, first, "c=biws,r=x,p=eA==", ErrMalformed},
		{Mechanism, nil, first, strings.Replace(final, "c=biws", "x=biws", 1), ErrMalformed},
		{Mechanism, nil, first, strings.Replace(final, "c=biws", "c=!", 1), ErrMalformed},
		{Mechanism, nil, first, strings.Replace(final, "c=biws", "c=eSws", 1), ErrBinding},
		{Mechanism, nil, first, strings.Replace(final, "r=rO", "r=Or", 1), ErrMalformed},
		{Mechanism, nil, first, strings.Replace(final, "p=dHz", "p=dHx", 1), ErrFailed},
		{MechanismPlus, binding, "p=tls-server-end-point,,n=user,r=rOprNGfwEbeRWgbNEkqO", final, ErrBinding},
	} {
		e, err := NewExchange(derive(t), c.mechanism, c.binding)
		if err == nil {
			_, err = e.first(c.first, rfcNonce)
		}
		if err == nil {
			_, err = e.Final(c.final)
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s %q %q: %v", c.mechanism, c.first, c.final, err)
		}
	}
	e, err := NewExchange(derive(t), Mechanism, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Final(final); !errors.Is(err, ErrMalformed) {
		t.Errorf("the final message first: %v", err)
	}
	if got, err := e.First(first); err != nil || !strings.HasPrefix(got, "r=rOprNGfwEbeRWgbNEkqO") {
		t.Errorf("%s, %v", got, err)
	}
}

func FuzzExchange(f *testing.F) {
	f.Add(false, rfcClientFirst, rfcClientFinal)
	f.Add(true, "p=tls-server-end-point,,n=user,r=x", rfcClientFinal)
	v := derive(f)
	f.Fuzz(func(t *testing.T, plus bool, first, final string) {
		mechanism := Mechanism
		if plus {
			mechanism = MechanismPlus
		}
		e, err := NewExchange(v, mechanism, []byte("binding"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.first(first, "nonce"); err != nil {
			return
		}
		if got, err := e.Final(final); err == nil {
			t.Errorf("a password out of nothing: %q %q: %s", first, final, got)
		}
	})
}
