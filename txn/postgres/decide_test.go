package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// decider returns a resource that may do in the table of decisions what it needs to, and no more; and a table of accounts beside it.
func decider(t *testing.T, opt Options) (*Resource, string) {
	t.Helper()
	for _, text := range DeciderSQL("app") {
		admin(t, "a", text)
	}
	opt.Decider = true
	return open(t, opt), table(t, "a")
}

// rows are the decisions about a transaction, as everybody sees them.
func rows(t *testing.T, gid txn.GID) string {
	t.Helper()
	return value(t, "a", fmt.Sprintf("SELECT coalesce(string_agg(outcome::text, ''), '') FROM fdt_txn.decision WHERE log_id = '%s' AND incarnation = %d AND sequence = %d",
		gid.Log, gid.Incarnation, gid.Sequence))
}

func decide(t *testing.T, r *Resource, gid txn.GID) txn.Decision {
	t.Helper()
	stand, err := r.Decide(t.Context(), txn.Abort, gid)
	must(t, err)
	return stand[gid]
}

// The decision and the branch are committed together, the first decision stands, and it is dropped by its key.
func TestCommitDeciding(t *testing.T) {
	r, accounts := decider(t, Options{})
	for range 2 { // the second time the statement is prepared
		b := enlist(t, r, txn.BranchOptions{})
		gid := b.opt.GID
		exec(t, b, "UPDATE "+accounts+" SET balance = balance - 1 WHERE id = 1")
		must(t, b.Savepoint(t.Context(), "s1"))
		must(t, b.CommitDeciding(t.Context(), gid, []byte("note \x00")))
		if d := decide(t, r, gid); d != txn.Commit {
			t.Errorf("%s stands", d)
		}
		list, err := r.Decisions(t.Context(), gid.Log, gid.Incarnation)
		if err != nil || len(list) != 1 || list[0].GID != gid || list[0].Decision != txn.Commit || string(list[0].Note) != "note \x00" {
			t.Errorf("Decisions = %v, %v", list, err)
		}
		must(t, r.DropDecisions(t.Context(), gid))
		must(t, r.DropDecisions(t.Context(), gid))
		if left := rows(t, gid); left != "" {
			t.Errorf("left: %s", left)
		}
	}
	if is := value(t, "a", "SELECT balance::text FROM "+accounts+" WHERE id = 1"); is != "98" {
		t.Errorf("balance %s", is)
	}
	empty := enlist(t, r, txn.BranchOptions{}) // nothing was done in it
	must(t, empty.CommitDeciding(t.Context(), empty.opt.GID, nil))
	if is := rows(t, empty.opt.GID); is != "C" {
		t.Errorf("decided %q", is)
	}
}

// Whoever has decided to roll back was first, whatever the branch's snapshot shows.
func TestDecidedBefore(t *testing.T) {
	r, accounts := decider(t, Options{})
	for _, level := range []txn.Isolation{txn.IsolationDefault, txn.RepeatableRead, txn.Serializable} {
		b := enlist(t, r, txn.BranchOptions{Isolation: level})
		exec(t, b, "UPDATE "+accounts+" SET balance = balance - 1 WHERE id = 1")
		if d := decide(t, r, b.opt.GID); d != txn.Abort {
			t.Fatalf("%s stands", d)
		}
		err := b.CommitDeciding(t.Context(), b.opt.GID, nil)
		if !errors.Is(err, txn.ErrRolledBack) || txn.InDoubt(err) || txn.SQLState(err) != "40000" {
			t.Errorf("%s: %v", level, err)
		}
		if is := value(t, "a", "SELECT balance::text FROM "+accounts+" WHERE id = 1"); is != "100" {
			t.Errorf("%s: balance %s", level, is)
		}
	}
}

// Two transactions with decisions of their own do not conflict by them, at any level.
func TestDecidingApart(t *testing.T) {
	r, _ := decider(t, Options{})
	gids := []txn.GID{newGID(txn.RoleLocal), newGID(txn.RoleLocal)}
	gids[1].Incarnation = gids[0].Incarnation
	var list []*Branch
	for _, gid := range gids {
		b := enlist(t, r, txn.BranchOptions{GID: gid, Isolation: txn.Serializable})
		exec(t, b, "SELECT 1")
		list = append(list, b)
	}
	for i, b := range list {
		must(t, b.CommitDeciding(t.Context(), gids[i], nil))
	}
}

