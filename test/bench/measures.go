package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"time"
)

// measure is one question. Its name is what -only is matched with.
type measure struct {
	name string
	take func(context.Context, *site) ([]row, error)
}

// measures returns them in their order; each finds fdt serving and may change its configuration as it likes.
func measures() []measure {
	return append([]measure{
		{"connections", connections},
		{"reload-http", reloadsHTTP},
		{"reload-call", reloadsCall},
		{"reload-time", reloadTime},
		{"start", startTime},
		{"memory", memory},
		{"log", logForce},
		{"twophase", twoPhase},
		{"outbox", outbox},
		{"recovery", recovery},
		{"transfer", transfers},
		{"framework", framework},
	}, attacks()...)
}

// measureAll runs in the container.
func measureAll(ctx context.Context, args []string) error {
	only, err := regexp.Compile(args[0])
	if err != nil {
		return err
	}
	s := &site{}
	var table []row
	var failed []error
	for _, m := range measures() {
		if !only.MatchString(m.name) {
			continue
		}
		begun := time.Now()
		rows, err := m.take(ctx, s)
		fmt.Printf("== %s: %.0f s\n", m.name, time.Since(begun).Seconds())
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", m.name, err))
		}
		printTable(os.Stdout, rows)
		table = append(table, rows...)
	}
	fmt.Println()
	printTable(os.Stdout, table)
	return errors.Join(failed...)
}
