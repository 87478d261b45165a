// Package testwait is how tests wait: until what must happen has happened. No test fails because a machine is slow, and none waits for ever.
package testwait

import (
	"testing"
	"time"
)

// Patience is how long a test waits for what must happen; nothing asserts that it is short. It leaves a test that fails most of
// go test's ten minutes, in which its clean-up can end what it started.
const Patience = 2 * time.Minute

// For receives, or ends the test.
func For[T any](tb testing.TB, what string, c <-chan T) T {
	tb.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(Patience):
		tb.Fatalf("did not happen: %s", what)
		panic("unreachable")
	}
}

// Until waits for a state that nothing announces, or ends the test. It looks more and more seldom, at last ten times a second.
func Until(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	end := time.Now().Add(Patience)
	for pause := time.Millisecond; !is(); pause = min(2*pause, 100*time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("not seen: %s", what)
		}
		time.Sleep(pause)
	}
}
