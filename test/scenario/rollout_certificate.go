package scenario

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"time"

	"github.com/fdtserver/fdt/test/load"
)

// The listener with TLS: its address, its files, and the name in its certificates.
const (
	tlsAddress      = "127.0.0.1:7433"
	certificatePath = "/etc/fdt/tls.crt"
	keyPath         = "/etc/fdt/tls.key"
	tlsName         = "fdt.example"
)

// pair is a certificate that is its own authority, and its key, both as PEM.
type pair struct{ certificate, key []byte }

func newPair(serial int64) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, err
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{tlsName}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return pair{}, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	return pair{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}),
	}, err
}

// place replaces the listener's files, the key with the mode given, as an operator does.
func (s *Stage) place(ctx context.Context, p pair, mode string) error {
	for path, text := range map[string][]byte{certificatePath: p.certificate, keyPath: p.key} {
		if err := s.Bed.WriteFile(ctx, path+".new", text); err != nil {
			return err
		}
	}
	_, err := s.must(ctx, "cd /etc/fdt && chgrp fdt tls.key.new && chmod "+mode+" tls.key.new && mv tls.crt.new tls.crt && mv tls.key.new tls.key")
	return err
}

// trusting is a client that takes no certificate but one.
func (s *Stage) trusting(p pair) load.Target {
	t := s.at(tlsAddress)
	t.Network, t.User, t.Password = "tcp", "alice", "secret"
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.certificate)
	t.TLS = &tls.Config{RootCAs: roots, ServerName: tlsName}
	return t
}

// listenerCertificate: a certificate is replaced by reload alone, and one that is no good never goes live.
func listenerCertificate(ctx context.Context, s *Stage) error {
	first, err := newPair(1)
	if err != nil {
		return err
	}
	second, err := newPair(2)
	if err != nil {
		return err
	}
	if err := s.place(ctx, first, "0640"); err != nil {
		return err
	}
	if err := s.roll(ctx, settings{
		users:  alice(),
		listen: "{secure: {address: \"" + tlsAddress + "\", auth: scram, tls: {certificate: " + certificatePath + ", key: " + keyPath + "}}}",
	}); err != nil {
		return err
	}
	old, err := s.trusting(first).Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = old.Close(context.WithoutCancel(ctx)) }()
	if err := old.Exec(ctx, "BEGIN; CALL enqueue('sealed-1')").Close(); err != nil {
		return err
	}
	if err := s.place(ctx, second, "0640"); err != nil {
		return err
	}
	if _, err := s.must(ctx, "systemctl reload fdt"); err != nil {
		return err
	}
	one, two := s.asked(ctx, s.trusting(first)), s.asked(ctx, s.trusting(second))
	s.check(two == "served" && strings.Contains(one, "unknown authority"), "a replaced certificate is shown to new connections after a reload",
		"who trusts the new one alone: %s, the old one alone: %s", two, one)
	err = old.Exec(ctx, "CALL enqueue('sealed-2'); COMMIT").Close()
	n, nerr := s.inOutbox(ctx, "sealed-2")
	s.check(err == nil && n == 1, "a session that began with the old certificate finishes its transaction", "%v, %d delivered", err, n)
	if nerr != nil {
		return nerr
	}
	return s.badCertificates(ctx, first, second)
}

// badCertificates: pairs that no worker can serve, while another is live.
func (s *Stage) badCertificates(ctx context.Context, other, live pair) error {
	before, err := s.status(ctx)
	if err != nil {
		return err
	}
	kept, err := s.trusting(live).Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = kept.Close(context.WithoutCancel(ctx)) }()
	for _, bad := range []struct {
		what string
		pair
		mode, reason string
	}{
		{"a broken key", pair{live.certificate, live.key[:len(live.key)/2]}, "0640", "failed to find any PEM data in key input"},
		{"another certificate's key", pair{live.certificate, other.key}, "0640", "private key does not match public key"},
		{"a key that the workers may not read", live, "0600", "permission denied"},
	} {
		if err := s.place(ctx, bad.pair, bad.mode); err != nil {
			return err
		}
		out, err := s.show(ctx, "fdtctl reload")
		s.check(err != nil && strings.Contains(out, keyPath) && strings.Contains(out, bad.reason), bad.what+" fails the reload, which names the file and the fault",
			"%s", grep(out, bad.reason))
		_, err = s.show(ctx, "systemctl reload fdt")
		s.check(err != nil, bad.what+" fails systemctl reload", "%s", exitStatus(err))
		after, serr := s.status(ctx)
		if serr != nil {
			return serr
		}
		newcomer := s.asked(ctx, s.trusting(live))
		err = kept.Exec(ctx, "SELECT 1").Close()
		s.check(after.Generation == before.Generation && newcomer == "served" && err == nil, "with "+bad.what+" the old generation serves on, with its certificate",
			"generation %d, newcomer %s, kept session %v", after.Generation, newcomer, err)
	}
	if err := s.place(ctx, other, "0640"); err != nil {
		return err
	}
	if _, err := s.must(ctx, "systemctl reload fdt"); err != nil {
		return err
	}
	newcomer := s.asked(ctx, s.trusting(other))
	s.check(newcomer == "served", "and the next good certificate goes live", "%s", newcomer)
	if _, err := s.must(ctx, "rm "+certificatePath+" "+keyPath); err != nil {
		return err
	}
	return s.roll(ctx, settings{})
}
