package main

import (
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/fdtserver/fdt/master"
)

// TestProgress holds what is printed of the master's own status line.
func TestProgress(t *testing.T) {
	s := master.Status{
		Step: "settling", Rejected: "x",
		Generations: []master.Generation{
			{Generation: 3, State: "starting", Configured: 2, Ready: 1},
			{Generation: 2, State: "serving", Configured: 2, Ready: 2, Open: 7},
			{Generation: 1, State: "draining", Open: 5},
		},
	}
	changed := &dbus.Signal{Body: []any{master.BusInterface, map[string]dbus.Variant{"StatusText": dbus.MakeVariant(s.Line())}, []string{}}}
	if got := progress(changedStatus(changed)); got != "generation 3: settling, 1/2 workers; generation 1: draining 5 connections" {
		t.Errorf("%q of %q", got, s.Line())
	}
	for _, body := range [][]any{nil, {"x", 7}, {"x", map[string]dbus.Variant{"Step": dbus.MakeVariant("idle")}}} {
		if got := progress(changedStatus(&dbus.Signal{Body: body})); got != "" {
			t.Errorf("%q of %v", got, body)
		}
	}
}
