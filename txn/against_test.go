package txn_test

import (
	"bytes"
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// contrary is a resource that can be down, and then has another answer than to have done as told.
type contrary struct {
	down

	how txn.Resolution
}

func (c contrary) Resolve(ctx context.Context, gid txn.GID, d txn.Decision, p txn.Proof) (txn.Resolution, error) {
	if _, err := c.down.Resolve(ctx, gid, d, p); err != nil {
		return 0, err
	}
	return c.how, nil
}

// TestAgainst: of a rollback that is told late, nobody is told that all was well if the branch had been committed; that it was
// gone is no matter.
func TestAgainst(t *testing.T) {
	for how, hazards := range map[txn.Resolution]int{txn.ResolvedDone: 0, txn.ResolvedUnknown: 0, txn.ResolvedAgainst: 1} {
		p := newFastPlace(t)
		is := new(atomic.Bool)
		var journal bytes.Buffer
		m := p.open(t, logged(&journal), func(o *txn.Options) {
			o.Resources[1] = contrary{down{o.Resources[1].(*spool.Spool), is}, how}
		})
		s := m.NewSession(alice)
		begin(t, s)
		put(t, s, "a", "1")
		putDown(t, s, "2")
		is.Store(true)
		wantErr(t, s.Commit(t.Context()), txn.ErrRolledBack)
		is.Store(false)
		txn.Rested(m)
		retryUntilIdle(t, m)
		if n := strings.Count(journal.String(), "the opposite outcome"); n != hazards || strings.Contains(journal.String(), "have carried out the decision") == (hazards > 0) {
			t.Errorf("%d: the journal has %s", how, &journal)
		}
		closeAll(t, m)
	}
}
