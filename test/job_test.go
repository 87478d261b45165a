package test

import (
	"testing"

	"github.com/fdtserver/fdt/internal/bed"
	"github.com/fdtserver/fdt/test/scenario"
)

// TestMainJob is the demonstration, as a test: every claim of it must hold, on each supported Debian.
func TestMainJob(t *testing.T) {
	for _, run := range []struct{ release, variable string }{
		{"bookworm", "FDT_DEB"},
		{"trixie", "FDT_RELEASE_DEB"},
	} {
		t.Run(run.release, func(t *testing.T) { mainJob(t, run.release, deb(t, run.variable)) })
	}
}

func mainJob(t *testing.T, release, path string) {
	m := boot(t, bed.Options{Release: release, Disk: true})
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
