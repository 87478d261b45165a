package pending

import (
	"errors"
	"testing"
	"time"

	"github.com/fdtserver/fdt/txn/xa"
)

func testGID(incarnation, sequence uint64, role xa.Role) xa.GID {
	return xa.GID{Log: xa.LogID{1}, Incarnation: incarnation, Sequence: sequence, Role: role}
}

// of one resource, a transaction that is to be told.
func (q *Queue) tell(n uint64, resource string) {
	q.Add(&Outcome{GID: testGID(1, n, xa.RoleExternal), Decision: xa.Commit}, []xa.BranchID{{Resource: resource}})
}

// TestPauses: a resource that stays away is asked again for ever, after pauses
// that grow to a few seconds; of failures at the same time one counts. Others
// are not kept waiting.
func TestPauses(t *testing.T) {
	q := NewQueue()
	q.tell(1, "away")
	start, down := time.Unix(1_700_000_000, 0), errors.New("down")
	const away = 10 * time.Minute
	now, asked := start, 0
	for wait := backoffFirst; now.Sub(start) < away; wait = min(2*wait, pauseMost) {
		if names := q.Begin(now); len(names) != 1 || q.Paused("away", now) {
			t.Fatalf("not asked again after %s", now.Sub(start))
		}
		asked++
		o := q.Take("away", now)
		was := q.Fared("away", now, down)
		if first := asked == 1; (was == nil) != first {
			t.Errorf("before it fared: %v", was)
		}
		if open := q.Back(o, now, xa.Unreachable, down); open != 1 {
			t.Errorf("%d to be told", open)
		}
		q.End("away")
		until := q.executors["away"].pause.until
		if pause := until.Sub(now); pause < wait/2 || pause >= wait*3/2 {
			t.Errorf("pause %d is %s, want half to one and a half of %s", asked, pause, wait)
		}
		_ = q.Fared("away", until.Add(-1), down)
		if q.executors["away"].pause.until != until || len(q.Begin(until.Add(-1))) != 0 || q.Take("away", until.Add(-1)) != nil {
			t.Error("the pause is not kept")
		}
		if d, any := q.Wait(now); !any || d != until.Sub(now) {
			t.Errorf("waits for %s, %t, want %s", d, any, until.Sub(now))
		}
		now = until
	}
	if least := int(away / (pauseMost * 3 / 2)); asked < least {
		t.Errorf("asked %d times within %s, want %d at least", asked, away, least)
	}
	_ = q.Fared("away", now, down)
	q.tell(2, "here")
	if d, _ := q.Wait(now); d > backoffFirst || len(q.Begin(now)) != 1 {
		t.Errorf("a resource that is there waits for %s", d)
	}
	failed := &Obligation{Of: q.queue[testGID(1, 1, xa.RoleExternal)], Branch: xa.BranchID{Resource: "away"}, due: now.Add(time.Hour)}
	q.of("away").later(failed)
	if was := q.Fared("away", now, nil); was == nil || q.Paused("away", now) || len(q.Begin(now)) != 2 || !failed.due.Equal(now) {
		t.Errorf("back, it is paused: %+v", q.executors["away"])
	}
	failed.due = now.Add(time.Hour)
	if was := q.Fared("away", now, nil); was != nil || failed.due.Equal(now) {
		t.Error("a branch that fails by itself is asked for as soon as another is told")
	}
}

// TestBranchesInTrouble: branches that cannot be told are asked for again after
// pauses of their own, and take a part of the executor at most: those that can
// are told at once, however many hang.
func TestBranchesInTrouble(t *testing.T) {
	q := NewQueue()
	now, busy := time.Unix(1_700_000_000, 0), errors.New("busy")
	const hang = 10
	for n := range uint64(hang) {
		q.tell(n+1, "r")
	}
	for failed := range hang {
		for n := range q.Begin(now) {
			if n >= Width {
				t.Fatalf("%d calls at once", n+1)
			}
		}
		o := q.Take("r", now)
		if o == nil || o.Of.GID.Sequence != uint64(failed+1) {
			t.Fatalf("%d failed, then %+v", failed, o)
		}
		q.Back(o, now, xa.Busy, busy)
		q.End("r")
	}
	for q.executors["r"].running > 0 {
		q.End("r")
	}
	if !q.Struggles("r") || q.Take("r", now) != nil || q.Paused("r", now) {
		t.Error("what failed is asked for at once, or keeps others away")
	}
	now = now.Add(time.Hour)
	for range q.Begin(now) {
	}
	first, second := q.Take("r", now), q.Take("r", now)
	if first == nil || second == nil || q.Take("r", now) != nil {
		t.Error("what failed may take another part than half")
	}
	q.tell(hang+1, "r")
	q.tell(hang+2, "r")
	for n := range uint64(2) {
		o := q.Take("r", now)
		if o == nil || o.Of.GID.Sequence != hang+1+n {
			t.Fatalf("beside those that hang: %+v", o)
		}
		if open := q.Back(o, now, "", nil); open != 0 {
			t.Errorf("%d to be told", open)
		}
	}
	for _, o := range []*Obligation{first, second} {
		q.Back(o, now, xa.Refused, busy)
		if d := o.due.Sub(now); d < backoffFirst || d > backoffFirst*3 {
			t.Errorf("after two failures %s", d)
		}
	}
	if q.Take("r", now) == nil {
		t.Error("the others that failed are not tried")
	}
	q.Drop(q.queue[testGID(1, hang, xa.RoleExternal)])
	if n := q.Count(); n != hang+1 {
		t.Errorf("%d left", n)
	}
}

// TestOneCallHangs: a call that hangs has taken its own obligation, and keeps out none that comes after it.
func TestOneCallHangs(t *testing.T) {
	for name, failed := range map[string]bool{"fresh": false, "failed before": true} {
		t.Run(name, func(t *testing.T) {
			q := NewQueue()
			now := time.Unix(1_700_000_000, 0)
			take := func() *Obligation {
				t.Helper()
				if names := q.Begin(now); len(names) != 1 || len(q.Begin(now)) != 0 {
					t.Fatalf("%d calls begun for one obligation, and one more", len(names))
				}
				return q.Take("r", now)
			}
			q.tell(1, "r")
			hangs := take()
			if failed {
				q.Back(hangs, now, xa.Busy, errors.New("busy"))
				q.End("r")
				now = hangs.due
				hangs = take()
			}
			if d, any := q.Wait(now); any {
				t.Errorf("waits for %s, with nothing to do", d)
			}
			for n := range uint64(Width - 1) {
				q.tell(n+2, "r")
				if o := take(); o == nil || o.Of.GID.Sequence != n+2 {
					t.Fatalf("beside a call that hangs: %+v", o)
				}
			}
			q.tell(Width+1, "r")
			if names := q.Begin(now); len(names) != 0 {
				t.Errorf("%d calls more than %d", len(names), Width)
			}
			q.Back(hangs, now, "", nil)
			q.End("r")
			if take() == nil {
				t.Error("the end of one call makes no room for another")
			}
		})
	}
}
