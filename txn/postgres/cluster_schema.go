package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/txn"
)

// clusterVersion is that of the tables. A later one may add columns that may be null, and raises min_reader where that does not do.
const clusterVersion = 1

var errNoCluster = errors.New("there is no cluster here")

// ClusterSQL is what makes the tables of a cluster beside those of DeciderSQL, and lets role use them; run again it changes nothing, but
// that the last statement makes the cluster, with a name of its own, if there is none.
func ClusterSQL(role string) []string {
	to := pgx.Identifier{role}.Sanitize()
	busy := "WITH (fillfactor = 70, vacuum_truncate = off, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, " +
		"autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000)"
	return append(DeciderSQL(role),
		`CREATE TABLE IF NOT EXISTS fdt_txn.cluster (
    one        boolean     PRIMARY KEY DEFAULT true CHECK (one),
    log_id     uuid        NOT NULL DEFAULT pg_catalog.gen_random_uuid(),  -- part of every gid
    version    integer     NOT NULL,
    min_reader integer     NOT NULL,
    store      text,                        -- the database that it was made in: a copy of it is not the cluster
    highest    bigint      NOT NULL DEFAULT 0,  -- incarnation ever given away
    made       timestamptz NOT NULL DEFAULT pg_catalog.now()
)`,
		`CREATE TABLE IF NOT EXISTS fdt_txn.skipped (
    first bigint PRIMARY KEY,  -- incarnations that were never given away here
    last  bigint NOT NULL
)`,
		`CREATE TABLE IF NOT EXISTS fdt_txn.incarnation (
    number  bigint      PRIMARY KEY,
    host    text        NOT NULL,
    program text        NOT NULL,
    began   timestamptz NOT NULL DEFAULT pg_catalog.now(),
    beat    timestamptz NOT NULL,
    dead    timestamptz
) `+busy,
		`CREATE TABLE IF NOT EXISTS fdt_txn.record (
    incarnation bigint NOT NULL,
    place       bigint NOT NULL,
    kind        text   NOT NULL,
    gid         text,
    record      bytea  NOT NULL,
    PRIMARY KEY (incarnation, place)
) `+busy,
		"CREATE INDEX IF NOT EXISTS record_gid ON fdt_txn.record (gid)",
		`CREATE TABLE IF NOT EXISTS fdt_txn.claim (
    name      text   PRIMARY KEY,
    state     bytea  NOT NULL,
    owner     bytea  NOT NULL,
    standing  "char" NOT NULL,  -- what it counts as
    resources text[] NOT NULL   -- of a transaction in doubt
) `+busy,
		`CREATE TABLE IF NOT EXISTS fdt_txn.fact (
    name    text        PRIMARY KEY,
    content bytea       NOT NULL,
    at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
)`,
		"GRANT SELECT, UPDATE ON fdt_txn.cluster TO "+to,
		"GRANT SELECT, INSERT, UPDATE, DELETE ON fdt_txn.skipped, fdt_txn.incarnation, fdt_txn.record, fdt_txn.claim, fdt_txn.fact TO "+to,
		fmt.Sprintf(`INSERT INTO fdt_txn.cluster (version, min_reader, store) SELECT %d, %[1]d,
    concat_ws('/', c.system_identifier, ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int, d.oid, d.datname)
    FROM pg_control_system() c, pg_database d WHERE d.datname = current_database() ON CONFLICT DO NOTHING`, clusterVersion),
	)
}

// InitCluster makes what ClusterSQL does, with the resource's own privileges. An error also says that the tables which are there cannot be
// used.
func (r *Resource) InitCluster(ctx context.Context) error {
	err := r.privileged(ctx, func(c *conn) error {
		for _, text := range ClusterSQL(r.Role()) {
			if _, err := c.pg.Exec(ctx, text); err != nil {
				return fmt.Errorf("%s: %w", strings.SplitN(text, "\n", 2)[0], err)
			}
		}
		return nil
	})
	if err == nil {
		_, err = r.clusterID(ctx)
	}
	return err
}

// clusterID tells which cluster the database has, and whether this program may take part in it.
func (r *Resource) clusterID(ctx context.Context) (id txn.LogID, err error) {
	err = r.privileged(ctx, func(c *conn) error {
		var name, store string
		var version, reader int
		err := c.pg.QueryRow(ctx, "SELECT replace(log_id::text, '-', ''), version, min_reader, coalesce(store, '') FROM fdt_txn.cluster").Scan(&name, &version, &reader, &store)
		switch code(err) {
		case "42P01", "3F000":
			return txn.Refused.Mark(fmt.Errorf("%w: run fdtctl cluster init %s (%w)", errNoCluster, r.opt.Name, err))
		case "42501":
			return txn.Refused.Mark(fmt.Errorf("%w: have an administrator run what fdtctl cluster init --print %s prints", err, r.opt.Name))
		}
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return txn.Refused.Mark(fmt.Errorf("%w: run fdtctl cluster init %s", errNoCluster, r.opt.Name))
		case err != nil:
			return err
		case reader > clusterVersion:
			return txn.Refused.Mark(fmt.Errorf("the tables of the cluster are of version %d, and this program knows %d: install a newer fdt", version, clusterVersion))
		case !r.Succeeds(c.identity, store):
			return txn.Refused.Mark(fmt.Errorf("the cluster %s was made in the database %s, and this is %s: a copy of the tables is not the cluster; drop them here, and run fdtctl cluster init %s",
				name, store, c.identity, r.opt.Name))
		}
		return id.UnmarshalText([]byte(name))
	})
	if err != nil && !definite(err) && !errors.Is(err, errNoCluster) && txn.ClassOf(err) != txn.Refused {
		err = fmt.Errorf("%w: %w", txn.ErrUnreachable, err)
	}
	return id, err
}
