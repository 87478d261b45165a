package test

import (
	"os"
	"testing"

	"github.com/fdtserver/fdt/internal/bed"
	"github.com/fdtserver/fdt/test/scenario"
)

// TestOther has workers in other languages, with the examples that the package ships. What they run on differs between releases:
// Debian 12 has Python 3.11, gunicorn 20.1 and Node 18. It takes a tree of its own, so it is played with FDT_FULL=1 alone there.
func TestOther(t *testing.T) {
	t.Parallel()
	path := deb(t, "FDT_DEB")
	releases := []string{"trixie"}
	if os.Getenv("FDT_FULL") == "1" {
		releases = append(releases, "bookworm")
	}
	for _, release := range releases {
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
