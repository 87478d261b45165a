package config

import (
	"maps"
	"slices"
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
			if o, ok := c.Resources[name].Settings.(*Spool); ok && s.Directory != "" && o.Directory == s.Directory {
				d.at(path+".directory", "give each a directory of its own", "%s is already the directory of %s", s.Directory, other)
				return
			}
		}
	})

func (s *Spool) named() []Named {
	return []Named{{Path: "directory", Name: s.Directory, Directory: true}}
}
