package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// event is one line of go test -json; see go doc test2json.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

// tally counts tests. A test with subtests counts beside them.
type tally struct {
	passed, failed, skipped int
}

// read counts the tests in a stream of events. It prints a line for each package, and all output of what failed.
func (t *tally) read(events io.Reader, out io.Writer) error {
	type name struct{ pkg, test string }
	said := map[name]*strings.Builder{}
	running := map[name]bool{}
	failing := map[string]bool{} // packages in which a test failed
	decoder := json.NewDecoder(events)
	for {
		var e event
		if err := decoder.Decode(&e); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("go test -json: %w", err)
		}
		if e.Package == "" {
			e.Package = e.ImportPath
		}
		key := name{e.Package, e.Test}
		switch e.Action {
		case "run":
			running[key] = true
			continue
		case "output", "build-output":
			if said[key] == nil {
				said[key] = &strings.Builder{}
			}
			said[key].WriteString(e.Output)
			continue
		case "build-fail":
			t.failed++
			failing[e.Package] = true
			fmt.Fprintf(out, "%s", said[key])
			continue
		case "pass", "skip", "fail":
		default:
			continue
		}
		delete(running, key)
		if e.Test != "" {
			t.count(e.Action)
		}
		var cut []string // tests that have not ended
		if e.Action == "fail" && e.Test == "" {
			for key := range running {
				if key.pkg == e.Package {
					cut = append(cut, key.test)
				}
			}
		}
		switch {
		case e.Action == "fail" && (e.Test != "" || len(cut) > 0 || !failing[e.Package] && e.FailedBuild == ""):
			if e.Test == "" {
				t.failed++ // a panic, a timeout, an exit: what the tests said that have not ended tells why
				slices.Sort(cut)
				for _, test := range cut {
					fmt.Fprintf(out, "in %s:\n%s", test, text(said[name{e.Package, test}]))
				}
			}
			failing[e.Package] = true
			fmt.Fprintf(out, "FAIL %s %s (%.1fs)\n%s", e.Package, e.Test, e.Elapsed, text(said[key]))
		case e.Test == "" && e.Action != "skip":
			fmt.Fprintf(out, "%-4s %s (%.1fs)\n", e.Action, e.Package, e.Elapsed)
		}
		delete(said, key)
	}
}

func (t *tally) add(o tally) {
	t.passed += o.passed
	t.failed += o.failed
	t.skipped += o.skipped
}

func (t *tally) count(action string) {
	switch action {
	case "pass":
		t.passed++
	case "fail":
		t.failed++
	case "skip":
		t.skipped++
	}
}

func text(b *strings.Builder) string {
	if b == nil {
		return ""
	}
	return b.String()
}
