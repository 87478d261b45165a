package test

import (
	"testing"

	"github.com/fdtserver/fdt/internal/bed"
	"github.com/fdtserver/fdt/test/scenario"
)

// TestBank puts the installed service to the bank test.
func TestBank(t *testing.T) {
	path := deb(t, "FDT_DEB")
	m := boot(t, bed.Options{Databases: true})
	for _, sc := range scenario.Bank() {
		m.play(path, sc)
	}
	m.finish()
}
