package main

import (
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/fdtserver/fdt/config"
)

// runCheck prints everything that is wrong with a configuration directory. It exits 0 if nothing is, 1 if something
// is, and 2 if it was called wrongly. With -schema it prints the JSON Schema for editors instead.
func runCheck(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fdtctl check", flag.ContinueOnError)
	flags.SetOutput(stderr)
	schema := flags.Bool("schema", false, "print the JSON Schema of a configuration file")
	quiet := flags.Bool("quiet", false, "print nothing if there is no fault")
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: fdtctl check [-quiet] [DIR]\n       fdtctl check -schema\n\nChecks the configuration in DIR, %s by default.\n\n", config.Dir)
		flags.PrintDefaults()
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	if flags.NArg() > 1 || *schema && flags.NArg() > 0 {
		flags.Usage()
		return 2
	}
	if *schema {
		stdout.Write(config.Schema())
		return 0
	}
	dir := config.Dir
	if flags.NArg() == 1 {
		dir = flags.Arg(0)
	}
	cfg, err := config.Load(dir)
	if err != nil {
		fmt.Fprintln(stderr, err)
		if faults, ok := errors.AsType[config.Faults](err); ok && len(faults) > 1 {
			fmt.Fprintf(stderr, "%d faults in %s\n", len(faults), dir)
		}
		return 1
	}
	if !*quiet {
		fmt.Fprintf(stdout, "%s is valid: listeners %d, workers %d, resources %d, procedures %d\n",
			dir, len(cfg.Listen), cfg.Workers.Count, len(cfg.Resources), len(cfg.Procedures))
	}
	return 0
}
