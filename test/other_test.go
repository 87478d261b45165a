package test

import (
	"testing"

	"github.com/fdtserver/fdt/internal/bed"
	"github.com/fdtserver/fdt/test/scenario"
)

// TestOther has workers in other languages, with the examples that the package ships. What they run on differs between releases:
// Debian 12 has Python 3.11, gunicorn 20.1 and Node 18. Each release has a tree of its own for it.
func TestOther(t *testing.T) {
	t.Parallel()
	path := deb(t, "FDT_DEB")
	for _, release := range releases() {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			m := boot(t, bed.Options{Release: release, Packages: []string{"passwd", "python3", "gunicorn", "nodejs"}})
			for _, sc := range scenario.Others() {
				if !m.acts(path, sc) && sc.Name == "Install" {
					break
				}
			}
			m.finish()
		})
	}
}
