package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// shelf are the settings of a type that a program has of its own.
type shelf struct {
	Directory string        `fdt:"directory,required" doc:"Where it is."`
	Word      string        `fdt:"word,secret"`
	Kept      time.Duration `fdt:"kept,default=1h"`
	Rows      int           `fdt:"rows,default=3"`
	Locked    bool          `fdt:"locked,default=true"`
	Colour    string        `fdt:"colour,default=dark red: 1"`
	Hidden    []string      `fdt:"-"`
	private   int
}

func (s *shelf) Check(fault func(key, what, hint string)) {
	if s.private = s.Rows % 2; s.private == 0 {
		fault("rows", "it must be odd", "add one")
	}
}

func shelves(t *testing.T) Program {
	t.Helper()
	typ, err := NewType[shelf]("shelf")
	if err != nil {
		t.Fatal(err)
	}
	return Program{[]ResourceType{typ}}
}

// TestOwnTypeIsRead: the program reads what its type says, everybody else leaves it alone.
func TestOwnTypeIsRead(t *testing.T) {
	dir := write(t, "config.yaml", `
resources:
  a: {type: shelf, directory: /a, word: open}
  b: {type: shelf, directory: /b, kept: 2h, rows: 5, locked: false, colour: "7"}
  outbox: {type: spool, directory: /o}
procedures:
  f: {parameters: {x: text}, steps: [{on: a, sql: "SET $1 :x"}, {on: b, put: ":x"}, {on: outbox, put: ":x"}]}
`)
	cfg, err := shelves(t).LoadCopy(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"a":      &shelf{Directory: "/a", Word: "open", Kept: time.Hour, Rows: 3, Locked: true, Colour: "dark red: 1", private: 1},
		"b":      &shelf{Directory: "/b", Kept: 2 * time.Hour, Rows: 5, Colour: "7", private: 1},
		"outbox": &Spool{"/o"},
	} {
		if got := cfg.Resources[name].Settings; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	if cfg, err = Load(dir); err != nil {
		t.Fatal(err)
	}
	a := cfg.Resources["a"]
	if a.Type != "shelf" || a.Settings != nil || a.DialsTCP() || a.Pool() != 0 || a.Dialect() != DialectPostgres || len(cfg.Named()) != 1 {
		t.Errorf("%+v, %v", a, cfg.Named())
	}
}

// TestOwnTypeFaults holds what the program, and what everybody, says of what is wrong.
func TestOwnTypeFaults(t *testing.T) {
	dir := write(t, "config.yaml", `
resources:
  a: {type: shelf, word: [secret], kept: long, directory: 3}
  b: {type: shelf, rows: 4, colour_: r, dsn: x}
  c: {type: shelv, directory: /c}
  d: {type: cupboard}
  e: {type: postgers, dsn: x}
  f: {type: spool, directory: /f, colour: x}
transaction: {decider: a}
procedures:
  p: {steps: [{on: a, when: x}, {on: a, sql: "SELECT 1", put: x}, {on: a, put: x, rows: 1}]}
`)
	want := strings.TrimSpace(`
config.yaml:3:26: resources.a.word must be a text, not a list
config.yaml:3:42: resources.a.kept: "long" is no duration; write it as 500ms, 30s, 10m or 24h
config.yaml:3:59: resources.a.directory must be a text, not the number 3
config.yaml:4:3: a shelf needs the key "directory"
config.yaml:4:26: resources.b.rows: it must be odd; add one
config.yaml:4:29: there is no key "colour_" in resources.b; did you mean "colour"?
config.yaml:4:46: a shelf has no dsn; leave it out
config.yaml:5:13: resources.c.type: "shelv" is not known; did you mean "shelf"?
config.yaml:6:13: resources.d.type: "cupboard" is not known; it is one of mariadb, postgres, shelf, spool
config.yaml:7:13: resources.e.type: "postgers" is not known; did you mean "postgres"?
config.yaml:8:43: a spool has no colour; leave it out`)
	rest := `
config.yaml:9:24: a is a shelf, which cannot keep decisions; name a postgres, or leave it out
config.yaml:11:15: a step on a needs the key "sql" or the key "put", whichever a shelf takes
config.yaml:11:29: "x" is neither a parameter nor the as of an earlier step
config.yaml:11:63: put has no meaning on a, which is a shelf
config.yaml:11:89: rows has no meaning on a, which is a shelf`
	if _, err := shelves(t).LoadCopy(dir); err == nil || err.Error() != want+rest {
		t.Errorf("the program says\n%v\nwant\n%s", err, want+rest)
	}
	_, err := Load(dir)
	if err == nil {
		t.Fatal("everybody takes it")
	}
	everybody := strings.ReplaceAll(err.Error(), dir+"/", "")
	if want := `config.yaml:7:13: resources.e.type: "postgers" is not known; did you mean "postgres"?
config.yaml:8:35: there is no key "colour" in resources.f; it is one of directory, dsn, marker, password_file, pool, type` + rest; everybody != want {
		t.Errorf("everybody says\n%s\nwant\n%s", everybody, want)
	}
	if text := Detail(err); strings.Contains(text, "[secret]") {
		t.Errorf("what may be a secret is quoted:\n%s", text)
	}
	if _, err := (Program{}).LoadCopy(filepath.Join(dir, "none")); !os.IsNotExist(err) {
		t.Error(err)
	}
}

// TestOwnTypeSchema: editors are told of the program's types by the program.
func TestOwnTypeSchema(t *testing.T) {
	text := string(shelves(t).Schema())
	for _, want := range []string{
		`"shelf"`, `"spool: the directory that holds tmp, prepared and new. shelf: Where it is."`, `"default": "dark red: 1"`, `"default": true`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

// TestUnusableTypes is a table of what is no type of resource.
func TestUnusableTypes(t *testing.T) {
	for want, err := range map[string]error{
		`"Shelf": a name begins with a small letter`:               second(NewType[shelf]("Shelf")),
		`"postgre" is too much like "postgres" to be told from it`: second(NewType[shelf]("postgre")),
		`int is no struct`: second(NewType[int]("shelf")),
		`field A of struct { A int }: it needs a tag`: second(NewType[struct{ A int }]("shelf")),
		"field A of struct { A int \"fdt:\\\"A\\\"\" }: it needs a tag": second(NewType[struct {
			A int `fdt:"A"`
		}]("shelf")),
		`a setting is a string, a bool, an int or a time.Duration, and not a uint8`: second(NewType[struct {
			A byte `fdt:"a"`
		}]("shelf")),
		`"key" is none of required, secret and default=TEXT`: second(NewType[struct {
			A int `fdt:"a,key"`
		}]("shelf")),
		`default: "[" is none`: second(NewType[struct {
			A int `fdt:"a,default=["`
		}]("shelf")),
		`default: a: write a number from 0 to`: second(NewType[struct {
			A int `fdt:"a,default=9999999"`
		}]("shelf")),
		`field B of struct { A int "fdt:\"a\""; B int "fdt:\"a\"" }: there is already a key a`: second(NewType[struct {
			A int `fdt:"a"`
			B int `fdt:"a"`
		}]("shelf")),
		`there is already a key type`: second(NewType[struct {
			A int `fdt:"type"`
		}]("shelf")),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func second(_ ResourceType, err error) error { return err }
