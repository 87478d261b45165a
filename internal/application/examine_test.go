package application

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
)

// TestExamine has a program look at a configuration with about everything wrong that only shows where it would serve, and at a sound
// one: each finding has its place, and nothing is left prepared.
func TestExamine(t *testing.T) {
	server, err := testdb.StartPostgres("max_prepared_transactions=2", "fsync=on")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	dir := t.TempDir()
	for _, d := range []string{"run/txn", "lib/txn", "outbox"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	p := place{run: filepath.Join(dir, "run"), lib: filepath.Join(dir, "lib")}
	crt, key := filepath.Join(dir, "crt"), filepath.Join(dir, "key")
	certificate(t, crt, key)
	certificate(t, filepath.Join(dir, "other"), filepath.Join(dir, "other.key"))
	lookOf := func(app *Application, in string) control.Examination {
		t.Helper()
		var out bytes.Buffer
		if code := app.examine(t.Context(), strings.NewReader(in), &out, p); code != 0 {
			t.Fatalf("%d %s", code, out.String())
		}
		var found control.Examination
		if err := json.Unmarshal(out.Bytes(), &found); err != nil {
			t.Fatal(err)
		}
		return found
	}
	look := func(in string) control.Examination { t.Helper(); return lookOf(new(Application), in) }
	files := func(text string) string {
		raw, err := json.Marshal([]config.Text{{Name: "config.yaml", Text: text}})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	bank := fmt.Sprintf("bank: {type: postgres, pool: 4, dsn: %q}", server.DSN("postgres"))
	listen := func(key string) string {
		return fmt.Sprintf("listen: {public: {address: '127.0.0.1:1', auth: cert, tls: {certificate: %s, key: %s, client_ca: %s}}}\n", crt, key, crt)
	}

	bad := look(files(listen(filepath.Join(dir, "other.key")) + `workers: {threads: 1048576}
resources:
  ` + bank + `
  gone: {type: postgres, dsn: "host=/nowhere user=x dbname=x"}
  outbox: {type: spool, directory: ` + filepath.Join(dir, "none") + `}
procedures:
  lookup: {steps: [{on: bank, sql: "SELECT 1"}, {on: bank, sql: "SELECT 1 FROM nowhere"}]}
`))
	for _, want := range []control.Finding{
		{Path: "workers.threads", What: "too few file descriptors"},
		{Path: "listen.public.tls", What: "private key does not match"},
		{Path: "procedures.lookup.steps[1]", What: `"nowhere" does not exist`},
		{Path: "resources.gone", What: "no such file or directory"},
		{Path: "resources.outbox", What: "install -d -o fdt"},
	} {
		n := 0
		for _, f := range bad.Faults {
			if f.Path == want.Path && strings.Contains(f.What, want.What) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d faults of %s with %q in %+v", n, want.Path, want.What, bad.Faults)
		}
	}
	if len(bad.Faults) != 5 {
		t.Errorf("%+v", bad.Faults)
	}

	good := look(files(listen(key) + `resources:
  ` + bank + `
  outbox: {type: spool, directory: ` + filepath.Join(dir, "outbox") + `}
procedures:
  lookup: {steps: [{on: bank, sql: "SELECT 1"}]}
`))
	var warned []string
	for _, w := range good.Warnings {
		warned = append(warned, w.Path+": "+w.What)
	}
	if text := strings.Join(warned, "\n"); len(good.Faults) > 0 || !strings.Contains(text, "listen.public.tls.certificate: "+crt+" ends in 0s") ||
		!strings.Contains(text, "resources.bank: resource bank: max_prepared_transactions is 2") {
		t.Errorf("%+v", good)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "outbox", "prepared", "*")); err != nil || len(left) > 0 {
		t.Errorf("%q, %v", left, err)
	}

	for in, want := range map[string]string{
		"nonsense": "invalid character",
		files("listen: {l: {address: /run/x, serve: web}}\nprocedures: {p: {steps: [{on: s, put: \"x\"}]}}\nresources: {s: {type: spool, directory: " + filepath.Join(dir, "outbox") + "}}\n"): "web",
	} {
		if found := look(in); len(found.Faults) != 1 || !strings.Contains(found.Faults[0].What, want) {
			t.Errorf("%s: %+v", in, found)
		}
	}
	want := control.Finding{File: "config.yaml", Line: 1, Column: 11, What: `there is no key "treads" in workers`, Hint: `did you mean "threads"?`}
	if found := look(files("workers: {treads: 1}\n")); len(found.Faults) != 1 || found.Faults[0] != want {
		t.Errorf("%+v", found)
	}
	twice := procedure.New(procedure.Spec{Name: "twice", Where: "main.go:7"}, nil)
	program := &Application{Procedures: []*procedure.Procedure{twice, twice}}
	program.Rehearse("main.go:8", func(context.Context, *txn.Session) error { return errors.New("no such table") })
	program.Rehearse("main.go:9", func(context.Context, *txn.Session) error { panic("oops") })
	program.Rehearse("main.go:10", func(context.Context, *txn.Session) error { return nil })
	unfit := lookOf(program, files("resources: {outbox: {type: spool, directory: "+filepath.Join(dir, "outbox")+"}}\n"))
	var told []string
	for _, f := range unfit.Faults {
		told = append(told, f.Path+": "+f.What)
	}
	if text := strings.Join(told, "\n"); text != "procedures: main.go:7: there is another procedure twice\n: main.go:8: no such table\n: main.go:9: panic: oops" {
		t.Errorf("%s", text)
	}
	p.lib = filepath.Join(dir, "crt")
	if found := look(files("workers: {count: 1}\n")); len(found.Faults) != 1 || !strings.HasPrefix(found.Faults[0].What, "transaction log: ") {
		t.Errorf("%+v", found)
	}
	if code := new(Application).examine(context.Background(), strings.NewReader("[]"), full{}, p); code != 1 {
		t.Error("an answer that cannot be written")
	}
}

// full takes nothing.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("full") }

// TestUntilEnd: a certificate's time.
func TestUntilEnd(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	c := tls.Certificate{Leaf: &x509.Certificate{NotBefore: now, NotAfter: now.Add(time.Hour)}}
	for at, want := range map[time.Duration]string{0: "", time.Hour: "", -1: "not valid before 2026-11-29T12:00:00Z", time.Hour + 1: "has ended at 2026-11-29T13:00:00Z"} {
		left, err := untilEnd(c, now.Add(at))
		if want == "" && (err != nil || left != time.Hour-at) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %s, %v", at, left, err)
		}
	}
}

// TestExpiries reads when certificates end, of those listeners that have one which can be read.
func TestExpiries(t *testing.T) {
	dir := t.TempDir()
	crt, key := filepath.Join(dir, "crt"), filepath.Join(dir, "key")
	certificate(t, crt, key)
	ends := expiries(&config.Config{Listen: map[string]config.Listener{
		"public": {TLS: &config.TLS{Certificate: crt, Key: key}}, "local": {}, "lost": {TLS: &config.TLS{Certificate: dir + "/none", Key: key}},
	}})
	if left := time.Until(ends["public"]); len(ends) != 1 || left <= 0 || left > time.Hour {
		t.Errorf("%v", ends)
	}
}
