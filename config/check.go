package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"gopkg.in/yaml.v3"
)

// longestShutdown leaves the rest of the host five of the 30 minutes that poweroff.target and reboot.target give it.
const longestShutdown = 25 * time.Minute

// check finds what is wrong between keys, and fills in the defaults that depend on other keys.
func (d *decoder) check(c *Config) {
	d.listeners(c)
	d.resources(c)
	for name, r := range c.Resources {
		if path := "resources." + name; (r.Type == TypePostgres || r.Type == TypeMariaDB) && d.places[path+".pool"] == nil {
			d.derive(path, "pool", "32")
		}
	}
	if both := c.Drain.Delay + c.Drain.Shutdown; c.Drain.Delay > 0 && both > longestShutdown {
		d.at("drain.delay", "make one of them smaller", "drain.delay and drain.shutdown are %s together, more than %s: systemd forces a host down that takes 30m to stop",
			both, longestShutdown)
	}
	if s := c.Session; s.Message > s.Memory {
		d.at("session.message", "make one of them smaller, or the other larger", "session.message is more than session.memory, of which a message is a part")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Procedures)) {
		p := c.Procedures[name]
		if p.Allow == nil && d.places["procedures."+name+".allow"] != nil {
			d.at("procedures."+name+".allow", "leave it out to let every user call it", "an empty list lets nobody call it")
		}
		d.procedure(c, &p)
		c.Procedures[name] = p
	}
}

type claimed struct {
	addr Address
	path string
}

func (d *decoder) listeners(c *Config) {
	if v := d.places["listen"]; len(c.Listen) == 0 && (v.isNull() || v.kind == yaml.MappingNode) {
		d.at("listen", "leave it out for "+DefaultSocket, "there must be at least one listener")
	}
	var all []claimed
	for _, name := range slices.Sorted(maps.Keys(c.Listen)) {
		l, path := c.Listen[name], "listen."+name
		if v := d.places[path+".address"]; v != nil && v.kind == yaml.SequenceNode && len(v.items) == 0 {
			d.at(path+".address", "", "%s.address needs at least one address", path)
		}
		for i, a := range l.Addresses {
			all = d.claim(all, a, path, i, len(l.Addresses))
		}
		d.listener(&l, path, c)
		c.Listen[name] = l
	}
	if c.Metrics.Address != nil {
		d.claim(all, *c.Metrics.Address, "metrics", 0, 1)
	}
}

// claim adds the i-th of n addresses at path, unless another has its place.
func (d *decoder) claim(all []claimed, a Address, path string, i, n int) []claimed {
	path += ".address"
	if n > 1 {
		path = fmt.Sprintf("%s[%d]", path, i)
	}
	for _, other := range all {
		if a.Covers(other.addr) {
			d.at(path, "keep one of them", "%s cannot be listened at twice: %s is %s", a, other.path, other.addr)
			break
		}
	}
	return append(all, claimed{addr: a, path: path})
}

// listener checks one listener, and fills in how its clients prove who they are.
func (d *decoder) listener(l *Listener, path string, c *Config) {
	unix := slices.ContainsFunc(l.Addresses, func(a Address) bool { return a.Network == "unix" })
	tcp := slices.ContainsFunc(l.Addresses, func(a Address) bool { return a.Network != "unix" })
	if l.Auth == "" && d.places[path+".auth"] == nil {
		switch {
		case l.Serve != "":
			l.Auth = AuthProgram
		case tcp:
			l.Auth = AuthSCRAM
		default:
			l.Auth = AuthPeer
		}
		d.derive(path, "auth", l.Auth)
	}
	if l.Serve != "" && l.TLS != nil && !l.TLS.Required {
		d.at(path+".tls.required", "leave it out", "only the PostgreSQL protocol is spoken with and without encryption on one port, and %s serves %s", path, l.Serve)
	}
	if l.Serve != "" && l.Auth != AuthProgram {
		d.at(path+".auth", "leave it out: a handler knows its clients by its own means", "%s is for the PostgreSQL protocol, and %s serves %s", l.Auth, path, l.Serve)
	}
	if l.Serve == "" && l.Auth == AuthProgram && l.TLS != nil {
		d.at(path+".tls", "leave it out", "another program serves %s, and does not go by tls", path)
	}
	d.proxies(l, path, unix && !tcp)
	if d.places[path+".mode"] == nil {
		l.Mode = 0o666
		if l.Auth == AuthTrust || l.Serve != "" { // being able to connect is all the proof there is
			l.Mode, l.Group = 0o660, cmp.Or(l.Group, ClientGroup)
		}
		if unix {
			d.derive(path, "mode", fmt.Sprintf("%04o", l.Mode))
		}
	}
	if unix && d.places[path+".group"] == nil {
		d.derive(path, "group", cmp.Or(l.Group, "root"))
	}
	if unix && !tcp && l.TLS != nil {
		d.at(path+".tls", "leave it out", "tls is for TCP, and %s listens on unix sockets only", path)
	}
	if tcp && !unix {
		for _, key := range []string{"mode", "group"} {
			if d.places[path+"."+key] != nil {
				d.at(path+"."+key, "leave it out", "%s is for unix sockets", key)
			}
		}
	}
	switch l.Auth {
	case AuthPeer, AuthTrust:
		if tcp {
			d.at(path+".auth", "use scram or cert", "%s is for unix sockets, and %s also listens on TCP", l.Auth, path)
		}
	case AuthCert:
		if l.TLS == nil || l.TLS.ClientCA == "" && d.places[path+".tls.client_ca"] == nil {
			d.at(path+".auth", "", "cert needs the key client_ca in %s.tls", path)
		}
		if l.TLS != nil && !l.TLS.Required {
			d.at(path+".tls.required", "leave it out", "cert lets nobody in without encryption")
		}
	case AuthSCRAM:
		if len(c.Users) == 0 {
			d.at(path+".auth", "add one to users", "scram lets nobody in because there are no users")
		}
	}
}

// proxies checks where a listener's proxies are; a local listener has unix sockets only.
func (d *decoder) proxies(l *Listener, path string, local bool) {
	at := path + ".proxy"
	switch v := d.places[at]; {
	case v == nil:
	case v.kind == yaml.SequenceNode && len(v.items) == 0:
		d.at(at, "leave it out", "an empty list names no proxy")
	case local:
		d.at(at, "leave it out", "proxy is for TCP, and %s listens on unix sockets only", path)
	case l.Serve == "" && l.Auth == AuthProgram:
		d.at(at, "leave it out", "another program serves %s, and does not go by proxy", path)
	}
}
