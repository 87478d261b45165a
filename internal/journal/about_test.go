package journal

import (
	"log/slog"
	"os"
	"testing"
)

// TestAbout: what is logged about a unit says so in the field by which journalctl -u finds it.
func TestAbout(t *testing.T) {
	t.Setenv("INVOCATION_ID", "0123456789abcdef0123456789abcdef")
	path, next := journald(t)
	h, err := open(path, os.Stderr, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	slog.New(About(h, "fdt@shop.service")).Info("last words")
	if got := next(); got["OBJECT_SYSTEMD_UNIT"] != "fdt@shop.service" || got["OBJECT_SYSTEMD_INVOCATION_ID"] != "0123456789abcdef0123456789abcdef" {
		t.Errorf("of %q", got)
	}
	slog.New(h).Info("others")
	if got, is := next()["OBJECT_SYSTEMD_UNIT"]; is {
		t.Errorf("of unit %q", got)
	}
	if other := slog.DiscardHandler; About(other, "x.service") != other {
		t.Error("another handler is not left as it is")
	}
}