// What the server finds at COMMIT is a vote against the whole transaction: nothing is decided.
func TestRefusedAtCommit(t *testing.T) {
	r, accounts := decider(t, Options{})
	admin(t, "a", "UPDATE "+accounts+" SET balance = 101 WHERE id = 2", "ALTER TABLE "+accounts+" ADD CONSTRAINT once UNIQUE (balance) DEFERRABLE INITIALLY DEFERRED, ALTER COLUMN balance DROP NOT NULL")
	refused := func(b *Branch, state string) {
		t.Helper()
		err := b.CommitDeciding(t.Context(), b.opt.GID, nil)
		if txn.SQLState(err) != state || txn.InDoubt(err) {
			t.Errorf("%v, want %s", err, state)
		}
		if is := rows(t, b.opt.GID); is != "" {
			t.Errorf("decided %q", is)
		}
		if d := decide(t, r, b.opt.GID); d != txn.Abort {
			t.Errorf("%s stands", d)
		}
	}
	b := enlist(t, r, txn.BranchOptions{})
	exec(t, b, "UPDATE "+accounts+" SET balance = 101")
	refused(b, "23505")

	one := enlist(t, r, txn.BranchOptions{Isolation: txn.Serializable})
	two := enlist(t, r, txn.BranchOptions{Isolation: txn.Serializable})
	for i, b := range []*Branch{one, two} { // each reads what the other writes
		exec(t, b, "SELECT sum(balance) FROM "+accounts)
		exec(t, b, fmt.Sprintf("UPDATE %s SET balance = balance + %d WHERE id = %d", accounts, 10*(i+1), i+1))
	}
	must(t, one.CommitDeciding(t.Context(), one.opt.GID, nil))
	refused(two, "40001")

	failed := enlist(t, r, txn.BranchOptions{})
	exec(t, failed, "UPDATE "+accounts+" SET balance = 7 WHERE id = 1")
	if _, err := failed.Exec(t.Context(), "SELECT 1/0", nil); err == nil {
		t.Fatal("no error")
	}
	refused(failed, "25P02")

	role := enlist(t, r, txn.BranchOptions{})
	admin(t, "a", "DROP ROLE IF EXISTS nobody_of_fdt", "CREATE ROLE nobody_of_fdt", "GRANT nobody_of_fdt TO app")
	exec(t, role, "SET ROLE nobody_of_fdt")
	refused(role, "42501")
}

// What a statement of the transaction has done to its session changes neither where the decision goes nor how durable it is.
func TestDecidingSessions(t *testing.T) {
	r, _ := decider(t, Options{Pool: 1})
	admin(t, "a", "CREATE SCHEMA IF NOT EXISTS decoy AUTHORIZATION app", "CREATE TABLE IF NOT EXISTS decoy.decision (LIKE fdt_txn.decision)")
	for _, sql := range []string{"SET LOCAL search_path = decoy, public", "SET search_path = decoy", "DEALLOCATE ALL", "SET LOCAL synchronous_commit = off", "SAVEPOINT other", "SELECT 1"} {
		b := enlist(t, r, txn.BranchOptions{})
		exec(t, b, sql)
		must(t, b.CommitDeciding(t.Context(), b.opt.GID, nil))
		if is := rows(t, b.opt.GID); is != "C" {
			t.Errorf("%s: decided %q", sql, is)
		}
	}
	if n := value(t, "a", "SELECT count(*)::text FROM decoy.decision"); n != "0" {
		t.Errorf("%s decisions went elsewhere", n)
	}
}

// A server that ends a session which waits for the others leaves nothing decided, and one that ends a statement which waits for
// another's decision, too.
func TestDecidingTimeouts(t *testing.T) {
	r, _ := decider(t, Options{})
	b := enlist(t, r, txn.BranchOptions{})
	exec(t, b, "SET LOCAL idle_in_transaction_session_timeout = '1ms'")
	pid, _, _ := strings.Cut(b.session, ".")
	testwait.Until(t, "the server has ended the session", func() bool {
		return value(t, "a", "SELECT count(*)::text FROM pg_stat_activity WHERE pid = "+pid) == "0"
	})
	if err := b.CommitDeciding(t.Context(), b.opt.GID, nil); !txn.InDoubt(err) {
		t.Errorf("%v, want in doubt", err)
	}
	if d := decide(t, r, b.opt.GID); d != txn.Abort {
		t.Errorf("%s stands", d)
	}

	taker, err := pgx.Connect(t.Context(), dsn("a"))
	must(t, err)
	defer func() { _ = taker.Close(context.Background()) }()
	b = enlist(t, r, txn.BranchOptions{})
	exec(t, b, "SET LOCAL statement_timeout = '10ms'")
	tx, err := taker.Begin(t.Context())
	must(t, err)
	_, err = tx.Exec(t.Context(), insertDecision, b.opt.GID.Log.String(), int64(b.opt.GID.Incarnation), int64(b.opt.GID.Sequence), nil, "on")
	must(t, err)
	if err := b.CommitDeciding(t.Context(), b.opt.GID, nil); txn.SQLState(err) != "57014" || txn.InDoubt(err) {
		t.Errorf("%v, want 57014", err)
	}
	must(t, tx.Rollback(t.Context()))
}

