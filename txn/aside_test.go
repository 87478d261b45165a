package txn_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// moved copies the whole place, as cp -a does to a new disk, and boots there.
func (p place) moved(t *testing.T) place {
	t.Helper()
	to := place{filepath.Join(t.TempDir(), "place")}
	if out, err := exec.Command("cp", "-a", p.root, to.root).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	to.reboot(t)
	return to
}

// onlyAside is the one log that was put aside.
func onlyAside(t *testing.T, m *txn.Manager) txn.Aside {
	t.Helper()
	list, err := m.Asides()
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	return list[0]
}

func logged(to *bytes.Buffer) func(*txn.Options) {
	return func(o *txn.Options) { o.Logger = slog.New(slog.NewJSONHandler(to, nil)) }
}

// TestMovedLog: what was in doubt when the log moved to another disk is never
// unknown there, and is decided after an operator has adopted it.
func TestMovedLog(t *testing.T) {
	t.Run("stopped", func(t *testing.T) { testMovedLog(t, false) })
	t.Run("as of one moment", func(t *testing.T) { testMovedLog(t, true) }) // a snapshot of the file system
}

func testMovedLog(t *testing.T, running bool) {
	old := newPlace(t)
	m := old.open(t)
	prepared(t, m, "x")
	prepared(t, m, "y")
	prepared(t, m, "done")
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "done"), nil) // and the answer is lost
	if !running {
		closeAll(t, m)
	}
	p := old.moved(t)
	if running {
		closeAll(t, m)
	}

	var journal bytes.Buffer
	m = p.open(t, logged(&journal))
	if err := m.Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := m.NewSession(alice)
	for range 2 {
		wantErr(t, s.CommitPrepared(t.Context(), "x"), txn.ErrPutAside)
		wantErr(t, s.RollbackPrepared(t.Context(), "y"), txn.ErrPutAside)
	}
	if err := s.CommitPrepared(t.Context(), "x"); txn.SQLState(err) != "08007" || !txn.InDoubt(err) {
		t.Errorf("%v", err)
	}
	wantErr(t, m.NewSession(txn.Principal{User: "bob"}).CommitPrepared(t.Context(), "x"), txn.ErrNotOwner)
	wantErr(t, s.CommitPrepared(t.Context(), "done"), nil)
	wantErr(t, s.RollbackPrepared(t.Context(), "done"), txn.ErrAlreadyCommitted)
	wantErr(t, s.CommitPrepared(t.Context(), "never"), txn.ErrUnknownGID)
	begin(t, s)
	put(t, s, "a", "twice")
	wantErr(t, s.Prepare(t.Context(), "x"), txn.ErrDuplicateGID)
	aside := onlyAside(t, m)
	if aside.Open != 2 || !aside.Waits() || aside.Since.IsZero() || aside.Machine != "m1" || m.Counts().Aside != 1 {
		t.Errorf("%+v, %+v", aside, m.Counts())
	}
	if text := journal.String(); strings.Count(text, aside.Directory) != 1 || !strings.Contains(text, "f979d53993365005a2678176fcee3b72") {
		t.Errorf("journal: %s", text)
	}

	operator := txn.Principal{User: "bob", Operator: true, By: txn.Operator{UID: "0", LoginUID: "1000", Terminal: "pts/3"}}
	wantErr(t, m.Adopt(t.Context(), alice, aside.ID, true), txn.ErrNotOwner)
	// The session's log lives.
	if err := m.Adopt(t.Context(), operator, aside.ID, true); !errors.Is(err, txn.ErrNotAdopted) || !strings.Contains(err.Error(), "runs, systemctl stop fdt") {
		t.Errorf("got %v", err)
	}
	closeAll(t, m)
	m = p.open(t, logged(&journal))
	if err := m.Adopt(t.Context(), operator, txn.NewLogID(), true); err == nil {
		t.Error("adopted what is not there")
	}
	wantErr(t, m.Adopt(t.Context(), operator, aside.ID, false), nil)
	closeAll(t, m)
	if text := journal.String(); !strings.Contains(text, `"log":"`+aside.ID.String()) || !strings.Contains(text, `"login_uid":"1000","terminal":"pts/3"`) {
		t.Errorf("journal: %s", text)
	}

	m = p.open(t)
	defer closeAll(t, m)
	if list, err := m.Asides(); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	p.recover(t, m)
	s = m.NewSession(alice)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	wantErr(t, s.RollbackPrepared(t.Context(), "y"), nil)
	wantErr(t, s.CommitPrepared(t.Context(), "done"), nil)
	p.wantMessages(t, 2, 2)
	p.wantNoneOpen(t, m)
	prepared(t, m, "z") // under numbers that were never given away
	wantErr(t, s.CommitPrepared(t.Context(), "z"), nil)
	p.wantMessages(t, 3, 3)
}

