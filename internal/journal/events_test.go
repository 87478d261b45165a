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

// logged is what a call logs; message is nil if it logs nothing.
func logged(call *ast.CallExpr) (message ast.Expr, level string, attrs []ast.Expr) {
	method, is := call.Fun.(*ast.SelectorExpr)
	if !is {
		return nil, "", nil
	}
	at, name := 0, method.Sel.Name
	short := strings.TrimSuffix(name, "Context")
	switch {
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
		return nil, "", nil
	}
	if len(call.Args) <= at {
		return nil, "", nil
	}
	return call.Args[at], level, call.Args[at+1:]
}

// texts are what an expression may be: a text, or all that a function gives the variable.
func texts(e ast.Expr, in *ast.FuncDecl) (all []string) {
	if text, ok := literal(e); ok {
		return []string{text}
	}
	name, ok := e.(*ast.Ident)
	if !ok {
		return nil
	}
	ast.Inspect(in, func(n ast.Node) bool {
		if set, ok := n.(*ast.AssignStmt); ok && len(set.Lhs) == len(set.Rhs) {
			for i, to := range set.Lhs {
				if to, ok := to.(*ast.Ident); ok && to.Name == name.Name {
					if text, ok := literal(set.Rhs[i]); ok {
						all = append(all, text)
					}
				}
			}
		}
		return true
	})
	return all
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
	see := func(call *ast.CallExpr, in *ast.FuncDecl) {
		message, level, attrs := logged(call)
		if message == nil {
			return
		}
		place := strings.TrimPrefix(files.Position(call.Pos()).String(), root+"/")
		found := texts(message, in)
		if method, ok := call.Fun.(*ast.SelectorExpr); ok && len(found) == 0 && method.Sel.Name != "Error" && method.Sel.Name != "Log" {
			t.Errorf("%s: a message that is no text in this function, so that nobody can tell whether %s has it", place, filepath.Base(page))
		}
		for _, text := range found {
			e := all[text]
			if e == nil {
				e = new(event)
				all[text] = e
			}
			e.places, e.level = append(e.places, place), level
			e.fields = append(e.fields, keys(attrs)...)
		}
	}
	for _, dir := range linked(t) {
		for _, f := range sources(t, dir) {
			for _, d := range f.Decls {
				if in, ok := d.(*ast.FuncDecl); ok {
					ast.Inspect(in, func(n ast.Node) bool {
						if call, ok := n.(*ast.CallExpr); ok {
							see(call, in)
						}
						return true
					})
				}
			}
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
