// Documents is a program of fdt with a type of resource of its own: a directory
// of documents, of which those that a transaction writes are all replaced, or
// none. They take part in the transactions of the configuration's databases.
//
//	resources:
//	  shelf: {type: documents, directory: /srv/documents}
//
// The directory must be the workers' to write, and a drop-in of
// fdt-worker@.service must say so: ReadWritePaths=/srv/documents.
package main

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"

	"github.com/fdtserver/fdt"
	"github.com/fdtserver/fdt/txn"
)

func main() { fdt.Main(parts()...) }

func parts() []fdt.Part {
	return []fdt.Part{fdt.Resource("documents", open), fdt.Procedure("publish", publish)}
}

// settings are the keys of a resource of type documents.
type settings struct {
	Directory string `fdt:"directory,required" doc:"Absolute path of a directory that the workers may write."`
	Longest   int    `fdt:"longest,default=65536" doc:"Longest document, in bytes."`
}

// Check is what the tags do not say.
func (s *settings) Check(fault func(key, what, hint string)) {
	if !filepath.IsAbs(s.Directory) {
		fault("directory", fmt.Sprintf("%q is not absolute", s.Directory), "begin it with a slash")
	}
}

func open(name string, s settings) (txn.Resource, error) { return Open(name, s.Directory, s.Longest) }

type document struct {
	Shelf, Name, Text string
}

var plainName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,99}$`)

// publish is CALL publish('shelf', 'prices.txt', 'pen 2.50').
func publish(ctx context.Context, tx *fdt.Tx, d document) (none struct{}, err error) {
	if !plainName.MatchString(d.Name) {
		return none, fdt.Errorf("22023", "%q is no name of a document", d.Name)
	}
	b, err := fdt.Branch[*Branch](ctx, tx, d.Shelf)
	if err != nil {
		return none, err
	}
	return none, b.Write(d.Name, d.Text)
}
