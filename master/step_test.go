package master

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/testgolden"
)

// TestTransitions compares the whole table, refusals included, with its golden file.
func TestTransitions(t *testing.T) {
	var b strings.Builder
	for s := range Step(steps) {
		for e := range Event(events) {
			to, err := next(s, e)
			if err != nil {
				if to != s {
					t.Errorf("%s × %s is refused, but leads to %s", s, e, to)
				}
				fmt.Fprintf(&b, "%-12s %-12s refused\n", s, e)
				continue
			}
			fmt.Fprintf(&b, "%-12s %-12s %s\n", s, e, to)
		}
	}
	testgolden.Compare(t, "testdata/transitions.golden", b.String())
}

func TestStepNames(t *testing.T) {
	for s := range Step(steps) {
		if back, ok := ParseStep(s.String()); !ok || back != s {
			t.Errorf("%s is read back as %v, %t", s, back, ok)
		}
		if s.Terminal() != (s == Idle) {
			t.Errorf("%s: Terminal is %t", s, s.Terminal())
		}
	}
	if s, ok := ParseStep(""); !ok || s != Idle {
		t.Errorf("no step is read as %v, %t", s, ok)
	}
	if _, ok := ParseStep("dancing"); ok {
		t.Error("an unknown step is accepted")
	}
	if got := Step(99).String() + " " + Event(-1).String(); got != "step(99) event(-1)" {
		t.Error(got)
	}
}

func TestAfter(t *testing.T) {
	serving := snapshot.State{Next: 4, Applied: 2, Pending: 3, Step: "retiring"}
	got, step, err := after(serving, Retiring, Retired, nil)
	if err != nil || step != Idle || got.Applied != 3 || got.Pending != 0 || got.Previous != 2 ||
		len(got.Draining) != 1 || got.Draining[0] != 2 || got.Rollouts != (snapshot.Rollouts{Applied: 1}) {
		t.Errorf("Retired: %+v %v %v", got, step, err)
	}
	got, step, err = after(serving, TakingBack, TakenBack, nil)
	if err != nil || step != Idle || got.Applied != 2 || got.Pending != 0 || got.Draining[0] != 3 {
		t.Errorf("TakenBack: %+v %v %v", got, step, err)
	}
	got, step, err = after(serving, Starting, Failed, errors.New("why"))
	if err != nil || step != TakingBack || got.Pending != 3 || got.Rejected != "why" || got.Step != "taking-back" || got.Rollouts != (snapshot.Rollouts{Failed: 1}) {
		t.Errorf("Failed: %+v %v %v", got, step, err)
	}
	if got, step, err = after(serving, Idle, Ready, nil); err == nil || step != Idle || got.Pending != 3 {
		t.Errorf("a refused event: %+v %v %v", got, step, err)
	}
}
