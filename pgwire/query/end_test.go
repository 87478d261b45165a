package query_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/catalog"
	"github.com/fdtserver/fdt/pgwire/query"
	"github.com/fdtserver/fdt/pgwire/statement"
	"github.com/fdtserver/fdt/procedure"
)

// alone is a session that is the only one.
type alone struct{}

var _ catalog.Session = alone{}

func (alone) User() string                                    { return "alice" }
func (alone) Database() string                                { return "shop" }
func (alone) Allowed(*procedure.Procedure) bool               { return true }
func (alone) Settings() []catalog.Setting                     { return []catalog.Setting{{Name: "a", Value: "b"}} }
func (alone) Prepared(*query.Run) ([]catalog.Prepared, error) { return nil, nil }
func (alone) Statements() []catalog.Statement                 { return nil }

func (alone) Waits() map[int]catalog.Waiting { return nil }
func (alone) Activity() []catalog.Activity {
	null := value.Timestamptz.Null()
	return []catalog.Activity{{PID: 1, User: "alice", Database: "shop", State: "active", Started: null, Transaction: null, Query: null, Changed: null}}
}

var (
	errFull  = errors.New("no more memory")
	errOver  = errors.New("time is over")
	anywhere = 40 // places at which each statement is ended one by one, and then ever fewer
)

// TestEnds ends the planning and the run of every query that is compared with PostgreSQL wherever it asks whether it may go on:
// each ends with that reason, and the plan serves the next run as if nothing had been.
func TestEnds(t *testing.T) {
	text, err := os.ReadFile("../testdata/queries.txt")
	if err != nil {
		t.Fatal(err)
	}
	c := catalog.New(&procedure.Set{})
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "~") {
			continue
		}
		list, err := statement.Parse(line)
		if err != nil {
			continue
		}
		if s, ok := list[0].(*statement.Select); ok {
			ends(t, c, strings.TrimSuffix(line, "\n"), s)
		}
	}
}

// TestReadingEnds is TestEnds for texts that take long to read: constants, and what becomes a text as the query runs.
func TestReadingEnds(t *testing.T) {
	numbers := strings.Repeat("1,", 20_000) + "1"
	text := fmt.Sprintf("SELECT '[%[1]s]'::jsonb, '{%[1]s}'::int[], ('[%[1]s]'::text)::jsonb, ('{%[1]s}'::text)::int[]", numbers)
	list, err := statement.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := list[0].(*statement.Select)
	ends(t, catalog.New(&procedure.Set{}), text[:40], s)
}

func ends(t *testing.T, c *catalog.Catalogue, text string, s *statement.Select) {
	t.Helper()
	plan := func(meter statement.Meter) (*query.Plan, error) {
		return (&query.Planner{Catalogue: c, Meter: meter, NoParams: true}).Query(s)
	}
	if _, err := plan(endless); err != nil {
		for n, over := 0, false; !over; n++ {
			if _, got := plan(upTo(n, &over)); !over && !errors.Is(got, errFull) || over && got.Error() != err.Error() {
				t.Errorf("%s: planning ended at %d: %v", text, n, got)
			}
		}
		return
	}
	var p *query.Plan
	for n, over := 0, false; !over; n++ {
		var err error
		if p, err = plan(upTo(n, &over)); (err == nil) != over || err != nil && !errors.Is(err, errFull) {
			t.Errorf("%s: planning ended at %d: %v", text, n, err)
		}
	}
	over, cancel := context.WithCancelCause(t.Context())
	cancel(errOver)
	run := func(ctx context.Context, took statement.Meter, steps int) ([][]value.Value, error) {
		r := &query.Run{Ctx: ctx, Now: time.Unix(0, 0), Catalogue: c, Host: alone{}, Took: took}
		if steps > 0 {
			r.EndIn(steps)
		}
		return p.Run(r)
	}
	rows, err := run(t.Context(), endless, 0)
	for n, all := 0, false; !all; n += 1 + max(0, n-anywhere)/2 {
		if _, got := run(t.Context(), upTo(n, &all), 0); !all && !errors.Is(got, errFull) {
			t.Errorf("%s: out of memory at %d: %v", text, n, got)
		}
	}
	for n := 1; n <= 1024; n += 1 + max(0, n-anywhere)/2 {
		if _, got := run(over, endless, n); got != nil && !errors.Is(got, errOver) && (err == nil || got.Error() != err.Error()) {
			t.Errorf("%s: ended at %d: %v", text, n, got)
		}
	}
	again, errAgain := run(t.Context(), endless, 0)
	if !reflect.DeepEqual(err, errAgain) || !strings.Contains(text, "clock") && !reflect.DeepEqual(rows, again) {
		t.Errorf("%s: first %v, %v; then %v, %v", text, rows, err, again, errAgain)
	}
}

func endless(int) error { return nil }

// upTo fails at the nth time; over tells that it did not come to that.
func upTo(n int, over *bool) statement.Meter {
	*over = true
	return func(int) error {
		if n--; n < 0 {
			*over = false
			return errFull
		}
		return nil
	}
}
