package bank

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// between puts a network between a worker and a database, and returns the worker.
func (v *vault) between(t *testing.T, resource string) (*testdb.Proxy, *txn.Manager) {
	t.Helper()
	target := map[string]string{"bank_a": filepath.Join(v.pg.Dir(), ".s.PGSQL.5432"), "bank_b": v.my.Socket()}[resource]
	proxy, err := testdb.NewProxy(target)
	must(t, err)
	t.Cleanup(func() { must(t, proxy.Close()) })
	at := place{log: t.TempDir(), claims: t.TempDir(), spool: t.TempDir(), postgres: v.pg.DSN("postgres"), mariadb: v.my.DSN("fdt", "bank")}
	at.postgres, at.mariadb = proxy.Through(at.postgres), proxy.Through(at.mariadb)
	m, rms, err := at.manager(t.Context(), "cut", nil)
	must(t, err)
	t.Cleanup(func() {
		err := m.Close(context.Background())
		for _, r := range rms {
			err = errors.Join(err, r.Close())
		}
		must(t, err)
	})
	return proxy, m
}

// cut is a rule: what holds one of the texts is under way while the network is cut, and nothing else passes from then on.
func cut(texts ...string) func([]byte) testdb.Fate {
	done := make(chan struct{}, 1)
	return func(request []byte) testdb.Fate {
		if len(done) > 0 {
			return testdb.LoseRequest
		}
		for _, text := range texts {
			if bytes.Contains(request, []byte(text)) {
				done <- struct{}{}
				return testdb.Late
			}
		}
		return testdb.Pass
	}
}

// TestNetworkCut: what was under way when the network was cut for longer than any limit may yet arrive, on a session that the server
// keeps. The worker that lives ends that session as soon as it can: a vote does not land after its transaction was rolled back, and what
// was never prepared keeps no locks.
func TestNetworkCut(t *testing.T) {
	v := newVault(t)
	for name, test := range map[string]struct {
		texts []string
		end   func(t *testing.T, s *txn.Session) error
	}{
		"phase one of a commit": {[]string{"PREPARE"}, func(t *testing.T, s *txn.Session) error { return s.Commit(t.Context()) }},
		"a vote":                {[]string{"PREPARE"}, func(t *testing.T, s *txn.Session) error { return s.Prepare(t.Context(), "x") }},
		"a rollback":            {[]string{"ROLLBACK", "XA END"}, func(t *testing.T, s *txn.Session) error { return s.Rollback(t.Context()) }},
		"a failed statement": {[]string{"ROLLBACK", "XA END"}, func(t *testing.T, s *txn.Session) error {
			s.Fail(errors.New("a statement failed"))
			return s.Commit(t.Context())
		}},
	} {
		for _, on := range []string{"bank_a", "bank_b"} {
			t.Run(name+" on "+on, func(t *testing.T) {
				proxy, m := v.between(t, on)
				s := m.NewSession(txn.Principal{User: "teller"})
				must(t, s.Begin(t.Context(), txn.TxOptions{}))
				must(t, errors.Join(add(t.Context(), s, "bank_a", 1), add(t.Context(), s, "bank_b", 1)))
				v.log = s.GID().Log
				proxy.Rule(cut(test.texts...))
				if err := test.end(t, s); err == nil || txn.InDoubt(err) {
					t.Errorf("ended with %v", err)
				}
				if n := m.Counts().Pending; n != 1 {
					t.Errorf("%d left over, want 1", n)
				}
				proxy.Rule(nil)
				testwait.Until(t, "all is told", func() bool {
					recoverOnce(t, m)
					return m.Counts().Pending == 0
				})
				proxy.Release() // into a session that is no more
				(&pair{pg: v.pg, my: v.my}).want(t, 0)
				for _, r := range v.rms[:2] {
					list, err := r.InDoubt(t.Context(), v.log)
					if err != nil || len(list) > 0 {
						t.Errorf("%s holds %v, %v", r.Name(), list, err)
					}
				}
				must(t, s.Close(t.Context()))
			})
		}
	}
}

// TestSomebodysVote: a log that is older than what the databases hold gives a gid away for the second time. The first one's vote is not
// touched, by the worker that meets it or by those that come after it, and neither is any other that the log does not know.
func TestSomebodysVote(t *testing.T) {
	v := newVault(t)
	for _, on := range []string{"bank_a", "bank_b"} {
		t.Run(on, func(t *testing.T) {
			at := place{log: t.TempDir(), claims: t.TempDir(), spool: t.TempDir(), postgres: v.pg.DSN("postgres"), mariadb: v.my.DSN("fdt", "bank")}
			open := func() *txn.Manager {
				m, rms, err := at.manager(t.Context(), "copy", nil)
				must(t, err)
				t.Cleanup(func() {
					for _, r := range rms {
						must(t, r.Close())
					}
				})
				return m
			}
			vote := func(m *txn.Manager, name string, id int) error {
				s := m.NewSession(txn.Principal{User: "teller"})
				must(t, s.Begin(t.Context(), txn.TxOptions{}))
				if err := add(t.Context(), s, on, id); err != nil {
					return errors.Join(err, s.Close(t.Context()))
				}
				v.log = s.GID().Log
				return s.Prepare(t.Context(), name)
			}
			held := func() (gids []string) {
				for _, r := range v.rms[:2] {
					list, err := r.InDoubt(t.Context(), v.log)
					must(t, err)
					for _, b := range list {
						gids = append(gids, b.GID.String())
					}
				}
				return gids
			}
			m := open()
			must(t, errors.Join(vote(m, "one", 1), vote(m, "two", 2)))
			all := held()
			if len(all) != 2 {
				t.Fatalf("held: %q", all)
			}
			must(t, m.Close(t.Context()))
			rewind(t, at)
			m = open()
			err := vote(m, "another", 3)
			if err == nil || txn.ClassOf(err) != txn.NotOurs || m.Err() == nil {
				t.Errorf("Prepare of a gid that is taken: %v; the worker goes on: %t", err, m.Err() == nil)
			}
			_ = m.Close(t.Context()) // its log has failed
			for range 2 {
				m = open()
				for range 2 {
					recoverOnce(t, m)
				}
				must(t, m.Close(t.Context()))
				if now := held(); !slices.Equal(now, all) {
					t.Errorf("held: %q, before %q", now, all)
				}
			}
			for _, r := range v.rms[:2] { // as an administrator does
				list, err := r.InDoubt(t.Context(), v.log)
				must(t, err)
				for _, b := range list {
					_, err := r.Resolve(t.Context(), b.GID, txn.Abort, "")
					must(t, err)
				}
			}
		})
	}
}

// rewind takes back all that was written to a log and its claims, but for whose it is: as a virtual machine's snapshot does.
func rewind(t *testing.T, at place) {
	t.Helper()
	for _, pattern := range []string{at.log + "/*.log", at.log + "/incarnation", at.claims + "/*"} {
		files, err := filepath.Glob(pattern)
		must(t, err)
		for _, f := range files {
			must(t, os.Remove(f))
		}
	}
}
