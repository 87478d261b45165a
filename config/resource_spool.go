package config

import (
	"maps"
	"slices"
	"strings"
)

// Spool is a resource of type spool.
type Spool struct {
	Directory string
}

var spoolType = typed(ResourceType{Name: TypeSpool, takes: takesMessages}, Spool{},
	func(s *Spool) []field {
		return []field{{key: "directory", required: true, kind: file(&s.Directory), doc: "the directory that holds tmp, prepared and new."}}
	},
	func(d *decoder, c *Config, s *Spool, path string) {
		for _, name := range slices.Sorted(maps.Keys(c.Resources)) {
			other := "resources." + name
			if other == path {
				return // of two, the second is told
			}
			o, ok := c.Resources[name].Settings.(*Spool)
			switch {
			case !ok || s.Directory == "" || o.Directory == "":
			case o.Directory == s.Directory:
				d.at(path+".directory", "give each a directory of its own", "%s is already the directory of %s", s.Directory, other)
				return
			case within(s.Directory, o.Directory) || within(o.Directory, s.Directory):
				d.at(path+".directory", "give each a directory of its own, beside the other", "of %s and %s, the directory of %s, one is within the other",
					s.Directory, o.Directory, other)
				return
			}
		}
	})

// within tells whether a file or directory lies in a directory, by their names.
func within(name, dir string) bool { return strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/") }

func (s *Spool) named() []Named {
	return []Named{{Path: "directory", Name: s.Directory, Directory: true}}
}
