package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/txn"
)

var (
	_ txn.Watched = (*Resource)(nil)
	_ txn.Located = (*Branch)(nil)
)

// Backend is the process number of the branch's session.
func (b *Branch) Backend() uint64 { return b.backend }

// waiting asks for whose locks sessions wait. pg_blocking_pids has 0 for a prepared transaction, which is no session any more. What it
// locks has a virtual transaction of its own in pg_locks, in which the lock of its number is, too, by which pg_prepared_xacts has it. A
// waiting lock has everything of one that is held but its mode, and whether the two modes conflict the server does not tell.
const waiting = `WITH waiter AS MATERIALIZED (
		SELECT p.pid, pg_blocking_pids(p.pid) AS by FROM unnest($1::int[]) AS p(pid)
	), lock AS MATERIALIZED (
		SELECT pid, locktype, mode, granted, waitstart, virtualtransaction, transactionid,
			ROW(locktype, database, relation, page, tuple, virtualxid, transactionid, classid, objid, objsubid)::text AS what
		FROM pg_locks WHERE pid IS NULL OR pid = ANY($1) AND NOT granted
	), wait AS (
		SELECT w.pid, w.by, l.locktype, l.mode, l.what, coalesce(extract(epoch FROM clock_timestamp() - l.waitstart), -1)::float8 AS age
		FROM waiter w JOIN lock l ON l.pid = w.pid WHERE cardinality(w.by) > 0
	)
	SELECT w.pid, w.locktype, w.age, w.mode, b.pid, coalesce(a.usename, ''), coalesce(a.datname, ''), coalesce(a.application_name, ''),
		coalesce(host(a.client_addr), ''), '', ''
	FROM wait w CROSS JOIN LATERAL (SELECT DISTINCT unnest(w.by)) AS b(pid) LEFT JOIN pg_stat_activity a ON a.pid = b.pid WHERE b.pid <> 0
	UNION ALL
	SELECT DISTINCT w.pid, w.locktype, w.age, w.mode, 0, p.owner, p.database, '', '', p.gid, h.mode
	FROM wait w JOIN lock h ON h.pid IS NULL AND h.what = w.what
		JOIN lock x ON x.pid IS NULL AND x.locktype = 'transactionid' AND x.virtualtransaction = h.virtualtransaction
		JOIN pg_prepared_xacts p ON p.transaction = x.transactionid
	WHERE 0 = ANY(w.by)
	ORDER BY 1, 5, 10`

// conflicts are the modes that a lock of a mode does not bear beside it (PostgreSQL documentation, table 13.2).
var conflicts = func() map[string][]string {
	share, row, update := "ShareLock", "RowExclusiveLock", "ShareUpdateExclusiveLock"
	table := []string{"ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"}
	return map[string][]string{
		"AccessShareLock": table[2:], "RowShareLock": table[1:], row: append([]string{share}, table...), update: append([]string{update, share}, table...),
		share: append([]string{row, update}, table...), table[0]: append([]string{row, update, share}, table...),
		table[1]: append([]string{"RowShareLock", row, update, share}, table...),
		table[2]: append([]string{"AccessShareLock", "RowShareLock", row, update, share}, table...),
	}
}()

// Waits tells for whose locks sessions wait: see txn.Watched. It needs no privilege; without pg_read_all_stats the server tells less of
// the sessions of other roles. The server stops all locking for a moment to answer, so it is not to be asked all the time.
func (r *Resource) Waits(ctx context.Context, backends []uint64, _ func() ([]txn.KnownBranch, error)) (list []txn.Wait, err error) {
	pids := make([]int32, len(backends))
	for i, n := range backends {
		pids[i] = int32(n) //nolint:gosec // a process number that the server gave
	}
	err = r.privileged(ctx, func(c *conn) error {
		list = nil
		rows, err := c.pg.Query(ctx, waiting, pids)
		if err != nil {
			return err
		}
		var pid, by int64
		var kind, mode, held, gid string
		var age float64
		var h txn.Holder
		asked := time.Now()
		_, err = pgx.ForEachRow(rows, []any{&pid, &kind, &age, &mode, &by, &h.User, &h.Database, &h.Application, &h.Address, &gid, &held}, func() error {
			if gid != "" && !slices.Contains(conflicts[mode], held) {
				return nil
			}
			if n := len(list); n == 0 || list[n-1].Backend != uint64(pid) {
				list = append(list, txn.Wait{Backend: uint64(pid), Lock: kind})
				if age >= 0 {
					list[n].Since = asked.Add(-time.Duration(age * float64(time.Second)))
				}
			}
			w := &list[len(list)-1]
			h.Backend, h.GID, h.Prepared = uint64(by), txn.GID{}, gid
			if ours, ok := r.parse(gid); ok {
				h.GID, h.Prepared = ours, ""
			}
			if n := len(w.Holders); n == 0 || gid == "" || w.Holders[n-1] != h { // it may hold locks of several modes
				w.Holders = append(w.Holders, h)
			}
			return nil
		})
		return err
	})
	return list, err
}
