package undumpable

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestSet(t *testing.T) {
	Set()
	got, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil || got != 0 {
		t.Errorf("dumpable is %d, %v", got, err)
	}
}
