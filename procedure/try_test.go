package procedure_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/procedure"
)

func (b bankBranch) Try(_ context.Context, sql string) error {
	b.r.got = append(b.r.got, sql)
	return b.r.err
}

// Each resource is asked for its own statements, up to one that may define what those behind it need.
func TestTry(t *testing.T) {
	b := setup(t)
	on := bankBranch{branch{b.mary}}
	if err := b.set.Try(t.Context(), "bank_b", on); err != nil {
		t.Error(err)
	}
	if want := []string{"UPDATE a SET b = b + ? WHERE id = ? AND ? > 0"}; !slices.Equal(b.mary.got, want) {
		t.Errorf("asked %q, want %q", b.mary.got, want)
	}
	b.mary.err = errors.New("no such table")
	if err := b.set.Try(t.Context(), "bank_b", on); !errors.Is(err, b.mary.err) || !strings.Contains(err.Error(), "step 2 of procedure transfer, on bank_b") {
		t.Errorf("with a fault: %v", err)
	}
	if err := b.set.Try(t.Context(), "outbox", branch{b.bank}); err != nil || b.bank.got != nil {
		t.Errorf("a branch that cannot tell: %v, %q", err, b.bank.got)
	}

	set, err := procedure.Compile(&config.Config{
		Resources: map[string]config.Resource{"bank_a": {Name: "bank_a", Type: config.TypePostgres}},
		Procedures: map[string]config.Procedure{"p": {Name: "p", Steps: []config.Step{
			{On: "bank_a", SQL: "Select 1"}, {On: "bank_a", SQL: "CREATE TEMP TABLE t ()"}, {On: "bank_a", SQL: "SELECT FROM t"},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Try(t.Context(), "bank_a", bankBranch{branch{b.bank}}); err != nil || !slices.Equal(b.bank.got, []string{"Select 1", "CREATE TEMP TABLE t ()"}) {
		t.Errorf("%v, asked %q", err, b.bank.got)
	}
}

type onePhase struct{ error }

func (onePhase) OnePhase() {}

// A statement that cannot be prepared is no fault of a procedure whose transaction needs no second phase.
func TestTryOnePhase(t *testing.T) {
	b := setup(t)
	for other, fault := range map[string]bool{"bank_a": false, "outbox": true} {
		set, err := procedure.Compile(&config.Config{
			Resources: map[string]config.Resource{"bank_a": {Name: "bank_a", Type: config.TypePostgres}, "outbox": {Name: "outbox", Type: config.TypeSpool}},
			Procedures: map[string]config.Procedure{"p": {Name: "p", Steps: []config.Step{
				{On: "bank_a", SQL: "NOTIFY x"}, {On: other, SQL: "SELECT 1", Put: "x"},
			}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		b.bank.err = onePhase{errors.New("not in two phases")}
		if err := set.Try(t.Context(), "bank_a", bankBranch{branch{b.bank}}); (err != nil) != fault {
			t.Errorf("with a step on %s: %v", other, err)
		}
	}
}