// Who decides to roll back waits for a commit that is under way, and wins when its session has ended.
func TestDecideWaits(t *testing.T) {
	r, _ := decider(t, Options{})
	owner, err := pgx.Connect(t.Context(), dsn("a"))
	must(t, err)
	defer func() { _ = owner.Close(context.Background()) }()
	gid := newGID(txn.RoleLocal)
	_, err = owner.Exec(t.Context(), "BEGIN")
	must(t, err)
	_, err = owner.Exec(t.Context(), insertDecision, gid.Log.String(), int64(gid.Incarnation), int64(gid.Sequence), nil, "on")
	must(t, err)
	done := make(chan txn.Decision, 1)
	go func() {
		stand, _ := r.Decide(context.WithoutCancel(t.Context()), txn.Abort, gid)
		done <- stand[gid]
	}()
	testwait.Until(t, "the other waits", func() bool {
		return value(t, "a", "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'transactionid' AND query LIKE '%fdt_txn.decision%'") != "0"
	})
	admin(t, "a", fmt.Sprintf("SELECT pg_terminate_backend(%d)", owner.PgConn().PID()))
	if d := testwait.For(t, "the decision", done); d != txn.Abort {
		t.Errorf("%s stands", d)
	}
}

// Whatever answer gets lost, Decide tells how it ended, and so do the accounts.
func TestDecidingLost(t *testing.T) {
	_, accounts := decider(t, Options{})
	outcomes := map[txn.Decision]int{}
	for at := 1; ; at++ {
		proxy, straight := proxyOfDecider(t)
		b := enlist(t, proxy.r, txn.BranchOptions{})
		requests := proxy.Lose(at)
		want := value(t, "a", "SELECT balance::text FROM "+accounts+" WHERE id = 1")
		_, err := b.Exec(t.Context(), "UPDATE "+accounts+" SET balance = balance - 1 WHERE id = 1", nil)
		if err == nil {
			err = b.CommitDeciding(t.Context(), b.opt.GID, nil)
		} else {
			must(t, b.Rollback(t.Context()))
		}
		d := decide(t, straight, b.opt.GID)
		is := value(t, "a", "SELECT balance::text FROM "+accounts+" WHERE id = 1")
		if (err == nil) != (d == txn.Commit) && !txn.InDoubt(err) || (is != want) != (d == txn.Commit) {
			t.Errorf("reply %d lost: %v, then %s stands, balance %s to %s", at, err, d, want, is)
		}
		outcomes[d]++
		if requests() < at {
			break
		}
	}
	if outcomes[txn.Commit] < 2 || outcomes[txn.Abort] == 0 {
		t.Errorf("outcomes: %v", outcomes)
	}
}

// passing is a resource behind a proxy.
type passing struct {
	*testdb.Proxy
	r *Resource
}

func proxyOfDecider(t *testing.T) (passing, *Resource) {
	p, far, straight := proxied(t, Options{})
	return passing{p, far}, straight
}

// A decision that a session has left behind which was ended while it waited for a standby is no decision yet: the standby has not got it.
// How durable it is does not depend on what the transaction has set.
func TestDecidingUnreplicated(t *testing.T) {
	s := newStandby(t)
	must(t, s.r.InitDecider(t.Context()))
	s.want("nobody")
	b := s.branch(txn.RoleLocal)
	exec(t, b, "SET LOCAL synchronous_commit = off")
	pid, _, _ := strings.Cut(b.session, ".")
	err := s.during(true, func(ctx context.Context) error { return b.CommitDeciding(ctx, b.opt.GID, nil) })
	if !txn.InDoubt(err) {
		t.Errorf("%v, want in doubt", err)
	}
	if n := s.ask("SELECT count(*)::text FROM fdt_txn.decision"); n != "1" {
		t.Fatalf("%s decisions are to be seen", n)
	}
	for _, ask := range []func(ctx context.Context) error{
		func(ctx context.Context) error { _, err := s.r.Decide(ctx, txn.Abort, b.opt.GID); return err },
		func(ctx context.Context) error {
			_, err := s.r.Decisions(ctx, b.opt.GID.Log, b.opt.GID.Incarnation)
			return err
		},
	} {
		if err := s.during(false, ask); err == nil {
			t.Error("an answer that the standby has not got")
		}
	}
	s.want("")
	if d := decide(t, s.r, b.opt.GID); d != txn.Commit {
		t.Errorf("%s stands (session %s)", d, pid)
	}
}

