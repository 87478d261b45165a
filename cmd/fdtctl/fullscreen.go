package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// What a terminal is told, by ECMA-48 and, where that has nothing, as xterm and all that came after it.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l" // the other screen, no cursor, no line goes on in the next
	leaveScreen = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	homeCursor  = "\x1b[H"
	eraseLine   = "\x1b[K" // from the cursor on
	eraseBelow  = "\x1b[J"
)

// keysWithin is how long a wait for keys goes on after its end was asked for, in milliseconds.
const keysWithin = 100

// errTerminalGone is a terminal that was closed.
var errTerminalGone = errors.New("the terminal is gone")

// fullScreen is a terminal that a command has for itself until leave. Signals by ^C and ^\ work as ever, suspending does not.
type fullScreen struct {
	in, out *os.File
	before  unix.Termios
}

// takeScreen takes a terminal, of which in is read and out is written.
func takeScreen(in, out *os.File) (*fullScreen, error) {
	before, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
	if err != nil {
		return nil, os.NewSyscallError("tcgetattr", err)
	}
	s := &fullScreen{in: in, out: out, before: *before}
	raw := *before
	raw.Iflag &^= unix.IXON // ^S would hold up the end, too
	raw.Lflag &^= unix.ICANON | unix.ECHO
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	raw.Cc[unix.VSUSP] = 0 // _POSIX_VDISABLE: the shell would get the terminal as it is now
	err = os.NewSyscallError("tcsetattr", unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, &raw))
	if err == nil {
		_, err = out.WriteString(enterScreen)
	}
	if err != nil {
		s.leave()
		return nil, err
	}
	return s, nil
}

// leave gives the terminal back as it was.
func (s *fullScreen) leave() {
	_, _ = s.out.WriteString(leaveScreen) // a terminal that is gone needs neither
	_ = unix.IoctlSetTermios(int(s.in.Fd()), unix.TCSETS, &s.before)
}

// size is the terminal's; the usual one if it does not know.
func (s *fullScreen) size() (columns, lines int) {
	size, err := unix.IoctlGetWinsize(int(s.out.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 || size.Row == 0 {
		return plainWidth, 24
	}
	return int(size.Col), int(size.Row)
}

// draw shows a text in place of what is there; it has no more lines than the screen, each no longer than that is wide.
func (s *fullScreen) draw(text string) error {
	// Each line is erased before it is written: after a full one the cursor is still on its last character.
	lines := strings.Split(text, "\n")
	last := len(lines) - 1
	lines[last] = eraseBelow + lines[last]
	if _, err := s.out.WriteString(homeCursor + eraseLine + strings.Join(lines, "\n"+eraseLine)); err != nil {
		return fmt.Errorf("%w: %w", errTerminalGone, err)
	}
	return nil
}

// keys passes on what is typed, as it is read, until the context ends. It ends it if the terminal is gone.
func (s *fullScreen) keys(ctx context.Context, typed chan<- string, end context.CancelCauseFunc) {
	fd := int(s.in.Fd())
	buffer := make([]byte, 64)
	for ctx.Err() == nil {
		wait := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} //nolint:gosec // descriptors are small
		if n, _ := unix.Poll(wait, keysWithin); n <= 0 {
			continue // nothing yet, or a signal came
		}
		n, err := unix.Read(fd, buffer)
		if n <= 0 {
			end(errors.Join(errTerminalGone, err))
			return
		}
		select {
		case typed <- string(buffer[:n]):
		case <-ctx.Done():
		}
	}
}
