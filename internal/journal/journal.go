// Package journal is a slog.Handler that writes to systemd's journal in its native protocol, so that each
// attribute is a field to search by. A record that the journal does not take goes to the fallback writer as
// text: none is dropped silently.
//
// The protocol is documented at systemd.io/JOURNAL_NATIVE_PROTOCOL; the fields of every record are
// MESSAGE, PRIORITY, SYSLOG_IDENTIFIER and CODE_*, and one FDT_ field per attribute. MESSAGE names the
// attributes too, since that is all that journalctl shows by default.
package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Socket is where journald listens.
const Socket = "/run/systemd/journal/socket"

// idKey is the attribute that ID makes, and others may give by name; idField is its field.
const (
	idKey   = "message_id"
	idField = "MESSAGE_ID"
)

// prefix of the fields that attributes become.
const prefix = "FDT_"

// maxField is the length of the longest field name that journald takes.
const maxField = 64

// ID marks a record as one of the events of this package's constants, which the message catalog explains:
// journalctl -x.
func ID(id string) slog.Attr { return slog.String(idKey, id) }

// New returns a handler for records from level on. If w is the stream that systemd connected to the
// journal, as $JOURNAL_STREAM says, records go there natively; otherwise they are text on w.
func New(w *os.File, level slog.Leveler) slog.Handler {
	text := slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})
	if !isJournal(w, os.Getenv("JOURNAL_STREAM")) {
		return text
	}
	h, err := open(Socket, w, level)
	if err != nil {
		return text
	}
	return h
}

// isJournal compares w with the device and inode numbers that systemd gave.
func isJournal(w *os.File, stream string) bool {
	var dev, ino uint64
	if _, err := fmt.Sscanf(stream, "%d:%d", &dev, &ino); err != nil {
		return false
	}
	var st unix.Stat_t
	err := unix.Fstat(int(w.Fd()), &st)
	return err == nil && st.Dev == dev && st.Ino == ino
}

// sink is the socket, shared by a handler and those derived from it.
type sink struct {
	fd       int
	addr     unix.SockaddrUnix
	mu       sync.Mutex
	fallback io.Writer
}

// Handler writes records natively. It is safe for concurrent use. Its socket lives as long as the process.
type Handler struct {
	sink   *sink
	level  slog.Leveler
	ident  string
	group  string // prefix of field names, "" or "A_B_"
	fields []field
}

type field struct{ name, value string }

func open(path string, fallback io.Writer, level slog.Leveler) (*Handler, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", os.NewSyscallError("socket", err))
	}
	return &Handler{
		sink:  &sink{fd: fd, addr: unix.SockaddrUnix{Name: path}, fallback: fallback},
		level: level,
		ident: filepath.Base(os.Args[0]),
	}, nil
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *h
	n.fields = slices.Clip(h.fields)
	for _, a := range attrs {
		n.fields = appendAttr(n.fields, h.group, a)
	}
	return &n
}

// WithGroup implements slog.Handler: the name becomes part of the field names.
func (h *Handler) WithGroup(name string) slog.Handler {
	n := *h
	if name != "" {
		n.group += fieldName(name) + "_"
	}
	return &n
}

// Handle implements slog.Handler.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	fields := slices.Clip(h.fields)
	r.Attrs(func(a slog.Attr) bool {
		fields = appendAttr(fields, h.group, a)
		return true
	})
	message := text(r.Message, fields)
	var b bytes.Buffer
	appendField(&b, "MESSAGE", message)
	appendField(&b, "PRIORITY", strconv.Itoa(priority(r.Level)))
	appendField(&b, "SYSLOG_IDENTIFIER", h.ident)
	if r.PC != 0 {
		frame, _ := runtime.CallersFrames([]uintptr{r.PC}).Next()
		appendField(&b, "CODE_FILE", frame.File)
		appendField(&b, "CODE_LINE", strconv.Itoa(frame.Line))
		appendField(&b, "CODE_FUNC", frame.Function)
	}
	for _, f := range fields {
		if f.name == idField {
			appendField(&b, idField, f.value)
		} else {
			appendField(&b, prefix+f.name, f.value)
		}
	}
	err := h.sink.send(b.Bytes())
	if err == nil {
		return nil
	}
	h.sink.mu.Lock()
	defer h.sink.mu.Unlock()
	_, ferr := fmt.Fprintf(h.sink.fallback, "<%d>%s\n", priority(r.Level), message)
	return ferr
}

// appendAttr flattens groups into names.
func appendAttr(fields []field, group string, a slog.Attr) []field {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += fieldName(a.Key) + "_"
		}
		for _, m := range v.Group() {
			fields = appendAttr(fields, group, m)
		}
		return fields
	}
	if a.Key == "" {
		return fields
	}
	if a.Key == idKey {
		return append(fields, field{idField, v.String()})
	}
	return append(fields, field{group + fieldName(a.Key), v.String()})
}

// fieldName keeps to what journald takes: A–Z, 0–9 and _. The prefix that comes before makes sure of the
// first character.
func fieldName(key string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, key)
	return name
}

// text is the message for people: the attributes follow it, but for the id.
func text(message string, fields []field) string {
	var b strings.Builder
	b.WriteString(message)
	sep := ": "
	for _, f := range fields {
		if f.name == idField {
			continue
		}
		value := f.value
		if value == "" || strings.ContainsAny(value, " \t\n\"=") {
			value = strconv.Quote(value)
		}
		b.WriteString(sep + strings.ToLower(f.name) + "=" + value)
		sep = " "
	}
	return b.String()
}

// priority is syslog's, which journald uses.
func priority(l slog.Level) int {
	switch {
	case l > slog.LevelError:
		return 2 // critical
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l > slog.LevelInfo:
		return 5 // notice
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}

// appendField writes one field in the form that its value needs.
func appendField(b *bytes.Buffer, name, value string) {
	name = name[:min(len(name), maxField)]
	b.WriteString(name)
	if !strings.Contains(value, "\n") {
		b.WriteString("=" + value + "\n")
		return
	}
	b.WriteByte('\n')
	b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(value))))
	b.WriteString(value + "\n")
}

// send sends one datagram, or, if that is too long, a sealed memory file with the same content.
func (s *sink) send(data []byte) error {
	for {
		err := unix.Sendto(s.fd, data, unix.MSG_NOSIGNAL, &s.addr)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EMSGSIZE), errors.Is(err, unix.ENOBUFS):
			return s.sendFile(data)
		default:
			return err
		}
	}
}

func (s *sink) sendFile(data []byte) error {
	fd, err := unix.MemfdCreate("journal", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "journal")
	defer f.Close()
	_, err = f.Write(data)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL)
	}
	if err == nil {
		err = unix.Sendmsg(s.fd, nil, unix.UnixRights(int(f.Fd())), &s.addr, unix.MSG_NOSIGNAL)
	}
	return err
}
