package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

const (
	// staleness is how long INNODB_TRX must have been left alone for its next reader to see the present (trx0i_s.cc,
	// CACHE_MIN_IDLE_TIME_NS), with something to spare.
	staleness = 120 * time.Millisecond
	// grace is how long a session that has left is given to let go of its branch where nothing shows when it has: without PROCESS, and
	// where others read INNODB_TRX so often, or so much is in it (TRX_I_S_MEM_LIMIT), that it does not show the present.
	grace = time.Second
	// censusLock lets one session of the whole server at a time look, or all would see the past for ever.
	censusLock = "fdt-census"
)

// census finds out when no session is about to let go of a prepared branch. In that moment another session's XA COMMIT is answered OK,
// but InnoDB does not find the branch, which stays prepared with its locks and is listed by nothing until the server is restarted: the
// server makes the branch everybody's in THD::cleanup (trans_xa_detach), InnoDB only later in THD::free_connection
// (trx_disconnect_prepared). The lock by which we see a session leave is given up between the two.
//
// Those who wait share one look, if it began after they came.
type census struct {
	turn  chan struct{} // holds one token while somebody looks
	began time.Time     // of the last look that found nobody; belongs to the holder of turn
}

// settled returns when no session that had given up its lock before the call can still hold a branch. It needs the privilege PROCESS;
// without it, it waits for grace. The caller holds no connection meanwhile.
func (r *Resource) settled(ctx context.Context) error {
	came := time.Now()
	select {
	case r.census.turn <- struct{}{}:
	case <-ctx.Done():
		return errors.Join(errBusy, context.Cause(ctx))
	}
	defer func() { <-r.census.turn }()
	if r.census.began.After(came) {
		return nil
	}
	began := time.Now()
	err := r.privileged(ctx, func(c *conn) error { return c.census(ctx) })
	if number(err) == errDenied {
		err = pause(ctx, grace)
	}
	if err == nil {
		r.census.began = began
	}
	return err
}

// census waits for sessions that InnoDB still counts as the owner of a transaction, but which are no more or are being ended.
func (c *conn) census(ctx context.Context) error {
	err := poll(ctx, func() (bool, error) {
		var got sql.NullBool
		err := c.QueryRowContext(ctx, "SELECT GET_LOCK(?, 1)", censusLock).Scan(&got)
		return got.Bool, err
	})
	if err != nil {
		return err
	}
	for began := time.Now(); ; {
		present, leaving, err := c.look(ctx)
		over := present && leaving == 0 || !present && time.Since(began) > grace
		if err == nil && !over {
			err = pause(ctx, staleness)
			if err == nil {
				continue
			}
		}
		return errors.Join(err, c.exec(ctx, "DO RELEASE_LOCK(?)", censusLock))
	}
}

// look reads INNODB_TRX once. The copy that the server shows is of the present if it shows this very query.
func (c *conn) look(ctx context.Context) (present bool, leaving int, err error) {
	if err := c.exec(ctx, "START TRANSACTION WITH CONSISTENT SNAPSHOT"); err != nil {
		return false, 0, err
	}
	mark := fmt.Sprintf("%%%d-%d%%", time.Now().UnixNano(), c.id)
	err = c.QueryRowContext(ctx, `SELECT COALESCE(SUM(t.trx_query LIKE ?), 0) > 0,
		COALESCE(SUM(t.trx_state = 'RUNNING' AND t.trx_mysql_thread_id <> 0 AND (p.ID IS NULL OR p.COMMAND = 'Killed')), 0)
		FROM information_schema.INNODB_TRX t LEFT JOIN information_schema.PROCESSLIST p ON p.ID = t.trx_mysql_thread_id`, mark).
		Scan(&present, &leaving)
	return present, leaving, errors.Join(err, c.exec(ctx, "COMMIT"))
}

// pause waits for d unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return errors.Join(errBusy, context.Cause(ctx))
	}
}
