package txn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestTroubleIsToldOnce: what fails many times a second is told when it is new, then after pauses that grow to ten
// minutes, with how often it came in between; each cause for itself, whatever transaction it was met with.
func TestTroubleIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		m := &Manager{log: slog.New(slog.NewTextHandler(&said, nil))}
		told := func() int {
			defer said.Reset()
			return strings.Count(said.String(), "failed, it will be tried again")
		}
		down := func(n int) error { return fmt.Errorf("commit %d: dial: %w", n, syscall.ECONNREFUSED) }
		for n := range 5 {
			m.warn(t.Context(), "tell", down(n))
		}
		if text := said.String(); told() != 1 || !strings.Contains(text, "commit 0: dial: connection refused") || !strings.Contains(text, "step=tell") {
			t.Errorf("five failures at once: %q", text)
		}
		m.warn(t.Context(), "tell", errors.Join(fmt.Errorf("%w: %w", ErrUnreachable, errors.New("password authentication failed")), down(6)))
		m.warn(t.Context(), "recover", down(7))
		if n := told(); n != 2 {
			t.Errorf("another cause and another step: told %d times", n)
		}
		begun, pause := time.Now(), troubleFirst
		for told() == 0 {
			time.Sleep(100 * time.Millisecond)
			m.warn(t.Context(), "tell", down(8))
		}
		if d := time.Since(begun); d != pause {
			t.Errorf("told again after %s, want %s", d, pause)
		}
		for begun = time.Now(); time.Since(begun) < 24*time.Hour; {
			last := time.Now()
			for text := ""; text == ""; text = said.String() {
				time.Sleep(10 * time.Second)
				m.warn(t.Context(), "tell", down(9))
			}
			if pause = min(2*pause, troubleMost); time.Since(last) != pause {
				t.Fatalf("told again after %s, want %s", time.Since(last), pause)
			}
			if want := fmt.Sprintf("also_failed_since_told=%d", int(pause/(10*time.Second))-1); !strings.Contains(said.String(), want) {
				t.Fatalf("want %s in %q", want, said.String())
			}
			said.Reset()
		}
		if n := len(m.troubles.steps["tell"]); n != 1 {
			t.Errorf("%d causes are remembered after a day, want the one that lasts", n)
		}
		m.warn(t.Context(), "tell", nil)
		m.warn(t.Context(), "tell", nil)
		if text := said.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "level=INFO") || !strings.Contains(text, "is done") {
			t.Errorf("when it is over: %q", text)
		}
		said.Reset()
		m.warn(t.Context(), "tell", down(10))
		if told() != 1 {
			t.Error("a new outage is not told")
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		m.warn(ended, "other", down(11))
		m.warn(ended, "tell", nil)
		if said.Len() != 0 {
			t.Errorf("called off: %q", said.String())
		}
	})
}