// TestClonedMachine: a clone that abandons what it took along touches nothing
// of the original's, knows none of its names, and says what it leaves.
func TestClonedMachine(t *testing.T) {
	p := newPlace(t)
	m := p.open(t)
	prepared(t, m, "x")
	closeAll(t, m)
	clone := func(o *txn.Options) { o.MachineID = "m2" }
	var journal bytes.Buffer
	m = p.open(t, clone, logged(&journal))
	defer closeAll(t, m)
	if err := m.Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := m.NewSession(alice)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), txn.ErrPutAside)
	aside := onlyAside(t, m)
	_, err := m.Abandon(t.Context(), alice, aside.ID)
	wantErr(t, err, txn.ErrNotOwner)
	if _, err := m.Abandon(t.Context(), root, txn.NewLogID()); err == nil {
		t.Error("abandoned what is not there")
	}
	left, err := m.Abandon(t.Context(), root, aside.ID)
	if err != nil || left["a"] != "holds 1 branches of it" || left["b"] != left["a"] {
		t.Errorf("%v, %v", left, err)
	}
	if !strings.Contains(journal.String(), "583bca4f73435d5e95b30d0fa521c910") {
		t.Errorf("journal: %s", journal.String())
	}
	wantErr(t, s.CommitPrepared(t.Context(), "x"), txn.ErrUnknownGID)
	if m.Counts().Aside != 0 {
		t.Errorf("%+v", m.Counts())
	}
	prepared(t, m, "x")
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	p.wantMessages(t, 1, 1)
	staged, _ := filepath.Glob(p.dir("a") + "/prepared/*-X+a")
	if len(staged) != 1 {
		t.Errorf("the other machine's branch was touched: %q", staged)
	}
	raw, err := os.ReadFile(filepath.Join(aside.Directory, "abandoned"))
	if err != nil || !bytes.Contains(raw, []byte(`"user":"root"`)) {
		t.Errorf("%s, %v", raw, err)
	}
}

// TestBackedUpLog: a backup that is put back after the original went on is an
// older copy, which is seen by what the resources hold.
func TestBackedUpLog(t *testing.T) {
	p := newPlace(t)
	m := p.open(t)
	prepared(t, m, "old")
	closeAll(t, m)
	backup := filepath.Join(t.TempDir(), "log")
	if out, err := exec.Command("cp", "-a", p.dir("log"), backup).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	m = p.open(t)
	burn(t, m)
	prepared(t, m, "new")
	closeAll(t, m)
	if out, err := exec.Command("sh", "-c", `rm -r "$1" && cp -a "$2" "$1"`, "sh", p.dir("log"), backup).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	p.reboot(t)
	m = p.open(t)
	aside := onlyAside(t, m)
	err := m.Adopt(t.Context(), root, aside.ID, false)
	if !errors.Is(err, txn.ErrNotAdopted) || !strings.Contains(err.Error(), "this copy does not know") {
		t.Errorf("got %v", err)
	}
	wantErr(t, m.Adopt(t.Context(), root, aside.ID, true), nil)
	closeAll(t, m)
	m = p.open(t)
	defer closeAll(t, m)
	burn(t, m) // workers begin before they recover
	p.recover(t, m)
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "old"), nil)
	p.wantMessages(t, 1, 1)
	p.wantLeftAlone(t, m)
}

