package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/meter"
	"github.com/fdtserver/fdt/txn/xa"
)

func testGID(incarnation, sequence uint64, role xa.Role) xa.GID {
	return xa.GID{Log: xa.LogID{1}, Incarnation: incarnation, Sequence: sequence, Role: role}
}

// silent hears what a ledger tells, and does nothing.
type silent struct{}

func (silent) Failed(string, error)                      {}
func (silent) Full(_ context.Context, err error) error   { return err }
func (silent) Damaged(context.Context, string, error)    {}
func (silent) Froze(context.Context, int, string, error) {}

func (silent) Silenced(context.Context, uint64) {}

func FuzzRecord(f *testing.F) {
	for _, r := range []Record{
		{Kind: KindOpen, Log: xa.LogID{1}, Incarnation: 1, Through: 65536},
		{Kind: KindPrepared, GID: testGID(1, 1, xa.RoleExternal), ClientGID: "x", Branches: []xa.BranchID{{Resource: "a", Proof: "77"}}},
		{Kind: KindHeuristic, GID: testGID(1, 1, xa.RoleExternal), Decision: xa.Commit},
		{Kind: "of the future", GID: testGID(1, 1, xa.RoleExternal)},
	} {
		f.Add(r.encode())
	}
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, _, err := decodeRecord(payload)
		if err != nil {
			return
		}
		if again, _, err := decodeRecord(r.encode()); err != nil || again.Kind != r.Kind || again.GID != r.GID || again.Decision != r.Decision {
			t.Errorf("%q is read as %+v, then %+v, %v", payload, r, again, err)
		}
		s := NewContents()
		s.Add(1, r)
		for _, h := range s.Histories {
			_, _ = h.Phase(), h.Done(time.Now(), time.Hour)
		}
	})
}

func FuzzClaim(f *testing.F) {
	st := State{Transaction: xa.Transaction{GID: testGID(1, 1, xa.RoleExternal), ClientGID: "x", Phase: xa.Prepared}, Claimant: 1}
	whole, err := json.Marshal(st)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("\n" + string(whole) + "\n"))
	f.Add([]byte("\n" + string(whole) + "\n\n" + string(whole[:40])))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		first, ok := parseClaim(raw)
		if !ok {
			return
		}
		again, ok := parseClaim(append(slices.Clone(raw), "\n{\"gid\":\"fd"...)) // dies while it writes
		a, _ := json.Marshal(first)
		b, _ := json.Marshal(again)
		if !ok || !bytes.Equal(a, b) {
			t.Errorf("a line that is not whole changes %s to %s, %t", a, b, ok)
		}
	})
}

func FuzzLogName(f *testing.F) {
	f.Add("0000000001.log")
	f.Add("1.log")
	f.Fuzz(func(t *testing.T, name string) {
		if n, ok := parseLogName(name); ok && (logName(n) != name || n == 0) {
			t.Errorf("%q is read as %d", name, n)
		}
	})
}

// TestNeeded: whatever order the logs of one transaction are shortened in, and
// wherever that stops, what is left never makes it rise from the dead.
func TestNeeded(t *testing.T) {
	x := testGID(1, 1, xa.RoleExternal)
	at := time.Now()
	all := map[uint64][]Record{
		1: {{Kind: KindPreparing, At: at, GID: x}, {Kind: KindPrepared, At: at, GID: x}},
		2: {{Kind: KindCommit, At: at, GID: x}},
		3: {{Kind: KindEnd, At: at, GID: x}},
		4: {{Kind: KindForget, At: at, GID: x}},
	}
	read := func() *Contents {
		s := NewContents()
		for n, records := range all {
			s.records[n] = []logged{}
			for i, r := range records {
				s.records[n] = append(s.records[n], logged{offset: int64(i), of: s.Add(n, r), rank: kinds[r.Kind].rank})
			}
		}
		return s
	}
	done := func(h *History) bool { return h.Done(at, time.Hour) }
	swept := func(xa.GID) bool { return true }
	for _, order := range [][]uint64{{1, 2, 3, 4}, {4, 3, 2, 1}, {3, 1, 4, 2}, {2, 4, 1, 3}} {
		saved := map[uint64][]Record{1: all[1], 2: all[2], 3: all[3], 4: all[4]}
		for range 5 {
			for _, n := range order {
				var keep []Record
				for _, i := range read().Needed(n, done, swept) {
					keep = append(keep, all[n][i])
				}
				all[n] = keep
				if h := read().Histories[x]; h != nil && !done(h) {
					t.Fatalf("order %v: shortening log %d leaves %s", order, n, h.Phase())
				}
			}
		}
		for n, records := range all {
			if len(records) > 0 {
				t.Errorf("order %v: log %d keeps %+v", order, n, records)
			}
		}
		all = saved
	}
	s := read()
	if keep := s.Needed(2, done, func(xa.GID) bool { return false }); len(keep) != 1 {
		t.Error("a decision goes though a resource still keeps its proof")
	}
}

