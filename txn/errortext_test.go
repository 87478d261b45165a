package txn

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fdtserver/fdt/internal/testgolden"
)

// TestErrorTexts holds what operators and clients read: one sentence, each name once, the cause last.
func TestErrorTexts(t *testing.T) {
	down := fmt.Errorf("resource bank_b: prepare: %w", syscall.ECONNREFUSED)
	full := fmt.Errorf("spool outbox: put: %w", syscall.ENOSPC)
	var got []string
	for _, err := range []error{
		failedAt("bank_b", "", down),
		failedAt("bank_b", "list branches in doubt", fmt.Errorf("resource bank_b: %w", syscall.ECONNREFUSED)),
		failedAt("outbox", "fence incarnation 7", full),
		failedAt("other", "", syscall.ECONNREFUSED),
		together(failedAt("bank_b", "", down), nil, failedAt("outbox", "", full), failedAt("bank_b", "", down)),
		fmt.Errorf("%w: %w", ErrRolledBack, together(failedAt("bank_b", "", down), nil)),
		fmt.Errorf("%w: %w", ErrUnreachable, together(failedAt("bank_b", "", down))),
	} {
		got = append(got, err.Error())
		if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%v: the cause is lost", err)
		}
	}
	text := strings.Join(got, "\n") + "\n"
	testgolden.Compare(t, filepath.Join("testdata", "errors.golden"), text)
	if failedAt("a", "", nil) != nil || together(nil, nil) != nil {
		t.Error("an error of nothing")
	}
}