// A server with PostgreSQL's default of no prepared transactions can decide.
func TestDecidingWithoutPrepared(t *testing.T) {
	server, err := testdb.StartPostgres("max_prepared_transactions=0")
	must(t, err)
	t.Cleanup(func() { must(t, server.Close()) })
	r := open(t, Options{DSN: server.DSN("postgres"), Decider: true})
	if err := r.CanDecide(t.Context()); !errors.Is(err, errNoDecisions) || !strings.Contains(err.Error(), "fdtctl decider init bank") {
		t.Errorf("without the table: %v", err)
	}
	must(t, r.InitDecider(t.Context()))
	must(t, r.InitDecider(t.Context()))
	must(t, r.CanDecide(t.Context()))
	warnings, err := r.Check(t.Context())
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "max_prepared_transactions is 0") {
		t.Errorf("Check: %q, %v", warnings, err)
	}
	b := enlist(t, r, txn.BranchOptions{})
	must(t, b.CommitDeciding(t.Context(), b.opt.GID, nil))
	if d := decide(t, r, b.opt.GID); d != txn.Commit {
		t.Errorf("%s stands", d)
	}
	plain := open(t, Options{DSN: server.DSN("postgres")})
	if _, err := plain.Check(t.Context()); !errors.Is(err, ErrPreparedDisabled) {
		t.Errorf("Check of another: %v", err)
	}
}

// A table that is not as it must be is told of with what to do.
func TestDeciderTable(t *testing.T) {
	r, _ := decider(t, Options{})
	refused := func(what string, statements ...string) {
		t.Helper()
		admin(t, "a", statements...)
		err := r.CanDecide(t.Context())
		if !errors.Is(err, errNoDecisions) || txn.ClassOf(err) != txn.Refused || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want: %s", err, what)
		}
		if _, err := r.Check(t.Context()); !errors.Is(err, errNoDecisions) {
			t.Errorf("Check: %v", err)
		}
		admin(t, "a", "DROP SCHEMA IF EXISTS fdt_txn CASCADE")
		for _, text := range DeciderSQL("app") {
			admin(t, "a", text)
		}
		must(t, r.CanDecide(t.Context()))
	}
	refused("there is no table", "DROP TABLE fdt_txn.decision")
	for _, p := range []string{"INSERT", "SELECT", "DELETE"} {
		refused("decider init --print bank", "REVOKE "+p+" ON fdt_txn.decision FROM app")
	}
	refused("lacks a privilege", "REVOKE USAGE ON SCHEMA fdt_txn FROM app")
	refused("persistence", "ALTER TABLE fdt_txn.decision SET UNLOGGED")
	refused("PRIMARY KEY", "ALTER TABLE fdt_txn.decision DROP CONSTRAINT decision_pkey, ADD PRIMARY KEY (sequence)")
	refused("columns", "ALTER TABLE fdt_txn.decision DROP COLUMN note")
	refused("triggers true", "CREATE FUNCTION fdt_txn.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
		"CREATE TRIGGER t BEFORE INSERT ON fdt_txn.decision FOR EACH ROW EXECUTE FUNCTION fdt_txn.f()")
	refused("row security true", "ALTER TABLE fdt_txn.decision ENABLE ROW LEVEL SECURITY")
	admin(t, "a", "ALTER TABLE fdt_txn.decision ADD COLUMN later int", "CREATE PUBLICATION everything FOR ALL TABLES")
	defer admin(t, "a", "DROP PUBLICATION everything", "ALTER TABLE fdt_txn.decision DROP COLUMN later")
	must(t, r.CanDecide(t.Context()))
	warnings, err := r.Check(t.Context())
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], `publication "everything"`) {
		t.Errorf("Check: %q, %v", warnings, err)
	}
}

// A role that may not make the table is told which statement was refused.
func TestInitDeciderRefused(t *testing.T) {
	admin(t, "postgres", "DROP DATABASE IF EXISTS nothing_of_app", "CREATE DATABASE nothing_of_app")
	r := open(t, Options{DSN: dsn("nothing_of_app")})
	if err := r.InitDecider(t.Context()); txn.SQLState(err) != "42501" || !strings.Contains(err.Error(), "CREATE SCHEMA") {
		t.Error(err)
	}
}

