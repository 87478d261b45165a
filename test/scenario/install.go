package scenario

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// install is the first five minutes of an operator.
func install(ctx context.Context, s *Stage) error {
	s.say("# apt-get install %s", s.Deb)
	said, err := s.Bed.Install(ctx, s.Deb)
	if err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	s.say("%s", grep(said, "Setting up fdt"))
	out, err := s.must(ctx, "systemctl status fdt --no-pager -n 0")
	if err != nil {
		return err
	}
	line := grep(out, "Status:")
	s.check(strings.Contains(line, "generation"), "systemctl status fdt shows a live STATUS line", "%s", line)

	if _, err := s.must(ctx, psql+` -c "CALL enqueue('hello')"`); err != nil {
		return err
	}
	if _, err := s.show(ctx, "ls -l "+outboxDir); err != nil {
		return err
	}
	bodies, err := s.outbox(ctx)
	s.check(err == nil && slices.Equal(bodies, []string{"hello"}), "one CALL puts exactly one file into the outbox", "%q", bodies)
	return err
}

// grep returns the first line of text that contains the word, trimmed.
func grep(text, word string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
