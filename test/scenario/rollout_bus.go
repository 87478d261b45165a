package scenario

import (
	"context"
	"strings"
)

// busctl asks the master on the system bus.
const (
	busObject = "org.fdtserver.Master1 /org/fdtserver/Master1"
	busCall   = "busctl call " + busObject + " org.fdtserver.Master1 "
)

// onBus asks the master as root, as a member of group fdt and as somebody else.
func onBus(ctx context.Context, s *Stage) error {
	if _, err := s.must(ctx, "useradd outsider; useradd --groups fdt insider"); err != nil {
		return err
	}
	described, err := s.show(ctx, "busctl introspect --no-pager "+busObject+" org.fdtserver.Master1 | awk '{print $1, $2, $3}'")
	if err != nil {
		return err
	}
	missing := ""
	for _, member := range []string{".Reload method", ".Rollback method", ".Drain method", ".Status method", ".Generation property", ".Generations property",
		".Workers property", ".Listeners property", ".Step property", ".StatusText property"} {
		if !strings.Contains(described, member) {
			missing += " " + member
		}
	}
	s.check(missing == "", "introspection describes methods and properties", "%d lines%s", strings.Count(described, "\n"), missing)

	as := func(user, command string) (string, error) { return s.quiet(ctx, "runuser -u "+user+" -- "+command) }
	property := "busctl get-property " + busObject + " org.fdtserver.Master1 "
	for _, c := range []struct {
		user, command string
		allowed       bool
	}{
		{"root", busCall + "Status", true},
		{"insider", busCall + "Status", true},
		{"insider", property + "Workers", true},
		{"insider", "fdtctl status", true},
		{"insider", busCall + "Reload", false},
		{"insider", busCall + "Rollback", false},
		{"insider", busCall + "Drain us 1 1s", false},
		{"outsider", busCall + "Status", false},
		{"outsider", property + "Workers", false},
		{"outsider", busCall + "Reload", false},
		{"root", busCall + "Reload", true},
	} {
		out, err := as(c.user, c.command)
		denied := strings.Contains(out, "denied") || strings.Contains(out, "not allowed") || strings.Contains(out, "only root")
		claim := c.user + " may"
		if !c.allowed {
			claim += " not"
		}
		s.check(c.allowed && err == nil || !c.allowed && err != nil && denied, claim+": "+strings.TrimPrefix(c.command, "busctl "), "%.100s", strings.Join(strings.Fields(out), " "))
	}

	// A reload is told of as it goes.
	watch, err := s.start(ctx, "exec stdbuf -oL busctl monitor --match=\"type='signal',path='/org/fdtserver/Master1'\" --json=short")
	if err != nil {
		return err
	}
	defer func() { _ = watch.kill() }()
	var absent string
	_, err = until(ctx, "signals tell of the reload", func() (bool, error) {
		// When busctl has begun to listen is not told by every version.
		if _, err := s.must(ctx, "systemctl reload fdt"); err != nil {
			return false, err
		}
		absent = ""
		for _, word := range []string{"PropertiesChanged", `"Step"`, `"settling"`, `"Generations"`, `"Workers"`, `"Generation"`} {
			if !strings.Contains(watch.output(), word) {
				absent += " " + word
			}
		}
		return absent == "", nil
	})
	s.check(err == nil, "PropertiesChanged tells of steps, generations and workers", "%d signals%s", strings.Count(watch.output(), "PropertiesChanged"), absent)
	return watch.kill()
}
