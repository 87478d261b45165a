package test

import (
	"testing"

	"github.com/fdtserver/fdt/internal/bed"
	"github.com/fdtserver/fdt/test/scenario"
)

// TestMainJob is the demonstration, as a test: every claim of it must hold.
func TestMainJob(t *testing.T) {
	path := deb(t, "FDT_DEB")
	m := boot(t, bed.Options{Disk: true})
	for _, sc := range scenario.All() {
		ok := t.Run(sc.Name, func(t *testing.T) {
			stage := &scenario.Stage{Bed: m.bed, Deb: path, Out: t.Output()}
			if err := stage.Play(t.Context(), sc); err != nil {
				t.Fatal(err)
			}
			for _, f := range stage.Failed() {
				t.Errorf("%s: %s", f.Claim, f.Seen)
			}
		})
		if !ok {
			break // the later parts build on the earlier
		}
	}
	if !t.Failed() {
		// In order, so that instrumented programs leave their counters.
		m.must("systemctl stop fdt")
	}
}
