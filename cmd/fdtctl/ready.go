package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/fdtserver/fdt/internal/fleet"
	"github.com/fdtserver/fdt/internal/snapshot"
)

// readyWithin bounds the question to systemd.
const readyWithin = 5 * time.Second

// readiness is the answer of fdtctl ready, as JSON.
type readiness struct {
	Ready bool   `json:"ready"`
	Why   string `json:"why,omitempty"` // it is not

	Paused []string `json:"paused,omitempty"` // resources for which clients wait
}

// runReady tells whether clients should be sent here: it exits 0 if so and 1 if not. Everybody may ask.
func runReady(args []string, stdout, stderr io.Writer) int {
	list := func(ctx context.Context) ([]fleet.Unit, error) { return fleet.List(ctx, own()) }
	return readyBy(list, snapshot.Dir(own().Run()), args, stdout, stderr)
}

func readyBy(list func(context.Context) ([]fleet.Unit, error), run snapshot.Dir, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fdtctl ready", flag.ContinueOnError)
	asJSON := flags.Bool("json", false, "print the answer as JSON")
	if _, code, done := parse(flags, args, 0, stderr); done {
		return code
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), readyWithin, fmt.Errorf("systemd does not answer within %s", readyWithin))
	defer cancel()
	units, err := list(ctx)
	if err != nil {
		return fail(stderr, "ready", err)
	}
	var answer readiness
	paused, err := run.Pauses()
	if err != nil {
		return fail(stderr, "ready", err)
	}
	answer.Why, answer.Ready = fleet.Ready(own(), units)
	answer.Paused = slices.Sorted(maps.Keys(paused))
	code := 0
	if !answer.Ready {
		code = 1
	}
	if *asJSON {
		return max(code, printJSON("ready", answer, stdout, stderr))
	}
	fmt.Fprintln(stdout, fleet.Line(answer.Why, answer.Ready, answer.Paused))
	return code
}
