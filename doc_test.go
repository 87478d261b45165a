package fdt_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"strconv"
	"strings"
	"testing"
)

// parsed are the files of this package, its tests or not.
func parsed(t *testing.T, tests bool) map[string]*ast.File {
	t.Helper()
	pkgs, err := parser.ParseDir(token.NewFileSet(), ".", func(f fs.FileInfo) bool { return strings.HasSuffix(f.Name(), "_test.go") == tests }, 0) //nolint:staticcheck // no build tags here
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*ast.File{}
	for _, pkg := range pkgs {
		for name, f := range pkg.Files {
			files[name] = f
		}
	}
	return files
}

// exported calls see with each thing of the package that its users can name, or reach by one: the types of signatures and fields.
func exported(f *ast.File, see func(what string, typ ast.Node)) {
	fields := func(what string, list *ast.FieldList) {
		for _, field := range list.List {
			if len(field.Names) == 0 || field.Names[0].IsExported() {
				see(what, field.Type)
			}
		}
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && (d.Recv == nil || receiver(d).IsExported()) {
				see(d.Name.Name, d.Type)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					switch typ := s.Type.(type) {
					case *ast.StructType:
						if s.Name.IsExported() {
							fields(s.Name.Name, typ.Fields)
						}
					case *ast.InterfaceType:
						if s.Name.IsExported() {
							fields(s.Name.Name, typ.Methods)
						}
					default:
						if s.Name.IsExported() {
							see(s.Name.Name, typ)
						}
					}
				case *ast.ValueSpec:
					if s.Names[0].IsExported() && s.Type != nil {
						see(s.Names[0].Name, s.Type)
					}
				}
			}
		}
	}
}

func receiver(d *ast.FuncDecl) *ast.Ident {
	typ := d.Recv.List[0].Type
	if p, ok := typ.(*ast.StarExpr); ok {
		typ = p.X
	}
	id, _ := typ.(*ast.Ident)
	return id
}

// TestFace: what users of the package see names no package that they cannot import.
func TestFace(t *testing.T) {
	seen := 0
	for name, f := range parsed(t, false) {
		internal := map[string]bool{}
		for _, i := range f.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(path, "/internal/") {
				internal[path[strings.LastIndexByte(path, '/')+1:]] = true
			}
		}
		exported(f, func(what string, typ ast.Node) {
			seen++
			ast.Inspect(typ, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if id, ok := s.X.(*ast.Ident); ok && internal[id.Name] {
						t.Errorf("%s: %s names %s.%s", name, what, id.Name, s.Sel.Name)
					}
				}
				return true
			})
		})
	}
	if seen < 40 {
		t.Errorf("%d things are seen, of which there are more", seen)
	}
}

// TestExamples: each function of the package, by its own name or by that of the one type that it returns, is in an example.
func TestExamples(t *testing.T) {
	used := map[string]bool{}
	for _, f := range parsed(t, true) {
		for _, d := range f.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(d.Name.Name, "Example") {
				ast.Inspect(d, func(n ast.Node) bool {
					if s, ok := n.(*ast.SelectorExpr); ok {
						if id, ok := s.X.(*ast.Ident); ok && id.Name == "fdt" {
							used[s.Sel.Name] = true
						}
					}
					return true
				})
			}
		}
	}
	for name, f := range parsed(t, false) {
		for _, d := range f.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && d.Recv == nil && d.Name.IsExported() && !used[d.Name.Name] {
				t.Errorf("%s: %s is in no example", name, d.Name.Name)
			}
		}
	}
}
