package txn_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// TestUnexplained: a branch that nothing explains and that cannot be settled is
// shown from the second scan on that meets it, until a scan meets it no more; by
// every process, and while its resource does not answer.
func TestUnexplained(t *testing.T) {
	p := newFastPlace(t)
	if _, killed := p.worker(t, "begin put:a put:b commit", "commit: prepared"); !killed {
		t.Fatal("not killed")
	}
	away := true
	m := p.withB(t, func(s *spool.Spool) txn.Resource { return absent{s, &away} })
	defer closeAll(t, m)
	other := p.open(t)
	shown := func(want int) {
		t.Helper()
		for _, of := range []*txn.Manager{m, other} {
			all, err := of.Unexplained()
			if err != nil || len(all) != want {
				t.Errorf("%+v, %v", all, err)
			}
			for _, u := range all {
				if u.Resource != "b" || u.Scans < 2 || u.Alone || !strings.Contains(u.Why, "abort") || u.Since.IsZero() {
					t.Errorf("%+v", u)
				}
			}
		}
		if n := m.Counts().Unexplained; n != want {
			t.Errorf("counted %d, want %d", n, want)
		}
	}
	p.recover(t, m)
	shown(0)
	p.recover(t, m)
	shown(1)
	prepared := p.dir("b/prepared")
	wantErr(t, os.Rename(prepared, prepared+".away"), nil)
	wantErr(t, m.Scan(t.Context()), os.ErrNotExist)
	shown(1)
	wantErr(t, os.Rename(prepared+".away", prepared), nil)
	away = false
	txn.Rested(m)
	p.recover(t, m)
	shown(1) // it met it, and settled it then
	p.recover(t, m)
	shown(0)
	p.wantMessages(t, 0, 0)
	p.wantTidy(t)
}

// TestUnexplainedOfAnother: what a worker that lives has told of its own is
// passed on by others, which cannot judge it.
func TestUnexplainedOfAnother(t *testing.T) {
	p := newFastPlace(t)
	away := true
	m := p.withB(t, func(s *spool.Spool) txn.Resource { return absent{s, &away} })
	defer closeAll(t, m)
	s := m.NewSession(alice)
	begin(t, s)
	put(t, s, "a", "1")
	put(t, s, "b", "1")
	b, err := s.Branch(t.Context(), "b")
	wantErr(t, err, nil)
	vote, err := b.Prepare(t.Context(), s.GID())
	if err != nil || vote != txn.VotePrepared {
		t.Fatal(vote, err)
	}
	_ = s.Rollback(t.Context()) // which knows nothing of the vote
	for range 2 {
		p.recover(t, m)
	}
	other := p.open(t)
	defer closeAll(t, other)
	wantErr(t, started(t, other), nil)
	p.recover(t, other)
	for _, of := range []*txn.Manager{m, other} {
		if all, err := of.Unexplained(); err != nil || len(all) != 1 {
			t.Errorf("%+v, %v", all, err)
		}
	}
	away = false
	txn.Rested(m)
	for range 2 {
		p.recover(t, m)
	}
	if all, err := other.Unexplained(); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

// TestUnexplainedUnreadable: what is shown cannot be read, or written.
func TestUnexplainedUnreadable(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	defer closeAll(t, m)
	p.recover(t, m)
	file := p.dir("claims/unexplained")
	wantErr(t, os.WriteFile(file, []byte("["), 0o600), nil)
	wantErr(t, os.WriteFile(p.dir("claims/counted"), []byte("0\n"), 0o600), nil)
	if _, err := m.Unexplained(); err == nil {
		t.Error("read")
	}
	if err := m.Scan(t.Context()); err == nil {
		t.Error("a scan says nothing of it")
	}
	if err := txn.ReadCount(m); err == nil {
		t.Error("counted")
	}
	wantErr(t, errors.Join(os.WriteFile(file, []byte(`[{"resource":"b"}]`), 0o600), os.Mkdir(file+".new", 0o700)), nil)
	wantErr(t, m.Scan(t.Context()), syscall.EISDIR)
	wantErr(t, os.Remove(file+".new"), nil)
	wantErr(t, m.Scan(t.Context()), nil)
	if all, err := m.Unexplained(); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

// TestUnexplainedOfLostLog: what a log that is deleted has left in the resources is told, once it has been there for long, and
// until somebody ends it; not that of a log which was put aside.
func TestUnexplainedOfLostLog(t *testing.T) {
	p := newFastPlace(t)
	m := p.open(t)
	prepared(t, m, "x")
	closeAll(t, m)
	wantErr(t, errors.Join(os.RemoveAll(p.dir("log")), os.RemoveAll(p.dir("claims")), os.Mkdir(p.dir("log"), 0o700), os.Mkdir(p.dir("claims"), 0o700)), nil)
	patient := p.open(t)
	defer closeAll(t, patient)
	hasty := p.open(t, func(o *txn.Options) { o.Limits.Doubt = time.Nanosecond })
	defer closeAll(t, hasty)
	shown := func(of *txn.Manager, want ...string) {
		t.Helper()
		for range 3 {
			p.recover(t, of)
		}
		var got []string
		all, err := of.Unexplained()
		wantErr(t, err, nil)
		for _, u := range all {
			got = append(got, u.Resource)
			if !u.Alone || !u.Foreign || !strings.Contains(u.Why, "its log is not here") || u.GID.Log == of.Log() {
				t.Errorf("%+v", u)
			}
		}
		if !slices.Equal(got, want) || of.Counts().Unexplained != len(want) {
			t.Errorf("%v and %d, want %v", got, of.Counts().Unexplained, want)
		}
	}
	shown(patient)
	shown(hasty, "a", "b")
	left, err := filepath.Glob(p.dir("a") + "/prepared/*")
	if err != nil || len(left) != 1 {
		t.Fatal(left, err)
	}
	wantErr(t, os.RemoveAll(left[0]), nil)
	shown(hasty, "b")
	wantErr(t, os.Rename(p.dir("b/prepared"), p.dir("b/away")), nil)
	wantErr(t, hasty.Scan(t.Context()), os.ErrNotExist)
	if n := hasty.Counts().Unexplained; n != 1 {
		t.Errorf("%d while the resource cannot be asked, want 1", n)
	}
	wantErr(t, os.Rename(p.dir("b/away"), p.dir("b/prepared")), nil)
	id, err := txn.ParseGID(strings.SplitAfter(filepath.Base(left[0]), "-X")[0])
	wantErr(t, err, nil)
	wantErr(t, os.Mkdir(p.dir("log")+"/old-"+id.Log.String(), 0o700), nil)
	shown(hasty)
}
