package mariadb

import (
	"context"
	"strings"

	"github.com/fdtserver/fdt/txn"
)

// Sessions counts the sessions of these incarnations, by the locks that they hold.
func (r *Resource) Sessions(ctx context.Context, id txn.LogID, incarnations []uint64) (n int, err error) {
	prefixes := make([]any, len(incarnations))
	for i, of := range incarnations {
		prefixes[i] = lockPrefix(id, of)
	}
	if len(prefixes) == 0 {
		return 0, nil
	}
	text := `WITH RECURSIVE slot(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM slot WHERE n < ?)
		SELECT COUNT(IS_USED_LOCK(CONCAT(prefix, n))) FROM slot, (SELECT ? AS prefix` + strings.Repeat(" UNION ALL SELECT ?", len(prefixes)-1) + ") AS incarnation"
	err = r.privileged(ctx, func(c *conn) error {
		return c.QueryRowContext(ctx, text, append([]any{slots - 1}, prefixes...)...).Scan(&n)
	})
	return n, err
}