// burn begins an incarnation, if there is none, and gives one of its numbers away.
func burn(t *testing.T, m *txn.Manager) {
	t.Helper()
	s := m.NewSession(alice)
	begin(t, s)
	put(t, s, "a", "burnt")
	wantErr(t, s.Rollback(t.Context()), nil)
}

// wantLeftAlone checks that the vote which no log knows is as it was, in both resources, and that the operator is told.
func (p place) wantLeftAlone(t *testing.T, m *txn.Manager) {
	t.Helper()
	for _, name := range []string{"a", "b"} {
		if staged, _ := filepath.Glob(p.dir(name) + "/prepared/*-X+" + name); len(staged) != 1 {
			t.Errorf("staged: %q", staged)
		}
	}
	odd, err := m.Unexplained()
	if err != nil || len(odd) != 2 || !odd[0].Alone || !strings.Contains(odd[0].Why, "older copy") {
		t.Errorf("nothing explains %+v, %v", odd, err)
	}
}

// TestSetBack: the machine was set back to a snapshot, its databases were not. What was prepared after the snapshot is left
// alone, though the numbers of its worker were to be given away next.
func TestSetBack(t *testing.T) {
	p := newPlace(t)
	m := p.open(t)
	prepared(t, m, "old")
	closeAll(t, m)
	logs := map[string][]byte{}
	for _, f := range p.logFiles(t) {
		raw, err := os.ReadFile(f)
		wantErr(t, err, nil)
		logs[f] = raw
	}
	m = p.open(t)
	burn(t, m)
	prepared(t, m, "new")
	closeAll(t, m)
	for _, f := range p.logFiles(t) {
		wantErr(t, os.Remove(f), nil)
	}
	for f, raw := range logs {
		wantErr(t, os.WriteFile(f, raw, 0o600), nil)
	}
	p.reboot(t)
	m = p.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	recovered := make(chan error)
	go func() { recovered <- m.Recover(ctx) }()
	testwait.Until(t, "the vote that no log knows is seen", func() bool { odd, err := m.Unexplained(); return err == nil && len(odd) > 0 })
	cancel()
	wantErr(t, <-recovered, nil)
	defer closeAll(t, m)
	burn(t, m)
	p.recover(t, m)
	wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "old"), nil)
	p.wantMessages(t, 1, 1)
	p.wantLeftAlone(t, m)
}

// logFiles are the files of the log that a worker of it writes.
func (p place) logFiles(t *testing.T) []string {
	t.Helper()
	logs, err := filepath.Glob(p.dir("log") + "/*.log")
	wantErr(t, err, nil)
	return append(logs, p.dir("log/incarnation"))
}

// overlooked is a spool on which sessions of another copy can be open.
type overlooked struct {
	*spool.Spool

	sessions int
	err      error
}

func (w overlooked) Sessions(_ context.Context, _ txn.LogID, of []uint64) (int, error) {
	if len(of) == 0 {
		return 0, errors.New("no incarnations were asked for")
	}
	return w.sessions, w.err
}

// TestAdoptRefused: each check that speaks against adopting a log, and force,
// which is the operator's word that the other copy is dead.
func TestAdoptRefused(t *testing.T) {
	for name, c := range map[string]struct {
		with func(*place, []txn.Resource) []txn.Resource
		says string
	}{
		"living": {func(_ *place, rms []txn.Resource) []txn.Resource {
			return []txn.Resource{overlooked{rms[0].(*spool.Spool), 3, nil}, rms[1]}
		}, "3 sessions"},
		"cannot be asked for sessions": {func(_ *place, rms []txn.Resource) []txn.Resource {
			return []txn.Resource{overlooked{rms[0].(*spool.Spool), 0, errBroken}, rms[1]}
		}, "cannot be asked"},
		"cannot be asked": {func(_ *place, rms []txn.Resource) []txn.Resource {
			n := int64(0)
			return []txn.Resource{unlisted{rms[0].(*spool.Spool), &n}, rms[1]}
		}, "cannot be asked"},
		"not configured": {func(_ *place, rms []txn.Resource) []txn.Resource { return rms[:1] }, `resource "b" is not configured`},
	} {
		t.Run(name, func(t *testing.T) {
			p := newFastPlace(t)
			m := p.open(t)
			prepared(t, m, "x")
			closeAll(t, m)
			other := func(o *txn.Options) { o.MachineID, o.Resources = "m2", c.with(&p, o.Resources) }
			m = p.open(t, other)
			id := onlyAside(t, m).ID
			if err := m.Adopt(t.Context(), root, id, false); !errors.Is(err, txn.ErrNotAdopted) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
			wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), txn.ErrPutAside)
			wantErr(t, m.Adopt(t.Context(), root, id, true), nil)
			closeAll(t, m)
			m = p.open(t, func(o *txn.Options) { o.MachineID = "m2" })
			defer closeAll(t, m)
			wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
		})
	}
}

