package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/fdtserver/fdt/internal/fleet"
)

// readyWithin bounds the question to systemd.
const readyWithin = 5 * time.Second

// readiness is the answer of fdtctl ready, as JSON.
type readiness struct {
	Ready bool   `json:"ready"`
	Why   string `json:"why,omitempty"` // it is not
}

// runReady tells whether clients should be sent here: it exits 0 if so and 1 if not. Everybody may ask.
func runReady(args []string, stdout, stderr io.Writer) int {
	return readyBy(func(ctx context.Context) ([]fleet.Unit, error) { return fleet.List(ctx, own()) }, args, stdout, stderr)
}

func readyBy(list func(context.Context) ([]fleet.Unit, error), args []string, stdout, stderr io.Writer) int {
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
	answer.Why, answer.Ready = fleet.Ready(own(), units)
	code := 0
	if !answer.Ready {
		code = 1
	}
	switch {
	case *asJSON:
		return max(code, printJSON("ready", answer, stdout, stderr))
	case answer.Ready:
		fmt.Fprintln(stdout, "ready")
	default:
		fmt.Fprintf(stdout, "not ready: %s\n", answer.Why)
	}
	return code
}
