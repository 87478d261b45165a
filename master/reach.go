package master

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/config"
)

// reached is what is known of one listener's socket, as of a look.
type reached struct {
	looked time.Time
	open   bool
	since  moment      // when systemd opened it, or closed it
	file   fs.FileInfo // of a unix socket, as it was when first seen open; nil: unknown
	lost   bool        // its path does not lead to it any more
}

// lookAgain is how old may be what is known of a socket that seems to be as it was.
const lookAgain = time.Second

// reach finds out whether clients reach a socket that systemd holds: when it was opened, and whether the file of a unix
// socket is still the one that it then was. It continues what an earlier look saw.
//
// The unit's state does not tell: one that was stopped and started between two looks is as active as ever, while
// workers accept on the socket that is closed, and nothing at all notices that a file was removed.
func (m *Master) reach(u found, r reached) (reached, error) {
	now, open := time.Now(), u.Active == "active"
	if open == r.open && now.Sub(r.looked) < lookAgain {
		return r, nil
	}
	property := "ActiveExitTimestampMonotonic"
	if open {
		property = "ActiveEnterTimestampMonotonic"
	}
	since, err := m.sd.moment(u.Path, unitInterface, property)
	if err != nil {
		return r, unlessGone(err)
	}
	switch {
	case since != 0:
	case open == r.open && r.since != 0:
		since = r.since
	default:
		since = monotonic() // not in this unit's life: for this master, from now on
	}
	if since != r.since || !open {
		r.file = nil
	}
	file, gone := m.file(u.Name)
	if r.file == nil {
		r.file = file
	}
	r.lost = open && (gone || file != nil && !os.SameFile(file, r.file))
	r.looked, r.open, r.since = now, open, since
	return r, nil
}

// sandbox is that of fdt.service: what the master sees in a directory of which it has its own says nothing.
var sandbox = config.Sandbox{PrivateTmp: true, ProtectHome: true}

// file returns what is at a unix socket's path, nil if that is not known, and whether it is certain that no socket is.
func (m *Master) file(socket string) (file fs.FileInfo, gone bool) {
	path := ""
	for _, t := range []*target{m.applied, m.pending} {
		if t != nil && t.paths[socket] != "" {
			path = t.paths[socket]
		}
	}
	if path == "" || sandbox.Hidden(path) != "" {
		return nil, false
	}
	file, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, true
	case err != nil:
		return nil, false // it may be there for all that this process may see
	case file.Mode().Type() != fs.ModeSocket:
		return nil, true
	}
	return file, false
}

// monotonic is the present moment.
func monotonic() moment {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // cannot fail: the clock exists
	return moment(t.Nano() / int64(time.Microsecond))
}
