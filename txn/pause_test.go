package txn

import (
	"errors"
	"testing"
	"time"
)

// TestPauses: a resource that stays away is asked again for ever, after pauses
// that grow to half a minute; of failures at the same time one counts. Others
// are not kept waiting.
func TestPauses(t *testing.T) {
	var l leftovers
	l.init()
	l.add(&leftover{gid: gidOf(1, 1, RoleExternal), decision: Commit, branches: []BranchID{{Resource: "away"}}})
	start, down := time.Unix(1_700_000_000, 0), errors.New("down")
	const away = 10 * time.Minute
	now, asked := start, 0
	for wait := backoffFirst; now.Sub(start) < away; wait = min(2*wait, backoffMost) {
		if len(l.due(now)) != 1 || l.paused("away", now) {
			t.Fatalf("not asked again after %s", now.Sub(start))
		}
		asked++
		was := l.fared("away", now, down)
		if first := asked == 1; (was == nil) != first {
			t.Errorf("before it fared: %v", was)
		}
		until := l.pause["away"].until
		if pause := until.Sub(now); pause < wait/2 || pause >= wait*3/2 {
			t.Errorf("pause %d is %s, want half to one and a half of %s", asked, pause, wait)
		}
		_ = l.fared("away", until.Add(-1), down)
		if l.pause["away"].until != until || len(l.due(until.Add(-1))) != 0 {
			t.Error("the pause is not kept")
		}
		if d, any := l.wait(now); !any || d != until.Sub(now) {
			t.Errorf("waits for %s, %t, want %s", d, any, until.Sub(now))
		}
		now = until
	}
	if least := int(away / (backoffMost * 3 / 2)); asked < least {
		t.Errorf("asked %d times within %s, want %d at least", asked, away, least)
	}
	l.add(&leftover{gid: gidOf(1, 2, RoleExternal), decision: Commit, branches: []BranchID{{Resource: "here"}}})
	_ = l.fared("away", now, down)
	if d, _ := l.wait(now); d > backoffFirst || len(l.due(now)) != 1 {
		t.Errorf("a resource that is there waits for %s", d)
	}
	here := l.queue[gidOf(1, 2, RoleExternal)]
	l.later(here, time.Hour)
	if d, _ := l.wait(time.Now()); d > backoffMost*3/2 || len(l.due(time.Now())) != 1 {
		t.Errorf("what is put off is due: waits for %s", d)
	}
	here.notYet = time.Time{}
	if was := l.fared("away", now, nil); was == nil || l.paused("away", now) || len(l.due(now)) != 2 {
		t.Errorf("back, it is paused: %v", l.pause)
	}
}
