package service

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the packaged templates anew")

const packaged = "../../packaging/systemd/"

// instance is whichever service a packaged template is for.
var instance = Service{"%i"}

// read is a file of the package.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(packaged, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// known are conditions, or assertions, of which one must hold for a service that there is.
func known(kind string) (lines string) {
	lines = "# A service whose name is misspelt has none of these, and would have units and directories all the same, and be started again and again.\n"
	for _, file := range []string{"/etc/fdt/%i/config.yaml", "/run/fdt@%i/state.json", "/var/lib/fdt@%i/last-good/config.yaml"} {
		lines += kind + "PathExists=|" + file + "\n"
	}
	return lines
}

// directories has them made.
const directories = "# What tmpfiles.d has for the default service; it cannot know of this one.\nWants=fdt-directories@%i.service\nAfter=fdt-directories@%i.service\n"

// packagedTemplates are the units in the package of which each further service has an instance. They are those of the default service, by
// other names; what more there is in them is here.
func packagedTemplates(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, c := range []struct {
		name func(Service) string
		more string // of the section [Unit]
	}{
		{Service.Master, directories + "# When it starts for the first time nothing may be written for it yet: its workers' template, of which the master keeps what it was.\n" +
			"After=fdt-refresh@%i.service\n" + known("Assert")},
		{Service.Stopper, known("Condition")},
		{Service.Sweep, ""},
		{Service.Refresh, directories + known("Condition")},
		{Service.Sockets, known("Condition")},
	} {
		text := strings.Replace(instance.Unit(read(t, c.name(Default))), "[Unit]\n", "[Unit]\n"+c.more, 1)
		all[strings.Replace(c.name(instance), "%i", "", 1)] = "# " + c.name(Default) + " of a further service, which is the instance's name; what each line is for stands there.\n" + text
	}
	var lines strings.Builder
	for line := range strings.Lines(read(t, "fdt.tmpfiles")) {
		if strings.HasPrefix(line, "d ") {
			lines.WriteString("StandardInputText=" + instance.Unit(line))
		}
	}
	all["fdt-directories@.service"] = `# What fdt.tmpfiles is for the default service: the directories of a further one, which nobody can know before it is there. It runs before
# the service's listeners open and its master starts.
[Unit]
Description=fdt@%i: directories
Documentation=man:fdt-master(8) man:tmpfiles.d(5)
DefaultDependencies=no
After=sysinit.target
Conflicts=shutdown.target
Before=shutdown.target
StartLimitIntervalSec=0
` + known("Condition") + `
[Service]
Type=oneshot
ExecStart=/usr/bin/systemd-tmpfiles --create -
StandardInput=data
` + lines.String() + "# It runs for fdtctl too, and is to leave no slice of a service that does not.\nSlice=system.slice\n"
	return all
}

// TestPackagedTemplates has the packaged templates be what the default service's units are, line by line.
func TestPackagedTemplates(t *testing.T) {
	for name, want := range packagedTemplates(t) {
		if *update {
			if err := os.WriteFile(filepath.Join(packaged, name), []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := read(t, name); got != want {
			t.Errorf("%s is not as the default service's unit says (go test -update writes it):\n%s\nwant\n%s", name, got, want)
		}
	}
}

// others are names and directories of the default service.
var others = regexp.MustCompile(`\bfdt(-stop|-sweep|-refresh)?\.service|fdt-sockets\.target|system-fdt\.slice|fdt-(worker|listen|metrics)@[^s]|/(run|lib)/fdt(/[^f]|[ \n])|/etc/fdt[ \n]|%t/fdt-metrics/`)

// TestUnit: a unit of a further service names nothing of the default one.
func TestUnit(t *testing.T) {
	if len(Default.Templates()) != 0 {
		t.Errorf("%v", Default.Templates())
	}
	for of, name := range shop.Templates() {
		text := shop.Unit(read(t, of))
		if found := others.FindAllString(text, -1); found != nil || !others.MatchString(read(t, of)) {
			t.Errorf("%s has %q", name, found)
		}
		if !strings.Contains(text, "\n[Service]\nEnvironment=FDT_SERVICE=shop\n") || !strings.Contains(text, "Description=fdt@shop ") || strings.Contains(text, "#") {
			t.Errorf("%s is\n%s", name, text)
		}
	}
}
