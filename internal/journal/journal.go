// Package journal is a slog.Handler that writes to systemd's journal in its native protocol, so that each
// attribute is a field to search by. No log call waits: what the journal does not take at once is kept for it, up
// to a limit, and beyond that dropped and counted, and the count is logged as soon as the journal takes it.
//
// The protocol is documented at systemd.io/JOURNAL_NATIVE_PROTOCOL; the fields of every record are
// MESSAGE, PRIORITY, SYSLOG_IDENTIFIER and CODE_*, and one FDT_ field per attribute. MESSAGE names the
// attributes too, since that is all that journalctl shows by default. Values come from anybody: they are made
// printable here, and cut.
package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/printable"
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

// Bytes of an attribute's value that are kept, of an error, and of all of one MESSAGE. A record stays below maxRecord: attributes
// that no longer fit are in MESSAGE alone.
const (
	maxValue   = 512
	maxError   = 4 << 10
	maxMessage = 8 << 10
	maxRecord  = 20 << 10
)

// ID marks a record as one of the events of this package's constants, which the message catalog explains:
// journalctl -x.
func ID(id string) slog.Attr { return slog.String(idKey, id) }

// New returns a handler for records from level on. If w is attached to the journal, records go there natively;
// otherwise they are text on w.
func New(w *os.File, level slog.Leveler) slog.Handler {
	if Attached(w) {
		if h, err := open(Socket, w, level); err == nil {
			return h
		}
	}
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})
}

// About has what root logs by h shown by journalctl -u UNIT whatever happens: journald finds the unit of a process out by looking at it, and
// one that ends at once after its last words may have gone by then (systemd.journal-fields(7), OBJECT_SYSTEMD_UNIT). By $INVOCATION_ID of
// systemd.exec(5) journalctl --invocation finds it likewise.
func About(h slog.Handler, unit string) slog.Handler {
	native, ok := h.(*Handler)
	if !ok {
		return h
	}
	about := *native
	about.unit = unit
	return &about
}

// Attached reports whether w, a standard stream of this process, is one that systemd connected to the journal; or
// would have, had journald been there: it gives /dev/null then, for the whole life of the process.
func Attached(w *os.File) bool {
	var st unix.Stat_t
	if err := unix.Fstat(int(w.Fd()), &st); err != nil {
		return false
	}
	stream, connected := os.LookupEnv("JOURNAL_STREAM")
	if !connected {
		const null = 1<<8 | 3 // /dev/null's number, null(4)
		return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == null && os.Getenv("INVOCATION_ID") != ""
	}
	var dev, ino uint64
	_, err := fmt.Sscanf(stream, "%d:%d", &dev, &ino)
	return err == nil && st.Dev == dev && st.Ino == ino
}

// Handler writes records natively. It is safe for concurrent use. Its socket lives as long as the process.
type Handler struct {
	sink   *sink
	level  slog.Leveler
	ident  string
	unit   string // see About; empty: journald finds out
	group  string // prefix of field names, "" or "A_B_"
	fields []field
}

// field is one attribute; its value is cut, and not yet printable.
type field struct{ name, value string }

func open(path string, stream *os.File, level slog.Leveler) (*Handler, error) {
	s, err := newSink(path, int(stream.Fd()))
	if err != nil {
		return nil, err
	}
	h := &Handler{sink: s, level: level, ident: filepath.Base(os.Args[0])}
	s.note = func(dropped int) []byte {
		r := slog.Record{Message: "the journal did not take everything: lines were dropped", Level: slog.LevelWarn}
		r.AddAttrs(slog.Int("count", dropped), ID(LinesDropped))
		_, data := h.record(r)
		return data
	}
	return h, nil
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

// Handle implements slog.Handler. It neither waits nor fails.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	h.sink.write(h.record(r))
	return nil
}

// record is r as a line for people, and in the native form.
func (h *Handler) record(r slog.Record) (line string, data []byte) {
	fields := slices.Clip(h.fields)
	r.Attrs(func(a slog.Attr) bool {
		fields = appendAttr(fields, h.group, a)
		return true
	})
	message := printable.Cut(text(r.Message, fields), maxMessage)
	var b bytes.Buffer
	appendField(&b, "MESSAGE", message)
	appendField(&b, "PRIORITY", strconv.Itoa(priority(r.Level)))
	appendField(&b, "SYSLOG_IDENTIFIER", h.ident)
	if h.unit != "" {
		appendField(&b, "OBJECT_SYSTEMD_UNIT", h.unit)
		appendField(&b, "OBJECT_SYSTEMD_INVOCATION_ID", os.Getenv("INVOCATION_ID"))
	}
	if r.PC != 0 {
		frame, _ := runtime.CallersFrames([]uintptr{r.PC}).Next()
		appendField(&b, "CODE_FILE", frame.File)
		appendField(&b, "CODE_LINE", strconv.Itoa(frame.Line))
		appendField(&b, "CODE_FUNC", frame.Function)
	}
	for _, f := range fields {
		name, value := prefix+f.name, printable.Text(f.value)
		if f.name == idField {
			name = idField
		}
		if b.Len()+len(name)+len(value) < maxRecord {
			appendField(&b, name, value)
		}
	}
	return fmt.Sprintf("<%d>%s\n", priority(r.Level), message), b.Bytes()
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
	limit := maxValue
	if _, is := v.Any().(error); is {
		limit = maxError
	}
	return append(fields, field{group + fieldName(a.Key), printable.Cut(v.String(), limit)})
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
	b.WriteString(printable.Line(message))
	sep := ": "
	for _, f := range fields {
		if f.name == idField {
			continue
		}
		value := f.value
		if value == "" || strings.ContainsAny(value, " \"=\\") || printable.Line(value) != value {
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
