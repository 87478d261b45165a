package pgwire

import (
	"context"
	"fmt"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/statement"
)

// A cursor is a portal, as in PostgreSQL: DECLARE makes one as Bind does, FETCH may read what Bind has made, and Execute what DECLARE
// has. Its query runs at the first FETCH, or at once if it is to outlive the transaction.

// declare is DECLARE.
func (se *session) declare(ctx context.Context, p *plan, st statement.Declare, params []value.Value) error {
	if !st.Hold && !se.several {
		if err := se.block("DECLARE CURSOR"); err != nil {
			return err
		}
	}
	if _, ok := se.portals.get(st.Name); ok {
		return errorf("42P03", "cursor %q already exists", st.Name)
	}
	if err := se.room(valueCost * len(params)); err != nil {
		return err
	}
	po := &portal{plan: p.cursor, params: params, depth: se.settings.depth(), forward: st.NoScroll, binary: st.Binary, hold: st.Hold, bytes: se.spent}
	se.portals.put(st.Name, po, se.spent)
	if !st.Hold {
		return nil
	}
	return se.runCursor(ctx, st.Name, po)
}

// runCursor runs the query of a cursor, if that was not done yet, and counts the rows that it keeps.
func (se *session) runCursor(ctx context.Context, name string, po *portal) error {
	if po.failed || !po.plan.selects() {
		return errorf("55000", "portal %q cannot be run", name)
	}
	if po.ran {
		return nil
	}
	rows, err := se.selected(ctx, po.plan, po.params, nil)
	if err != nil {
		po.failed = true
		return err
	}
	po.ran, po.result.rows = true, rows
	se.keepRows(name, po)
	return nil
}

// cursor finds the portal of a FETCH or CLOSE.
func (se *session) cursor(name string) (*portal, error) {
	po, ok := se.portals.get(name)
	if !ok {
		return nil, errorf("34000", "cursor %q does not exist", name)
	}
	return po, nil
}

// fetched is FETCH and MOVE.
func (se *session) fetched(ctx context.Context, st statement.Fetch) (result, error) {
	po, err := se.cursor(st.Name)
	if err == nil {
		err = se.runCursor(ctx, st.Name, po)
	}
	if err != nil {
		return result{}, err
	}
	rows, err := po.move(st)
	if err != nil {
		po.failed = true
		return result{}, err
	}
	if st.Move {
		return result{tag: fmt.Sprint("MOVE ", len(rows))}, nil
	}
	return result{fmt.Sprint("FETCH ", len(rows)), rows}, nil
}

// move changes the position of a cursor as PostgreSQL's DoPortalRunFetch does, and returns the rows that this passes and are to be
// seen. Position 0 is before the first row, and one more than there are rows is behind the last.
func (po *portal) move(st statement.Fetch) ([][]value.Value, error) {
	n, count := int64(len(po.result.rows)), st.Count
	at := int64(po.at)
	on := 0 < at && at <= n // it stands on a row: to fetch that again is to go back for a moment
	switch st.From {
	case statement.Absolute:
		if count < 0 { // from the end
			return po.row(n+1+count, true)
		}
		return po.row(count, count <= at && at > 0)
	case statement.Relative:
		return po.row(at+count, count < 0 || count == 0 && on && !st.Move)
	case statement.Backward:
		count = -count
	case statement.Forward:
	}
	switch {
	case count == 0:
		return po.row(at, on && !st.Move)
	case count > 0:
		rows := po.result.rows[min(at, n):]
		if int64(len(rows)) < count {
			po.at = int(n + 1)
			return rows, nil
		}
		po.at = int(at + count)
		return rows[:count], nil
	case po.forward:
		return nil, onlyForward()
	}
	low := max(at-1+count, 0) // how many rows stay in front of those that are passed
	var rows [][]value.Value
	for i := at - 2; i >= low; i-- {
		rows = append(rows, po.result.rows[i])
	}
	po.at = int(max(at+count, 0))
	return rows, nil
}

// row goes to one row, and returns it if there is one.
func (po *portal) row(to int64, back bool) ([][]value.Value, error) {
	if back && po.forward {
		return nil, onlyForward()
	}
	n := int64(len(po.result.rows))
	to = max(0, min(to, n+1))
	po.at = int(to)
	if to == 0 || to > n {
		return nil, nil
	}
	return po.result.rows[to-1 : to], nil
}

func onlyForward() *Failure {
	return errorf("55000", "cursor can only scan forward").hint("Declare it with SCROLL option to enable backward scan.")
}

// closed is CLOSE.
func (se *session) closed(name string) (tag string, err error) {
	if name == "" {
		se.portals.clear()
		return "CLOSE CURSOR ALL", nil
	}
	if _, err := se.cursor(name); err != nil {
		return "", err
	}
	se.ends(name)
	return "CLOSE CURSOR", nil
}

// current is a plan as it is now: a FETCH has the columns of its cursor, whichever that is.
func (se *session) current(p *plan) *plan {
	st, ok := p.stmt.(statement.Fetch)
	if !ok || st.Move {
		return p
	}
	now := &plan{stmt: st}
	if po, ok := se.portals.get(st.Name); ok {
		now.columns = po.plan.columns
		if po.binary {
			now.formats = []int16{1}
		}
	}
	return now
}

// keepHeld ends the portals of a transaction, but for the cursors that outlive its commit.
func (se *session) keepHeld(committed bool) {
	for name, po := range se.portals.named {
		switch {
		case po.it.held:
		case committed && po.it.hold:
			po.it.held, po.it.depth = true, -1
		default:
			se.ends(name)
		}
	}
}
