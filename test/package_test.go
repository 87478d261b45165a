package test

import (
	"debug/buildinfo"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/bed"
)

// TestPackage installs, upgrades, removes and purges the released package on each supported Debian.
func TestPackage(t *testing.T) {
	t.Parallel()
	path := deb(t, "FDT_RELEASE_DEB")
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			m := boot(t, bed.Options{Release: release})
			m.install(path)
			m.Run("Serves", serves)
			m.Run("Permissions", permissions)
			m.Run("Units", units)
			m.Run("Hardening", hardening)
			m.Run("Catalog", catalog)
			m.Run("Upgrade", func(m machine) { upgrade(m, path) })
			m.Run("Remove", func(m machine) { remove(m, path) })
			m.Run("PolicyDenied", func(m machine) { policyDenied(m, path) })
		})
	}
	t.Run("Copyright", func(t *testing.T) { copyright(t, path) })
}

// copyright: every module that is linked into a program has its place in the list of licences, and no other has.
func copyright(t *testing.T, path string) {
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "dpkg-deb", "-x", path, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	linked := map[string]bool{"std": true}
	programs, err := filepath.Glob(filepath.Join(dir, "usr/*/fdt/fdt-*"))
	if err != nil || len(programs) == 0 {
		t.Fatal(programs, err)
	}
	programs = append(programs, filepath.Join(dir, "usr/bin/fdtctl"), filepath.Join(dir, "usr/lib/systemd/system-generators/fdt-generator"))
	for _, program := range programs {
		info, err := buildinfo.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		for _, module := range info.Deps {
			linked[module.Path] = true
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "usr/share/doc/fdt/copyright"))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, match := range regexp.MustCompile(`(?m)^(?:Files:)? vendor/(.*)/\*$`).FindAllSubmatch(text, -1) {
		listed[string(match[1])] = true
	}
	if !maps.Equal(linked, listed) {
		t.Errorf("linked: %v\nlisted: %v", slices.Sorted(maps.Keys(linked)), slices.Sorted(maps.Keys(listed)))
	}
}

func serves(m machine) {
	m.must("systemctl is-active fdt")
	if got := m.must("systemctl is-enabled fdt fdt-sockets.target || true"); got != "enabled\ndisabled" {
		m.Errorf("enabled: %q", got)
	}
	if err := m.exec(m.connect(), "CALL enqueue('hello')"); err != nil {
		m.Error(err)
	}
	if got := m.must("cat /var/lib/fdt/outbox/new/*"); got != "hello" {
		m.Errorf("outbox: %q", got)
	}
	if got := m.must("journalctl -b -q -u 'fdt*' -p warning"); got != "" {
		m.Errorf("complaints: %s", got)
	}
}

