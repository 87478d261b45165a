package mariadb

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/txn"
)

// Every reply in a session's life gets lost once, and the connection with it: whatever is then known, a recoverer finds all branches, ends
// them and leaves no lock, and what was answered is true.
func TestCutAnywhere(t *testing.T) {
	admin(t, "a", "CREATE TABLE cut (id int PRIMARY KEY, n int NOT NULL)", "INSERT INTO cut VALUES (1, 0), (2, 0), (3, 0)")
	for at, more := int64(1), true; more; at++ {
		t.Run(fmt.Sprint(at), func(t *testing.T) { more = cut(t, at) })
	}
}

// cut loses the reply to one request, and the connection; it tells whether there was such a request.
func cut(t *testing.T, at int64) bool {
	proxy, r, straight := proxied(t, Options{Marker: "fdt_marker"})
	var seen atomic.Int64
	proxy.Rule(func([]byte) testdb.Fate {
		if seen.Add(1) == at {
			return testdb.LoseReply
		}
		return testdb.Pass
	})
	admin(t, "a", "UPDATE cut SET n = 0")
	p := &play{t: t, r: r, gid: newGID(txn.RoleLocal)}
	p.run()
	must(t, straight.Fence(t.Context(), p.gid.Log, p.gid.Incarnation))
	found, err := straight.InDoubt(t.Context(), p.gid.Log)
	must(t, err)
	for _, f := range found {
		if got, err := straight.Resolve(t.Context(), f.GID, txn.Abort, ""); err != nil || got != txn.ResolvedDone {
			t.Errorf("Resolve = %v, %v", got, err)
		}
	}
	b := enlist(t, straight, txn.BranchOptions{LockTimeout: time.Second})
	exec(t, b, "UPDATE cut SET n = n")
	must(t, b.Rollback(t.Context()))
	if got := value(t, "a", "SELECT group_concat(n ORDER BY id) FROM cut"); p.certain && got != p.want() {
		t.Errorf("%s, want %s", got, p.want())
	}
	return seen.Load() >= at
}

// play is one process's work on three branches, one after the other.
type play struct {
	t       *testing.T
	r       *Resource
	gid     txn.GID
	done    [3]int // rows that must be 1
	certain bool   // no outcome is unknown
}

func (p *play) want() string { return fmt.Sprintf("%d,%d,%d", p.done[0], p.done[1], p.done[2]) }

// soon is a context for a step that may wait for ever.
func (p *play) soon() (context.Context, context.CancelFunc) {
	return context.WithTimeout(p.t.Context(), 5*time.Second)
}

func (p *play) run() {
	ctx, cancel := p.soon()
	defer cancel()
	p.certain = true
	_, _ = p.r.Check(ctx)
	_, _ = p.r.Identity(ctx)
	if b, ok := p.begin(ctx, 1); ok {
		p.twoPhases(ctx, b)
	}
	if b, ok := p.begin(ctx, 2); ok {
		p.external(ctx, b)
	}
	if b, ok := p.begin(ctx, 3); ok {
		switch err := b.Commit(ctx); {
		case err == nil:
			p.done[2] = 1
		case txn.InDoubt(err):
			d, err := p.r.Outcome(ctx, b.opt.GID, b.Proof())
			p.certain = p.certain && err == nil
			if d == txn.Commit {
				p.done[2] = 1
			}
		}
	}
	if b, ok := p.begin(ctx, 3); ok {
		_ = b.Rollback(ctx) // or by the fence
	}
	_, _ = p.r.InDoubt(ctx, p.gid.Log)
	_ = p.r.Fence(ctx, p.gid.Log, p.gid.Incarnation+1)
	_ = p.r.Forget(ctx, p.gid)
}

// begin begins a branch and writes its row.
func (p *play) begin(ctx context.Context, row int) (*Branch, bool) {
	p.gid.Sequence++
	br, err := p.r.Enlist(ctx, txn.BranchOptions{GID: p.gid, LockTimeout: time.Duration(row) * time.Second, Isolation: txn.ReadCommitted})
	if err != nil {
		return nil, false
	}
	b := br.(*Branch)
	_, err = b.Exec(ctx, "UPDATE cut SET n = 1 WHERE id = ?", []any{int64(row)})
	if err == nil {
		err = b.Savepoint(ctx, "s1")
	}
	if err == nil {
		_, err = b.Exec(ctx, "DO 1", nil)
	}
	if err == nil {
		err = b.RollbackTo(ctx, "s1")
	}
	if err != nil {
		_ = b.Rollback(ctx) // or by the fence
		return nil, false
	}
	return b, true
}

func (p *play) twoPhases(ctx context.Context, b *Branch) {
	if _, err := b.Prepare(ctx, b.opt.GID); err != nil {
		p.certain = b.RollbackPrepared(ctx, b.opt.GID) == nil
		return
	}
	if b.CommitPrepared(ctx, b.opt.GID) == nil {
		p.done[0] = 1
		return
	}
	p.resolve(ctx, b, 0)
}

func (p *play) external(ctx context.Context, b *Branch) {
	if _, err := b.Prepare(ctx, external(b)); err != nil {
		p.certain = p.certain && b.RollbackPrepared(ctx, external(b)) == nil
		return
	}
	p.resolve(ctx, b, 1)
}

func (p *play) resolve(ctx context.Context, b *Branch, row int) {
	got, err := p.r.Resolve(ctx, external(b), txn.Commit, b.Proof())
	if err != nil {
		got, err = p.r.Resolve(ctx, external(b), txn.Commit, b.Proof())
	}
	if err != nil || got != txn.ResolvedDone {
		p.t.Error(errors.Join(err, fmt.Errorf("resolution %d", got)))
	}
	p.done[row] = 1
}
