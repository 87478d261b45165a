package journal

import (
	"log/slog"
	"os"
	"testing"
)

// TestDirect: the journal is written to though stderr is not connected to it.
func TestDirect(t *testing.T) {
	h, ok := Direct(os.Stderr, slog.LevelInfo).(*Handler)
	if !ok || h.Enabled(t.Context(), slog.LevelDebug) || !h.Enabled(t.Context(), slog.LevelInfo) {
		t.Errorf("%+v", h)
	}
}
