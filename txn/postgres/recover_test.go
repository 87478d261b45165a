package postgres

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/txn"
)

// A worker dies with PREPARE TRANSACTION on its way, which lands seconds later unless the session is fenced.
func TestLatePrepare(t *testing.T) {
	proxy, r, straight := proxied(t, Options{})
	acc := table(t, "a")
	b := enlist(t, r, txn.BranchOptions{GID: newGID(txn.RoleExternal)})
	exec(t, b, "UPDATE "+acc+" SET balance = 7 WHERE id = 1")
	proxy.Rule(testdb.Once("PREPARE", testdb.Late))
	if vote, err := b.Prepare(t.Context(), b.opt.GID); err == nil {
		t.Fatalf("Prepare = %v", vote)
	}
	// The worker is dead here: what follows is its recoverer.
	if _, err := straight.Resolve(t.Context(), b.opt.GID, txn.Commit, b.Proof()); !errors.Is(err, errInProgress) {
		t.Errorf("Resolve while the session lives: %v, want errInProgress", err)
	}
	if _, err := straight.Outcome(t.Context(), b.opt.GID, b.Proof()); !errors.Is(err, errInProgress) {
		t.Errorf("Outcome while the session lives: %v, want errInProgress", err)
	}
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
	dead, alive, prepared := enlist(t, r, txn.BranchOptions{}), enlist(t, r, txn.BranchOptions{}), newGID(txn.RoleExternal)
	prepared.Incarnation = dead.opt.GID.Incarnation
	p := enlist(t, r, txn.BranchOptions{GID: prepared})
	prepare(t, p)
	for range 2 {
		must(t, r.Fence(t.Context(), dead.opt.GID.Log, dead.opt.GID.Incarnation))
	}
	exec(t, alive, "SELECT 1")
	must(t, alive.Rollback(t.Context()))
	if _, err := dead.Exec(t.Context(), "SELECT 1", nil); err == nil {
		t.Error("the fenced session lives")
	}
	must(t, dead.Rollback(t.Context()))
	if !isPrepared(t, r, prepared) {
		t.Error("the fence undid what was prepared")
	}
	got, err := r.Resolve(t.Context(), prepared, txn.Abort, p.Proof())
	if err != nil || got != txn.ResolvedDone {
		t.Errorf("Resolve = %v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Fence(ctx, logID, 1); err == nil {
		t.Error("Fence says that it is done, without asking")
	}
}

// An administrator decided by hand.
func TestManualDecision(t *testing.T) {
	r := open(t, Options{})
	for _, c := range []struct {
		manual string
		d      txn.Decision
		proof  bool
		want   txn.Resolution
	}{
		{"COMMIT", txn.Commit, true, txn.ResolvedDone},
		{"COMMIT", txn.Abort, true, txn.ResolvedAgainst},
		{"ROLLBACK", txn.Commit, true, txn.ResolvedAgainst},
		{"ROLLBACK", txn.Abort, true, txn.ResolvedDone},
		{"COMMIT", txn.Commit, false, txn.ResolvedUnknown},
		{"ROLLBACK", txn.Abort, false, txn.ResolvedDone},
	} {
		b := enlist(t, r, txn.BranchOptions{GID: newGID(txn.RoleExternal)})
		prepare(t, b)
		admin(t, "a", c.manual+" PREPARED "+literal(r.gid(b.opt.GID)))
		proof := b.Proof()
		if !c.proof {
			proof = ""
		}
		if got, err := r.Resolve(t.Context(), b.opt.GID, c.d, proof); err != nil || got != c.want {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
	b := enlist(t, r, txn.BranchOptions{})
	prepare(t, b)
	admin(t, "a", "COMMIT PREPARED "+literal(r.gid(b.opt.GID)))
	if err := b.RollbackPrepared(t.Context(), b.opt.GID); !errors.Is(err, txn.ErrHeuristicCommit) {
		t.Errorf("RollbackPrepared of what was committed by hand: %v", err)
	}
}

func TestProofs(t *testing.T) {
	r := open(t, Options{})
	for proof, want := range map[txn.Proof]error{"": errNoProof, "999999999999": errNoProof, "0": errNoProof} { // none, one of the future, none that is kept
		if d, err := r.Outcome(t.Context(), newGID(txn.RoleLocal), proof); !errors.Is(err, want) {
			t.Errorf("Outcome by %q = %v, %v", proof, d, err)
		}
	}
	if _, err := r.Outcome(t.Context(), newGID(txn.RoleLocal), "x"); !errors.Is(err, strconv.ErrSyntax) {
		t.Errorf("Outcome by a malformed proof: %v", err)
	}
	if _, err := r.Resolve(t.Context(), newGID(txn.RoleLocal), txn.Commit, "x"); !errors.Is(err, strconv.ErrSyntax) {
		t.Errorf("Resolve by a malformed proof: %v", err)
	}
}

// Databases of one cluster share the space of gids, resources of one database its list of prepared transactions.
func TestOneClusterManyResources(t *testing.T) {
	a, b, c := open(t, Options{Name: "a"}), open(t, Options{Name: "b", DSN: dsn("b")}), open(t, Options{Name: `it's \c`})
	gid := newGID(txn.RoleExternal)
	for _, r := range []*Resource{a, b, c} {
		prepare(t, enlist(t, r, txn.BranchOptions{GID: gid}))
	}
	admin(t, "a", "BEGIN", "PREPARE TRANSACTION 'fdt1-"+logID.String()+"-no-gid/a'")
	defer admin(t, "a", "ROLLBACK PREPARED 'fdt1-"+logID.String()+"-no-gid/a'")
	ids := map[string]bool{}
	for _, r := range []*Resource{a, b, c} {
		found, err := r.InDoubt(t.Context(), logID)
		if err != nil || len(found) != 1 || found[0].GID != gid {
			t.Errorf("resource %s: InDoubt = %v, %v", r.Name(), found, err)
		}
		got, err := r.Resolve(t.Context(), gid, txn.Abort, "")
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
	for _, c := range []struct {
		settings
		warnings int
		err      string
	}{
		{settings{150000, 64, 100, "on", "on"}, 0, ""},
		{settings{150000, 16, 20, "remote_apply", "on"}, 2, ""},
		{settings{150000, 64, 100, "off", "on"}, 1, ""},
		{settings{150000, 64, 100, "on", "off"}, 1, ""},
		{settings{130009, 64, 100, "on", "on"}, 0, "PostgreSQL 13 is too old"},
		{settings{150000, 0, 100, "on", "on"}, 0, "ALTER SYSTEM SET max_prepared_transactions"},
	} {
		warnings, err := r.judge(c.settings)
		if len(warnings) != c.warnings || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%+v: %q, %v", c, warnings, err)
		}
	}
	bad := open(t, Options{DSN: "host=/nonexistent"})
	if _, err := bad.Check(t.Context()); txn.SQLState(err) != "08001" {
		t.Errorf("Check of nothing: %v", err)
	}
}

// max_prepared_transactions is 0 by default.
func TestPreparedDisabled(t *testing.T) {
	plain, err := testdb.StartPostgres("max_prepared_transactions=0")
	must(t, err)
	defer func() { must(t, plain.Close()) }()
	r := open(t, Options{DSN: plain.DSN("postgres")})
	if _, err := r.Check(t.Context()); !errors.Is(err, ErrPreparedDisabled) {
		t.Errorf("Check: %v", err)
	}
	b := enlist(t, r, txn.BranchOptions{})
	if _, err := b.Prepare(t.Context(), b.opt.GID); !errors.Is(err, ErrPreparedDisabled) {
		t.Errorf("Prepare: %v", err)
	}
	must(t, b.RollbackPrepared(t.Context(), b.opt.GID))
}

func TestNew(t *testing.T) {
	for _, opt := range []Options{
		{DSN: dsn("a")}, {Name: strings.Repeat("x", maxNameLen+1), DSN: dsn("a")}, {Name: "x", DSN: "port=many"}, {Name: "x", DSN: dsn("a"), Budget: "/no/such/place"},
	} {
		if _, err := New(opt); err == nil {
			t.Errorf("New(%+v) succeeded", opt)
		}
	}
}

func TestPasswordFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "password")
	r := open(t, Options{PasswordFile: name})
	if _, err := r.Identity(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Identity without the password file: %v", err)
	}
	must(t, os.WriteFile(name, []byte("secret\n"), 0o600))
	if got, err := r.password(); err != nil || got != "secret" {
		t.Errorf("password %q, %v", got, err)
	}
	if _, err := r.Identity(t.Context()); err != nil {
		t.Error(err)
	}
}

// Whatever a server lists, only what this resource wrote is its own.
func FuzzParse(f *testing.F) {
	r, err := New(Options{Name: "bank"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.gid(newGID(txn.RoleLocal)))
	f.Add("fdt1-" + logID.String() + "-1-1-L")
	f.Add("/bank")
	f.Fuzz(func(t *testing.T, text string) {
		if gid, ok := r.parse(text); ok && r.gid(gid) != text {
			t.Errorf("%q was read as %q", text, r.gid(gid))
		}
	})
}

func TestLiteral(t *testing.T) {
	texts := []string{"plain", "it's", `back\slash`, `'\''`}
	for _, text := range texts {
		if got := value(t, "a", "SELECT "+literal(text)); got != text {
			t.Errorf("literal(%q) is read as %q", text, got)
		}
	}
	if !slices.Contains(texts, value(t, "a", "SELECT"+literal(texts[2]))) {
		t.Error("an escape string needs a space before it")
	}
}
