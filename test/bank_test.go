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
		stage := &scenario.Stage{Bed: m.bed, Deb: path, Out: t.Output()}
		if err := stage.Play(t.Context(), sc); err != nil {
			t.Fatal(err)
		}
		for _, f := range stage.Failed() {
			t.Errorf("%s: %s", f.Claim, f.Seen)
		}
	}
	if !t.Failed() {
		// In order, so that instrumented programs leave their counters.
		m.must("systemctl stop fdt")
	}
}
