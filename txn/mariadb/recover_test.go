package mariadb

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// A worker dies with XA PREPARE on its way, which lands seconds later unless the session is fenced.
func TestLatePrepare(t *testing.T) {
	proxy, r, straight := proxied(t, Options{})
	acc := table(t, "a")
	b := enlist(t, r, txn.BranchOptions{})
	exec(t, b, "UPDATE "+acc+" SET balance = 7 WHERE id = 1")
	proxy.Rule(testdb.Once("XA PREPARE", testdb.Late))
	if vote, err := b.Prepare(t.Context(), external(b)); err == nil {
		t.Fatalf("Prepare = %v", vote)
	}
	// The worker is dead here: what follows is its recoverer.
	must(t, straight.Fence(t.Context(), b.opt.GID.Log, b.opt.GID.Incarnation))
	proxy.Release()
	if isPrepared(t, straight, b.opt.GID) {
		t.Error("prepared after the fence")
	}
	if got, err := straight.Resolve(t.Context(), b.opt.GID, txn.Abort, ""); err != nil || got != txn.ResolvedDone {
		t.Errorf("Resolve = %v, %v", got, err)
	}
}

// The fence of one incarnation leaves the others alone, and what is prepared.
func TestFence(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	dead, alive := enlist(t, r, txn.BranchOptions{}), enlist(t, r, txn.BranchOptions{})
	exec(t, dead, "UPDATE "+acc+" SET balance = 7 WHERE id = 2")
	attached := newGID(txn.RoleLocal)
	attached.Incarnation = dead.opt.GID.Incarnation
	p := enlist(t, r, txn.BranchOptions{GID: attached})
	exec(t, p, "UPDATE "+acc+" SET balance = 7 WHERE id = 1")
	prepare(t, p)
	for range 2 {
		must(t, r.Fence(t.Context(), dead.opt.GID.Log, dead.opt.GID.Incarnation))
	}
	exec(t, alive, "UPDATE "+acc+" SET balance = 8 WHERE id = 2")
	must(t, alive.Rollback(t.Context()))
	if _, err := dead.Exec(t.Context(), "SELECT 1", nil); err == nil {
		t.Error("the fenced session lives")
	}
	must(t, dead.Rollback(t.Context()))
	if !isPrepared(t, r, attached) {
		t.Error("the fence undid what was prepared")
	}
	if err := p.CommitPrepared(t.Context(), attached); err == nil {
		t.Error("CommitPrepared on a fenced session")
	}
	if got, err := r.Resolve(t.Context(), attached, txn.Commit, ""); err != nil || got != txn.ResolvedDone {
		t.Errorf("Resolve = %v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Fence(ctx, logID, 1); err == nil {
		t.Error("Fence says that it is done, without asking")
	}
}

// A session that is just leaving belongs to nobody, so the server refuses to have it killed: that is waited for, and told if it lasts.
func TestFenceWhileSessionLeaves(t *testing.T) {
	proxy, r, _ := proxied(t, Options{})
	var kills atomic.Int64
	proxy.Rule(func(request []byte) testdb.Fate {
		if bytes.Contains(request, []byte("KILL CONNECTION")) {
			kills.Add(1)
		}
		return testdb.Pass
	})
	gid := newGID(txn.RoleLocal)
	db, err := sql.Open("mysql", server.DSN("root", "a"))
	must(t, err)
	defer func() { _ = db.Close() }()
	var got bool // as little ours as one that leaves
	must(t, db.QueryRowContext(t.Context(), "SELECT GET_LOCK(CONCAT(?, 7), 0)", lockPrefix(gid.Log, gid.Incarnation)).Scan(&got))
	done := make(chan error)
	go func() { done <- r.Fence(t.Context(), gid.Log, gid.Incarnation) }()
	testwait.Until(t, "the server refuses twice", func() bool { return kills.Load() > 2 })
	must(t, db.Close())
	if err := testwait.For(t, "the fence", done); err != nil || !got {
		t.Errorf("Fence when it is gone: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	err = poll(ctx, func() (bool, error) {
		cancel()
		return false, &mysql.MySQLError{Number: errNotOwner}
	})
	if !errors.Is(err, errBusy) || number(err) != errNotOwner {
		t.Errorf("a refusal that lasts is told as %v", err)
	}
}

// A fence is over only when a census says that no session holds a branch that has given up its lock: it waits for its turn to look.
func TestFenceTakesCensus(t *testing.T) {
	proxy, r, _ := proxied(t, Options{})
	var asked atomic.Int64
	proxy.Rule(func(request []byte) testdb.Fate {
		if bytes.Contains(request, []byte("GET_LOCK('"+censusLock)) {
			asked.Add(1)
		}
		return testdb.Pass
	})
	db, err := sql.Open("mysql", server.DSN("root", "a"))
	must(t, err)
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	var got bool // somebody else looks
	must(t, db.QueryRowContext(t.Context(), "SELECT GET_LOCK(?, 60)", censusLock).Scan(&got))
	done := make(chan error, 1)
	go func() { done <- r.Fence(t.Context(), logID, 77) }()
	testwait.Until(t, "the fence asks for its turn again", func() bool { return asked.Load() > 1 })
	if len(done) != 0 || !got {
		t.Errorf("the fence did not wait: %v", <-done)
	}
	must(t, db.Close())
	if err := testwait.For(t, "the fence", done); err != nil {
		t.Error(err)
	}
}

// XAER_NOTA while the preparing session is attached is not the end of the branch.
func TestNotaWhileAttached(t *testing.T) {
	r := open(t, Options{})
	acc := table(t, "a")
	for _, d := range []txn.Decision{txn.Commit, txn.Abort} {
		b := enlist(t, r, txn.BranchOptions{})
		exec(t, b, "UPDATE "+acc+" SET balance = balance - 1 WHERE id = 1")
		prepare(t, b)
		// Nobody knows who holds it: the answer must not be that it is done.
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if got, err := r.Resolve(ctx, b.opt.GID, d, ""); !errors.Is(err, errBusy) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Resolve while attached = %v, %v", got, err)
		}
		cancel()
		// The proof names the holder, which is ended.
		if got, err := r.Resolve(t.Context(), b.opt.GID, d, b.Proof()); err != nil || got != txn.ResolvedDone {
			t.Errorf("Resolve = %v, %v", got, err)
		}
		if err := b.CommitPrepared(t.Context(), b.opt.GID); err == nil {
			t.Error("the session that prepared is still there")
		}
	}
	if got := value(t, "a", "SELECT balance FROM "+acc+" WHERE id = 1"); got != "99.00" {
		t.Errorf("balance %s", got)
	}
}