// unlisted is a spool that cannot list its branches.
type unlisted struct {
	*spool.Spool

	asked *int64
}

func (u unlisted) InDoubt(context.Context, txn.LogID) ([]txn.PreparedBranch, error) {
	*u.asked++
	return nil, errBroken
}

// TestAdoptInPlaceOfOpen: a log that holds something open is not put aside for
// another.
func TestAdoptInPlaceOfOpen(t *testing.T) {
	p := newPlace(t)
	m := p.open(t)
	prepared(t, m, "x")
	closeAll(t, m)
	other := func(o *txn.Options) { o.MachineID = "m2" }
	m = p.open(t, other)
	id := onlyAside(t, m).ID
	prepared(t, m, "y")
	closeAll(t, m)
	m = p.open(t, other)
	for _, force := range []bool{false, true} {
		if err := m.Adopt(t.Context(), root, id, force); !errors.Is(err, txn.ErrNotAdopted) || !strings.Contains(err.Error(), `holds "y" open`) {
			t.Errorf("got %v", err)
		}
	}
	wantErr(t, m.Decide(t.Context(), root, "y", txn.Commit), nil)
	closeAll(t, m)
	m = p.open(t, other)
	wantErr(t, m.Adopt(t.Context(), root, id, false), nil)
	closeAll(t, m)
	m = p.open(t, other)
	defer closeAll(t, m)
	p.recover(t, m)
	s := m.NewSession(alice)
	// The other's outcome is kept, for whoever lost the answer.
	wantErr(t, s.RollbackPrepared(t.Context(), "y"), txn.ErrHeuristicCommit)
	wantErr(t, s.CommitPrepared(t.Context(), "y"), nil)
	wantErr(t, s.CommitPrepared(t.Context(), "x"), nil)
	if m.Counts().Aside != 0 {
		t.Errorf("%+v", m.Counts())
	}
}

// TestAdoptWhileOpened: a process that opened the directory before an adoption
// must not write what it takes for its log.
func TestAdoptWhileOpened(t *testing.T) {
	p := newPlace(t)
	m := p.open(t)
	prepared(t, m, "x")
	closeAll(t, m)
	other := func(o *txn.Options) { o.MachineID = "m2" }
	early := p.open(t, other)
	m = p.open(t, other)
	wantErr(t, m.Adopt(t.Context(), root, onlyAside(t, m).ID, false), nil)
	closeAll(t, m)
	s := early.NewSession(alice)
	begin(t, s)
	if _, err := s.Branch(t.Context(), "a"); !errors.Is(err, txn.ErrPoisoned) {
		t.Errorf("got %v", err)
	}
	wantErr(t, early.Err(), txn.ErrPoisoned) // its successor opens what is there
	wantErr(t, s.Close(t.Context()), nil)
	_ = early.Close(t.Context())
}

