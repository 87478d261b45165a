package txn_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// TestStranded: resources that went, or are others now, are missed by what is
// open there; those that are down are not.
func TestStranded(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	for i := range 5 {
		prepared(t, m, fmt.Sprint("x", i))
	}
	prepared(t, m, "done")
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "done"), nil)
	closeAll(t, m)
	unlock := p.locked(t, "seal") // a new worker must not be refused because another one is long at recovery
	for _, test := range []struct {
		name   string
		change func(*txn.Options)
		want   []string
	}{
		{"the same", func(*txn.Options) {}, nil},
		{"down", func(o *txn.Options) { o.Resources[0] = broken{o.Resources[0].(*spool.Spool), "identity"} }, nil},
		{"gone", func(o *txn.Options) { o.Resources = o.Resources[1:] }, []string{`resource "a" is not configured`, " and 2 more"}},
		{"another", func(o *txn.Options) {
			other := newFastPlace(t).spools(t)
			o.Resources[1] = other[1]
		}, []string{`resource "b" is `, "it was ", " and 2 more"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := p.open(t, test.change)
			defer closeAll(t, m)
			err := m.Stranded(t.Context())
			if (err == nil) != (test.want == nil) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v does not say %q", err, part)
				}
			}
			if err != nil && strings.Contains(err.Error(), "done") {
				t.Errorf("%v names a transaction that has ended", err)
			}
		})
	}
	unlock()
	m = p.open(t)
	defer closeAll(t, m)
	if err := os.RemoveAll(p.dir("claims")); err != nil {
		t.Fatal(err)
	}
	if m.Stranded(t.Context()) == nil {
		t.Error("without claims nothing is known")
	}
}
