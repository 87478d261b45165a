package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/cli"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/tally"
)

// callable is one procedure, as JSON.
type callable struct {
	Name       string      `json:"name"`
	Parameters []parameter `json:"parameters"`
	Allow      []string    `json:"allow"` // empty: every user
	File       string      `json:"file,omitempty"`
	Line       int         `json:"line,omitempty"`
	Program    bool        `json:"program"` // code of the workers' program: the configuration knows nothing of it
	Calls      uint64      `json:"calls"`   // that the workers told of
	Errors     uint64      `json:"errors"`  // calls that did not succeed
	Mean       float64     `json:"mean"`    // seconds of a call; 0 if there was none

	seconds float64 // of all calls
}

// parameter is one of its parameters.
type parameter struct {
	Name    string  `json:"name"`
	Type    string  `json:"type"`
	Default *string `json:"default,omitempty"`
}

// runProcedures lists what clients may call. It exits 0 if done, 1 if the configuration has a fault, 2 if called wrongly.
func runProcedures(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fdtctl procedures", flag.ContinueOnError)
	asJSON := flags.Bool("json", false, "print them as JSON")
	etc := flags.String("etc", own().Etc(), "directory of the configuration")
	run := flags.String("run", own().Run(), "directory of what runs")
	if _, code, done := cli.Parse(flags, args, 0, stderr); done {
		return code
	}
	cfg, places, err := config.LoadPlaced(*etc)
	if err != nil {
		return cli.Fail(stderr, "procedures", err)
	}
	all := map[string]*callable{}
	for name, p := range cfg.Procedures {
		c := &callable{Name: name, Allow: append([]string{}, p.Allow...), Parameters: []parameter{}}
		c.File, c.Line = places.Written("procedures." + name)
		for _, param := range p.Parameters {
			c.Parameters = append(c.Parameters, parameter(param))
		}
		all[name] = c
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), 10*time.Second, silent())
	defer cancel()
	if err := count(ctx, snapshot.Dir(*run).Metrics(), all); err != nil {
		fmt.Fprintf(stderr, "fdtctl procedures: not all calls are counted: %v\n", err)
	}
	var sorted []*callable
	for _, name := range slices.Sorted(maps.Keys(all)) {
		sorted = append(sorted, all[name])
	}
	if *asJSON {
		return printJSON("procedures", append([]*callable{}, sorted...), stdout, stderr)
	}
	if len(sorted) == 0 {
		fmt.Fprintln(stdout, "there are no procedures")
		return 0
	}
	fmt.Fprint(stdout, table(procedureRows(sorted), math.MaxInt))
	return 0
}

// count adds what the workers tell of calls. A procedure that only they know is code of their program.
func count(ctx context.Context, dir string, all map[string]*callable) error {
	counts, err := tally.Read(ctx, dir)
	for _, w := range slices.Concat(counts.Live, counts.Left) {
		for name, calls := range w.Calls {
			c := all[name]
			if c == nil {
				c = &callable{Name: name, Program: true, Parameters: []parameter{}, Allow: []string{}}
				all[name] = c
			}
			for class, n := range calls.Classes {
				c.Calls += n
				if class != "00" {
					c.Errors += n
				}
			}
			c.seconds += calls.Duration.Sum
			c.Mean = c.seconds / float64(max(1, c.Calls))
		}
	}
	return err
}

func procedureRows(all []*callable) [][]string {
	rows := [][]string{{"PROCEDURE", "CALLS", "ERRORS", "MEAN", "MAY CALL", "STANDS AT"}}
	for _, c := range all {
		name, who, at, mean := c.Name+"("+signature(c.Parameters)+")", "everybody", fmt.Sprintf("%s:%d", c.File, c.Line), "-"
		if len(c.Allow) > 0 {
			who = strings.Join(c.Allow, ",")
		}
		if c.Program {
			name, who, at = c.Name, "-", "the program"
		}
		if c.Calls > 0 {
			mean = fmt.Sprintf("%.1fms", 1000*c.Mean)
		}
		rows = append(rows, []string{name, strconv.FormatUint(c.Calls, 10), strconv.FormatUint(c.Errors, 10), mean, who, at})
	}
	return rows
}

// signature is a list of parameters as SQL writes it.
func signature(all []parameter) string {
	var parts []string
	for _, p := range all {
		part := p.Name + " " + p.Type
		if p.Default != nil {
			part += " DEFAULT '" + strings.ReplaceAll(*p.Default, "'", "''") + "'"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}
