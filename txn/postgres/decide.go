package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/internal/pool"
)

// outcomes are the decisions as the table has them.
var outcomes = map[txn.Decision]string{txn.Commit: "C", txn.Abort: "A"}

// decided is the decision of an outcome.
func decided(outcome string) (txn.Decision, error) {
	for d, text := range outcomes {
		if text == outcome {
			return d, nil
		}
	}
	return 0, fmt.Errorf("%s has an outcome %q of a newer version", decisionTable, outcome)
}

// insertDecision makes the transaction last as lasting does, in one statement with the decision: each costs the server about as much as
// reading a row.
const insertDecision = "INSERT INTO " + decisionTable + " (log_id, incarnation, sequence, outcome, note) " +
	"SELECT $1, $2, $3, 'C', $4 FROM pg_catalog.set_config('synchronous_commit', $5, true)"

// lasting sets a transaction's synchronous_commit. A statement before it, or the role's or the database's setting, may have it off, which
// loses in a crash what was answered; PREPARE TRANSACTION is on disk all the same, and a decision must be as durable as what follows it.
func (c *conn) lasting() string { return "SET LOCAL synchronous_commit = " + c.level }

// levelOf is the level of a session's setting that a decision is made durable at.
func levelOf(setting string) string {
	if setting == "off" {
		return "local"
	}
	return setting
}

// CommitDeciding is the commit with the decision in it, one round trip with one force. Where the decision cannot be inserted, the server
// passes over the COMMIT behind it, and a transaction that has failed without our knowledge answers ROLLBACK.
func (b *Branch) CommitDeciding(ctx context.Context, gid txn.GID, note []byte) error {
	if err := b.votable(ctx); err != nil {
		return err
	}
	if err := b.begun(ctx); err != nil {
		return err
	}
	err := b.c.concludeWith(ctx, []txn.Statement{
		{SQL: insertDecision, Args: []any{gid.Log.String(), int64(gid.Incarnation), int64(gid.Sequence), `\x` + hex.EncodeToString(note), b.c.level}},
	}, "COMMIT", "COMMIT")
	switch {
	case err == nil:
		b.release()
		return nil
	case definite(err):
		b.release()
		return b.fault("commit with the decision", b.refusal(err))
	}
	b.lose()
	// The session must end before Decide can tell; where this fails, that waits for it.
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	_ = b.terminate(ctx)
	return b.fault("commit with the decision", errors.Join(txn.ErrUnknownOutcome, &pool.Lost{Err: err}))
}

// refusal says what keeps a decision from being inserted.
func (b *Branch) refusal(err error) error {
	switch code(err) {
	case "23505":
		if said(err).ConstraintName == "decision_pkey" {
			err = fmt.Errorf("%w, which somebody has decided who took its worker for dead (%w)", txn.ErrRolledBack, err)
		}
	case "42P01", "3F000", "42501":
		err = fmt.Errorf("%w; see fdtctl decider init %s, and whether a statement before has changed the role", err, b.r.opt.Name)
	}
	return err
}

// sorted groups transactions by their incarnation.
func sorted(gids []txn.GID) map[txn.GID][]int64 {
	by := map[txn.GID][]int64{}
	for _, gid := range gids {
		of := txn.GID{Log: gid.Log, Incarnation: gid.Incarnation}
		by[of] = append(by[of], int64(gid.Sequence))
	}
	return by
}

// batch bounds how many decisions one statement is about.
const batch = 1000

// keep runs f in a transaction of its own, durable when it returns.
func (c *conn) keep(ctx context.Context, f func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, c.pg, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, c.lasting())
		if err == nil {
			err = f(tx)
		}
		return err
	})
}

// Decide decides about what has no decision. It waits for a transaction that has inserted one and has not ended. What it finds may be
// of a session that was ended while it waited for a standby, which then has not got it: nobody may act on it before something that was
// committed later is known to be there, too.
func (r *Resource) Decide(ctx context.Context, d txn.Decision, gids ...txn.GID) (stand map[txn.GID]txn.Decision, err error) {
	err = r.privileged(ctx, func(c *conn) error {
		stand = map[txn.GID]txn.Decision{}
		for of, all := range sorted(gids) {
			for some := range slices.Chunk(all, batch) {
				if err := c.keep(ctx, func(tx pgx.Tx) error {
					_, err := tx.Exec(ctx, "INSERT INTO "+decisionTable+" (log_id, incarnation, sequence, outcome) SELECT $1, $2, s, $4 FROM unnest($3::bigint[]) s ON CONFLICT DO NOTHING",
						of.Log.String(), int64(of.Incarnation), some, outcomes[d])
					return err
				}); err != nil {
					return fmt.Errorf("decide: %w", err)
				}
				if err := c.read(ctx, of, "AND sequence = ANY ($3)", func(n txn.NotedDecision) { stand[n.GID] = n.Decision }, some); err != nil {
					return err
				}
			}
		}
		return c.replicated(ctx)
	})
	return stand, err
}

// Decisions lists an incarnation's.
func (r *Resource) Decisions(ctx context.Context, id txn.LogID, incarnation uint64) (list []txn.NotedDecision, err error) {
	err = r.privileged(ctx, func(c *conn) error {
		list = nil
		if err := c.read(ctx, txn.GID{Log: id, Incarnation: incarnation}, "", func(n txn.NotedDecision) { list = append(list, n) }); err != nil {
			return err
		}
		return c.replicated(ctx)
	})
	return list, err
}

// read yields decisions about an incarnation's transactions.
func (c *conn) read(ctx context.Context, of txn.GID, and string, yield func(txn.NotedDecision), args ...any) error {
	rows, err := c.pg.Query(ctx, "SELECT sequence, outcome::text, note FROM "+decisionTable+" WHERE log_id = $1 AND incarnation = $2 "+and,
		append([]any{of.Log.String(), int64(of.Incarnation)}, args...)...)
	if err != nil {
		return fmt.Errorf("read decisions: %w", err)
	}
	var sequence int64
	var outcome string
	var note []byte
	_, err = pgx.ForEachRow(rows, []any{&sequence, &outcome, &note}, func() error {
		d, err := decided(outcome)
		gid := txn.GID{Log: of.Log, Incarnation: of.Incarnation, Sequence: uint64(sequence), Role: txn.RoleLocal}
		yield(txn.NotedDecision{GID: gid, Decision: d, Note: slices.Clone(note)})
		return err
	})
	if err != nil {
		return fmt.Errorf("read decisions: %w", err)
	}
	return nil
}

// DropDecisions deletes decisions by their keys. A plan that reads the whole table would be slow, and on one that was never analysed it
// is what the planner likes.
func (r *Resource) DropDecisions(ctx context.Context, gids ...txn.GID) error {
	return r.privileged(ctx, func(c *conn) error {
		for of, all := range sorted(gids) {
			for some := range slices.Chunk(all, batch) {
				if err := c.keep(ctx, func(tx pgx.Tx) error {
					_, err := tx.Exec(ctx, "SET LOCAL enable_seqscan = off")
					if err == nil {
						_, err = tx.Exec(ctx, "DELETE FROM "+decisionTable+" WHERE log_id = $1 AND incarnation = $2 AND sequence = ANY ($3)",
							of.Log.String(), int64(of.Incarnation), some)
					}
					return err
				}); err != nil {
					return fmt.Errorf("drop decisions: %w", err)
				}
			}
		}
		return nil
	})
}
