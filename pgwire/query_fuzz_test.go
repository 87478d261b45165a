package pgwire

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/query"
	"github.com/fdtserver/fdt/pgwire/statement"
	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
)

// FuzzQuery plans and runs queries. Each ends within its memory and its work, with rows of the types that were planned, or with an
// error that has an SQLSTATE.
func FuzzQuery(f *testing.F) {
	text, err := os.ReadFile("testdata/queries.txt")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f.Add(strings.TrimSuffix(line, "\n"))
	}
	server := &Server{Procedures: &procedure.Set{}, MaxMemory: 4 << 20}
	server.init()
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) { // sessions refuse it
			return
		}
		list, err := statement.Parse(text)
		if err != nil {
			return
		}
		for _, st := range list {
			s, ok := st.(*statement.Select)
			if !ok || strings.Contains(strings.ToLower(text), "xact") || strings.Contains(strings.ToLower(text), "setting") {
				continue
			}
			se := &session{server: server, user: "fuzz", database: "fuzz", ctx: t.Context(), share: share{of: &server.memory}}
			se.settings.startup = values{}
			ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, errTimedOut)
			fuzzed(t, se, ctx, text, s)
			cancel()
		}
	})
}

func fuzzed(t *testing.T, se *session, ctx context.Context, text string, s *statement.Select) {
	p, err := prepare(se.planner(text, se.meter(ctx)), s, nil)
	if err == nil && p.query == nil {
		return
	}
	var rows [][]value.Value
	if err == nil {
		params := make([]value.Value, len(p.params))
		for i, typ := range p.params {
			params[i] = typ.Null()
		}
		rows, err = se.query(ctx, p, params)
	}
	if err != nil {
		q, isQuery := errors.AsType[*query.Error](err)
		if code := txn.SQLState(err); len(code) != 5 || code == "XX000" && !isQuery && !isValue(err) {
			t.Errorf("%q: %v has no SQLSTATE: %q, %v", text, err, code, q)
		}
		return
	}
	for _, row := range rows {
		if len(row) != len(p.columns) {
			t.Fatalf("%q: %d columns, %d planned", text, len(row), len(p.columns))
		}
		for i, v := range row {
			if !v.Null && v.Type != p.columns[i].typ {
				t.Fatalf("%q: column %d is %s, planned as %s", text, i+1, v.Type, p.columns[i].typ)
			}
		}
		for _, format := range []int16{0, 1} {
			se.dataRow(row, []int16{format})
		}
	}
}

func isValue(err error) bool {
	_, ok := errors.AsType[*value.Error](err)
	return ok
}
