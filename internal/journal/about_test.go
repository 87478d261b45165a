package journal

import (
	"log/slog"
	"os"
	"testing"
)

// TestAbout: what is logged about a unit says so in the field by which journalctl -u finds it.
func TestAbout(t *testing.T) {
	path, next := journald(t)
	h, err := open(path, os.Stderr, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	slog.New(About(h, "fdt@shop.service")).Info("last words")
	if got := next()["OBJECT_SYSTEMD_UNIT"]; got != "fdt@shop.service" {
		t.Errorf("of unit %q", got)
	}
	slog.New(h).Info("others")
	if got, is := next()["OBJECT_SYSTEMD_UNIT"]; is {
		t.Errorf("of unit %q", got)
	}
	if other := slog.DiscardHandler; About(other, "x.service") != other {
		t.Error("another handler is not left as it is")
	}
}
