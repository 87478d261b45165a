package settle

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// notes prints what the library has to report for the person at the terminal: plain text, the cause last. Times, levels and the
// journal's own fields are for the journal, which gets all of it.
type notes struct {
	out    io.Writer
	before []slog.Attr
}

// Enabled leaves out what is no trouble.
func (n notes) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

// Handle prints one line.
func (n notes) Handle(_ context.Context, r slog.Record) error {
	var about []string
	cause := ""
	take := func(a slog.Attr) bool {
		switch a.Key {
		case "error":
			cause = ": " + strings.ReplaceAll(a.Value.String(), "\n", "; ")
		case "message_id", "also_failed_since_told":
		default:
			if text := a.Value.String(); text != "" {
				about = append(about, a.Key+" "+text)
			}
		}
		return true
	}
	for _, a := range n.before {
		take(a)
	}
	r.Attrs(take)
	details := ""
	if len(about) > 0 {
		details = " (" + strings.Join(about, ", ") + ")"
	}
	_, err := fmt.Fprintf(n.out, "fdtctl: %s%s%s\n", r.Message, details, cause)
	return err
}

// WithAttrs keeps what all lines have.
func (n notes) WithAttrs(attrs []slog.Attr) slog.Handler {
	n.before = append(n.before[:len(n.before):len(n.before)], attrs...)
	return n
}

// WithGroup changes nothing: the names are told as they are.
func (n notes) WithGroup(string) slog.Handler { return n }
