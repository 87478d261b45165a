package procedure

import (
	"context"
	"slices"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/txn"
)

// together finds the rows of steps that may go to their resource together:
// steps with SQL on the same one, of which none needs what another brings, be
// it the value from before.
func together(steps []step) {
	for i := range steps {
		first := &steps[i]
		brought := []string{first.as}
		first.row = 1
		for first.put == nil && i+first.row < len(steps) {
			next := &steps[i+first.row]
			replaced := slices.ContainsFunc(steps[i:i+first.row], func(st step) bool { return st.needs([]string{next.as}) })
			if next.put != nil || next.many || next.on != first.on || next.needs(brought) || replaced {
				break
			}
			brought = append(brought, next.as)
			first.row++
		}
	}
}

// lasts finds the steps behind which there is none on their resource, if there are several resources: one commits in one phase.
func lasts(steps []step) {
	for i := range steps {
		others := slices.ContainsFunc(steps, func(other step) bool { return other.on != steps[i].on && other.when == "" })
		steps[i].last = others && !slices.ContainsFunc(steps[i+1:], func(later step) bool { return later.on == steps[i].on })
	}
}

// needs tells whether the step reads one of the names.
func (st *step) needs(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		return name != "" && (name == st.when || slices.Contains(st.binds, name))
	})
}

// runRow runs a row of steps. With an error it returns which of them failed.
func runRow(ctx context.Context, s *txn.Session, row []step, values map[string]value.Value) (int, error) {
	var due []int
	for i := range row {
		if !row[i].skipped(values) {
			due = append(due, i)
		}
	}
	if len(due) > 1 {
		b, err := s.Branch(ctx, row[0].on)
		if err != nil {
			return due[0], err
		}
		if batcher, ok := b.(Batcher); ok {
			part := s.Working(row[0].on)
			failed, err := runBatch(ctx, batcher, row, due, values)
			part.End(err)
			return failed, err
		}
	}
	for _, i := range due {
		if err := row[i].run(ctx, s, values); err != nil {
			return i, err
		}
	}
	return 0, nil
}

// runBatch runs the steps that are due. A step whose expectation is not met
// has failed though the ones behind it have been run: all are undone.
func runBatch(ctx context.Context, b Batcher, row []step, due []int, values map[string]value.Value) (int, error) {
	list := make([]txn.Statement, len(due))
	for n, i := range due {
		args, err := row[i].args(values)
		if err != nil {
			return i, err
		}
		list[n] = txn.Statement{SQL: row[i].sql, Args: args}
	}
	outs, failure := b.ExecAll(ctx, list)
	for n, out := range outs {
		if err := row[due[n]].take(out, values); err != nil {
			return due[n], err
		}
	}
	if failure != nil {
		return due[len(outs)], failure
	}
	return 0, nil
}
