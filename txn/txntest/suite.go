package txntest

import (
	"fmt"
	"time"

	"github.com/fdtserver/fdt/txn"
)

// open opens the store once more.
func (s *suite) open(name string) txn.Resource {
	s.Helper()
	r := s.Open(s.T, name)
	s.Cleanup(func() {
		if err := r.Close(); err != nil {
			s.Error(err)
		}
	})
	if r.Name() != name {
		s.Errorf("Name is %q, want %q", r.Name(), name)
	}
	return r
}

// quiet checks that nothing of this test is left in doubt.
func (s *suite) quiet() {
	s.Helper()
	if list := s.inDoubt(s.r); len(list) > 0 {
		s.Errorf("left in doubt: %v", list)
	}
}

func (s *suite) gid(role txn.Role, incarnation uint64) txn.GID {
	s.seq++
	return txn.GID{Log: s.log, Incarnation: incarnation, Sequence: s.seq, Role: role}
}

// as is the gid with another role.
func as(role txn.Role, gid txn.GID) txn.GID {
	gid.Role = role
	return gid
}

func (s *suite) id(n int) string { return fmt.Sprintf("%s-%d", s.log.String()[:12], n) }

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) enlist(gid txn.GID) txn.Branch {
	s.Helper()
	b, err := s.r.Enlist(s.Context(), txn.BranchOptions{GID: as(txn.RoleLocal, gid)})
	s.must(err)
	return b
}

// write begins a branch with one change.
func (s *suite) write(gid txn.GID, n int) txn.Branch {
	s.Helper()
	b := s.enlist(gid)
	s.must(s.Write(s.Context(), b, s.id(n)))
	return b
}

func (s *suite) prepare(b txn.Branch, gid txn.GID) {
	s.Helper()
	vote, err := b.Prepare(s.Context(), gid)
	s.must(err)
	if vote != txn.VotePrepared {
		s.Fatalf("vote %d, want VotePrepared", vote)
	}
}

func (s *suite) inDoubt(r txn.Resource) []txn.GID {
	s.Helper()
	list, err := r.InDoubt(s.Context(), s.log)
	s.must(err)
	var gids []txn.GID
	for _, p := range list {
		gids = append(gids, as(txn.RoleLocal, p.GID)) // see GID.Same
		if !p.Since.IsZero() && time.Since(p.Since).Abs() > time.Hour {
			s.Errorf("%s is in doubt since %s", p.GID, p.Since)
		}
	}
	return gids
}

func (s *suite) wantDoubt(gids ...txn.GID) {
	s.Helper()
	got := map[txn.GID]bool{}
	for _, g := range s.inDoubt(s.r) {
		if got[g] {
			s.Errorf("%s is listed twice", g)
		}
		got[g] = true
	}
	for _, g := range gids {
		if !got[as(txn.RoleLocal, g)] {
			s.Errorf("%s is not in doubt", g)
		}
	}
	if len(got) != len(gids) {
		s.Errorf("%d in doubt, want %d", len(got), len(gids))
	}
}

func (s *suite) wantWritten(n, times int) {
	s.Helper()
	if got := s.Written(s.T, s.id(n)); got != times {
		s.Errorf("change %d is there %d times, want %d", n, got, times)
	}
}

func (s *suite) wantResolve(r txn.Resource, gid txn.GID, d txn.Decision, p txn.Proof, want ...txn.Resolution) {
	s.Helper()
	got, err := r.Resolve(s.Context(), gid, d, p)
	s.must(err)
	for _, w := range want {
		if got == w {
			return
		}
	}
	s.Errorf("Resolve(%s) is %d, want one of %d", d, got, want)
}

func (s *suite) forget(gid txn.GID) {
	s.Helper()
	if f, ok := s.r.(txn.Forgetter); ok {
		s.must(f.Forget(s.Context(), gid))
		s.must(f.Forget(s.Context(), gid))
	}
}

// provenOr is what Resolve may say of a finished branch: the truth if the
// resource can prove it, else that it does not know.
func (s *suite) provenOr(p txn.Proof, truth txn.Resolution) []txn.Resolution {
	if _, ok := s.r.(txn.Forgetter); !s.Unproven && (ok || p != "") {
		return []txn.Resolution{truth}
	}
	return []txn.Resolution{truth, txn.ResolvedUnknown}
}

func (s *suite) abandon(b txn.Branch) {
	if s.Abandon != nil {
		s.Abandon(s.T, b)
	}
}
