package mariadb

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/fdtserver/fdt/txn"
)

// InDoubt lists the prepared branches of this resource that carry id, from XA RECOVER. The gids have RoleLocal whatever their role was;
// the server does not know since when they are prepared.
func (r *Resource) InDoubt(ctx context.Context, id txn.LogID) ([]txn.PreparedBranch, error) {
	return r.inDoubt(ctx, func(log txn.LogID) bool { return log == id })
}

// InDoubtOfOthers lists the prepared branches of this resource that do not carry id.
func (r *Resource) InDoubtOfOthers(ctx context.Context, id txn.LogID) ([]txn.PreparedBranch, error) {
	return r.inDoubt(ctx, func(log txn.LogID) bool { return log != id })
}

func (r *Resource) inDoubt(ctx context.Context, of func(txn.LogID) bool) (found []txn.PreparedBranch, err error) {
	err = r.privileged(ctx, func(c *conn) error {
		all, err := r.prepared(ctx, c)
		found = nil
		for _, gid := range all {
			if of(gid.Log) {
				found = append(found, txn.PreparedBranch{GID: gid})
			}
		}
		return err
	})
	return found, err
}

// prepared lists the branches of this resource, whoever began them.
func (r *Resource) prepared(ctx context.Context, c *conn) (list []txn.GID, err error) {
	list, _, err = r.recoverable(ctx, c)
	return list, err
}

// recoverable is prepared with the number of those on the server that are not of this resource.
func (r *Resource) recoverable(ctx context.Context, c *conn) (list []txn.GID, others int, err error) {
	rows, err := c.QueryContext(ctx, "XA RECOVER")
	if err != nil {
		return nil, 0, err
	}
	for err == nil && rows.Next() {
		var format, glen, blen int
		var data []byte
		err = rows.Scan(&format, &glen, &blen, &data)
		if gid, ok := r.parse(format, glen, blen, data); ok {
			list = append(list, gid)
		} else {
			others++
		}
	}
	return list, others, errors.Join(err, rows.Err(), rows.Close())
}

func (r *Resource) listed(ctx context.Context, c *conn, gid txn.GID) (bool, error) {
	list, err := r.prepared(ctx, c)
	for _, g := range list {
		if g.Log == gid.Log && g.Incarnation == gid.Incarnation && g.Sequence == gid.Sequence {
			return true, err
		}
	}
	return false, err
}

// Resolve tells a prepared branch the decision, on the session that prepared it if that is here. Otherwise that session, which the proof
// names, is ended first. XAER_NOTA does not mean that the branch has ended: another session may hold it, so XA RECOVER is asked.
func (r *Resource) Resolve(ctx context.Context, gid txn.GID, d txn.Decision, proof txn.Proof) (found txn.Resolution, err error) {
	text := map[txn.Decision]string{txn.Commit: "XA COMMIT ", txn.Abort: "XA ROLLBACK "}[d] + r.xid(gid)
	if c := r.parking.take(gid); c != nil {
		err := c.exec(ctx, text)
		if err == nil && c.renewed() {
			r.pool.Adopt(c.key, c)
		} else {
			c.close()
		}
		if err == nil {
			return txn.ResolvedDone, nil
		}
	}
	if e, ok := parseProof(proof); ok && !r.fenced.has(gid) {
		if err := r.kill(ctx, e.holder(gid)); err != nil {
			return 0, err
		}
		if err := r.settled(ctx); err != nil {
			return 0, err
		}
	}
	err = r.privileged(ctx, func(c *conn) error {
		err := c.exec(ctx, text)
		switch {
		case err == nil, number(err) == errXARollback:
			// 1402: it was prepared and had changed nothing, so nothing was left of it when its session closed.
			found = txn.ResolvedDone
			return nil
		case number(err) != errXANota:
			return err
		}
		still, err := r.listed(ctx, c, gid)
		if still {
			err = errBusy
		}
		if err == nil {
			found, err = r.verdict(ctx, c, gid, d, proof)
		}
		return err
	})
	return found, err
}

// verdict tells how a branch ended that is not prepared any more.
func (r *Resource) verdict(ctx context.Context, c *conn, gid txn.GID, d txn.Decision, proof txn.Proof) (txn.Resolution, error) {
	committed, known, err := r.marker(ctx, c, gid, proof)
	switch {
	case err != nil:
		return 0, err
	case committed == (d == txn.Commit) && known:
		return txn.ResolvedDone, nil
	case known:
		return txn.ResolvedAgainst, nil
	case d == txn.Abort:
		return txn.ResolvedDone, nil
	}
	return txn.ResolvedUnknown, nil
}

// Outcome tells how a branch ended whose reply to Commit was lost, by its marker.
func (r *Resource) Outcome(ctx context.Context, gid txn.GID, proof txn.Proof) (d txn.Decision, err error) {
	e, ok := parseProof(proof)
	if !ok || !e.marked {
		return 0, fmt.Errorf("resource %s: %s: %w", r.opt.Name, gid, errNoProof)
	}
	if err := r.kill(ctx, e.holder(gid)); err != nil {
		return 0, err
	}
	err = r.privileged(ctx, func(c *conn) error {
		committed, known, err := r.marker(ctx, c, gid, proof)
		switch {
		case err != nil:
			return err
		case !known:
			return fmt.Errorf("%s: %w", gid, errNoProof)
		case committed:
			d = txn.Commit
		default:
			d = txn.Abort
		}
		return nil
	})
	return d, err
}

// Fence ends every session of the incarnation and returns when all are gone and have let go of their branches.
func (r *Resource) Fence(ctx context.Context, id txn.LogID, incarnation uint64) error {
	const text = `WITH RECURSIVE slot(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM slot WHERE n < ?)
		SELECT IS_USED_LOCK(CONCAT(?, n)) AS holder FROM slot HAVING holder IS NOT NULL`
	err := poll(ctx, func() (gone bool, err error) {
		err = r.privileged(ctx, func(c *conn) error {
			rows, err := c.QueryContext(ctx, text, slots-1, lockPrefix(id, incarnation))
			if err != nil {
				return err
			}
			var holders []uint64
			for err == nil && rows.Next() {
				var id uint64
				err = rows.Scan(&id)
				holders = append(holders, id)
			}
			err = errors.Join(err, rows.Err(), rows.Close())
			for _, id := range holders {
				err = errors.Join(err, c.kill(ctx, id))
			}
			gone = len(holders) == 0
			return err
		})
		return gone, err
	})
	if err == nil {
		err = r.settled(ctx)
	}
	if err == nil {
		r.fenced.add(id, incarnation)
	}
	return err
}

// fences are the incarnations that this process has fenced: none of their sessions holds a branch.
type fences struct {
	mu   sync.Mutex
	done map[incarnation]struct{}
}

type incarnation struct {
	log txn.LogID
	n   uint64
}

func (f *fences) add(log txn.LogID, n uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done == nil {
		f.done = map[incarnation]struct{}{}
	}
	f.done[incarnation{log, n}] = struct{}{}
}

func (f *fences) has(gid txn.GID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.done[incarnation{gid.Log, gid.Incarnation}]
	return ok
}
