package master

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/neighbour"
	"github.com/fdtserver/fdt/internal/unit"
)

// lastWords says in one text why a worker is not there any more; missing is the master's own directories that are not.
func lastWords(unit, result string, status int32, missing, other, statusText, journal string) string {
	why := result
	switch {
	case result == "exit-code" && status == 203:
		why = "its program cannot be executed"
	case result == "exit-code" && status == 226 && missing != "":
		why = missing
	case result == "exit-code" && status == 226:
		why = "a directory that its unit names (ReadWritePaths=) is missing, such as one on a volume that is not mounted"
	case result == "exit-code" && other != "":
		why = other
	case result == "exit-code":
		why = fmt.Sprintf("exit status %d", status)
	case result == "signal" || result == "core-dump":
		why = fmt.Sprintf("killed by signal %d, %s", status, unix.SignalName(unix.Signal(status)))
	case result == "timeout":
		why = "not READY in time"
	case result == "protocol" || result == "success":
		why = "ended without having said READY=1"
	}
	said := plain(journal)
	if statusText = plain(statusText); statusText != "" && !strings.Contains(journal, statusText) {
		said = strings.TrimSpace(statusText + "\n" + journal)
	}
	if said == "" {
		return fmt.Sprintf("%s: %s", unit, why)
	}
	return fmt.Sprintf("%s: %s%s", unit, why, quoted(said))
}

// quotedError is an error as the journal's lines end with it.
var quotedError = regexp.MustCompile(`(?m): error="((?:[^"\\]|\\.)*)"$`)

// plain has errors told as they are, not as attributes of a line.
func plain(said string) string {
	return quotedError.ReplaceAllStringFunc(said, func(tail string) string {
		text, err := strconv.Unquote(strings.TrimPrefix(tail, ": error="))
		if err != nil {
			return tail
		}
		return ": " + text
	})
}

// quoted is what others said, behind a colon: on its own lines if there are several.
func quoted(said string) string {
	switch {
	case said == "":
		return " nothing of it"
	case !strings.Contains(said, "\n"):
		return ": " + said
	}
	return ":\n\t" + strings.ReplaceAll(said, "\n", "\n\t")
}

// journalWords returns the last lines that a worker wrote, by its invocation and by its processes: of a
// process that died at once the journal may know nothing but the number. It is empty if the journal has
// none or cannot be read.
func (m *Master) journalWords(unit, invocation string, pids ...uint32) string {
	matches := []string{"_SYSTEMD_UNIT=" + unit}
	if invocation != "" {
		matches[0] = "_SYSTEMD_INVOCATION_ID=" + invocation
	}
	for _, pid := range pids {
		if pid != 0 {
			matches = append(matches, "+", fmt.Sprintf("_PID=%d", pid))
		}
	}
	return lastLines(m.journalctl(matches...), 8)
}

// socketWords returns what systemd said about a socket that cannot listen, and who else wants to have it.
func (m *Master) socketWords(unit string) string {
	var said []string
	for line := range strings.Lines(m.journalctl("--priority=err", "--unit="+unit)) {
		said = append(said, strings.TrimPrefix(strings.TrimSpace(line), unit+": "))
	}
	if len(said) == 0 {
		said = []string{"systemd does not say why; see systemctl status " + unit}
	}
	return strings.Join(append(said[max(0, len(said)-2):], m.rivals(unit)...), "; ")
}

// rivals says which other services want the address of a listener or of the metrics, of the generation that is to have it.
func (m *Master) rivals(name string) (all []string) {
	if t := cmp.Or(m.pending, m.applied); t != nil {
		cfg, err := m.opt.Run.Load(t.gen)
		if err != nil {
			return nil // it is not known
		}
		for _, w := range append(neighbour.Lost(m.opt.Root, m.opt.Service, cfg), neighbour.Won(m.opt.Root, m.opt.Service, cfg)...) {
			if name == unit.SocketName(m.opt.Service, w.Address) || name == unit.MetricsName(m.opt.Service, w.Address) {
				all = append(all, w.What+": "+w.Hint)
			}
		}
	}
	return all
}

func lastLines(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// journalctl runs for a moment at most; the decision does not hang on the journal. It cannot be asked for
// this boot alone, since ProcSubset=pid hides the boot's id, nor for the last lines: with a time it gives
// the first ones.
func (m *Master) journalctl(matches ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	// Without the flush a line that was written a moment ago may not be there yet.
	_ = exec.CommandContext(ctx, "journalctl", "--sync").Run()
	args := append([]string{"--quiet", "--output=cat", "--since=-30s"}, matches...)
	out, err := exec.CommandContext(ctx, "journalctl", args...).Output()
	if err != nil {
		m.log.Warn("the journal cannot be read", "error", err)
	}
	return strings.TrimSpace(string(out))
}