// TestAdoptCutOff: an adoption that was cut off at any step is ended by
// whoever comes next.
func TestAdoptCutOff(t *testing.T) {
	for n := int64(1); ; n++ {
		p := newFastPlace(t)
		m := p.open(t)
		prepared(t, m, "x")
		closeAll(t, m)
		other := func(o *txn.Options) { o.MachineID = "m2" }
		m = p.open(t, other)
		id := onlyAside(t, m).ID
		prepared(t, m, "y")
		wantErr(t, m.Decide(t.Context(), root, "y", txn.Abort), nil)
		closeAll(t, m)

		var f once
		m = p.open(t, other, func(o *txn.Options) { txn.SetFault(o, f.fault) })
		f.at.Store(f.n.Load() + n)
		err := m.Adopt(t.Context(), root, id, false)
		hit := f.n.Load() >= f.at.Load()
		_ = m.Close(t.Context())
		m = p.open(t, other)
		if list, lerr := m.Asides(); lerr != nil {
			t.Fatalf("step %d: %v", n, lerr)
		} else if len(list) > 0 && list[0].ID == id { // it had not begun
			if err == nil {
				t.Fatalf("step %d: adopted nothing", n)
			}
			wantErr(t, m.Adopt(t.Context(), root, id, false), nil)
			closeAll(t, m)
			m = p.open(t, other)
		}
		p.recover(t, m)
		wantErr(t, m.NewSession(alice).CommitPrepared(t.Context(), "x"), nil)
		p.wantMessages(t, 1, 1)
		closeAll(t, m)
		if !hit {
			wantErr(t, err, nil)
			return
		}
	}
}

// TestAsideDamaged: of a log with a hole nobody knows which names it had, so
// none is unknown until an operator has decided.
func TestAsideDamaged(t *testing.T) {
	p := newPlace(t)
	m := p.open(t)
	prepared(t, m, "x")
	prepared(t, m, "y")
	closeAll(t, m)
	p.damage(t)
	m = p.open(t, func(o *txn.Options) { o.MachineID = "m2" })
	defer closeAll(t, m)
	s := m.NewSession(alice)
	for _, gid := range []string{"x", "y", "another"} {
		wantErr(t, s.CommitPrepared(t.Context(), gid), txn.ErrPutAside)
	}
	aside := onlyAside(t, m)
	if aside.Damage == "" || !aside.Waits() {
		t.Errorf("%+v", aside)
	}
	if err := m.Adopt(t.Context(), root, aside.ID, false); !errors.Is(err, txn.ErrNotAdopted) || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("got %v", err)
	}
}

// TestDecidedBy: who decided, from where, is in the record and in the journal.
func TestDecidedBy(t *testing.T) {
	p := newPlace(t)
	var journal bytes.Buffer
	m := p.open(t, logged(&journal))
	prepared(t, m, "x")
	who := txn.Principal{User: "bob", Operator: true, By: txn.Operator{UID: "0", LoginUID: "1000", Terminal: "pts/3"}}
	wantErr(t, m.Decide(t.Context(), who, "x", txn.Commit), nil)
	line := struct {
		Level, Msg, User, UID, GID, Owner, Outcome, Terminal string
		LoginUID                                             string `json:"login_uid"`
	}{}
	for text := range bytes.Lines(journal.Bytes()) {
		if bytes.Contains(text, []byte("dc215148d2a357d7bb868b1145d56ab7")) {
			if err := json.Unmarshal(text, &line); err != nil {
				t.Fatal(err)
			}
		}
	}
	if line.Level != "INFO" || line.User != "bob" || line.UID != "0" || line.LoginUID != "1000" || line.Terminal != "pts/3" ||
		line.GID != "x" || line.Owner != "alice" || line.Outcome != "commit" {
		t.Errorf("%+v", line)
	}
	closeAll(t, m)
	p.reboot(t)
	m = p.open(t, logged(&journal))
	defer closeAll(t, m)
	is, err := m.Show(t.Context(), "x")
	if err != nil || is.DecidedBy != who.By || is.Decider != "bob" {
		t.Errorf("%+v, %v", is, err)
	}
	journal.Reset()
	wantErr(t, m.Forget(t.Context(), who, "x"), nil)
	if text := journal.String(); !strings.Contains(text, "adff28fe3aa557b38df845fa3777303b") || !strings.Contains(text, `"terminal":"pts/3"`) {
		t.Errorf("journal: %s", text)
	}
}

// besides is what a Manager is told of other services of the machine.
func besides(name string, others ...place) func(*txn.Options) {
	return func(o *txn.Options) {
		o.Limits.Doubt = time.Nanosecond
		o.Neighbours = func() map[string]string {
			logs := map[string]string{}
			for _, p := range others {
				logs[p.dir("log")] = name
			}
			return logs
		}
	}
}

