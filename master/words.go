package master

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// lastWords says in one text why a worker is not there any more.
func lastWords(unit, result string, status int32, statusText, journal string) string {
	why := result
	switch {
	case result == "exit-code" && status == 203:
		why = "its program cannot be executed"
	case result == "exit-code":
		why = fmt.Sprintf("exit status %d", status)
	case result == "signal" || result == "core-dump":
		why = fmt.Sprintf("killed by signal %d", status)
	case result == "timeout":
		why = "not READY in time"
	case result == "protocol" || result == "success":
		why = "ended without having said READY=1"
	}
	said := journal
	if statusText != "" && !strings.Contains(journal, statusText) {
		said = strings.TrimSpace(statusText + "\n" + journal)
	}
	if said == "" {
		return fmt.Sprintf("%s: %s", unit, why)
	}
	if !strings.Contains(said, "\n") {
		return fmt.Sprintf("%s: %s: %s", unit, why, said)
	}
	return fmt.Sprintf("%s: %s:\n\t%s", unit, why, strings.ReplaceAll(said, "\n", "\n\t"))
}

// journalWords returns the last lines that a worker wrote: those of one invocation if it is given. It is
// empty if the journal has none or cannot be read.
func (m *Master) journalWords(unit, invocation string) string {
	args := []string{"--lines=8"}
	if invocation != "" {
		args = append(args, "_SYSTEMD_INVOCATION_ID="+invocation)
	} else {
		args = append(args, "--since=-2min", "_SYSTEMD_UNIT="+unit)
	}
	return m.journalctl(args...)
}

func (m *Master) socketWords(unit string) string {
	words := m.journalctl("--lines=2", "--since=-2min", "--unit="+unit)
	if words == "" {
		return "systemd does not say why; see systemctl status " + unit
	}
	return strings.ReplaceAll(words, "\n", "; ")
}

// journalctl runs for a moment at most; the decision does not hang on the journal. It cannot be asked for
// this boot alone: ProcSubset=pid hides the boot's id.
func (m *Master) journalctl(args ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	// Without the flush a line that was written a moment ago may not be there yet.
	_ = exec.CommandContext(ctx, "journalctl", "--sync").Run()
	out, err := exec.CommandContext(ctx, "journalctl", append([]string{"--quiet", "--output=cat"}, args...)...).Output()
	if err != nil {
		m.log.Warn("the journal cannot be read", "error", err)
	}
	return strings.TrimSpace(string(out))
}
