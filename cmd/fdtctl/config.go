package main

import (
	"flag"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/cli"
)

const configUsage = `Usage: fdtctl config show [--json] [DIR]

Shows the configuration in DIR, /etc/fdt by default, with everything that is not
written there and has its default. Behind each line stands where it comes from.
What may be a secret is replaced by stars.
`

// originColumn is where the origins stand, unless a line is longer.
const originColumn = 44

// setting is one value of the effective configuration, as JSON.
type setting struct {
	Path  string `json:"path"`
	Value any    `json:"value"`
	File  string `json:"file,omitempty"` // empty: it is the default
	Line  int    `json:"line,omitempty"`
}

// runConfig shows the configuration that would serve after a reload. It exits 0 if done, 1 if there is a fault, 2 if called wrongly.
func runConfig(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fdtctl config show", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(stderr, configUsage) }
	asJSON := flags.Bool("json", false, "")
	rest, code, done := cli.Parse(flags, args, cli.AnyNumber, stderr)
	if done {
		return code
	}
	dir := own().Etc()
	switch {
	case len(rest) > 0 && rest[0] == "help":
		fmt.Fprint(stdout, configUsage)
		return 0
	case len(rest) < 1 || len(rest) > 2 || rest[0] != "show":
		fmt.Fprint(stderr, configUsage)
		return 2
	case len(rest) == 2:
		dir = rest[1]
	}
	cfg, places, err := config.LoadPlaced(dir)
	if err != nil {
		return cli.Fail(stderr, "config show", err)
	}
	if *asJSON {
		all := []setting{}
		for _, s := range places.Effective() {
			if s.Value != nil {
				all = append(all, setting{s.Path, s.Value, s.File, s.Line})
			}
		}
		return printJSON("config show", all, stdout, stderr)
	}
	for _, s := range places.Effective() {
		origin := "default"
		if s.File != "" {
			origin = fmt.Sprintf("%s:%d", s.File, s.Line)
		}
		if s.Path == "workers.count" && s.Value == "auto" {
			origin += fmt.Sprintf(", here %d", cfg.Workers.Count)
		}
		pad := strings.Repeat(" ", max(1, originColumn-utf8.RuneCountInString(s.Text)))
		fmt.Fprintf(stdout, "%s%s# %s\n", s.Text, pad, origin)
	}
	return 0
}
