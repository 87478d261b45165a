package txn_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// rewound makes a vote, and takes its log back as a snapshot of the machine
// does: what is given away next was given away before.
func (p place) rewound(t *testing.T) {
	t.Helper()
	m := p.open(t)
	prepared(t, m, "x")
	closeAll(t, m)
	logs, _ := filepath.Glob(p.dir("log") + "/*.log")
	for _, f := range append(logs, p.dir("log/incarnation")) {
		wantErr(t, os.Remove(f), nil)
	}
	p.reboot(t)
}

// TestTaken: a gid that a resource knows already is somebody's vote. Nobody
// resolves by it, nobody presumes anything of what the log does not know, and
// the worker that met it ends.
func TestTaken(t *testing.T) {
	for script, voted := range map[string]bool{
		"begin put:a put:b commit":    false,
		"begin put:a put:b prepare:y": true,
		"begin put:a prepare:y":       true,
	} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			p := newFastPlace(t)
			p.rewound(t)
			if !voted { // the resources know it by the role that it has
				for _, name := range []string{"a", "b"} {
					staged, _ := filepath.Glob(p.dir(name) + "/prepared/*")
					wantErr(t, os.Rename(staged[0], strings.Replace(staged[0], "-X+", "-L+", 1)), nil)
				}
			}
			before := p.messages(t)
			m := p.open(t)
			s := m.NewSession(alice)
			var err error
			for word := range strings.FieldsSeq(script) {
				verb, arg, _ := strings.Cut(word, ":")
				if verb == "put" {
					put(t, s, arg, "second")
				} else {
					err = errors.Join(err, obey(t.Context(), m, s, word))
				}
			}
			wantErr(t, err, txn.ErrRolledBack)
			if txn.ClassOf(err) != txn.NotOurs || m.Err() == nil {
				t.Errorf("got %v, the worker goes on: %t", err, m.Err() == nil)
			}
			_ = m.Close(t.Context())
			m = p.open(t)
			defer closeAll(t, m)
			for range 3 {
				p.recover(t, m)
			}
			if now := p.messages(t); !slices.Equal(now, before) {
				t.Errorf("is %q\nwas %q", now, before)
			}
			odd, err := m.Unexplained()
			if err != nil || !voted && (len(odd) != 2 || !odd[0].Alone || !strings.Contains(odd[0].Why, "older copy")) {
				t.Errorf("nothing explains %+v, %v", odd, err)
			}
			if voted {
				list, err := m.List(t.Context())
				if err != nil || len(list) != 1 || !strings.Contains(list[0].HandsOff, "older copy") {
					t.Errorf("the operator sees %+v, %v", list, err)
				}
			}
		})
	}
}

// TestTakenUnnoted: that a gid is taken cannot be noted. The worker ends all
// the same.
func TestTakenUnnoted(t *testing.T) {
	p := newFastPlace(t)
	p.rewound(t)
	full := false
	m := p.open(t, failing("write", func() error {
		if full {
			return syscall.EIO
		}
		return nil
	}))
	s := m.NewSession(alice)
	begin(t, s)
	put(t, s, "a", "second")
	wantErr(t, s.Savepoint(t.Context(), "s"), nil)
	full = true
	err := s.Prepare(t.Context(), "y")
	if err == nil || m.Err() == nil {
		t.Errorf("got %v, the worker goes on: %t", err, m.Err() == nil)
	}
	_ = m.Close(t.Context())
}

// TestTakenAtBegin: a resource has found when the branch was to begin that its gid is somebody's, and says so at the end of it.
func TestTakenAtBegin(t *testing.T) {
	for _, end := range []string{"rollback", "prepare:y", "last"} {
		p := newFastPlace(t)
		m := p.withB(t, func(s *spool.Spool) txn.Resource { return foreign{s} })
		s := m.NewSession(alice)
		begin(t, s)
		_, err := s.Branch(t.Context(), "b")
		wantErr(t, err, nil)
		if end == "last" {
			_, _, err = s.ExecLast(t.Context(), "b", txn.Statement{})
			s.Fail(err)
		} else {
			err = obey(t.Context(), m, s, end)
		}
		if txn.ClassOf(err) != txn.NotOurs || m.Err() == nil || m.Counts().Pending != 0 {
			t.Errorf("%s: got %v, the worker goes on: %t, %d are pending", end, err, m.Err() == nil, m.Counts().Pending)
		}
		_ = m.Close(t.Context())
	}
}

// foreign is a resource that holds a branch of each gid.
type foreign struct{ *spool.Spool }

func (f foreign) Enlist(context.Context, txn.BranchOptions) (txn.Branch, error) {
	return foreignBranch{}, nil
}

type foreignBranch struct{ txn.Branch }

var errForeign = txn.NotOurs.Mark(errors.New("there is one of that name"))

func (foreignBranch) Proof() txn.Proof                                   { return "" }
func (foreignBranch) Prepare(context.Context, txn.GID) (txn.Vote, error) { return 0, errForeign }
func (foreignBranch) ExecLast(context.Context, txn.GID, txn.Statement) (txn.Outcome, bool, error) {
	return txn.Outcome{}, false, errForeign
}
func (foreignBranch) Rollback(context.Context) error { return errForeign }
