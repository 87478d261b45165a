package test

import (
	"os"
	"slices"
	"testing"

	"github.com/fdtserver/fdt/internal/bed"
	"github.com/fdtserver/fdt/test/scenario"
)

// What the version of systemd has a say in; the rest is the master's own, and plays on one version unless FDT_FULL=1.
var onEveryVersion = []string{"Install", "Listeners", "Sockets", "Canary", "Adoption", "Disturbed", "HostShutdown", "Upgrade"}

// TestRollouts plays the rollouts on both versions of systemd; every claim must hold.
func TestRollouts(t *testing.T) {
	t.Parallel()
	path := deb(t, "FDT_DEB")
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			m := boot(t, bed.Options{Release: release})
			for _, sc := range scenario.Rollouts() {
				if release != "trixie" && os.Getenv("FDT_FULL") != "1" && !slices.Contains(onEveryVersion, sc.Name) {
					continue
				}
				if !m.acts(path, sc) && sc.Name == "Install" {
					break
				}
			}
			m.finish()
		})
	}
}
