package journal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/fdtserver/fdt"
	root   = "../.."
	page   = root + "/docs/man/fdt-journal.7"
)

// An event is one message of the installed programs, in whatever places it is logged.
type event struct {
	level  string // of journalctl -p: err, warning, info; empty if the place does not say
	fields []string
	places []string
}

// levels are the methods of a logger that have a message, with the level that journalctl -p knows each by.
var levels = map[string]string{"Error": "err", "Warn": "warning", "Info": "info"}

// linked are the directories of the packages of which the installed programs are made.
func linked(t *testing.T) []string {
	t.Helper()
	queue, seen := []string{}, map[string]bool{}
	add := func(dir string) {
		if !seen[dir] {
			seen[dir] = true
			queue = append(queue, dir)
		}
	}
	for _, program := range []string{"fdtctl", "fdt-master", "fdt-worker", "fdt-metrics", "fdt-generator"} {
		add("cmd/" + program)
	}
	for i := 0; i < len(queue); i++ {
		for _, f := range sources(t, queue[i]) {
			for _, imported := range f.Imports {
				if rel, ok := strings.CutPrefix(strings.Trim(imported.Path.Value, `"`), module); ok {
					add(strings.TrimPrefix(rel, "/"))
				}
			}
		}
	}
	return queue
}

var files = token.NewFileSet()

func sources(t *testing.T, dir string) (all []*ast.File) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %v, %v", dir, names, err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(files, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	return all
}

// literal is a text that stands in the code; ok tells whether it does.
func literal(e ast.Expr) (text string, ok bool) {
	if l, is := e.(*ast.BasicLit); is && l.Kind == token.STRING {
		text, err := strconv.Unquote(l.Value)
		return text, err == nil
	}
	return "", false
}

// logged is what a call logs; ok tells whether it logs anything.
func logged(call *ast.CallExpr) (message, level string, attrs []ast.Expr, ok bool) {
	method, is := call.Fun.(*ast.SelectorExpr)
	if !is {
		return "", "", nil, false
	}
	at := 0
	name := method.Sel.Name
	switch short := strings.TrimSuffix(name, "Context"); {
	case name == "Log" || name == "LogAttrs":
		at = 2
		if len(call.Args) > 1 {
			if of, is := call.Args[1].(*ast.SelectorExpr); is {
				level = levels[strings.TrimPrefix(of.Sel.Name, "Level")]
			}
		}
	case levels[short] != "":
		level = levels[short]
		if short != name {
			at = 1
		}
	default:
		return "", "", nil, false
	}
	if len(call.Args) <= at {
		return "", "", nil, false
	}
	message, ok = literal(call.Args[at])
	return message, level, call.Args[at+1:], ok
}

// keys are the names of the fields among what is logged with a message, as far as they stand at the place.
func keys(attrs []ast.Expr) (all []string) {
	for i := 0; i < len(attrs); i++ {
		if key, ok := literal(attrs[i]); ok {
			if key != "message_id" {
				all = append(all, key)
			}
			i++
			continue
		}
		ast.Inspect(attrs[i], func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if of, ok := call.Fun.(*ast.SelectorExpr); ok && len(call.Args) > 1 {
				if pkg, ok := of.X.(*ast.Ident); ok && pkg.Name == "slog" {
					if key, ok := literal(call.Args[0]); ok {
						all = append(all, key)
					}
				}
			}
			return true
		})
	}
	return all
}

func events(t *testing.T) map[string]*event {
	t.Helper()
	all := map[string]*event{}
	for _, dir := range linked(t) {
		for _, f := range sources(t, dir) {
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				message, level, attrs, ok := logged(call)
				if !ok {
					return true
				}
				e := all[message]
				if e == nil {
					e = new(event)
					all[message] = e
				}
				e.places = append(e.places, strings.TrimPrefix(files.Position(call.Pos()).String(), root+"/"))
				e.level = level
				e.fields = append(e.fields, keys(attrs)...)
				return true
			})
		}
	}
	return all
}

// An entry is what the page says of a message: its own line, and the text behind.
type entry struct{ level, text string }

var (
	item    = regexp.MustCompile(`(?m)^\.It Sy (.*)\n`)
	escapes = strings.NewReplacer(`\&`, "", `\(aq`, "'", `\-`, "-", `"`, "")
)

func entries(t *testing.T) map[string]entry {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]entry{}
	at := item.FindAllStringSubmatchIndex(string(text), -1)
	for i, m := range at {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		if list := strings.Index(string(text[m[1]:end]), "\n.El"); list >= 0 {
			end = m[1] + list
		}
		message, body := escapes.Replace(string(text[m[2]:m[3]])), string(text[m[1]:end])
		if _, twice := all[message]; twice {
			t.Errorf("%s has %q twice", page, message)
		}
		level, _, _ := strings.Cut(body, "\n")
		all[message] = entry{strings.TrimSuffix(level, "."), body}
	}
	return all
}

// TestEvents: the page of the journal has each message that the installed programs may log, with its level, the names of its fields, what it
// means and what to do; and no other.
func TestEvents(t *testing.T) {
	said, told := events(t), entries(t)
	if len(said) < 80 {
		t.Errorf("only %d messages are found", len(said))
	}
	for message, e := range said {
		told, ok := told[message]
		if !ok {
			t.Errorf("%s logs %q (%s, fields %v), of which %s has no entry: add\n.It Sy %s\n%s.\nWhat it means. What to do.", e.places[0], message, e.level, e.fields, filepath.Base(page), message, e.level)
			continue
		}
		if e.level != "" && !slices.Contains(strings.Split(told.level, " or "), e.level) {
			t.Errorf("%s logs %q as %s; %s says %s", e.places[0], message, e.level, filepath.Base(page), told.level)
		}
		for _, key := range e.fields {
			if field := "FDT_" + strings.ToUpper(key); !strings.Contains(told.text, ".Va "+field) {
				t.Errorf("%s logs %q with %s, which its entry in %s does not have", e.places[0], message, field, filepath.Base(page))
			}
		}
		if len(told.text) < 45 {
			t.Errorf("%s says next to nothing of %q: %s", filepath.Base(page), message, told.text)
		}
	}
	for message := range told {
		if said[message] == nil {
			t.Errorf("%s has %q, which nobody logs", filepath.Base(page), message)
		}
	}
}
