package test

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/fdtserver/fdt/internal/bed"
	"github.com/fdtserver/fdt/test/scenario"
)

// What the version of systemd has a say in; the rest is the master's own, and plays on one version unless FDT_FULL=1.
var onEveryVersion = []string{"Listeners", "Sockets", "Canary", "Adoption", "Disturbed", "HostShutdown", "Upgrade"}

// atOnce is how many scenarios one machine plays, after the installation; several machines do at the same time.
const atOnce = 11

// TestRollouts plays the rollouts on both versions of systemd; every claim must hold.
func TestRollouts(t *testing.T) {
	t.Parallel()
	path := deb(t, "FDT_DEB")
	install, all := scenario.Rollouts()[0], scenario.Rollouts()[1:]
	for _, release := range []string{"bookworm", "trixie"} {
		here := slices.DeleteFunc(slices.Clone(all), func(sc scenario.Scenario) bool {
			return release != "trixie" && os.Getenv("FDT_FULL") != "1" && !slices.Contains(onEveryVersion, sc.Name)
		})
		for i, some := range slices.Collect(slices.Chunk(here, atOnce)) {
			t.Run(fmt.Sprintf("%s-%d", release, i+1), func(t *testing.T) {
				t.Parallel()
				m := boot(t, bed.Options{Release: release})
				if m.acts(path, install) {
					for _, sc := range some {
						m.acts(path, sc)
					}
				}
				m.finish()
			})
		}
	}
}
