package postgres

import (
	"errors"
	"testing"

	"github.com/fdtserver/fdt/txn"
)

// What the server would refuse, in a transaction or with its vote, is found without running it, and nothing else is.
func TestTryRefused(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	admin(t, "a", "CREATE TABLE IF NOT EXISTS into_temp (id int)", "GRANT ALL ON into_temp TO app", "GRANT CREATE ON SCHEMA public TO app")
	const fine, prepare, run = "fine", "prepare", "run"
	for statement, refused := range map[string]string{
		"VACUUM": run, "vacuum " + acc: run, "/* x */ CREATE DATABASE d": run, "DROP DATABASE IF EXISTS d": run, "ALTER SYSTEM SET work_mem = '1MB'": run, "DISCARD ALL": run,
		"CREATE INDEX CONCURRENTLY i ON " + acc + " (balance)": run, "DROP INDEX CONCURRENTLY " + acc + "_pkey": run, "REINDEX TABLE CONCURRENTLY " + acc: run,
		"REINDEX (verbose) INDEX CONCURRENTLY " + acc + "_pkey": run, "REINDEX DATABASE a": run,

		"NOTIFY x": prepare, "LISTEN x": prepare, "UNLISTEN *": fine, "-- tell\nSELECT pg_notify('a', 'b')": prepare, "CREATE TEMP TABLE t1 ()": prepare,
		"CREATE LOCAL TEMPORARY TABLE t2 ()": prepare, "SELECT 1 AS a INTO TEMP t3": prepare, "DECLARE c CURSOR WITH HOLD FOR SELECT 1": prepare,
		"CREATE TABLE pg_temp.t4 ()": prepare, "create or replace temp view v as select 1": prepare,

		"TRUNCATE " + acc: fine, "CREATE TABLE IF NOT EXISTS kept ()": fine, "SELECT 'NOTIFY, pg_notify(), INTO TEMP'": fine, "INSERT INTO into_temp VALUES (1)": fine,
		"ANALYZE " + acc: fine, "DECLARE c CURSOR FOR SELECT 1": fine, "REINDEX TABLE " + acc: fine, "SET LOCAL work_mem = '1MB'": fine, "LOCK TABLE " + acc: fine,
		"DO $$BEGIN PERFORM 'NOTIFY'; END$$": fine,
	} {
		b := enlist(t, r, txn.BranchOptions{})
		err := b.Try(t.Context(), statement)
		_, one := errors.AsType[interface {
			error
			OnePhase()
		}](err)
		if got := errors.Is(err, errAlone); got != (refused == run) || one != (refused == prepare) || err != nil && refused == fine {
			t.Errorf("%s was tried: %v", statement, err)
		}
		must(t, b.Rollback(t.Context()))
		b = enlist(t, r, txn.BranchOptions{})
		_, ran := b.Exec(t.Context(), statement, nil)
		vote, err := b.Prepare(t.Context(), b.opt.GID)
		if (ran != nil) != (refused == run) || (vote == txn.VotePrepared) != (refused == fine) {
			t.Errorf("%s was run: %v; the vote is %v, %v", statement, ran, vote, err)
		}
		must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
	}
}