// permissions: the configuration is for root and group fdt, what decides about transactions for user fdt alone; users
// outside of group fdt-client get in nowhere.
func permissions(m machine) {
	want := `750 root fdt /etc/fdt
750 root fdt /etc/fdt/config.d
640 root fdt /etc/fdt/config.yaml
2755 root fdt /run/fdt
640 root fdt /run/fdt/state.json
644 root fdt /run/fdt/counts.json
2750 root fdt /run/fdt/generation
750 fdt fdt /run/fdt/worker
2750 fdt fdt-metrics /run/fdt/metrics
700 fdt fdt /run/fdt/txn
2751 root fdt /var/lib/fdt
700 fdt fdt /var/lib/fdt/auth
600 fdt fdt /var/lib/fdt/auth/secret
700 fdt fdt /var/lib/fdt/txn
2700 fdt fdt /var/lib/fdt/outbox
2750 root fdt /var/lib/fdt/last-good`
	var paths []string
	for line := range strings.Lines(want) {
		fields := strings.Fields(line)
		paths = append(paths, fields[len(fields)-1])
	}
	if got := m.must("stat -c '%a %U %G %n' " + strings.Join(paths, " ")); got != want {
		m.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := m.must("find /run/fdt/txn /var/lib/fdt/txn /var/lib/fdt/auth -type f -perm /077"); got != "" {
		m.Errorf("others than user fdt may read or write %s", got)
	}
	if got := m.must("stat -c '%a %U %G' /run/fdt/metrics/*.sock | sort -u; stat -c '%a %U %G' /run/fdt/worker/*.sock | sort -u; stat -c '%G' /run/fdt/.s.PGSQL.7432"); got != "660 fdt fdt-metrics\n660 fdt fdt\nroot" {
		m.Errorf("sockets are\n%s", got)
	}
	m.must("useradd stranger; useradd --groups fdt-client clerk")
	if out, err := m.try("runuser -u stranger -- psql -h /run/fdt -p 7432 -c \"CALL enqueue('x')\" 2>&1"); err == nil {
		m.Errorf("a stranger is let in: %s", out)
	}
	if out, err := m.try("runuser -u clerk -- psql -h /run/fdt -p 7432 -c \"CALL enqueue('x')\" 2>&1"); err != nil {
		m.Errorf("a member of group fdt-client is not let in: %s", out)
	}
	if out, err := m.try("runuser -u stranger -- fdtctl reload 2>&1"); err == nil {
		m.Errorf("a stranger may reload: %s", out)
	}
}

// metricsUnit is the service of the metrics at the address that the tests give them.
const metricsUnit = "fdt-metrics@tcp4-127.0.0.1-9432.service"

func units(m machine) {
	if out, err := m.try("systemd-analyze verify --man=no fdt.service fdt-stop.service fdt-sweep.service fdt-sockets.target system-fdt.slice fdt-worker@1-0.service " + metricsUnit + " /run/systemd/generator/" + m.socketUnit() + ".socket 2>&1"); err != nil || out != "" {
		m.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	for _, unit := range append(m.workers(), "fdt.service", "fdt-stop.service", m.socketUnit()+".socket", m.socketUnit()+".service") {
		if got := m.must("systemctl show -P Slice " + unit); got != "system-fdt.slice" {
			m.Errorf("%s is in %s", unit, got)
		}
	}
}

// hardening: exposure as systemd-analyze(1) measures it, in tenths; the best of Debian's packaged servers have 1.2. A listener's
// companion, which is /bin/true, does without what would cost a reload of hundreds of them a tenth of a second each.
func hardening(m machine) {
	for unit, limit := range map[string]int{"fdt.service": 7, metricsUnit: 7, "fdt-stop.service": 7, m.workers()[0]: 7, m.socketUnit() + ".service": 30} {
		if out, err := m.try(fmt.Sprintf("systemd-analyze security --threshold=%d %s 2>&1", limit, unit)); err != nil {
			m.Errorf("%s: %s", unit, out)
		}
	}
}

// catalog: journalctl -x has an explanation for what an operator acts on.
func catalog(m machine) {
	if got := m.must("journalctl --list-catalog | grep -c -i fdt || true"); got == "0" {
		m.Error("the message catalog knows nothing of fdt")
	}
}

// upgrade: the same package again, as a newer version. A session stays open through it, with its transaction; the
// workers are new after it.
func upgrade(m machine, path string) {
	m.install(repack(m, path))
	before := m.must("systemctl show -P MainPID fdt")
	conn := m.open()
	m.must("apt-get install -q -y --reinstall /var/tmp/newer.deb")
	if got := m.must("systemctl show -P MainPID fdt"); got == before {
		m.Error("the master is the old one")
	}
	m.eventually("! systemctl --quiet is-active 'fdt-worker@1-*'")
	if err := m.exec(conn, "COMMIT"); err != nil {
		m.Errorf("the open transaction: %v", err)
	}

	// With a fault in the configuration nothing is restarted, and the upgrade still ends well.
	m.must("systemctl is-active fdt")
	m.configure("99-fault", "wrokers: {}")
	before = m.must("systemctl show -P MainPID fdt")
	out := m.must("apt-get install -q -y --reinstall /var/tmp/newer.deb 2>&1")
	if got := m.must("systemctl show -P MainPID fdt"); got != before || !strings.Contains(out, "fdtctl check") {
		m.Errorf("with a faulty configuration: master %s, before %s:\n%s", got, before, out)
	}
	m.must("rm /etc/fdt/config.d/99-fault.yaml")

	// What the administrator has stopped stays stopped.
	m.must("systemctl stop fdt && apt-get install -q -y --reinstall /var/tmp/newer.deb")
	if got := m.must("systemctl is-active fdt || true"); got != "inactive" {
		m.Errorf("a stopped fdt is %s after an upgrade", got)
	}
	m.must("systemctl start fdt")
}

// repack makes the package's next version, /var/tmp/newer.deb, and returns a path of it on this side.
func repack(m machine, path string) string {
	m.must(`cd /var/tmp && rm -rf newer && dpkg-deb -R $(ls fdt_*.deb | head -n 1) newer &&
		sed -i 's/^Version: .*/&+1/' newer/DEBIAN/control && dpkg-deb --root-owner-group -Znone -b newer newer.deb`)
	return m.bed.Path("/var/tmp/newer.deb")
}

// remove: nothing runs and nothing listens; a purge forgets the state too.
func remove(m machine, path string) {
	m.configure("20-metrics", `metrics: {address: "127.0.0.1:9432"}`)
	m.must("systemctl reload fdt && curl -fsS http://127.0.0.1:9432/metrics | grep -x 'fdt_master_up 1' && systemctl is-active " + metricsUnit)
	m.must("rm /etc/fdt/config.d/20-metrics.yaml; echo secret-of-some-length | fdtctl user add carol; apt-get remove -q -y fdt")
	if got := m.must("systemctl list-units --plain --no-legend 'fdt*' 'system-fdt.slice'"); got != "" {
		m.Errorf("after the removal: %s", got)
	}
	if _, err := m.dial(); err == nil {
		m.Error("after the removal something listens")
	}
	if out, err := m.try("curl -fsS http://127.0.0.1:9432/metrics"); err == nil {
		m.Errorf("after the removal there are metrics: %s", out)
	}
	m.must("test -e /etc/fdt/config.yaml -a -e /var/lib/fdt/outbox/new")
	m.must("apt-get purge -q -y fdt")
	m.must("test ! -e /etc/fdt") // nor what fdtctl user has written there
	// The drop-ins are an administrator's own; here, of tests that measure coverage.
	if got := m.must("find / -xdev -path /proc -prune -o -path '/etc/systemd/system/fdt*.d' -prune -o -path /var/tmp -prune -o -path /tmp -prune -o -name '*fdt*' -print"); got != "" {
		m.Errorf("after the purge: %s", got)
	}
	m.install(path)
	m.must("systemctl is-active fdt")
	m.must("apt-get purge -q -y fdt")
}

// policyDenied: in an image build, or where the administrator forbids it, nothing is started.
func policyDenied(m machine, path string) {
	m.must("printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d")
	m.install(path)
	if got := m.must("systemctl is-active fdt || true"); got != "inactive" {
		m.Errorf("with policy-rc.d: %s", got)
	}
	m.must("rm /usr/sbin/policy-rc.d; apt-get purge -q -y fdt")
}
