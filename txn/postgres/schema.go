package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/txn"
)

// decisionTable is where decisions are kept. It is always written with its schema: what a search_path finds is somebody else's. Nor is
// the schema to be found there: named fdt it would be the first that a role of that name looks into, and makes its own tables in.
const decisionTable = "fdt_txn.decision"

// decisionColumns and decisionKey are the shape of the table, in the words of pg_attribute and pg_get_constraintdef. A later version may
// add columns that may be null.
var decisionColumns = []string{
	"log_id uuid", "incarnation bigint", "sequence bigint", `outcome "char"`, "note bytea", "at timestamp with time zone",
}

const decisionKey = "PRIMARY KEY (log_id, incarnation, sequence)"

// errNoDecisions says that the table is not as it must be.
var errNoDecisions = errors.New("decisions cannot be kept here")

// DeciderSQL is what makes the schema and the table of decisions, and lets role use it; run again it changes nothing. It is for the
// owner of the database or a superuser.
//
// Rows live for a second or so. So vacuum comes by their number and not by the table's size, which would have it wait for ever on a table
// that has grown once, and does not take the lock that giving back the table's end needs. ANALYZE tells the planner that it is small, and
// not unknown, which has it read the whole table for each DELETE. Each worker inserts in a place of the index of its own, and
// room in its leaves keeps them from being split at every one.
func DeciderSQL(role string) []string {
	to := pgx.Identifier{role}.Sanitize()
	return []string{
		"CREATE SCHEMA IF NOT EXISTS fdt_txn",
		`CREATE TABLE IF NOT EXISTS ` + decisionTable + ` (
    log_id      uuid        NOT NULL,  -- of the transaction log: rows of another, as after a restore, mean nothing here
    incarnation bigint      NOT NULL,
    sequence    bigint      NOT NULL,
    outcome     "char"      NOT NULL CHECK (outcome IN ('C', 'A')),  -- commit, abort
    note        bytea,
    at          timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (log_id, incarnation, sequence) WITH (fillfactor = 70)
) WITH (fillfactor = 90, vacuum_truncate = off,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000)`,
		"GRANT USAGE ON SCHEMA fdt_txn TO " + to,
		"GRANT INSERT, SELECT, DELETE ON " + decisionTable + " TO " + to,
		"ANALYZE " + decisionTable,
	}
}

// Role is whom the resource connects as.
func (r *Resource) Role() string { return r.config.User }

// InitDecider makes what DeciderSQL does, with the resource's own privileges.
func (r *Resource) InitDecider(ctx context.Context) error {
	return r.privileged(ctx, func(c *conn) error {
		for _, text := range DeciderSQL(r.Role()) {
			if _, err := c.pg.Exec(ctx, text); err != nil {
				return fmt.Errorf("%s: %w", strings.SplitN(text, "\n", 2)[0], err)
			}
		}
		return nil
	})
}

// decisions is what a decider asks the server about the table.
type decisions struct {
	there                           bool
	kind, persistence, columns, key string
	usage, insert, selects, deletes bool
	triggers, policies              bool
	published                       []string
}

// CanDecide tells why decisions cannot be kept, and what to do about it.
func (r *Resource) CanDecide(ctx context.Context) error {
	_, err := r.checkDecisions(ctx)
	return err
}

// checkDecisions is CanDecide, with what does not keep decisions from being kept.
func (r *Resource) checkDecisions(ctx context.Context) (warnings []string, err error) {
	err = r.privileged(ctx, func(c *conn) error {
		d, err := c.decisions(ctx)
		if err == nil {
			err = d.judge(r.opt.Name, r.Role())
		}
		warnings = d.warnings("resource " + r.opt.Name)
		return err
	})
	return warnings, err
}

// decisions looks at the table.
func (c *conn) decisions(ctx context.Context) (d decisions, err error) {
	err = c.pg.QueryRow(ctx, `SELECT true, c.relkind::text, c.relpersistence::text,
		(SELECT coalesce(string_agg(a.attname || ' ' || format_type(a.atttypid, NULL), ', ' ORDER BY a.attnum), '')
			FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
		coalesce((SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p'), ''),
		has_schema_privilege(n.oid, 'USAGE'), has_table_privilege(c.oid, 'INSERT'), has_table_privilege(c.oid, 'SELECT'), has_table_privilege(c.oid, 'DELETE'),
		EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal), row_security_active(c.oid),
		ARRAY(SELECT pubname::text FROM pg_publication_tables WHERE schemaname = 'fdt_txn' AND tablename = 'decision' ORDER BY 1)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'fdt_txn' AND c.relname = 'decision'`).
		Scan(&d.there, &d.kind, &d.persistence, &d.columns, &d.key, &d.usage, &d.insert, &d.selects, &d.deletes, &d.triggers, &d.policies, &d.published)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return d, err
}

// judge tells what is wrong with the table, as far as that keeps decisions from being kept.
func (d *decisions) judge(resource, role string) error {
	no := func(format string, args ...any) error {
		return txn.Refused.Mark(fmt.Errorf("%w: %s", errNoDecisions, fmt.Sprintf(format, args...)))
	}
	has := strings.Split(d.columns, ", ")
	lacks := slices.DeleteFunc(slices.Clone(decisionColumns), func(c string) bool { return slices.Contains(has, c) })
	switch {
	case !d.there:
		return no("there is no table %s: run fdtctl decider init %s", decisionTable, resource)
	case d.kind != "r" || d.persistence != "p" || len(lacks) > 0 || d.key != decisionKey || d.triggers || d.policies:
		return no("%s is not the table that fdtctl decider init makes (kind %s, persistence %s, columns %s, %s, triggers %t, row security %t): "+
			"drop it when nothing is open, and run fdtctl decider init %s", decisionTable, d.kind, d.persistence, d.columns, d.key, d.triggers, d.policies, resource)
	case !d.usage || !d.insert || !d.selects || !d.deletes:
		return no("role %s lacks a privilege on %s: have an administrator run what fdtctl decider init --print %s prints", role, decisionTable, resource)
	}
	return nil
}

// warnings are what does not keep decisions from being kept.
func (d *decisions) warnings(name string) (list []string) {
	for _, p := range d.published {
		list = append(list, fmt.Sprintf("%s: the publication %s sends each decision to its subscribers, who have no use for it: name the tables that it is to publish instead of all",
			name, pgx.Identifier{p}.Sanitize()))
	}
	return list
}
