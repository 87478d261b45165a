package procedure_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
)

// batchBranch is a branch that takes several statements at once.
type batchBranch struct{ bankBranch }

func (b batchBranch) ExecAll(ctx context.Context, list []txn.Statement) (outs []txn.Outcome, err error) {
	b.r.got = append(b.r.got, fmt.Sprint(len(list), " at once"))
	for _, s := range list {
		if s.SQL == "fail" {
			return outs, errors.New("it fails")
		}
		out, err := b.Exec(ctx, s.SQL, s.Args)
		if err != nil {
			return outs, err
		}
		outs = append(outs, out)
	}
	return outs, nil
}

// batcher is a recorder whose branches are batchBranches.
type batcher struct{ *recorder }

func (r batcher) Enlist(context.Context, txn.BranchOptions) (txn.Branch, error) {
	return batchBranch{bankBranch{branch{r.recorder}}}, nil
}

// TestRow shows which steps go to their resource together, and what comes of their outcomes.
func TestRow(t *testing.T) {
	one, dir := 1, t.TempDir()
	step := func(sql string) config.Step { return config.Step{On: "p", SQL: sql} }
	as := func(sql, as string) config.Step { return config.Step{On: "p", SQL: sql, As: as} }
	when := func(sql, when, as string) config.Step { return config.Step{On: "p", SQL: sql, When: when, As: as} }
	expecting := func(sql string) config.Step { return config.Step{On: "p", SQL: sql, Rows: &one, Else: "not one"} }
	for name, c := range map[string]struct {
		steps []config.Step
		got   string
		want  string // the error
	}{
		"independent":  {[]config.Step{step("a"), expecting("b"), as("c :n", "x")}, "3 at once,a [],b [],c $1 [5]", ""},
		"dependent":    {[]config.Step{as("a", "x"), step("b :x"), step("c")}, "a [],2 at once,b $1 [1],c []", ""},
		"conditional":  {[]config.Step{as("a", "x"), when("b", "x", ""), step("c")}, "a [],2 at once,b [],c []", ""},
		"skipped":      {[]config.Step{step("a"), when("b", "no", "x"), step("c")}, "2 at once,a [],c []", ""},
		"all but one":  {[]config.Step{step("a"), when("b", "no", "")}, "a []", ""},
		"all skipped":  {[]config.Step{when("a", "no", ""), when("b", "no", "")}, "", ""},
		"replaced":     {[]config.Step{as("a", "x"), step("b :x"), when("c", "no", "x")}, "a [],b $1 [1]", ""},
		"elsewhere":    {[]config.Step{step("a"), {On: "q", SQL: "b"}, step("c")}, "a [],b [],c []", ""},
		"unexpected":   {[]config.Step{expecting("none"), step("fail")}, "2 at once,none []", "not one"},
		"failed":       {[]config.Step{step("a"), step("fail"), step("c")}, "3 at once,a []", "step 2 of procedure p, on p: it fails"},
		"unknown":      {[]config.Step{{On: "gone", SQL: "a"}, {On: "gone", SQL: "b"}}, "", `no such resource: "gone"`},
		"no batches":   {[]config.Step{{On: "q", SQL: "a"}, {On: "q", SQL: "b"}}, "a [],b []", ""},
		"unexpected 1": {[]config.Step{step("a"), expecting("none"), step("c")}, "3 at once", "not one"},
	} {
		t.Run(name, func(t *testing.T) {
			rec := &recorder{name: "p"}
			other := &recorder{name: "bank_q"}
			set, err := procedure.Compile(&config.Config{
				Resources: map[string]config.Resource{"p": {Type: config.TypePostgres}, "q": {Type: config.TypePostgres}, "gone": {Type: config.TypePostgres}},
				Procedures: map[string]config.Procedure{"p": {
					Parameters: []config.Parameter{{Name: "n", Type: "bigint"}, {Name: "no", Type: "boolean"}}, Steps: c.steps,
				}},
			})
			if err != nil {
				t.Fatal(err)
			}
			for range c.steps {
				rec.next = append(rec.next, first("1"))
			}
			if i := slices.IndexFunc(c.steps, func(st config.Step) bool { return st.SQL == "none" }); i >= 0 {
				rec.next[i] = txn.Outcome{}
			}
			m, err := txn.Open(t.Context(), txn.Options{LogDir: t.TempDir(), ClaimDir: dir, MachineID: "m",
				Resources: []txn.Resource{batcher{rec}, plainQ{other, rec}}})
			if err != nil {
				t.Fatal(err)
			}
			b := &bench{set: set, session: m.NewSession(txn.Principal{User: "alice"})}
			_, err = b.call(t, "p", plain("5"), plain("false"))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasSuffix(err.Error(), c.want)) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if got := strings.NewReplacer("[]interface {}{", "[", "}", "]", `"`, "").Replace(strings.Join(rec.got, ",")); !strings.HasPrefix(got, c.got) || c.want == "" && got != c.got {
				t.Errorf("asked %s, want %s", got, c.got)
			}
			if err := errors.Join(b.session.Close(t.Context()), m.Close(t.Context())); err != nil {
				t.Error(err)
			}
		})
	}
}

// plainQ is the resource q, which takes no batches and writes into p's record.
type plainQ struct {
	*recorder
	into *recorder
}

func (r plainQ) Name() string { return "q" }

func (r plainQ) Enlist(context.Context, txn.BranchOptions) (txn.Branch, error) {
	return bankBranch{branch{r.into}}, nil
}

// What MariaDB has no value for is refused before any of the statements is sent that go together.
func TestUnfitRow(t *testing.T) {
	rec := &recorder{name: "p"}
	set, err := procedure.Compile(&config.Config{
		Resources: map[string]config.Resource{"p": {Type: config.TypeMariaDB}},
		Procedures: map[string]config.Procedure{"p": {
			Parameters: []config.Parameter{{Name: "n", Type: "numeric"}}, Steps: []config.Step{{On: "p", SQL: "a"}, {On: "p", SQL: "b :n"}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := txn.Open(t.Context(), txn.Options{LogDir: t.TempDir(), ClaimDir: t.TempDir(), MachineID: "m", Resources: []txn.Resource{batcher{rec}}})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{set: set, session: m.NewSession(txn.Principal{User: "alice"})}
	_, err = b.call(t, "p", plain("NaN"))
	fails(t, err, "22003", "n is NaN, which MariaDB has no numeric for", "Step 2 of procedure p, on p.")
	if len(rec.got) != 0 {
		t.Errorf("asked %q", rec.got)
	}
	if err := errors.Join(b.session.Close(t.Context()), m.Close(t.Context())); err != nil {
		t.Error(err)
	}
}
