// Fdt-generator is fdt's systemd generator: it turns the configuration into socket units and the workers' drop-in.
// It reads what serves, never what is being edited: while the master keeps snapshots, only those count.
//
// systemd runs it at boot and at each daemon-reload, systemd.generator(7): no D-Bus, no syslog, perhaps no /var.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/unit"
)

// levelError before a line makes it an error in the journal and in the kernel's log, sd-daemon(3).
const levelError = "<3>"

// everyService is no service's name.
const everyService = "*"

func main() {
	os.Exit(run(os.Args[1:], os.Stderr))
}

// run is the program: with -guard it says whether a listener may open at a path; else three directories for units, of which only the first is used, as it is neither above nor
// below what an administrator writes.
func run(args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("fdt-generator", flag.ContinueOnError)
	flags.SetOutput(stderr)
	root := flags.String("root", "/", "`directory` that holds etc, run, var and dev")
	guard := flags.String("guard", "", "exit with 1 if systemd must not open a socket at `path`, and say why")
	only := flags.String("service", everyService, "write the units of the service of this `name` alone; the default one has none")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: fdt-generator [-root DIR] [-service NAME] NORMAL-DIR [EARLY-DIR LATE-DIR]\n       fdt-generator -guard PATH")
	}
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *guard != "" && flags.NArg() == 0 {
		if err := unit.Free(*guard); err != nil {
			fmt.Fprintf(stderr, "%sfdt-generator: %v\n", levelError, err)
			return 1
		}
		return 0
	}
	if *guard != "" || flags.NArg() != 1 && flags.NArg() != 3 {
		flags.Usage()
		return 2
	}
	services := service.Known(*root)
	if *only != everyService {
		s, err := service.Parse(*only)
		if err != nil {
			fmt.Fprintf(stderr, "%sfdt-generator: %v\n", levelError, err)
			return 2
		}
		services = []service.Service{s}
	}
	status := 0
	for _, s := range services { // a fault of one costs the others nothing
		status = max(status, generator{root: *root, service: s, stderr: stderr}.run(flags.Arg(0)))
	}
	return status
}
