package xa

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"
)

// TestClass: a class is found through what is wrapped around it, and takes
// nothing away.
func TestClass(t *testing.T) {
	if Busy.Mark(nil) != nil || ClassOf(nil) != "" || ClassOf(ErrRolledBack) != "" {
		t.Error("there is a class where there is no error, or none is marked")
	}
	err := fmt.Errorf("resource r: %w", Busy.Mark(ErrRolledBack))
	if !errors.Is(err, ErrRolledBack) {
		t.Errorf("got %v", err)
	}
	if got := ClassOf(err); got != Busy || SQLState(err) != "40000" || err.Error() != "resource r: "+ErrRolledBack.Error() {
		t.Errorf("%q of %q, SQLSTATE %s", got, err, SQLState(err))
	}
	if got := ClassOf(NotOurs.Mark(err)); got != NotOurs {
		t.Errorf("the outermost is %q", got)
	}
}

// TestSQLState: an error without a state of its own is told by its cause.
func TestSQLState(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{{fs.ErrClosed, "XX000"}, {&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, "53100"}, {syscall.EDQUOT, "53100"}, {fmt.Errorf("x: %w", ErrFutureXID), "22023"}} {
		if got := SQLState(c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}