func TestDone(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		name string
		h    History
		want bool
	}{
		{"not ended", History{}, false},
		{"acknowledged", History{Ended: true, Forgotten: true, Tx: xa.Transaction{GID: testGID(1, 1, xa.RoleExternal)}}, true},
		{"local", History{Ended: true, Tx: xa.Transaction{GID: testGID(1, 1, xa.RoleLocal)}}, true},
		{"local with a hazard", History{Ended: true, Decision: xa.Commit, Tx: xa.Transaction{GID: testGID(1, 1, xa.RoleLocal), Hazard: "!"}}, false},
		{"never voted", History{Ended: true, Tx: xa.Transaction{GID: testGID(1, 1, xa.RoleExternal)}}, true},
		{"heuristic", History{Ended: true, Decision: xa.Commit, Tx: xa.Transaction{GID: testGID(1, 1, xa.RoleExternal), Heuristic: true}}, false},
		{"fresh", History{Ended: true, Decision: xa.Commit, DecidedAt: now, Tx: xa.Transaction{GID: testGID(1, 1, xa.RoleExternal)}}, false},
		{"old", History{Ended: true, Decision: xa.Commit, DecidedAt: now.Add(-2 * time.Hour), Tx: xa.Transaction{GID: testGID(1, 1, xa.RoleExternal)}}, true},
		{"hands off", History{Ended: true, Forgotten: true, Tx: xa.Transaction{HandsOff: "!"}}, false},
	} {
		if got := test.h.Done(now, time.Hour); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}

// TestVoteStands: what has voted stays so, in whatever order its first moments
// are read: nothing may roll it back.
func TestVoteStands(t *testing.T) {
	gid := testGID(1, 1, xa.RoleExternal)
	vote := Record{Kind: KindPrepared, GID: gid, Branches: []xa.BranchID{{Resource: "a", Proof: "7"}}}
	var h History
	h.add(1, vote)
	h.add(2, Record{Kind: KindPreparing, GID: gid, Branches: []xa.BranchID{{Resource: "a"}}})
	if h.Phase() != xa.Prepared || len(h.Tx.Branches) != 1 || h.Tx.Branches[0].Proof != "7" {
		t.Errorf("%s, %+v", h.Phase(), h.Tx)
	}
}

// TestOddLogs: a log with a record that cannot be understood, or that begins
// wrongly, is damaged. The others are not.
func TestOddLogs(t *testing.T) {
	h, _, err := openDirectory(t.Context(), &Options{LogDir: t.TempDir(), Machine: "m1"})
	if err != nil {
		t.Fatal(err)
	}
	open := func(n uint64, log xa.LogID) string {
		r := Record{Kind: KindOpen, Log: log, Incarnation: n, Through: 1}
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
		{[]string{open(6, xa.NewLogID())}, true},
		{[]string{`{"kind":"end"}`}, true},
	} {
		n := uint64(i + 1)
		if err := h.rewrite(n, texts(test.records)); err != nil {
			t.Fatal(err)
		}
		s, err := h.contents()
		if err != nil || (s.Damaged[n] != nil) != test.damaged || s.Damaged[1] != nil {
			t.Errorf("%q: %v, %v", test.records, s.Damaged[n], err)
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
	opt := Options{LogDir: t.TempDir(), ClaimDir: t.TempDir(), Machine: "m1", Forces: &meter.Histogram{}, Events: silent{}}
	var fail error
	opt.Fault = func(step string) error {
		if step == "sync" {
			return fail
		}
		return nil
	}
	begun := func() (*Files, *logFile) {
		m, _, err := Open(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		j, err := m.Log(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return m, j.(*logFile)
	}
	m, j := begun()
	j.next = sequenceBlock + 1
	if g, err := j.Number(xa.RoleLocal); err != nil || g.Sequence != sequenceBlock+1 || j.through != 2*sequenceBlock {
		t.Errorf("%s, %v, reserved through %d", g, err, j.through)
	}
	j.next = xa.MaxSequence + 1
	if _, err := j.Number(xa.RoleLocal); !errors.Is(err, xa.ErrPoisoned) || m.Err() == nil {
		t.Errorf("behind the last number: %v", err)
	}
	_ = m.Close(t.Context(), true, func(xa.GID) bool { return true })
	m, j = begun()
	j.next, fail = sequenceBlock+1, syscall.EIO
	if g, err := j.Number(xa.RoleLocal); !errors.Is(err, syscall.EIO) {
		t.Errorf("not reserved: %s, %v", g, err)
	}
	_ = m.Close(t.Context(), true, func(xa.GID) bool { return true })
}

// TestBirth: where a filesystem keeps no time of birth, inodes tell files apart.
func TestBirth(t *testing.T) {
	for path, want := range map[string]string{"/proc/self/stat": "inode ", t.TempDir(): "time "} {
		if got, err := birth(path); err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}
