package fdt_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// letters is a resource manager of a type that the program has of its own.
type letters struct {
	Directory string `fdt:"directory,required"`
	Count     int    `fdt:"count,default=1"`
}

func (l letters) Check(fault func(key, what, hint string)) {
	if !filepath.IsAbs(l.Directory) {
		fault("directory", "this is no absolute path", "begin it with a slash")
	}
}

func openLetters(name string, l letters) (txn.Resource, error) {
	if l.Count == 0 {
		return nil, errors.New("no room for letters")
	}
	if l.Count == 2 {
		name = "other"
	}
	return spool.Open(name, l.Directory)
}

// TestResource: a type of the program's own takes part in everything that fdt's own types do.
func TestResource(t *testing.T) {
	text, outbox := configuration(t)
	dir := t.TempDir()
	text = strings.Replace(text, "resources:\n", fmt.Sprintf("resources:\n  box: {type: letters, directory: %s}\n", dir), 1) + `
procedures:
  twain: {parameters: {body: text}, steps: [{on: box, put: ":body"}, {on: outbox, put: ":body"}]}
  sql: {steps: [{on: box, sql: "SELECT 1"}]}
`
	app := fdt.Test(t, text, fdt.Resource("letters", openLetters), fdt.Procedure("send", func(ctx context.Context, tx *fdt.Tx, o Order) (none, error) {
		b, err := fdt.Branch[*spool.Branch](ctx, tx, "box")
		if err != nil {
			return none{}, err
		}
		return none{}, b.Put(ctx, []byte(o.Item))
	}))
	c, err := pgx.Connect(t.Context(), app.DSN("alice"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	for _, sql := range []string{
		"CALL send('a')", "BEGIN", "CALL twain('b')", "CALL send('c')", "PREPARE TRANSACTION 'p'",
		"BEGIN", "CALL twain('d')", "PREPARE TRANSACTION 'q'", "ROLLBACK PREPARED 'q'", "COMMIT PREPARED 'p'",
	} {
		if _, err := c.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	if box, out := delivered(t, dir), delivered(t, outbox); box != 3 || out != 1 {
		t.Errorf("%d letters, %d messages", box, out)
	}
	if _, err := c.Exec(t.Context(), "CALL sql()"); err == nil {
		t.Error("a spool runs SQL")
	}
}

// TestResourceFaults is a table of types, and of sections of theirs, that are refused.
func TestResourceFaults(t *testing.T) {
	dir := t.TempDir()
	own := []fdt.Part{fdt.Resource("letters", openLetters)}
	for _, test := range []struct {
		text  string
		parts []fdt.Part
		want  string
	}{
		{"", []fdt.Part{fdt.Resource("spool", openLetters)}, `resource_test.go:%d: resource type spool: "spool" is too much like "spool"`},
		{"", []fdt.Part{fdt.Resource[letters]("letters", nil)}, "resource_test.go:%d: resource type letters: the function is nil"},
		{"", append(own, fdt.Resource("letters", openLetters)), `resource_test.go:%d: there is a type of resource "letters" already`},
		{"resources: {a: {type: letters, directory: a}}", own, "config.yaml:%d:43: resources.a.directory: this is no absolute path; begin it with a slash"},
		{"resources: {a: {type: letters}}", own, `config.yaml:%d:13: a letters needs the key "directory"`},
		{"resources: {a: {type: letters, directory: /a}}", nil, `config.yaml:%d:23: resources.a.type: "letters" is not known`},
		{"resources: {a: {type: letters, count: 0, directory: " + dir + "}}", own, "resource a: no room for letters%d"},
		{"resources: {a: {type: letters, count: 2, directory: " + dir + "}}", own, "resource a: resource_test.go:%d: "},
	} {
		prefix, rest, _ := strings.Cut(test.want, "%d")
		if err := start(t, test.text, test.parts...); !strings.Contains(err, prefix) || !strings.Contains(err, rest) {
			t.Errorf("%s, want %s", err, test.want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); err != nil {
		t.Error(err) // it was opened
	}
}