// XA COMMIT by another session while the one that prepared lets go of the branch is answered OK, and loses it. Whatever the moment, a
// branch that Resolve calls done is done: its row is free and has the value decided.
func TestResolveWhileSessionLeaves(t *testing.T) {
	r, other := open(t, Options{}), open(t, Options{})
	acc := table(t, "a")
	for i := range 200 {
		admin(t, "a", fmt.Sprintf("INSERT INTO %s VALUES (%d, 0)", acc, 10+i))
	}
	check := func(row int, d txn.Decision, want string) error {
		b, err := r.Enlist(t.Context(), txn.BranchOptions{GID: newGID(txn.RoleLocal)})
		if err != nil {
			return err
		}
		if _, err := b.(*Branch).Exec(t.Context(), "UPDATE "+acc+" SET balance = 1 WHERE id = ?", []any{int64(row)}); err != nil {
			return errors.Join(err, b.Rollback(t.Context()))
		}
		gid := external(b.(*Branch))
		if _, err := b.Prepare(t.Context(), gid); err != nil {
			return err
		}
		r.parking.take(gid).close() // as a process that dies would, with no word of its own
		if got, err := other.Resolve(t.Context(), gid, d, b.Proof()); err != nil || got != txn.ResolvedDone {
			return fmt.Errorf("Resolve = %v, %w", got, err)
		}
		b, err = r.Enlist(t.Context(), txn.BranchOptions{GID: newGID(txn.RoleLocal), LockTimeout: testwait.Patience})
		if err != nil {
			return err
		}
		out, err := b.(*Branch).Exec(t.Context(), "SELECT balance FROM "+acc+" WHERE id = ? FOR UPDATE", []any{int64(row)})
		if err == nil && *out.First != want {
			err = fmt.Errorf("row %d after %v: %s, want %s", row, d, *out.First, want)
		}
		return errors.Join(err, b.Rollback(t.Context()))
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 25 {
				d, want := txn.Commit, "1.00"
				if i%2 == 1 {
					d, want = txn.Abort, "0.00"
				}
				if err := check(10+25*g+i, d, want); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// Without the privilege PROCESS time must do.
func TestWithoutProcess(t *testing.T) {
	admin(t, "a", "CREATE USER IF NOT EXISTS simple@localhost", "GRANT ALL ON a.* TO simple@localhost")
	r := open(t, Options{DSN: server.DSN("simple", "a")})
	if warnings, err := r.Check(t.Context()); err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "PROCESS") {
		t.Errorf("Check = %q, %v", warnings, err)
	}
	acc := table(t, "a")
	b := enlist(t, r, txn.BranchOptions{})
	exec(t, b, "UPDATE "+acc+" SET balance = 1")
	if _, err := b.Prepare(t.Context(), external(b)); err != nil {
		t.Fatal(err)
	}
	r.parking.close()
	ctx, cancel := context.WithTimeout(t.Context(), grace/4)
	defer cancel()
	if got, err := r.Resolve(ctx, b.opt.GID, txn.Commit, b.Proof()); !errors.Is(err, errBusy) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Resolve within too short a time = %v, %v", got, err)
	}
	if got, err := r.Resolve(t.Context(), b.opt.GID, txn.Commit, b.Proof()); err != nil || got != txn.ResolvedDone {
		t.Errorf("Resolve = %v, %v", got, err)
	}
}

// A process keeps only so many sessions for decisions to come.
func TestParking(t *testing.T) {
	r := open(t, Options{Pool: 8})
	acc := table(t, "a")
	var all []*Branch
	for i := range 4 {
		b := enlist(t, r, txn.BranchOptions{})
		exec(t, b, "INSERT INTO "+acc+" VALUES (?, 1)", int64(10+i))
		if _, err := b.Prepare(t.Context(), external(b)); err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	if n := len(r.parking.list); n != 2 {
		t.Errorf("%d parked, want 2", n)
	}
	must(t, server.Exec(t.Context(), "a", fmt.Sprintf("KILL %d", r.parking.list[1].conn.id))) // its resolver must find another way
	for _, b := range all {
		if got, err := r.Resolve(t.Context(), b.opt.GID, txn.Commit, b.Proof()); err != nil || got != txn.ResolvedDone {
			t.Errorf("Resolve = %v, %v", got, err)
		}
	}
}

// A branch that changed nothing answers 1402 after its session closed: it is done, whatever the decision.
func TestReadOnlyInEffect(t *testing.T) {
	r, other := open(t, Options{}), open(t, Options{})
	acc := table(t, "a")
	for _, d := range []txn.Decision{txn.Commit, txn.Abort} {
		b := enlist(t, r, txn.BranchOptions{})
		exec(t, b, "SELECT * FROM "+acc+" FOR UPDATE")
		if _, err := b.Prepare(t.Context(), external(b)); err != nil {
			t.Fatal(err)
		}
		if got, err := other.Resolve(t.Context(), b.opt.GID, d, b.Proof()); err != nil || got != txn.ResolvedDone {
			t.Errorf("Resolve = %v, %v", got, err)
		}
	}
	// With a marker it has changed something, and keeps its locks.
	marked := open(t, Options{Marker: "fdt_marker"})
	b := enlist(t, marked, txn.BranchOptions{})
	exec(t, b, "SELECT * FROM "+acc+" FOR UPDATE")
	if _, err := b.Prepare(t.Context(), external(b)); err != nil {
		t.Fatal(err)
	}
	marked.parking.close()
	w := enlist(t, r, txn.BranchOptions{LockTimeout: time.Second})
	if _, err := w.Exec(t.Context(), "UPDATE "+acc+" SET balance = 1", nil); txn.SQLState(err) != "40P01" {
		t.Errorf("update of a locked row: %v", err)
	}
	must(t, w.Rollback(t.Context()))
	if got, err := r.Resolve(t.Context(), b.opt.GID, txn.Commit, b.Proof()); err != nil || got != txn.ResolvedDone {
		t.Errorf("Resolve = %v, %v", got, err)
	}
}

// An administrator decided by hand; only a marker tells.
func TestManualDecision(t *testing.T) {
	for _, c := range []struct {
		marker string
		manual string
		d      txn.Decision
		want   txn.Resolution
	}{
		{"fdt_marker", "COMMIT", txn.Commit, txn.ResolvedDone},
		{"fdt_marker", "COMMIT", txn.Abort, txn.ResolvedAgainst},
		{"fdt_marker", "ROLLBACK", txn.Commit, txn.ResolvedAgainst},
		{"fdt_marker", "ROLLBACK", txn.Abort, txn.ResolvedDone},
		{"", "COMMIT", txn.Commit, txn.ResolvedUnknown},
		{"", "ROLLBACK", txn.Commit, txn.ResolvedUnknown},
		{"", "ROLLBACK", txn.Abort, txn.ResolvedDone},
	} {
		r := open(t, Options{Marker: c.marker})
		acc := table(t, "a")
		b := enlist(t, r, txn.BranchOptions{})
		exec(t, b, "UPDATE "+acc+" SET balance = 1")
		prepare(t, b)
		must(t, r.Fence(t.Context(), b.opt.GID.Log, b.opt.GID.Incarnation))
		admin(t, "a", "XA "+c.manual+" "+r.xid(b.opt.GID))
		if got, err := r.Resolve(t.Context(), b.opt.GID, c.d, b.Proof()); err != nil || got != c.want {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
		if c.want == txn.ResolvedAgainst && c.d == txn.Abort {
			if err := b.RollbackPrepared(t.Context(), b.opt.GID); !errors.Is(err, txn.ErrHeuristicCommit) {
				t.Errorf("RollbackPrepared of what was committed by hand: %v", err)
			}
		} else if c.d == txn.Abort {
			must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
		} else if err := b.CommitPrepared(t.Context(), b.opt.GID); err == nil {
			t.Error("CommitPrepared on a fenced session")
		}
	}
}

func TestProofs(t *testing.T) {
	for text, want := range map[txn.Proof]bool{"": false, "1": false, "x/2": false, "1/2": true, "1/2/m": true, "01/2": false, "1/2 ": false, "1/2/m/m": false} {
		if e, ok := parseProof(text); ok != want || ok && e.proof() != text {
			t.Errorf("parseProof(%q) = %+v, %v", text, e, ok)
		}
	}
	r := open(t, Options{Marker: "fdt_marker"})
	if _, err := r.Outcome(t.Context(), newGID(txn.RoleLocal), "1/2"); !errors.Is(err, errNoProof) {
		t.Errorf("Outcome without a marker: %v", err)
	}
	if d, err := r.Outcome(t.Context(), newGID(txn.RoleLocal), "1/2/m"); err != nil || d != txn.Abort {
		t.Errorf("Outcome of what left no marker = %v, %v", d, err)
	}
	plain := open(t, Options{})
	if _, err := plain.Outcome(t.Context(), newGID(txn.RoleLocal), "1/2/m"); !errors.Is(err, errNoProof) {
		t.Errorf("Outcome where the marker is not configured any more: %v", err)
	}
}

// Databases of one server share the space of xids.
func TestOneServerManyResources(t *testing.T) {
	a, b, c := open(t, Options{Name: "a"}), open(t, Options{Name: "b", DSN: server.DSN("fdt", "b")}), open(t, Options{Name: `it's \c`})
	gid := newGID(txn.RoleExternal)
	proofs := map[*Resource]txn.Proof{}
	for _, r := range []*Resource{a, b, c} {
		br := enlist(t, r, txn.BranchOptions{GID: gid})
		prepare(t, br)
		proofs[r] = br.Proof()
	}
	foreign := []string{"'foreign'", "X'66'", "'fdt1-" + logID.String() + "-no-gid','a'"}
	db, err := sql.Open("mysql", server.DSN("root", "a"))
	must(t, err)
	defer func() { must(t, db.Close()) }()
	for _, xid := range foreign {
		conn, err := db.Conn(t.Context())
		must(t, err)
		defer func() { must(t, conn.Close()) }()
		for _, text := range []string{"XA START ", "XA END ", "XA PREPARE "} {
			_, err := conn.ExecContext(t.Context(), text+xid)
			must(t, err)
		}
		defer func() {
			_, err := conn.ExecContext(context.Background(), "XA ROLLBACK "+xid)
			must(t, err)
		}()
	}
	ids := map[string]bool{}
	for _, r := range []*Resource{a, b, c} {
		found, err := r.InDoubt(t.Context(), logID)
		local := gid
		local.Role = txn.RoleLocal
		if err != nil || len(found) != 1 || found[0].GID != local {
			t.Errorf("resource %s: InDoubt = %v, %v", r.Name(), found, err)
		}
		got, err := r.Resolve(t.Context(), gid, txn.Abort, proofs[r])
		if err != nil || got != txn.ResolvedDone {
			t.Errorf("resource %s: Resolve = %v, %v", r.Name(), got, err)
		}
		id, err := r.Identity(t.Context())
		must(t, err)
		ids[id] = true
	}
	if len(ids) != 2 {
		t.Errorf("identities %v, want one for each database", ids)
	}
	if found, err := a.InDoubt(t.Context(), txn.LogID{1}); err != nil || len(found) != 0 {
		t.Errorf("InDoubt of another log = %v, %v", found, err)
	}
}

func TestCheck(t *testing.T) {
	r := open(t, Options{})
	if warnings, err := r.Check(t.Context()); err != nil || len(warnings) != 0 {
		t.Errorf("Check = %v, %v", warnings, err)
	}
	bad := settings{logBin: true, legacy: true, connections: 3, flush: 2, mode: "ANSI"}
	got := strings.Join(r.judge(bad), "\n")
	for _, want := range []string{"legacy_xa_rollback_at_disconnect", "log_bin", "PROCESS", "innodb_flush_log_at_trx_commit", "STRICT_TRANS_TABLES", "max_connections"} {
		if !strings.Contains(got, want) {
			t.Errorf("no warning of %s in\n%s", want, got)
		}
	}
	nobody := open(t, Options{DSN: "fdt@unix(/nonexistent)/a"})
	if _, err := nobody.Check(t.Context()); txn.SQLState(err) != "08001" {
		t.Errorf("Check of nothing: %v", err)
	}
}

func TestNew(t *testing.T) {
	for _, opt := range []Options{
		{DSN: server.DSN("fdt", "a")},
		{Name: strings.Repeat("x", maxNameLen+1), DSN: server.DSN("fdt", "a")},
		{Name: "x", DSN: "no/such/dsn"},
		{Name: "x", DSN: "fdt@unix(/x)/"},
		{Name: "x", DSN: "fdt@unix(/x)/a?collation=gbk_chinese_ci"},
		{Name: "x", DSN: "fdt@unix(/x)/a?time_zone=%27SYSTEM%27"},
		{Name: "x", DSN: server.DSN("fdt", "a"), Budget: "/no/such/place"},
	} {
		if _, err := New(opt); err == nil {
			t.Errorf("New(%+v) succeeded", opt)
		}
	}
}

func TestPasswordFile(t *testing.T) {
	admin(t, "a", "CREATE USER IF NOT EXISTS secretive@localhost IDENTIFIED BY 'secret'", "GRANT ALL ON a.* TO secretive@localhost")
	name := filepath.Join(t.TempDir(), "password")
	r := open(t, Options{DSN: server.DSN("secretive", "a"), PasswordFile: name})
	if _, err := r.Identity(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Identity without the password file: %v", err)
	}
	must(t, os.WriteFile(name, []byte("wrong\n"), 0o600))
	if _, err := r.Identity(t.Context()); txn.SQLState(err) != "08001" {
		t.Errorf("Identity with a wrong password: %v", err)
	}
	must(t, os.WriteFile(name, []byte("secret\n"), 0o600))
	if _, err := r.Identity(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestMarkerDenied(t *testing.T) {
	r := open(t, Options{Marker: "mysql.fdt_marker"})
	_, err := r.Enlist(t.Context(), txn.BranchOptions{GID: newGID(txn.RoleLocal)})
	if txn.SQLState(err) != "08001" || !strings.Contains(err.Error(), "marker table") {
		t.Errorf("Enlist without the right to make the marker: %v", err)
	}
}

// All numbered locks are held: there is no session that a fence could find.
func TestSlots(t *testing.T) {
	r := open(t, Options{})
	gid := newGID(txn.RoleLocal)
	b := enlist(t, r, txn.BranchOptions{GID: gid})
	r.slot.Add(slots - 1) // its own number is next, and taken
	next := enlist(t, r, txn.BranchOptions{GID: txn.GID{Log: gid.Log, Incarnation: gid.Incarnation, Sequence: gid.Sequence + 1, Role: txn.RoleLocal}})
	if b.c.slot == next.c.slot || b.c.id == next.c.id {
		t.Errorf("slots %d and %d", b.c.slot, next.c.slot)
	}
	must(t, b.Rollback(t.Context()))
	must(t, next.Rollback(t.Context()))
}

func TestAllSlotsHeld(t *testing.T) {
	r := open(t, Options{})
	gid := newGID(txn.RoleLocal)
	db, err := sql.Open("mysql", server.DSN("root", "a"))
	must(t, err)
	defer func() { must(t, db.Close()) }()
	holder, err := db.Conn(t.Context())
	must(t, err)
	defer func() { must(t, holder.Close()) }()
	for n := range slots {
		_, err := holder.ExecContext(t.Context(), fmt.Sprintf("DO GET_LOCK('%s%d', 0)", lockPrefix(gid.Log, gid.Incarnation), n))
		must(t, err)
	}
	if _, err := r.Enlist(t.Context(), txn.BranchOptions{GID: gid}); txn.SQLState(err) != "08001" || !strings.Contains(err.Error(), "locks") {
		t.Errorf("Enlist with all locks held: %v", err)
	}
}

// The table of markers is gone: nobody may say what it would have said.
func TestMarkerGone(t *testing.T) {
	r := open(t, Options{Marker: "passing"})
	acc := table(t, "a")
	b := enlist(t, r, txn.BranchOptions{})
	exec(t, b, "UPDATE "+acc+" SET balance = 1")
	must(t, b.Commit(t.Context()))
	admin(t, "a", "DROP TABLE passing")
	if got, err := r.Resolve(t.Context(), b.opt.GID, txn.Commit, b.Proof()); txn.SQLState(err) != "42P01" {
		t.Errorf("Resolve = %v, %v", got, err)
	}
	if got, err := r.Outcome(t.Context(), b.opt.GID, b.Proof()); txn.SQLState(err) != "42P01" {
		t.Errorf("Outcome = %v, %v", got, err)
	}
}

func TestSQLState(t *testing.T) {
	for number, want := range map[uint16]string{1020: "40001", 1062: "23505", 1205: "40P01", 9999: "XX000"} {
		if got := txn.SQLState(&Error{&mysql.MySQLError{Number: number}}); got != want {
			t.Errorf("error %d: %s, want %s", number, got, want)
		}
	}
	message, detail, hint := (&Error{&mysql.MySQLError{Number: errLockWait, Message: "Lock wait timeout"}}).Fields()
	if message != "Lock wait timeout" || detail != "MariaDB error 1205." || !strings.Contains(hint, "tried again") {
		t.Errorf("fields %q, %q, %q", message, detail, hint)
	}
}

// Whatever a server lists, only what this resource wrote is its own.
func FuzzParse(f *testing.F) {
	r, err := New(Options{Name: "bank", DSN: "fdt@unix(/x)/a"})
	if err != nil {
		f.Fatal(err)
	}
	g := gtrid(newGID(txn.RoleLocal))
	f.Add(1, len(g), 4, []byte(g+"bank"))
	f.Add(1, 0, 4, []byte("bank"))
	f.Add(1, -4, 8, []byte("bank"))
	f.Fuzz(func(t *testing.T, format, glen, blen int, data []byte) {
		if gid, ok := r.parse(format, glen, blen, data); ok && gtrid(gid)+"bank" != string(data) {
			t.Errorf("%q was read as %v", data, gid)
		}
	})
}
