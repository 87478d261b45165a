package txn_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestSystemCallsFail has the kernel's answers to a worker altered by
// strace(1): each of several calls fails in turn. What the worker said before
// it ended holds after recovery.
func TestSystemCallsFail(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("NOT TESTED: strace is not installed")
	}
	for _, call := range []struct{ name, fault string }{
		{"fdatasync", "EIO"}, {"fsync", "EIO"}, {"pwrite64", "ENOSPC"}, {"pwrite64", "EIO"}, {"renameat", "EIO"}, {"linkat", "ENOSPC"},
	} {
		for _, script := range []string{"begin put:a put:b prepare:x commit-prepared:x", "begin put:a put:b commit"} {
			for _, when := range []int{1, 2, 3, 4, 6, 8, 12, 18} {
				t.Run(fmt.Sprintf("%s/%s/%s/%d", script, call.name, call.fault, when), func(t *testing.T) {
					t.Parallel()
					p := newFastPlace(t)
					closeAll(t, p.open(t)) // the directories are there
					cmd := exec.CommandContext(t.Context(), strace, "-f", "-qq", "-o", "/dev/null",
						"-e", "trace="+call.name, "-e", fmt.Sprintf("inject=%s:error=%s:when=%d", call.name, call.fault, when),
						os.Args[0], "-test.run=^$")
					cmd.Env = append(os.Environ(), envPlace+"="+p.root, envScript+"="+script, envDie+"=")
					out, err := cmd.CombinedOutput()
					if strings.Contains(string(out), "ptrace") {
						t.Skipf("NOT TESTED: strace may not trace here: %s", out)
					}
					p.afterwards(t, string(out), err != nil)
				})
			}
		}
	}
}

// afterwards recovers and compares with what a worker said.
func (p place) afterwards(t *testing.T, said string, failed bool) {
	t.Helper()
	m := p.open(t)
	defer closeAll(t, m)
	p.recover(t, m)
	a, b := len(p.delivered(t, "a")), len(p.delivered(t, "b"))
	committed := strings.Contains(said, "did commit")
	prepared := strings.Contains(said, "did prepare:x")
	s := m.NewSession(alice)
	err := s.CommitPrepared(t.Context(), "x")
	switch {
	case a != b:
		t.Errorf("%d and %d messages\n%s", a, b, said)
	case committed && a == 0:
		t.Errorf("told of a commit that is not there\n%s", said)
	case prepared && err != nil:
		t.Errorf("a vote is lost: %v\n%s", err, said)
	case !failed && !committed:
		t.Errorf("neither done nor failed\n%s", said)
	}
	_ = s.Acknowledge()
	p.recover(t, m)
	p.wantTidy(t)
}
