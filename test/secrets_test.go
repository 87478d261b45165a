package test

import (
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/bed"
)

// TestSecretsStay: of a rejected configuration, a secret is told nowhere, and its lines are quoted to root alone: on the
// terminal of who asked for the reload, and in the journal.
func TestSecretsStay(t *testing.T) {
	t.Parallel()
	m := installed(t, bed.Options{Release: "bookworm"})
	for name, text := range map[string]string{
		"a password for a verifier": "users: {alice: hunter2secret}\nworkers: {cuont: 1}",
		"misspelt":                  "resources: {bank: {type: postgres, dsn: \"host=/run user=x\", pasword: hunter2secret}}\nworkers: {cuont: 1}",
		"in a connection string":    "resources: {bank: {type: postgres, dsn: \"postgres://fdt:x/@hunter2secret@db/a\"}}\nworkers: {cuont: 1}",
		"quoted in one":             "resources: {bank: {type: postgres, dsn: \"host=/run pass='x hunter2secret'\", pool: 0}}\nworkers: {cuont: 1}",
		"no YAML":                   "workers: {cuont: 1\nusers: {alice: hunter2secret",
	} {
		m.configure("50-secret", text)
		out, err := m.try("script -qec 'systemctl reload fdt || fdtctl reload' /dev/null 2>&1")
		if err == nil || strings.Contains(out, "hunter2secret") || !strings.Contains(out, " | ") || !strings.Contains(out, "50-secret.yaml:") {
			m.Errorf("%s: root is told %v\n%s", name, err, out)
		}
		if got := m.must("stat -c '%a %U %G' /run/fdt/state.json"); got != "640 root fdt" {
			m.Errorf("%s: the state is %s", name, got)
		}
		told := m.must(`cat /run/fdt/*.json; systemctl show fdt; systemctl status fdt -n 0 || true
			busctl call org.fdtserver.Master1 /org/fdtserver/Master1 org.fdtserver.Master1 Status
			busctl introspect --full org.fdtserver.Master1 /org/fdtserver/Master1; fdtctl status`)
		if strings.Contains(told, "hunter2secret") || strings.Contains(told, " | ") || !strings.Contains(told, "50-secret.yaml:") {
			m.Errorf("%s: everybody is told\n%s", name, told)
		}
	}
	if got := m.must("journalctl -b -q | grep hunter2secret || true"); got != "" {
		m.Errorf("the journal has\n%s", got)
	}
	if got := m.must("journalctl -b -q -t fdt-master -t fdt | grep -cF ' | ' || true"); got == "0" {
		m.Error("the journal quotes nothing")
	}
	m.must("rm /etc/fdt/config.d/50-secret.yaml && systemctl reload fdt")
	m.finish()
}
