package journal

import (
	"log/slog"
	"os"
)

// Direct is New for a program that a person runs, whose stderr is not the journal's: records from level on go to
// the journal all the same. Call Flush before the end.
func Direct(w *os.File, level slog.Leveler) slog.Handler {
	if h, err := open(Socket, w, level); err == nil {
		return h
	}
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})
}