// TestAdoptOfNeighbour: a copy of what another service of the machine writes is not adopted, whether that one runs or not; a copy that
// lies about is nobody's.
func TestAdoptOfNeighbour(t *testing.T) {
	shop := newPlace(t)
	live := shop.open(t)
	prepared(t, live, "x")
	copied, lying := shop.moved(t), shop.moved(t)
	m := copied.open(t)
	closeAll(t, m)
	root := txn.Principal{User: "root", Operator: true}
	adopt := func(force bool, others func(*txn.Options)) error {
		m := copied.open(t, others)
		defer closeAll(t, m)
		return m.Adopt(t.Context(), root, onlyAside(t, m).ID, force)
	}
	for _, running := range []bool{true, false} {
		for _, force := range []bool{false, true} {
			err := adopt(force, besides("fdt@shop: fdtctl --service shop txn", lying, shop))
			if !errors.Is(err, txn.ErrNotAdopted) || !strings.Contains(err.Error(), shop.dir("log")+", which settles what it holds (fdt@shop: fdtctl --service shop txn)") {
				t.Errorf("running %t, force %t: %v", running, force, err)
			}
		}
		if running {
			closeAll(t, live)
		}
	}
	broken := newPlace(t)
	wantErr(t, os.WriteFile(broken.dir("log")+"/id", []byte("{"), 0o600), nil)
	if err := adopt(true, besides("fdt@broken", broken)); !errors.Is(err, txn.ErrNotAdopted) || !strings.Contains(err.Error(), "cannot be read") {
		t.Error(err)
	}
	wantErr(t, adopt(false, besides("fdt@lying", lying)), nil)
}

// TestBranchesOfNeighbour: what another service of the machine has prepared in the same resources is that one's to settle, and nothing
// that is lost; so it is while its log waits to be adopted.
func TestBranchesOfNeighbour(t *testing.T) {
	p := newPlace(t)
	m := p.open(t)
	prepared(t, m, "x")
	closeAll(t, m)
	shop := p.moved(t)
	own := place{t.TempDir()}
	wantErr(t, errors.Join(os.Mkdir(own.dir("log"), 0o700), os.Mkdir(own.dir("claims"), 0o700)), nil)
	for _, r := range []string{"a", "b"} {
		wantErr(t, os.Symlink(p.dir(r), own.dir(r)), nil)
	}
	tell := func(others func(*txn.Options)) (why []string, counted int) {
		var journal bytes.Buffer
		m := own.open(t, others, logged(&journal))
		defer closeAll(t, m)
		for range 3 {
			wantErr(t, m.Scan(t.Context()), nil)
		}
		all, err := m.Unexplained()
		wantErr(t, err, nil)
		for _, u := range all {
			why = append(why, u.Why)
		}
		if alarmed := strings.Contains(journal.String(), "left alone"); alarmed != (m.Counts().Unexplained > 0) {
			t.Errorf("alarmed: %t\n%s", alarmed, journal.String())
		}
		return why, m.Counts().Unexplained
	}
	for of, c := range map[string]struct {
		others  func(*txn.Options)
		why     string
		counted int
	}{
		"nobody": {besides(""), "its log is not here: it is another machine's, or lost", 2},
		"its own": {besides("fdt@shop: fdtctl --service shop txn", p),
			"its log is that of another service of this machine, which settles it: fdt@shop: fdtctl --service shop txn", 0},
	} {
		if why, counted := tell(c.others); counted != c.counted || len(why) != 2 || why[0] != c.why || why[1] != c.why {
			t.Errorf("%s: %d, %q", of, counted, why)
		}
	}
	closeAll(t, shop.open(t)) // and finds that it is a copy
	why, counted := tell(besides("fdt: fdtctl txn", shop))
	if want := "its log was put aside by another service of this machine, where it is to be adopted or abandoned: fdt: fdtctl txn"; counted != 0 || len(why) != 2 || why[0] != want {
		t.Errorf("%d, %q", counted, why)
	}
}
