package txn

import (
	"errors"
	"iter"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestOddLogs: a log with a record that cannot be understood, or that begins
// wrongly, is damaged. The others are not.
func TestOddLogs(t *testing.T) {
	h, _, err := openHome(t.Context(), t.TempDir(), "m1", nil)
	if err != nil {
		t.Fatal(err)
	}
	open := func(n uint64, log LogID) string {
		r := record{Kind: kindOpen, Log: log, Incarnation: n, Through: 1}
		return string(r.encode())
	}
	for i, test := range []struct {
		records []string
		damaged bool
	}{
		{[]string{open(1, h.id)}, false},
		{[]string{open(2, h.id), `{`}, true},
		{[]string{open(3, h.id), `{}`}, true},
		{[]string{open(4, h.id), `{"kind":"of the future"}`}, true},
		{[]string{open(9, h.id)}, true},
		{[]string{open(6, NewLogID())}, true},
		{[]string{`{"kind":"end"}`}, true},
	} {
		n := uint64(i + 1)
		if err := h.rewrite(n, texts(test.records)); err != nil {
			t.Fatal(err)
		}
		s, err := h.survey()
		if err != nil || (s.damaged[n] != nil) != test.damaged || s.damaged[1] != nil {
			t.Errorf("%q: %v, %v", test.records, s.damaged[n], err)
		}
	}
	if err := os.WriteFile(h.path(logName(9)), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.seal(9); err == nil || !strings.Contains(err.Error(), "no record is readable") {
		t.Errorf("an empty log is sealed: %v", err)
	}
}

func texts(all []string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, text := range all {
			if !yield([]byte(text), nil) {
				return
			}
		}
	}
}

// TestNumbers: sequence numbers are reserved before they are given away, and
// end.
func TestNumbers(t *testing.T) {
	opt := Options{LogDir: t.TempDir(), ClaimDir: t.TempDir(), MachineID: "m1"}
	var fail error
	opt.fault = func(step string) error {
		if step == "sync" {
			return fail
		}
		return nil
	}
	begun := func() (*Manager, *journal) {
		m, err := Open(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		j, err := m.ours(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return m, j
	}
	m, j := begun()
	j.next = sequenceBlock + 1
	if g, err := j.gid(RoleLocal); err != nil || g.Sequence != sequenceBlock+1 || j.through != 2*sequenceBlock {
		t.Errorf("%s, %v, reserved through %d", g, err, j.through)
	}
	j.next = maxSequence + 1
	if _, err := j.gid(RoleLocal); !errors.Is(err, ErrPoisoned) || m.Err() == nil {
		t.Errorf("behind the last number: %v", err)
	}
	_ = m.Close(t.Context())
	m, j = begun()
	j.next, fail = sequenceBlock+1, syscall.EIO
	if g, err := j.gid(RoleLocal); !errors.Is(err, syscall.EIO) {
		t.Errorf("not reserved: %s, %v", g, err)
	}
	_ = m.Close(t.Context())
}

// TestBirth: where a filesystem keeps no time of birth, inodes tell files apart.
func TestBirth(t *testing.T) {
	for path, want := range map[string]string{"/proc/self/stat": "inode ", t.TempDir(): "time "} {
		if got, err := birth(path); err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}

// TestPlanDamaged: of a vote that may be among what is lost nothing is presumed.
func TestPlanDamaged(t *testing.T) {
	s := newSurvey()
	s.highest = 1
	s.add(1, record{Kind: kindPreparing, GID: gidOf(1, 1, RoleExternal)}, true)
	s.damaged[1] = errors.New("a hole")
	if do := plan(s, findings{dead: map[uint64]bool{1: true}}); len(do) > 0 {
		t.Errorf("got %+v", do)
	}
}

func TestTexts(t *testing.T) {
	if got := joinHazards("a", "b"); got != "a; b" {
		t.Error(got)
	}
	for _, test := range []struct {
		tx   Transaction
		want string
	}{
		{Transaction{Phase: Prepared, HandsOff: "a hole"}, "left to an operator: a hole"},
		{Transaction{Phase: Committing}, "a worker is telling its resources"},
		{Transaction{Phase: Committed}, ""},
	} {
		if got := test.tx.left(nil); got != test.want {
			t.Errorf("%+v: %q", test.tx, got)
		}
	}
}
