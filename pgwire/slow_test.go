package pgwire_test

import (
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fdtserver/fdt/config"
)

// TestSlowCalls tells of calls that take as long as is asked for, one line each, with what an operator looks for, and of no others.
func TestSlowCalls(t *testing.T) {
	said := map[time.Duration]*journal{0: {}, time.Nanosecond: {}, time.Hour: {}}
	for slow, j := range said {
		f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) {
			f.wire.SlowCall, f.wire.Logger = slow, slog.New(slog.NewTextHandler(j, nil))
		})
		c := f.connect("alice")
		c.want("CALL enqueue('x')", "C CALL", "Z I")
		c.want("BEGIN; CALL enqueue('y'); COMMIT", "C BEGIN", "C CALL", "C COMMIT", "Z I")
		c.want("CALL enqueue(NULL)", "E ERROR 22004 body is null, which a message cannot hold", "Z I")
	}
	if text := said[0].String() + said[time.Hour].String(); strings.Contains(text, "slow") {
		t.Error(text)
	}
	text := said[time.Nanosecond].String()
	line := regexp.MustCompile(`msg="a call was slow" user=alice listener=\S+ remote=\S+ procedure=enqueue duration=\S+s sqlstate=(\d+) gid=(\S+) message_id=`)
	var states []string
	gids := map[string]bool{}
	for _, m := range line.FindAllStringSubmatch(text, -1) {
		states = append(states, m[1])
		gids[m[2]] = true
	}
	if got := strings.Join(states, " "); got != "00000 00000 22004" || len(gids) != 3 || strings.Count(text, "slow") != 3 {
		t.Errorf("%s\n%s", got, text)
	}
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}
