package application

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/unit"
	"github.com/fdtserver/fdt/pgwire"
)

// listeners returns how clients of the PostgreSQL protocol come in, by the name
// under which systemd passes each listener, and those names of all listeners. The key is of the
// salts of users that do not exist.
func listeners(cfg *config.Config, key []byte) (map[string]pgwire.Listener, []string, error) {
	ways := map[string]pgwire.Listener{}
	var names []string
	passwords := map[string]string{}
	for name, u := range cfg.Users {
		passwords[name] = u.Verifier
	}
	scram, err := pgwire.NewSCRAM(passwords, key)
	if err != nil {
		return nil, nil, err
	}
	auth := map[string]pgwire.Authenticator{
		config.AuthPeer: &pgwire.Peer{Group: config.ClientGroup}, config.AuthSCRAM: scram, config.AuthCert: pgwire.Cert{}, config.AuthTrust: pgwire.Trust{},
	}
	for _, l := range cfg.Listen {
		if l.Serve != "" {
			for _, a := range l.Addresses {
				names = append(names, unit.FDName(a))
			}
			continue
		}
		if auth[l.Auth] == nil {
			return nil, nil, fmt.Errorf("listener %s: auth %s is for another program as worker, see fdt-worker(8)", l.Name, l.Auth)
		}
		encryption, err := encryption(l.TLS, l.Auth)
		if err != nil {
			return nil, nil, fmt.Errorf("listener %s: %w", l.Name, err)
		}
		for _, a := range l.Addresses {
			way := pgwire.Listener{Auth: auth[l.Auth], Name: l.Name}
			if a.Network != "unix" && encryption != nil {
				way.TLS, way.Optional = pgwire.TLSConfig(encryption), !l.TLS.Required
			}
			ways[unit.FDName(a)] = way
			names = append(names, unit.FDName(a))
		}
	}
	return ways, names, nil
}

// expiries returns when the certificates of listeners end, by the listeners' names. Those that cannot be read are nobody's yet.
func expiries(cfg *config.Config) map[string]time.Time {
	ends := map[string]time.Time{}
	for name, l := range cfg.Listen {
		if c, err := encryption(l.TLS, l.Auth); err == nil && c != nil {
			ends[name] = c.Certificates[0].Leaf.NotAfter // tls.LoadX509KeyPair sets it
		}
	}
	return ends
}

// encryption reads a listener's certificate, key and authorities; nil if it has
// none. A reload reads them anew, with the rest.
func encryption(t *config.TLS, auth string) (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s and key %s: %w", t.Certificate, t.Key, err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}}
	if t.ClientCA != "" {
		pem, err := os.ReadFile(t.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("tls: client_ca: %w", err)
		}
		cfg.ClientCAs = x509.NewCertPool()
		if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("tls: client_ca: no certificate in " + t.ClientCA)
		}
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
		if auth == config.AuthCert {
			cfg.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	return cfg, nil
}
