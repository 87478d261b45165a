package postgres

import (
	"context"

	"github.com/fdtserver/fdt/txn"
)

// Sessions counts the sessions of these incarnations, in any database of the server. Of another role's the application_name is seen
// only by a role with pg_read_all_stats, but a copy of the log connects as the same one.
func (r *Resource) Sessions(ctx context.Context, id txn.LogID, incarnations []uint64) (n int, err error) {
	names := make([]string, len(incarnations))
	for i, of := range incarnations {
		names[i] = appName(id, of)
	}
	err = r.privileged(ctx, func(c *conn) error {
		return c.pg.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE application_name = ANY($1) AND pid <> pg_backend_pid()", names).Scan(&n)
	})
	return n, err
}
