package config

import (
	"maps"
	"slices"
	"strings"
)

// Named is a file or directory that a configuration names, and that workers open.
type Named struct {
	Path      string `json:"path"` // of the value in the configuration
	Name      string `json:"name"`
	Directory bool   `json:"directory,omitempty"` // in which they make files
	Socket    bool   `json:"socket,omitempty"`    // of a database, or the directory of one; there is none while that is down
}

// Named returns what the configuration names, in the order of paths.
func (c *Config) Named() []Named {
	var all []Named
	add := func(path, name string) {
		if name != "" {
			all = append(all, Named{Path: path, Name: name})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Listen)) {
		if t, path := c.Listen[name].TLS, "listen."+name+".tls."; t != nil {
			add(path+"certificate", t.Certificate)
			add(path+"key", t.Key)
			add(path+"client_ca", t.ClientCA)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Resources)) {
		for _, n := range c.Resources[name].named() {
			n.Path = "resources." + name + "." + n.Path
			all = append(all, n)
		}
	}
	return all
}

// The directories in place of which workers see others, by the settings of their unit, systemd.exec(5).
var (
	ownTmp     = []string{"/tmp/", "/var/tmp/"}
	hiddenHome = []string{"/home/", "/root/", "/run/user/"}
)

// Sandbox is what of the workers' unit decides about which paths they see.
type Sandbox struct {
	PrivateTmp  bool // PrivateTmp= is on
	ProtectHome bool // ProtectHome= is yes or tmpfs
}

// HintHidden is what to do where workers do not see it.
func (n Named) HintHidden() string {
	if n.Socket {
		return "have the database listen on a socket below /run, too"
	}
	return "name a place below /etc/fdt, /var/lib/fdt or /srv"
}

// Hidden says why workers do not see what others see at a path; empty if they do.
func (s Sandbox) Hidden(name string) string {
	under := func(dirs []string) bool {
		return slices.ContainsFunc(dirs, func(dir string) bool { return strings.HasPrefix(name+"/", dir) })
	}
	switch {
	case s.PrivateTmp && under(ownTmp):
		return "workers do not see it: they have a /tmp and a /var/tmp of their own (PrivateTmp= of fdt-worker@.service)"
	case s.ProtectHome && under(hiddenHome):
		return "workers do not see it: /home, /root and /run/user are empty for them (ProtectHome= of fdt-worker@.service)"
	}
	return ""
}

// Hidden are the values of a configuration that name what workers do not see, each at its place.
func (p Places) Hidden(c *Config, s Sandbox) Faults {
	var all Faults
	for _, n := range c.Named() {
		if why := s.Hidden(n.Name); why != "" {
			all = append(all, p.At(n.Path, n.Name+": "+why, n.HintHidden()))
		}
	}
	all.sort()
	return all
}
