// Package undumpable keeps a process's memory to itself: other processes of its user can neither trace it nor read or
// write its memory, and it leaves no core, whatever the limits are. Root still can.
package undumpable

import "golang.org/x/sys/unix"

// Set is PR_SET_DUMPABLE 0 of prctl(2). It holds until the process executes another program.
func Set() {
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) // fails for other values only
}
