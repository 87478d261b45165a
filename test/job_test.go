package test

import (
	"testing"

	"github.com/fdtserver/fdt/internal/bed"
	"github.com/fdtserver/fdt/test/scenario"
)

// TestMainJob is the demonstration, as a test: every claim of it must hold, on each supported Debian.
func TestMainJob(t *testing.T) {
	t.Parallel()
	for _, run := range []struct{ release, variable string }{
		{"bookworm", "FDT_DEB"},
		{"trixie", "FDT_RELEASE_DEB"},
	} {
		t.Run(run.release, func(t *testing.T) {
			t.Parallel()
			path := deb(t, run.variable)
			m := boot(t, bed.Options{Release: run.release, Disk: true})
			for _, sc := range scenario.All() {
				if !m.acts(path, sc) {
					break // the later parts build on the earlier
				}
			}
			m.finish()
		})
	}
}
