package pgwire

import (
	"testing"
	"time"
)

// TestThrottle shows that a flood of lines is cut to one in a while, with the number of those left out, and that rare ones
// are all there.
func TestThrottle(t *testing.T) {
	var th throttle
	now := time.Unix(1e9, 0)
	count := func(lines int, pause time.Duration) (logged, left int) {
		for range lines {
			n, ok := th.due(now)
			if ok {
				logged++
			}
			left += n
			now = now.Add(pause)
		}
		return logged, left
	}
	if logged, left := count(500, ebbing); logged != 500 || left != 0 {
		t.Errorf("rare: %d logged, %d left out", logged, left)
	}
	now = now.Add(time.Hour)
	if logged, left := count(100_000, 0); logged != flood || left != 0 {
		t.Errorf("at once: %d logged, %d left out", logged, left)
	}
	now = now.Add(ebbing)
	if logged, left := count(1000, 0); logged != 1 || left != 100_000-flood {
		t.Errorf("a moment later: %d logged, %d left out", logged, left)
	}
	now = now.Add(time.Hour)
	if logged, _ := count(flood, 0); logged != flood {
		t.Errorf("after an hour: %d logged", logged)
	}
}
