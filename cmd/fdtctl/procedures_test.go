package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/meter"
)

// TestProcedures: what may be called, by whom, where it stands, and how it fared by what workers tell who live and who have ended.
func TestProcedures(t *testing.T) {
	etc := etcOf(t, "config.yaml", `resources: {o: {type: spool, directory: /o}}
procedures:
  put: {parameters: {body: text, note: {type: text, default: it's}}, steps: [{on: o, put: ":body :note"}], allow: [alice, "peer:bob"]}
  none: {steps: [{on: o, put: x}]}
`)
	run2, err := os.MkdirTemp("", "fdt") // short, for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(run2) })
	dir := filepath.Join(run2, "metrics")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	worker := func(slot int, put string) meter.Worker {
		return meter.Worker{Generation: 1, Slot: slot, Started: time.Now(), Calls: map[string]meter.Calls{
			put: {Classes: map[string]uint64{"00": 3, "23": 1}, Duration: meter.Distribution{Sum: 0.006}},
		}}
	}
	left := worker(2, "put")
	if err := meter.Leave(dir, left); err != nil {
		t.Fatal(err)
	}
	l, err := control.Listen(filepath.Join(dir, "1-1.sock"))
	if err != nil {
		t.Fatal(err)
	}
	answer := worker(1, "put")
	answer.Calls["coded"] = meter.Calls{}
	s := &control.Server{Handlers: control.Handlers{control.OpMetrics: func(context.Context, json.RawMessage) (any, error) { return answer, nil }}}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { s.Close(); serving.Wait() })

	var out bytes.Buffer
	args := []string{"procedures", "--etc", etc, "--run", run2}
	want := `PROCEDURE                                  CALLS  ERRORS  MEAN   MAY CALL        STANDS AT
coded                                      0      0       -      -               the program
none()                                     0      0       -      everybody       ETC/config.yaml:4
put(body text, note text DEFAULT 'it''s')  8      2       1.5ms  alice,peer:bob  ETC/config.yaml:3
`
	want = strings.ReplaceAll(want, "ETC", etc)
	if code := run(args, &out, &out); code != 0 || out.String() != want {
		t.Errorf("%d\n%s", code, out.String())
	}
	out.Reset()
	var all []callable
	if code := run(append(args, "--json"), &out, &out); code != 0 || json.Unmarshal(out.Bytes(), &all) != nil || len(all) != 3 {
		t.Fatalf("%d\n%s", code, out.String())
	}
	if p := all[2]; p.Name != "put" || p.Calls != 8 || p.Errors != 2 || p.Mean != 0.0015 || p.Line != 3 || len(p.Allow) != 2 || *p.Parameters[1].Default != "it's" || p.Program || !all[0].Program {
		t.Errorf("%+v", p)
	}

	out.Reset()
	if err := os.WriteFile(filepath.Join(dir, "1-3.last"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := run(args, &out, &out); code != 0 || !strings.HasPrefix(out.String(), "fdtctl procedures: not all calls are counted: ") || !strings.Contains(out.String(), "1.5ms") {
		t.Errorf("%d\n%s", code, out.String())
	}
}

// TestNoProcedures holds what is said where there is nothing to tell.
func TestNoProcedures(t *testing.T) {
	for about, c := range map[string]struct {
		text, args string
		code       int
		says       string
	}{
		"none":          {"", "", 0, "there are no procedures\n"},
		"none, as JSON": {"", "--json", 0, "[]\n"},
		"a fault":       {"workers: 1\n", "", 1, "fdtctl procedures: ETC/config.yaml:1:10: workers must be a mapping"},
		"an argument":   {"", "x", 2, "1 arguments given, 0 wanted"},
	} {
		etc := etcOf(t, "config.yaml", c.text)
		var out bytes.Buffer
		args := append([]string{"procedures", "--etc", etc, "--run", etc}, strings.Fields(c.args)...)
		if code := run(args, &out, &out); code != c.code || !strings.Contains(out.String(), strings.ReplaceAll(c.says, "ETC", etc)) {
			t.Errorf("%s: %d %s", about, code, out.String())
		}
	}
}
