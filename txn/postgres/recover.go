package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/txn"
)

// terminateWait is how long the server waits for one session to end, in milliseconds, before it is told again.
const terminateWait = 2000

var (
	errInProgress = txn.Busy.Mark(errors.New("its session has not ended yet"))
	errNoProof    = errors.New("the outcome is not known to the server")
)

// InDoubt lists the prepared branches of this resource that carry id, from pg_prepared_xacts.
func (r *Resource) InDoubt(ctx context.Context, id txn.LogID) ([]txn.PreparedBranch, error) {
	return r.prepared(ctx, "starts_with(gid, $1)", id)
}

// InDoubtOfOthers lists the prepared branches of this resource that do not carry id.
func (r *Resource) InDoubtOfOthers(ctx context.Context, id txn.LogID) ([]txn.PreparedBranch, error) {
	return r.prepared(ctx, "NOT starts_with(gid, $1)", id)
}

func (r *Resource) prepared(ctx context.Context, condition string, id txn.LogID) ([]txn.PreparedBranch, error) {
	var found []txn.PreparedBranch
	err := r.privileged(ctx, func(c *conn) error {
		found = nil
		rows, err := c.pg.Query(ctx, `SELECT gid, prepared FROM pg_prepared_xacts
			WHERE database = current_database() AND `+condition+` ORDER BY prepared`, "fdt1-"+id.String()+"-")
		if err != nil {
			return err
		}
		var text string
		var since time.Time
		_, err = pgx.ForEachRow(rows, []any{&text, &since}, func() error {
			if gid, ok := r.parse(text); ok {
				found = append(found, txn.PreparedBranch{GID: gid, Since: since})
			}
			return nil
		})
		return err
	})
	return found, err
}

// parse reads a gid that this resource wrote.
func (r *Resource) parse(text string) (txn.GID, bool) {
	text, ok := strings.CutSuffix(text, "/"+r.opt.Name)
	if !ok {
		return txn.GID{}, false
	}
	gid, err := txn.ParseGID(text)
	return gid, err == nil
}

// Resolve tells a branch the decision. Where it is not prepared, its xid8 is the proof of how it ended; if it has not ended and is to
// abort, the session that may yet prepare it is ended first.
func (r *Resource) Resolve(ctx context.Context, gid txn.GID, d txn.Decision, proof txn.Proof) (found txn.Resolution, err error) {
	err = r.privileged(ctx, func(c *conn) error {
		status, err := c.tell(ctx, r.gid(gid), d, proof)
		if err == nil && d == txn.Abort && (status == "in progress" || status == "") {
			var ended bool
			if ended, err = c.endSession(ctx, proof); ended { // it may have prepared the branch at the last moment
				status, err = c.tell(ctx, r.gid(gid), d, proof)
			}
		}
		if err == nil {
			found, err = resolution(status, d)
		}
		return err
	})
	return found, err
}

// tell tells a prepared branch the decision, and returns the status of its xid8: that which was decided if it was prepared.
func (c *conn) tell(ctx context.Context, gid string, d txn.Decision, proof txn.Proof) (status string, err error) {
	verb := map[txn.Decision]string{txn.Commit: "COMMIT PREPARED", txn.Abort: "ROLLBACK PREPARED"}[d]
	err = c.finish(ctx, verb+" "+literal(gid), verb)
	if code(err) == "42704" { // undefined_object
		return c.status(ctx, proof)
	}
	return map[txn.Decision]string{txn.Commit: "committed", txn.Abort: "aborted"}[d], err
}

// endSession ends the session that a proof names, and tells whether there was one. It is not in a pool: branches give a session back when
// their transaction has ended, and then the status of the xid8 says so.
func (c *conn) endSession(ctx context.Context, proof txn.Proof) (ended bool, err error) {
	pid, start, ok := sessionOf(proof)
	if !ok {
		return false, nil
	}
	var n int
	err = c.pg.QueryRow(ctx, `SELECT count(pg_terminate_backend(pid, $1)) FROM pg_stat_activity
		WHERE pid = $2 AND (extract(epoch FROM backend_start) * 1000000)::bigint = $3 AND wait_event IS DISTINCT FROM 'SyncRep'`,
		terminateWait, pid, start).Scan(&n)
	return n > 0, err
}

// resolution judges a branch that is not prepared by the status of its xid8, empty if there is none.
func resolution(status string, d txn.Decision) (txn.Resolution, error) {
	ended := map[string]txn.Decision{"committed": txn.Commit, "aborted": txn.Abort}[status]
	switch {
	case status == "in progress":
		// Late: prepared or undone in a moment, by a session that lives.
		return 0, errInProgress
	case ended == d:
		return txn.ResolvedDone, nil
	case ended != 0:
		return txn.ResolvedAgainst, nil
	case d == txn.Abort:
		return txn.ResolvedDone, nil
	default:
		return txn.ResolvedUnknown, nil
	}
}

// status is pg_xact_status of a proof, and of a committed one only once that is durable. It is empty without a proof, and for an xid8 that
// proves nothing here, is too old to be known, or one of the future, as after a restore.
func (c *conn) status(ctx context.Context, proof txn.Proof) (string, error) {
	if proof == "" {
		return "", nil
	}
	xid, ok, err := c.era.meaning(proof)
	if err != nil || !ok {
		return "", err
	}
	var status *string
	err = c.pg.QueryRow(ctx, "SELECT pg_xact_status($1::text::xid8)", xid).Scan(&status)
	if code(err) == "22023" { // transaction ID is in the future
		return "", nil
	}
	if err != nil || status == nil {
		return "", err
	}
	if *status == "committed" {
		err = c.replicated(ctx)
	}
	return *status, err
}

// Outcome tells how a branch ended whose reply to Commit was lost.
func (r *Resource) Outcome(ctx context.Context, gid txn.GID, proof txn.Proof) (d txn.Decision, err error) {
	err = r.privileged(ctx, func(c *conn) error {
		status, err := c.status(ctx, proof)
		if err != nil {
			return err
		}
		switch status {
		case "committed":
			d = txn.Commit
		case "aborted":
			d = txn.Abort
		case "in progress":
			return fmt.Errorf("%s: %w", gid, errInProgress)
		default:
			return fmt.Errorf("%s: %w", gid, errNoProof)
		}
		return nil
	})
	return d, err
}

// Fence ends every session of the incarnation and returns when all are gone, but for those that only wait for a standby.
func (r *Resource) Fence(ctx context.Context, id txn.LogID, incarnation uint64) error {
	return r.end(ctx, "application_name = $1", appName(id, incarnation))
}

// end terminates the sessions that condition selects, until there are none. One that waits for a synchronous standby has carried out what
// it was told and can do nothing more; to end it would show others a commit that the standby lacks.
func (r *Resource) end(ctx context.Context, condition string, args ...any) error {
	text := fmt.Sprintf("SELECT count(pg_terminate_backend(pid, %d)) FROM pg_stat_activity WHERE %s AND pid <> pg_backend_pid() AND wait_event IS DISTINCT FROM 'SyncRep'", terminateWait, condition)
	return r.privileged(ctx, func(c *conn) error {
		for {
			var n int
			if err := c.pg.QueryRow(ctx, text, args...).Scan(&n); err != nil {
				return fmt.Errorf("ending sessions: %w", err)
			}
			if n == 0 {
				return nil
			}
		}
	})
}
