package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fdtserver/fdt/txn"
)

var (
	_ txn.Watched = (*Resource)(nil)
	_ txn.Located = (*Branch)(nil)
)

// Backend is the number of the branch's connection.
func (b *Branch) Backend() uint64 { return b.backend }

// waiting asks for whose locks of InnoDB connections wait, and which wait for a lock on a table by its definition, of which the server does
// not tell who has it. Its times are in the system's time zone.
const waiting = `SELECT w.trx_mysql_thread_id, COALESCE(TIMESTAMPDIFF(SECOND, w.trx_wait_started, CONVERT_TZ(NOW(), @@time_zone, 'SYSTEM')), -1),
		IF(k.lock_type = 'TABLE', 'relation', 'tuple'), h.trx_mysql_thread_id, COALESCE(p.USER, ''), COALESCE(p.DB, ''), COALESCE(p.HOST, '')
	FROM information_schema.INNODB_LOCK_WAITS l
		JOIN information_schema.INNODB_TRX w ON w.trx_id = l.requesting_trx_id JOIN information_schema.INNODB_TRX h ON h.trx_id = l.blocking_trx_id
		LEFT JOIN information_schema.INNODB_LOCKS k ON k.lock_id = l.requested_lock_id
		LEFT JOIN information_schema.PROCESSLIST p ON p.ID = h.trx_mysql_thread_id AND h.trx_mysql_thread_id <> 0
	WHERE w.trx_mysql_thread_id IN (%[1]s)
	UNION ALL
	SELECT ID, TIME, 'relation', NULL, '', '', '' FROM information_schema.PROCESSLIST
	WHERE ID IN (%[1]s) AND STATE LIKE 'Waiting for % lock'
	ORDER BY 1, 4`

// Waits tells for whose locks connections wait: see txn.Watched. It needs the privilege PROCESS. The server shows the locks as they were
// when it was last asked, by anybody, if that was within a tenth of a second. It gives a prepared transaction whose connection has ended no
// name there, so that one is named only if there is no other.
func (r *Resource) Waits(ctx context.Context, backends []uint64, known func() ([]txn.KnownBranch, error)) (list []txn.Wait, err error) {
	numbers := strings.Trim(strings.ReplaceAll(fmt.Sprint(backends), " ", ","), "[]")
	err = r.privileged(ctx, func(c *conn) error {
		list, err = c.waits(ctx, strings.ReplaceAll(waiting, "%[1]s", numbers))
		if err != nil || len(list) == 0 {
			return err
		}
		return r.identifyHolders(ctx, c, list, known)
	})
	return list, err
}

// waits reads what waiting asks for.
func (c *conn) waits(ctx context.Context, text string) (list []txn.Wait, err error) {
	rows, err := c.QueryContext(ctx, text)
	if err != nil {
		return nil, err
	}
	asked := time.Now()
	for err == nil && rows.Next() {
		var own uint64
		var by sql.NullInt64
		var age int64
		var kind string
		var h txn.Holder
		err = rows.Scan(&own, &age, &kind, &by, &h.User, &h.Database, &h.Address)
		if n := len(list); n == 0 || list[n-1].Backend != own {
			list = append(list, txn.Wait{Backend: own, Lock: kind})
			if age >= 0 {
				list[n].Since = asked.Add(-time.Duration(age) * time.Second)
			}
		}
		h.Backend = uint64(by.Int64) //nolint:gosec // a number that the server gave
		if w := &list[len(list)-1]; by.Valid && (len(w.Holders) == 0 || w.Holders[len(w.Holders)-1] != h) {
			w.Holders = append(w.Holders, h)
		}
	}
	return list, errors.Join(err, rows.Err(), rows.Close())
}

// identifyHolders names the prepared transactions among the holders: of a connection that is kept for its branch, the transaction of that
// branch; of one that has none, the only one that is prepared and has none either.
func (r *Resource) identifyHolders(ctx context.Context, c *conn, list []txn.Wait, known func() ([]txn.KnownBranch, error)) error {
	branches, unknown := known()
	kept, unseen := c.kept(ctx, branches)
	ours, others, unlisted := r.recoverable(ctx, c)
	if err := errors.Join(unknown, unseen, unlisted); err != nil {
		return err
	}
	var left []txn.GID // without a connection
	for _, gid := range ours {
		held := false
		for _, k := range kept {
			held = held || k.Same(gid)
		}
		if !held {
			left = append(left, named(gid, branches))
		}
	}
	for i := range list {
		for n := range list[i].Holders {
			switch h := &list[i].Holders[n]; {
			case h.Backend != 0:
				h.GID = kept[h.Backend]
			case len(left) == 1 && others == 0:
				h.GID = left[0]
			default:
				h.OneOf = max(1, len(left)+others)
			}
		}
	}
	return nil
}

// named is the gid with the role that it has in fact, which the server does not keep.
func named(gid txn.GID, branches []txn.KnownBranch) txn.GID {
	for _, b := range branches {
		if b.GID.Same(gid) {
			return b.GID
		}
	}
	return gid
}

// kept are the branches that have a connection still, by its number. Numbers begin anew with the server, so the connection has to hold its
// lock, too.
func (c *conn) kept(ctx context.Context, branches []txn.KnownBranch) (map[uint64]txn.GID, error) {
	open := map[uint64]bool{}
	err := c.each(ctx, "SELECT ID, 0 FROM information_schema.PROCESSLIST", nil, func(id, _ uint64) { open[id] = true })
	kept := map[uint64]txn.GID{}
	var parts []string
	var locks []any
	for i, b := range branches {
		if e, ok := parseProof(b.Proof); ok && open[e.id] {
			parts = append(parts, fmt.Sprintf("SELECT %d AS n, IS_USED_LOCK(?) AS holder HAVING holder = %d", i, e.id))
			locks = append(locks, e.holder(b.GID).lock)
		}
	}
	if err != nil || len(parts) == 0 {
		return kept, err
	}
	err = c.each(ctx, strings.Join(parts, " UNION ALL "), locks, func(n, holder uint64) { kept[holder] = branches[n].GID })
	return kept, err
}

// each calls f with the rows of two numbers.
func (c *conn) each(ctx context.Context, text string, args []any, f func(a, b uint64)) error {
	rows, err := c.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	var a, b uint64
	for err == nil && rows.Next() {
		err = rows.Scan(&a, &b)
		f(a, b)
	}
	return errors.Join(err, rows.Err(), rows.Close())
}
