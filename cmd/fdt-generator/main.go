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
)

func main() {
	os.Exit(run(os.Args[1:], os.Stderr))
}

// run is the program: three directories for units, of which only the first is used, as it is neither above nor
// below what an administrator writes.
func run(args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("fdt-generator", flag.ContinueOnError)
	flags.SetOutput(stderr)
	root := flags.String("root", "/", "`directory` that holds etc, run, var and dev")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: fdt-generator [-root DIR] NORMAL-DIR [EARLY-DIR LATE-DIR]")
	}
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() != 1 && flags.NArg() != 3 {
		flags.Usage()
		return 2
	}
	g := generator{root: *root, stderr: stderr}
	return g.run(flags.Arg(0))
}
