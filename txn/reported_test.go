package txn

import (
	"fmt"
	"testing"
	"time"
)

// TestReported: a thing is told once for as long as there is reason to, and what there is none for any more takes no memory.
func TestReported(t *testing.T) {
	var s reported
	now := time.Unix(1_700_000_000, 0)
	for n := range 10_000 {
		now = now.Add(time.Minute)
		if s.once("lasts", now) != (n == 0) {
			t.Fatalf("told again after %d minutes", n)
		}
		if !s.once(fmt.Sprint(n), now) {
			t.Fatalf("%d is not told", n)
		}
	}
	if most := 1 + 2*int(reportedFor/time.Minute); len(s.last) > most {
		t.Errorf("%d are kept, %d at most", len(s.last), most)
	}
	if !s.once("9999", now.Add(2*reportedFor)) {
		t.Error("what is so again is not told")
	}
}