// An outcome that this version does not know is nothing to act on.
func TestDecisionUnknown(t *testing.T) {
	r, _ := decider(t, Options{})
	gid := newGID(txn.RoleLocal)
	admin(t, "a", "ALTER TABLE fdt_txn.decision DROP CONSTRAINT decision_outcome_check",
		fmt.Sprintf("INSERT INTO fdt_txn.decision VALUES ('%s', %d, %d, 'x')", gid.Log, gid.Incarnation, gid.Sequence))
	defer admin(t, "a", "DELETE FROM fdt_txn.decision WHERE outcome = 'x'", "ALTER TABLE fdt_txn.decision ADD CHECK (outcome IN ('C', 'A'))")
	if _, err := r.Decide(t.Context(), txn.Abort, gid); err == nil {
		t.Error("Decide: no error")
	}
	if _, err := r.Decisions(t.Context(), gid.Log, gid.Incarnation); err == nil {
		t.Error("Decisions: no error")
	}
}

// Rows of another log are not ours, though all else is the same, as after a restore elsewhere; and the plan by which ours are dropped
// reads no others.
func TestDecisionsOfOthers(t *testing.T) {
	r, _ := decider(t, Options{})
	ours := newGID(txn.RoleLocal)
	theirs := ours
	theirs.Log = txn.NewLogID()
	if stand, err := r.Decide(t.Context(), txn.Commit, theirs); err != nil || stand[theirs] != txn.Commit {
		t.Fatal(stand, err)
	}
	if d := decide(t, r, ours); d != txn.Abort {
		t.Errorf("%s stands", d)
	}
	must(t, r.DropDecisions(t.Context(), ours))
	if is := rows(t, theirs); is != "C" {
		t.Errorf("theirs is %q now", is)
	}
	if _, err := r.Decide(t.Context(), txn.Abort); err != nil {
		t.Error(err)
	}
}

// What cannot be done at all says so: a branch that has ended, one that cannot begin, a table that is gone, a role that may not read.
func TestDecideFails(t *testing.T) {
	r, _ := decider(t, Options{})
	ended := enlist(t, r, txn.BranchOptions{})
	must(t, ended.Rollback(t.Context()))
	if err := ended.CommitDeciding(t.Context(), ended.opt.GID, nil); !errors.Is(err, errOver) {
		t.Errorf("ended: %v", err)
	}
	odd := enlist(t, r, txn.BranchOptions{Isolation: "odd"})
	if err := odd.CommitDeciding(t.Context(), odd.opt.GID, nil); txn.SQLState(err) != "42601" || txn.InDoubt(err) {
		t.Errorf("not begun: %v", err)
	}
	must(t, odd.Rollback(t.Context()))
	admin(t, "postgres", "DROP DATABASE IF EXISTS without_decisions", "CREATE DATABASE without_decisions OWNER app")
	bare := open(t, Options{DSN: dsn("without_decisions")})
	b := enlist(t, bare, txn.BranchOptions{})
	if err := b.CommitDeciding(t.Context(), b.opt.GID, nil); txn.SQLState(err) != "42P01" || !strings.Contains(err.Error(), "fdtctl decider init bank") {
		t.Errorf("no table: %v", err)
	}
	gid := newGID(txn.RoleLocal)
	if _, err := bare.Decide(t.Context(), txn.Abort, gid); txn.SQLState(err) != "42P01" {
		t.Errorf("Decide: %v", err)
	}
	if _, err := bare.Decisions(t.Context(), gid.Log, gid.Incarnation); txn.SQLState(err) != "42P01" {
		t.Errorf("Decisions: %v", err)
	}
	if err := bare.DropDecisions(t.Context(), gid); txn.SQLState(err) != "42P01" {
		t.Errorf("DropDecisions: %v", err)
	}
	must(t, bare.InitDecider(t.Context()))
	admin(t, "without_decisions", "ALTER TABLE fdt_txn.decision OWNER TO fdt", "REVOKE ALL ON fdt_txn.decision FROM app", "GRANT INSERT ON fdt_txn.decision TO app")
	if _, err := bare.Decide(t.Context(), txn.Abort, gid); txn.SQLState(err) != "42501" {
		t.Errorf("Decide without SELECT: %v", err)
	}
}

// A server that does not wait for the disk does for a decision.
func TestDecidingLevel(t *testing.T) {
	admin(t, "postgres", "ALTER ROLE app SET synchronous_commit = off")
	defer admin(t, "postgres", "ALTER ROLE app RESET synchronous_commit")
	r, _ := decider(t, Options{})
	b := enlist(t, r, txn.BranchOptions{})
	exec(t, b, "SELECT 1")
	if level := b.c.level; level != "local" {
		t.Errorf("level %q", level)
	}
	must(t, b.CommitDeciding(t.Context(), b.opt.GID, nil))
}
