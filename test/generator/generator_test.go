// Package generator asks booted systemd what it has understood of the units that fdt-generator writes.
// It needs no package installed: the generator and the units are those of this tree.
package generator

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/bed"
)

const odd = `
listen:
  local: {address: [/run/fdt/.s.PGSQL.7432, "/run/my app/100%n"], auth: peer, mode: 0660, group: staff, backlog: 77}
  public: {address: ["127.0.0.1:7432", "[::]:7432", "192.0.2.1:7432"], auth: scram}
drain: {timeout: 5m1ms}
resources:
  spaced: {type: spool, directory: "/srv/out box/100%n"}
  bank: {type: postgres, dsn: "host=db1 dbname=a"}
users: {a: "SCRAM-SHA-256$4096:c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}
`

// TestSystemdUnderstands boots systemd with the generator and asks what it has understood.
func TestSystemdUnderstands(t *testing.T) {
	if os.Getenv("FDT_BED") != "1" {
		t.Skip("set FDT_BED=1 (as root) to boot containers")
	}
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) { understands(t, release) })
	}
}

func understands(t *testing.T, release string) {
	generator := filepath.Join(t.TempDir(), "fdt-generator")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", generator, "../../cmd/fdt-generator")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	files := map[string]string{"/etc/fdt/config.yaml": odd}
	packaged, err := filepath.Glob("../../packaging/systemd/*.[st][lea]*[te]") // .service, .slice, .target
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range packaged {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Join("/usr/lib/systemd/system", filepath.Base(name))] = string(text)
	}
	b, err := bed.Boot(t.Context(), bed.Options{Release: release, Files: files,
		Binds: []string{generator + ":/usr/lib/systemd/system-generators/fdt-generator"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	// ask runs a command and demands that each of the lines is among those that it prints.
	ask := func(command string, lines ...string) {
		t.Helper()
		out, err := b.Shell(t.Context(), command)
		if err != nil {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
		got := "\n" + out + "\n"
		for _, line := range lines {
			if !strings.Contains(got, "\n"+line+"\n") {
				t.Errorf("%s: no line %q in\n%s", command, line, out)
			}
		}
	}
	ask("systemctl start fdt-sockets.target; systemctl list-units --plain --no-legend 'fdt-listen@*.socket' | awk '{print $3}' | sort | uniq -c", "      5 active")
	ask("systemctl show fdt-listen@unix-s.PGSQL.7432-5cc4efee815e.socket",
		"Listen=/run/fdt/.s.PGSQL.7432 (Stream)", "Backlog=77", "SocketMode=0660", "SocketGroup=staff",
		"FileDescriptorName=unix-s.PGSQL.7432-5cc4efee815e", "TriggerLimitIntervalUSec=0", "ReusePort=no", "FlushPending=no",
		"Slice=system-fdt.slice", "Triggers=fdt-listen@unix-s.PGSQL.7432-5cc4efee815e.service", "RemoveOnStop=yes")
	ask("systemctl show 'fdt-listen@unix-100_n-*.socket'", "Listen=/run/my app/100%n (Stream)",
		"Description=fdt listener local at /run/my app/100%n")
	ask("systemctl show 'fdt-listen@tcp6-::-7432.socket'", "Listen=[::]:7432 (Stream)", "BindIPv6Only=ipv6-only",
		"FreeBind=yes", "FileDescriptorName=tcp6-__-7432", "Backlog=4096")
	ask("systemctl show fdt-listen@tcp4-127.0.0.1-7432.socket", "Listen=127.0.0.1:7432 (Stream)", "FreeBind=yes")
	ask("ls '/run/my app'", "100%n")
	ask("stat -c '%a %U %G' /run/fdt/.s.PGSQL.7432", "660 root staff")
	ask("systemctl show fdt-worker@1-0.service -p TimeoutStopUSec,ReadWritePaths,PrivateNetwork,RestrictAddressFamilies,IPAddressDeny,LoadState",
		"LoadState=loaded", "TimeoutStopUSec=5min 31s", "PrivateNetwork=no", "IPAddressDeny=", "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX")
	ask("systemctl show fdt-worker@1-0.service -p ReadWritePaths --value | tr -d '\"' | grep -c -e '-/srv/out box/100%n'", "1")
	ask("systemctl show fdt-worker@1-0.service -p TriggeredBy --value | tr ' ' '\\n' | grep -c '^fdt-listen@.*socket$'", "5")
	ask("journalctl -b -o cat | grep -E 'fdt.*(ignoring|Unknown|Failed to parse|Invalid)' || echo nothing", "nothing")
	ask("systemctl stop fdt-sockets.target; systemctl is-active 'fdt-listen@*.socket' | sort | uniq -c | grep -w active || echo none", "none")
	ask("ls -A '/run/my app' | wc -l", "0")
}
