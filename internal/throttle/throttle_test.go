package throttle

import (
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestThrottle shows that a flood of lines is cut to one in a while, with the number of those left out, and that rare ones
// are all there.
func TestThrottle(t *testing.T) {
	var th Throttle
	now := time.Unix(1e9, 0)
	count := func(lines int, pause time.Duration) (logged, left int) {
		for range lines {
			n, ok := th.Due(now)
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

// TestRate: so many lines a second as are asked for.
func TestRate(t *testing.T) {
	th := Throttle{Rate: 10}
	now := time.Unix(1e9, 0)
	logged, left := 0, 0
	for range 3000 { // in three seconds
		n, ok := th.Due(now)
		if ok {
			logged++
		}
		left += n
		now = now.Add(time.Millisecond)
	}
	if logged != 10+30-1 || left < 2800 {
		t.Errorf("%d logged, %d left out", logged, left)
	}
}

// TestSparing: what is left out of a flood is counted in the next line.
func TestSparing(t *testing.T) {
	var text strings.Builder
	log := slog.New(slog.NewTextHandler(&text, nil))
	var th Throttle
	for range flood + 3 {
		th.Sparing(log).Info("refused")
	}
	if n := strings.Count(text.String(), "msg=refused"); n < flood || strings.Contains(text.String(), LeftOut) {
		t.Errorf("%d lines:\n%s", n, text.String())
	}
	th.full = time.Time{} // long after
	th.Sparing(log).Info("again")
	if !strings.Contains(text.String(), "msg=again left_out=") {
		t.Error(text.String())
	}
}
