package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Warning is something that a configuration may say and hardly means.
type Warning struct {
	Path string // of the value, such as listen.public.address
	What string
	Hint string // what to do
}

// String is the warning on one line, with the path in place of a file and a line.
func (w Warning) String() string { return w.Path + ": " + w.What + "; " + w.Hint }

// Warnings returns what a configuration without a fault leaves open to more than is usually meant, in the order of paths.
func (c *Config) Warnings() []Warning {
	var all []Warning
	for _, name := range slices.Sorted(maps.Keys(c.Listen)) {
		l, path := c.Listen[name], "listen."+name
		for _, a := range l.Addresses {
			switch plain := a.abroad() && l.Serve == ""; {
			case plain && l.TLS == nil:
				all = append(all, Warning{path + ".address", fmt.Sprintf("what clients send to %s and get from it crosses the network unencrypted", a),
					"give " + path + " the key tls"})
			case plain && !l.TLS.Required:
				all = append(all, Warning{path + ".tls.required", fmt.Sprintf("clients may use %s without encryption", a),
					"leave it out to let nobody do so"})
			}
		}
		if slices.ContainsFunc(l.Proxy, func(n netip.Prefix) bool { return n.Bits() == 0 }) {
			all = append(all, Warning{path + ".proxy", "whoever connects must begin with a PROXY header, and may claim any address by it",
				"name the proxies' addresses"})
		}
		if l.Auth == AuthTrust && l.Mode&0o002 != 0 && slices.ContainsFunc(l.Addresses, func(a Address) bool { return a.Network == "unix" }) {
			all = append(all, Warning{path + ".mode", fmt.Sprintf("whoever has an account on this host may connect, and is taken for any user without a proof (auth: trust, mode: %04o)", l.Mode.Perm()),
				"leave mode out to let in the group " + ClientGroup})
		}
	}
	if c.Trace.Sample > 0 && c.Trace.Endpoint == "" {
		all = append(all, Warning{"trace.sample", "nothing is traced without trace.endpoint", "give trace the key endpoint, or leave sample out"})
	}
	return all
}

// abroad reports whether clients of other hosts reach the address.
func (a Address) abroad() bool {
	ap, err := netip.ParseAddrPort(a.Address)
	return a.Network != "unix" && err == nil && !ap.Addr().IsLoopback()
}

// Places tell where the values of a configuration stand in its files.
type Places struct{ d *decoder }

// LoadPlaced is [Load] that also tells where things stand.
func LoadPlaced(dir string) (*Config, Places, error) {
	d := new(decoder)
	cfg, err := d.load(dir)
	return cfg, Places{d}, err
}

// ParsePlaced is [Parse] that also tells where things stand. With faults, it tells that of what could be read.
func ParsePlaced(texts []Text) (*Config, Places, error) {
	d := new(decoder)
	cfg, err := d.parseAll(texts)
	return cfg, Places{d}, err
}

// Written returns the file and the line in which the value of a path stands; an empty file if it stands nowhere.
func (p Places) Written(path string) (file string, line int) {
	if v := p.d.places[path]; v != nil && v.src.name != byDefault {
		return v.src.name, v.line
	}
	return "", 0
}

// At is a fault of the value of a path, or of the nearest one around it that was written.
func (p Places) At(path, what, hint string) Fault {
	d := &decoder{places: p.d.places}
	d.at(path, hint, "%s", what)
	d.excerpts()
	return d.faults[0]
}

// Warnings are the configuration's, each at its place, and files that were passed over, in the order of files and lines.
func (p Places) Warnings(c *Config) Faults {
	all := slices.Clone(p.d.passedOver)
	for _, w := range c.Warnings() {
		all = append(all, p.At(w.Path, w.What, w.Hint))
	}
	all.sort()
	return all
}
