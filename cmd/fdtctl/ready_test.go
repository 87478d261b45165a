package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/fleet"
	"github.com/fdtserver/fdt/internal/snapshot"
)

// TestReadyAnswers holds what a balancer's script gets: a word, a reason and an exit status.
func TestReadyAnswers(t *testing.T) {
	serving := []fleet.Unit{{Name: "fdt-listen@a.socket", Active: "active"}, {Name: "fdt-worker@1-1.service", Active: "active"}}
	for _, c := range []struct {
		args  string
		units []fleet.Unit
		err   error
		code  int
		says  string
	}{
		{"", serving, nil, 0, "ready\n"},
		{"", nil, nil, 1, "not ready: no worker accepts connections\n"},
		{"--json", serving, nil, 0, "{\n  \"ready\": true\n}\n"},
		{"--json", nil, nil, 1, "\"why\": \"no worker accepts connections\""},
		{"", nil, errors.New("no bus"), 1, "fdtctl ready: no bus\n"},
		{"now", serving, nil, 2, "0 wanted"},
	} {
		var out bytes.Buffer
		list := func(context.Context) ([]fleet.Unit, error) { return c.units, c.err }
		if code := readyBy(list, snapshot.Dir(t.TempDir()), strings.Fields(c.args), &out, &out); code != c.code || !strings.Contains(out.String(), c.says) {
			t.Errorf("%q of %d units: %d %s", c.args, len(c.units), code, out.String())
		}
	}
}
