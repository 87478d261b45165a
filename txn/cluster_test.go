package txn_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/postgres"
)

// clusterServer is the PostgreSQL that has the clusters of this package's tests, each in a database of its own.
var clusterServer struct {
	once   sync.Once
	server *testdb.Postgres
	err    error
	made   atomic.Int64
}

// closeClusters ends it, if a test has started it.
func closeClusters() error {
	if clusterServer.server == nil {
		return nil
	}
	return clusterServer.server.Close()
}

// newClusterPlace is a host of a cluster of its own.
func newClusterPlace(t *testing.T) place {
	t.Helper()
	c := &clusterServer
	c.once.Do(func() {
		if c.server, c.err = testdb.StartPostgres("max_prepared_transactions=200", "max_connections=500"); c.err == nil {
			sql := append(postgres.ClusterSQL("fdt"), "CREATE TABLE paid (place text)", "DELETE FROM fdt_txn.cluster")
			c.err = c.server.Exec(context.Background(), "postgres", "CREATE DATABASE empty")
			if c.err == nil {
				c.err = c.server.Exec(context.Background(), "empty", sql...)
			}
		}
	})
	if c.err != nil {
		t.Fatal(c.err)
	}
	name := fmt.Sprintf("cluster_%d", c.made.Add(1))
	if err := c.server.Exec(t.Context(), "postgres", "CREATE DATABASE "+name+" TEMPLATE empty"); err != nil {
		t.Fatal(err)
	}
	sql := postgres.ClusterSQL("fdt")
	if err := c.server.Exec(t.Context(), name, sql[len(sql)-1]); err != nil {
		t.Fatal(err)
	}
	p := newFastPlace(t)
	for file, text := range map[string]string{"dsn": c.server.DSN(name), "clustered": ""} {
		if err := os.WriteFile(p.dir(file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// clustered tells whether the place is a host of a cluster.
func (p place) clustered() bool {
	_, err := os.Stat(p.dir("clustered"))
	return err == nil
}

// anotherHost is another host of the same cluster, which can reach the spools of this one.
func (p place) anotherHost(t *testing.T) place {
	t.Helper()
	other := newFastPlace(t)
	for _, file := range []string{"dsn", "clustered"} {
		raw, err := os.ReadFile(p.dir(file))
		if err == nil {
			err = os.WriteFile(other.dir(file), raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, spool := range []string{"a", "b"} {
		if err := os.Remove(other.dir(spool)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(p.dir(spool), other.dir(spool)); err != nil {
			t.Fatal(err)
		}
	}
	return other
}

// exec runs SQL in the cluster's database.
func (p place) exec(t *testing.T, sql ...string) {
	t.Helper()
	dsn, err := os.ReadFile(p.dir("dsn"))
	if err != nil {
		t.Fatal(err)
	}
	_, name, _ := strings.Cut(string(dsn), "dbname=")
	name, _, _ = strings.Cut(name, " ")
	if err := clusterServer.server.Exec(t.Context(), name, sql...); err != nil {
		t.Fatal(err)
	}
}

// endSessions ends the sessions of all incarnations of the place's cluster, and returns when they have gone.
func (p place) endSessions(t *testing.T) {
	t.Helper()
	p.exec(t, `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ '-[0-9]+$'`)
}

// wantGone waits until the server has noticed the end of all incarnations of the place's cluster.
func (p place) wantGone(t *testing.T) {
	t.Helper()
	testwait.Until(t, "the sessions of who was killed to end", func() bool {
		return p.ask(t, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ '-[0-9]+$'`) == 0
	})
}

// TestClusterAnyHost: what one host has prepared is shown and decided by any, while the one that began it lives.
func TestClusterAnyHost(t *testing.T) {
	a := newClusterPlace(t)
	b := a.anotherHost(t)
	ma, mb := a.open(t), b.open(t)
	prepared(t, ma, "x")
	prepared(t, ma, "y")
	list, err := mb.List(t.Context())
	if err != nil || len(list) != 2 || list[0].Name() != "x" || list[0].Phase != txn.Prepared {
		t.Errorf("List = %+v, %v", list, err)
	}
	s := mb.NewSession(alice)
	begin(t, s)
	put(t, s, "a", "another")
	wantErr(t, s.Prepare(t.Context(), "x"), txn.ErrDuplicateGID)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	wantErr(t, s.Acknowledge(), nil)
	wantErr(t, ma.NewSession(alice).CommitPrepared(t.Context(), "x"), txn.ErrUnknownGID)
	wantErr(t, ma.NewSession(alice).RollbackPrepared(t.Context(), "y"), nil)
	wantErr(t, mb.NewSession(alice).CommitPrepared(t.Context(), "y"), txn.ErrAlreadyRolledBack)
	a.wantMessages(t, 1, 1)
	for _, m := range []*txn.Manager{ma, mb} {
		wantErr(t, txn.Sweep(m, t.Context()), nil)
	}
	if ma.Log() == mb.Log() || ma.Cluster() != mb.Cluster() || ma.Cluster() == ma.Log() {
		t.Error("each host has a log of its own, and the cluster is one")
	}
	members, err := mb.Members(t.Context())
	if err != nil || len(members) != 2 || !members[0].Alive || !members[1].Alive || members[0].Silent {
		t.Errorf("Members = %+v, %v", members, err)
	}
	closeAll(t, ma)
	closeAll(t, mb)
	a.wantTidy(t)
}

// TestClusterOpposite: of opposite decisions on two hosts at one moment one wins, and the other is told so.
func TestClusterOpposite(t *testing.T) {
	a := newClusterPlace(t)
	b := a.anotherHost(t)
	ma, mb := a.open(t), b.open(t)
	defer closeAll(t, ma)
	defer closeAll(t, mb)
	committed := 0
	for n := range 30 {
		gid := fmt.Sprintf("x%d", n)
		prepared(t, ma, gid)
		var yes, no error
		var both sync.WaitGroup
		both.Go(func() { yes = ma.NewSession(alice).CommitPrepared(t.Context(), gid) })
		both.Go(func() { no = mb.NewSession(alice).RollbackPrepared(t.Context(), gid) })
		both.Wait()
		switch {
		case yes == nil && errors.Is(no, txn.ErrAlreadyCommitted):
			committed++
		case no == nil && errors.Is(yes, txn.ErrAlreadyRolledBack):
		default:
			t.Errorf("commit: %v; rollback: %v", yes, no)
		}
	}
	a.wantMessages(t, committed, committed)
}

// TestClusterSessionLost: the session in which an incarnation writes is ended at each step. Its process lives, the outcome is that which
// the ledger tells, and the next transaction is as any other.
func TestClusterSessionLost(t *testing.T) {
	for _, test := range []struct {
		at, by string
		want   outcome
	}{
		{"vote: claimed", "prepare", nothing},
		{"vote: preparing", "prepare", nothing},
		{"vote: prepared", "prepare", nothing},
		{"vote: durable", "prepare", doubt},
		{"vote: published", "prepare", doubt},
		{"decide: claimed", "decide", doubt},
		{"decide: durable", "decide", delivered},
		{"decide: published", "decide", delivered},
		{"phase two: told", "decide", delivered},
		{"end: noted", "decide", delivered},
		{"commit: prepared", "commit", nothing},
		{"commit: durable", "commit", delivered},
		{"commit: told", "commit", delivered},
	} {
		t.Run(test.at, func(t *testing.T) {
			t.Parallel()
			p := newClusterPlace(t)
			hooks := steps{}
			m := p.open(t, func(o *txn.Options) { txn.SetFault(o, hooks.at) })
			s := m.NewSession(alice)
			once := func() error {
				delete(hooks, test.at)
				p.endSessions(t)
				return nil
			}
			if test.by == "decide" {
				prepared(t, m, "x")
			} else {
				begin(t, s)
				put(t, s, "a", "1")
				put(t, s, "b", "1")
			}
			hooks[test.at] = once
			var err error
			switch test.by {
			case "prepare":
				err = s.Prepare(t.Context(), "x")
			case "decide":
				err = s.CommitPrepared(t.Context(), "x")
			case "commit":
				err = s.Commit(t.Context())
			}
			if len(hooks) > 0 {
				t.Fatal("it did not come by that step")
			}
			if rolledBack := err != nil && !txn.InDoubt(err); rolledBack && test.want == delivered || err == nil && test.want == nothing {
				t.Errorf("answered: %v", err)
			}
			if m.Err() != nil {
				t.Errorf("the process is to end: %v", m.Err())
			}
			p.recover(t, m)
			want := test.want
			if want == doubt {
				wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
				want = delivered
			}
			n := map[outcome]int{nothing: 0, delivered: 1}[want]
			p.wantMessages(t, n, n)
			begin(t, s)
			put(t, s, "a", "2")
			put(t, s, "b", "2")
			wantErr(t, s.Commit(t.Context()), nil)
			p.wantMessages(t, n+1, n+1)
			p.recover(t, m)
			p.wantNoneOpen(t, m)
			p.wantTidy(t)
			closeAll(t, m)
		})
	}
}

// TestClusterFrozen: a process that stands still is ended, in the ledger, after a while, and another host settles what it had begun. When
// it wakes it is bound by that.
func TestClusterFrozen(t *testing.T) {
	for _, test := range []struct {
		script, at string
		want       outcome
	}{
		{"begin put:a put:b lost-commit", "commit: prepared", nothing},
		{"begin put:a put:b sure-commit", "commit: durable", delivered},
		{"begin put:a put:b lost-prepare:x", "vote: prepared", nothing},
		{"begin put:a put:b sure-prepare:x", "vote: durable", doubt},
	} {
		t.Run(test.at, func(t *testing.T) {
			t.Parallel()
			p := newClusterPlace(t)
			goOn := p.stopped(t, test.script, test.at)
			m := p.anotherHost(t).open(t, func(o *txn.Options) { txn.SetFrozen(o, time.Second) })
			testwait.Until(t, "the session of who stands still to be ended", func() bool {
				orphaned, err := txn.Orphaned(m, t.Context())
				return err == nil && orphaned
			})
			for range 2 { // one ends the session, the next sees that
				p.recover(t, m)
			}
			p.wantNoneOpen(t, m)
			if n := m.Counts().InDoubt; test.want == doubt != (n == 1) {
				t.Errorf("%d in doubt", n)
			}
			goOn()
			p.recover(t, m)
			if test.want == doubt {
				wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
			}
			n := map[outcome]int{nothing: 0, delivered: 1, doubt: 1}[test.want]
			p.wantMessages(t, n, n)
			closeAll(t, m)
		})
	}
}

// TestClusterFrozenRecovering: who stands still while it recovers does not keep the others from it.
func TestClusterFrozenRecovering(t *testing.T) {
	t.Parallel()
	p := newClusterPlace(t)
	p.crash(t, crash{"begin put:a put:b commit", "commit: durable", delivered})
	goOn := p.stopped(t, "try-scan", "send fence bank")
	m := p.anotherHost(t).open(t, func(o *txn.Options) { txn.SetFrozen(o, time.Second) })
	testwait.Until(t, "another to recover", func() bool {
		_ = m.Scan(t.Context()) // one ends the session of who stands still, the next recovers
		txn.Retry(m, t.Context())
		list, err := m.List(t.Context())
		return err == nil && len(list) == 0 && len(p.delivered(t, "a")) == 1
	})
	goOn()
	p.recover(t, m)
	p.wantMessages(t, 1, 1)
	p.wantTidy(t)
	closeAll(t, m)
}

// TestClusterDeciderDown: while the ledger is not there, what is on one resource goes on, all else is refused, and nothing of it is left.
func TestClusterDeciderDown(t *testing.T) {
	p := newClusterPlace(t)
	closeAll(t, func() *txn.Manager { // who has been there knows the cluster
		m := p.open(t)
		prepared(t, m, "x")
		return m
	}())
	there, err := os.ReadFile(p.dir("dsn"))
	wantErr(t, err, nil)
	wantErr(t, os.WriteFile(p.dir("dsn"), []byte("host="+p.root), 0o600), nil)
	m := p.open(t)
	s := m.NewSession(alice)
	begin(t, s)
	put(t, s, "a", "alone")
	wantErr(t, s.Commit(t.Context()), nil)
	begin(t, s)
	put(t, s, "a", "1")
	put(t, s, "b", "1")
	wantErr(t, s.Commit(t.Context()), txn.ErrUnreachable)
	begin(t, s)
	put(t, s, "a", "1")
	wantErr(t, s.Prepare(t.Context(), "y"), txn.ErrUnreachable)
	begin(t, s)
	put(t, s, "a", "1")
	if _, err := s.XID(t.Context()); !errors.Is(err, txn.ErrUnreachable) {
		t.Errorf("XID: %v", err)
	}
	wantErr(t, s.Rollback(t.Context()), nil)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), txn.ErrUnreachable) // and not that there is none
	p.wantMessages(t, 1, 0)
	if _, err := m.List(t.Context()); !errors.Is(err, txn.ErrUnreachable) {
		t.Errorf("List: %v", err)
	}
	if err := m.Scan(t.Context()); !errors.Is(err, txn.ErrUnreachable) {
		t.Errorf("Scan: %v", err)
	}
	closeAll(t, m)
	wantErr(t, os.WriteFile(p.dir("dsn"), there, 0o600), nil)
	m = p.open(t)
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
	p.recover(t, m)
	p.wantMessages(t, 2, 1)
	closeAll(t, m)
	p.wantTidy(t)
}

// TestClusterJoin: what a host had open before it joined is shown and settled there, and its names are taken; and the other way round it
// can leave.
func TestClusterJoin(t *testing.T) {
	p := newClusterPlace(t)
	alone := func(o *txn.Options) { o.Decider, o.Cluster = "", false }
	m := p.open(t, alone)
	for _, gid := range []string{"x", "y", "z"} {
		prepared(t, m, gid)
	}
	closeAll(t, m)
	m = p.open(t)
	prepared(t, m, "w")
	list, err := m.List(t.Context())
	if err != nil || len(list) != 4 {
		t.Errorf("List = %+v, %v", list, err)
	}
	s := m.NewSession(alice)
	begin(t, s)
	put(t, s, "a", "1")
	wantErr(t, s.Prepare(t.Context(), "x"), txn.ErrDuplicateGID)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	wantErr(t, s.Acknowledge(), nil)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), txn.ErrUnknownGID)
	if tx, err := m.Show(t.Context(), "y"); err != nil || tx.Phase != txn.Prepared {
		t.Errorf("Show = %+v, %v", tx, err)
	}
	wantErr(t, m.Decide(t.Context(), root, "y", txn.Abort), nil)
	settled, err := m.ResolveAll(t.Context(), root, txn.Commit)
	if err != nil || len(settled) != 2 || settled[0].Left+settled[1].Left != "" {
		t.Errorf("ResolveAll = %+v, %v", settled, err)
	}
	if n, err := m.ForgetAll(t.Context(), root, time.Now()); err != nil || n != 3 {
		t.Errorf("ForgetAll = %d, %v", n, err)
	}
	p.wantMessages(t, 3, 3)
	closeAll(t, m)
	m = p.open(t, alone)
	list, err = m.List(t.Context())
	if err != nil || len(list) != 0 {
		t.Errorf("List = %+v, %v", list, err)
	}
	if _, err := m.Members(t.Context()); err == nil || m.Cluster() != (txn.LogID{}) {
		t.Error("a host alone has members")
	}
	closeAll(t, m)
}

// TestClusterOwnSpool: what waits for a resource of one host alone waits for that host, which tells it when it is back, though another
// has the transaction.
func TestClusterOwnSpool(t *testing.T) {
	a := newClusterPlace(t)
	a.crash(t, crash{"begin put:a put:b commit", "commit: durable", delivered})
	b := a.anotherHost(t)
	for _, dir := range []string{"a", "b"} { // its own
		wantErr(t, errors.Join(os.Remove(b.dir(dir)), os.Mkdir(b.dir(dir), 0o770)), nil)
	}
	brief := func(o *txn.Options) { o.Limits.Tell = time.Millisecond }
	mb := b.open(t, brief)
	for range 2 {
		_ = mb.Scan(t.Context())
		txn.Retry(mb, t.Context())
	}
	list, err := mb.List(t.Context())
	if err != nil || len(list) != 1 || list[0].Phase != txn.Committing || len(list[0].Waits) != 2 {
		t.Errorf("List = %+v, %v", list, err)
	}
	ma := a.open(t, brief)
	a.recover(t, ma)
	a.wantMessages(t, 1, 1)
	a.wantNoneOpen(t, ma)
	txn.Rested(mb)
	txn.Retry(mb, t.Context())
	if n := mb.Counts().Pending; n != 0 {
		t.Errorf("the other host still has %d to tell", n)
	}
	closeAll(t, mb)
	closeAll(t, ma)
	b.wantMessages(t, 0, 0)
}

// TestClusterShort: the ledger does not grow with what is over, while its workers live and when they have gone.
func TestClusterShort(t *testing.T) {
	p := newClusterPlace(t)
	m := p.open(t)
	s := m.NewSession(alice)
	for range 40 {
		begin(t, s)
		put(t, s, "a", "1")
		put(t, s, "b", "1")
		wantErr(t, s.Commit(t.Context()), nil)
	}
	wantErr(t, txn.Sweep(m, t.Context()), nil)
	wantErr(t, txn.Rotate(m, t.Context()), nil)
	if n := p.count(t, "record"); n > 1 {
		t.Errorf("%d records of what is over", n)
	}
	prepared(t, m, "x")
	closeAll(t, m)
	p.worker(t, "begin put:a put:b commit die", "")
	m = p.open(t)
	p.recover(t, m)
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
	wantErr(t, m.Forget(t.Context(), root, "x"), nil)
	for range 2 {
		wantErr(t, txn.Sweep(m, t.Context()), nil)
		p.recover(t, m)
	}
	closeAll(t, m)
	m = p.open(t)
	p.recover(t, m)
	closeAll(t, m)
	for _, table := range []string{"record", "claim", "incarnation", "decision"} {
		if n := p.count(t, table); n != 0 {
			t.Errorf("%d rows in %s", n, table)
		}
	}
}

// count counts the rows of a table of the ledger.
func (p place) count(t *testing.T, table string) int {
	t.Helper()
	return p.ask(t, "SELECT count(*) FROM fdt_txn."+table)
}

// ask asks the cluster's database for a number.
func (p place) ask(t *testing.T, sql string) (n int) {
	t.Helper()
	dsn, err := os.ReadFile(p.dir("dsn"))
	wantErr(t, err, nil)
	c, err := pgx.Connect(t.Context(), string(dsn))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(t.Context())) }()
	if err := c.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestClusterRefused: a host does not take part in what is not its cluster, or in one that it does not understand.
func TestClusterRefused(t *testing.T) {
	for name, test := range map[string]struct{ sql, want string }{
		"none":       {"DELETE FROM fdt_txn.cluster", "run fdtctl cluster init bank"},
		"no tables":  {"DROP TABLE fdt_txn.cluster", "run fdtctl cluster init bank"},
		"newer":      {"UPDATE fdt_txn.cluster SET version = 9, min_reader = 9", "install a newer fdt"},
		"a copy":     {"UPDATE fdt_txn.cluster SET store = '1/1/1/x'", "a copy of the tables is not the cluster"},
		"another":    {"UPDATE fdt_txn.cluster SET log_id = gen_random_uuid()", "this host has been in"},
		"privileges": {"CREATE ROLE poor LOGIN; GRANT USAGE ON SCHEMA fdt_txn TO poor", "what fdtctl cluster init --print bank prints"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newClusterPlace(t)
			m := p.open(t)
			prepared(t, m, "x")
			closeAll(t, m)
			p.exec(t, test.sql)
			if name == "privileges" {
				there, err := os.ReadFile(p.dir("dsn"))
				wantErr(t, err, nil)
				wantErr(t, os.WriteFile(p.dir("dsn"), []byte(string(there)+" user=poor"), 0o600), nil)
			}
			m, err := txn.Open(t.Context(), p.options(t))
			if err == nil || !strings.Contains(err.Error(), test.want) || txn.InDoubt(err) {
				t.Errorf("Open: %v", err)
			}
			if m != nil {
				closeAll(t, m)
			}
		})
	}
}

// TestClusterSetBack: tables that are older than what a host has seen give no number away twice, and what lost incarnations have prepared
// is left alone.
func TestClusterSetBack(t *testing.T) {
	p := newClusterPlace(t)
	m := p.open(t)
	closeAll(t, m)
	p.worker(t, "begin put:a put:b prepare:x", "vote: durable")
	p.exec(t, "DELETE FROM fdt_txn.incarnation", "DELETE FROM fdt_txn.record", "DELETE FROM fdt_txn.claim", "UPDATE fdt_txn.cluster SET highest = 0")
	m = p.open(t)
	prepared(t, m, "y")
	list, err := m.List(t.Context())
	if err != nil || len(list) != 1 || list[0].GID.Incarnation <= 4096 {
		t.Errorf("List = %+v, %v", list, err)
	}
	p.recover(t, m)
	if left := p.untidy(); len(left) != 4 {
		t.Errorf("staged: %q", left)
	}
	found, err := m.Unexplained()
	if err != nil || len(found) != 2 || !found[0].Alone || !strings.Contains(found[0].Why, "never given away") {
		t.Errorf("Unexplained = %+v, %v", found, err)
	}
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "y"), nil)
	closeAll(t, m)
}

// TestClusterServerCrash: the server that has the ledger is killed, with what was in doubt and what was under way.
func TestClusterServerCrash(t *testing.T) {
	server, err := testdb.StartPostgres("max_prepared_transactions=20")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	if err := server.Exec(t.Context(), "postgres", postgres.ClusterSQL("fdt")...); err != nil {
		t.Fatal(err)
	}
	p := newFastPlace(t)
	for file, text := range map[string]string{"dsn": server.DSN("postgres"), "clustered": ""} {
		wantErr(t, os.WriteFile(p.dir(file), []byte(text), 0o600), nil)
	}
	hooks := steps{}
	m := p.open(t, func(o *txn.Options) { txn.SetFault(o, hooks.at) })
	prepared(t, m, "x")
	s := m.NewSession(alice)
	begin(t, s)
	put(t, s, "a", "1")
	put(t, s, "b", "1")
	hooks["commit: prepared"] = func() error {
		delete(hooks, "commit: prepared")
		return server.Kill()
	}
	err = s.Commit(t.Context())
	if err == nil || m.Err() != nil {
		t.Errorf("Commit: %v; %v", err, m.Err())
	}
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), txn.ErrUnreachable)
	wantErr(t, server.Start(), nil)
	testwait.Until(t, "recovery to find the server again", func() bool { return m.Scan(t.Context()) == nil })
	txn.Rested(m)
	p.recover(t, m)
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
	p.wantMessages(t, 1, 1)
	begin(t, s)
	put(t, s, "a", "2")
	put(t, s, "b", "2")
	wantErr(t, s.Commit(t.Context()), nil)
	p.wantMessages(t, 2, 2)
	closeAll(t, m)
	p.wantTidy(t)
}
