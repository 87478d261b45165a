package settle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/cli"
	"github.com/fdtserver/fdt/internal/resources"
	"github.com/fdtserver/fdt/internal/transient"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
	"github.com/fdtserver/fdt/txn/xa"
)

// host is the directories of an installed fdt, and what fdtctl printed.
type host struct {
	txnCommand

	root           string
	stdout, stderr bytes.Buffer
	log            bytes.Buffer // journal
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{root: t.TempDir()}
	for _, d := range []string{"run/txn", "lib/txn", "etc", "lib/outbox"} {
		if err := os.MkdirAll(filepath.Join(h.root, d), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	h.configure(t, "etc")
	h.txnCommand = txnCommand{own: new(Own), run: h.root + "/run", lib: h.root + "/lib", etc: h.root + "/etc", stdout: &h.stdout, stderr: &h.stderr, journal: slog.NewJSONHandler(&h.log, nil)}
	return h
}

func (h *host) configure(t *testing.T, dir string) {
	t.Helper()
	text := fmt.Sprintf("listen:\n  local: {address: /run/fdt/.s.PGSQL.7432, auth: peer}\nresources:\n  outbox: {type: spool, directory: %s/lib/outbox}\n", h.root)
	if err := errors.Join(os.MkdirAll(filepath.Join(h.root, dir), 0o750),
		os.WriteFile(filepath.Join(h.root, dir, "config.yaml"), []byte(text), 0o640)); err != nil {
		t.Fatal(err)
	}
}

// prepare leaves a transaction in doubt, as a worker that goes on does.
func (h *host) prepare(t *testing.T, gid string) {
	t.Helper()
	s, err := spool.Open("outbox", h.root+"/lib/outbox")
	if err != nil {
		t.Fatal(err)
	}
	m, err := txn.Open(t.Context(), txn.Options{LogDir: h.lib + "/txn", ClaimDir: h.run + "/txn", Resources: []txn.Resource{s}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(t.Context()) })
	session := m.NewSession(txn.Principal{User: "alice", Addr: "unix"})
	b, err := func() (txn.Branch, error) {
		if err := session.Begin(t.Context(), txn.TxOptions{}); err != nil {
			return nil, err
		}
		return session.Branch(t.Context(), "outbox")
	}()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.(*spool.Branch).Put(t.Context(), []byte(gid)), session.Prepare(t.Context(), gid)); err != nil {
		t.Fatal(err)
	}
}

// says runs a subcommand and returns what it printed.
func (h *host) says(t *testing.T, args ...string) (string, error) {
	t.Helper()
	h.stdout.Reset()
	err := h.do(t.Context(), args[0], args[1:])
	return h.stdout.String(), err
}

// does runs a subcommand and has it tell programs what it has done.
func (h *host) does(t *testing.T, want txnDone, args ...string) {
	t.Helper()
	h.asJSON = true
	defer func() { h.asJSON = false }()
	out, err := h.says(t, args...)
	var got txnDone
	if err = errors.Join(err, json.Unmarshal([]byte(out), &got)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%q: %v: %s", args, err, out)
	}
}

func TestTxn(t *testing.T) {
	t.Setenv(operatorEnv, `{"user":"bob","uid":"0","login_uid":"1000","terminal":"pts/3"}`)
	h := newHost(t)
	if out, err := h.says(t, "list"); err != nil || !strings.HasPrefix(out, "No transaction") {
		t.Errorf("%s%v", out, err)
	}
	h.prepare(t, "x")
	h.prepare(t, "y")
	if out, err := h.says(t, "list"); err != nil || strings.Count(out, "in doubt") != 2 || !strings.Contains(out, "alice") {
		t.Errorf("%s%v", out, err)
	}
	if out, err := h.says(t, "show", "x"); err != nil || !strings.Contains(out, "branch outbox:  prepared") {
		t.Errorf("%s%v", out, err)
	}
	if out, err := h.says(t, "commit", "x"); err != nil || out != "x: committed\n" {
		t.Errorf("%s%v", out, err)
	}
	if out, err := h.says(t, "rollback", "y"); err != nil || out != "y: rolled back\n" {
		t.Errorf("%s%v", out, err)
	}
	if _, err := h.says(t, "rollback", "x"); !errors.Is(err, txn.ErrHeuristicCommit) {
		t.Errorf("got %v", err)
	}
	if list, _ := filepath.Glob(h.root + "/lib/outbox/new/*"); len(list) != 1 {
		t.Errorf("delivered %q", list)
	}
	if out, err := h.says(t, "list"); err != nil || out != "No transaction waits for a decision or for a resource.\nOutcomes that are kept for whoever asks again: 2. --all shows them.\n" {
		t.Errorf("%s%v", out, err)
	}
	if out, err := h.says(t, "show", "x"); err != nil || !strings.Contains(out, "decided by:     bob, uid 0, login uid 1000, terminal pts/3") {
		t.Errorf("%s%v", out, err)
	}
	if log := h.log.String(); strings.Count(log, `"gid":"x"`) == 0 || !strings.Contains(log, `"login_uid":"1000"`) || h.stderr.Len() > 0 {
		t.Errorf("journal %s, terminal %s", log, h.stderr.String())
	}
	h.asJSON = true
	out, err := h.says(t, "show", "x")
	var shown txn.Transaction
	if err = errors.Join(err, json.Unmarshal([]byte(out), &shown)); err != nil || shown.Decider != "bob" || !shown.Heuristic || shown.Phase != txn.Committed {
		t.Errorf("%s%v", out, err)
	}
	if out, err := h.says(t, "list"); err != nil || out != "[]\n" { // what is settled waits for nobody
		t.Errorf("%s%v", out, err)
	}
	h.all = true
	out, err = h.says(t, "list")
	h.all = false
	var all []aged
	if err = errors.Join(err, json.Unmarshal([]byte(out), &all)); err != nil || len(all) != 2 || all[0].Age <= 0 || all[0].Owner != "alice" {
		t.Errorf("%s%v", out, err)
	}
	h.asJSON = false
	for _, gid := range []string{"x", "y"} {
		if out, err := h.says(t, "forget", gid); err != nil || out != gid+": forgotten\n" {
			t.Errorf("%s%v", out, err)
		}
		for _, verb := range []string{"show", "commit", "rollback", "forget"} {
			if _, err := h.says(t, verb, gid); !errors.Is(err, txn.ErrUnknownGID) {
				t.Errorf("%s: got %v", verb, err)
			}
		}
	}
	h.asJSON = true
	if out, err := h.says(t, "list"); err != nil || out != "[]\n" {
		t.Errorf("%s%v", out, err)
	}
}

// TestTxnUnreadable lists what can be read beside what cannot.
func TestTxnUnreadable(t *testing.T) {
	h := newHost(t)
	h.prepare(t, "x")
	bad := filepath.Join(h.run, "txn", "x-bad")
	if err := os.Mkdir(bad, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := h.says(t, "list"); err == nil || !strings.Contains(err.Error(), bad) || !strings.Contains(out, "in doubt") {
		t.Errorf("%s%v", out, err)
	}
}

// TestTxnUnexplained lists what a scan of the resources has met and nothing explains.
func TestTxnUnexplained(t *testing.T) {
	h := newHost(t)
	h.prepare(t, "x")
	gid := txn.GID{Log: txn.LogID{7}, Incarnation: 3, Sequence: 5, Role: xa.RoleLocal}
	since := time.Now().Add(-50*time.Hour - 30*time.Minute)
	met, err := json.Marshal([]txn.Unexplained{
		{GID: gid, Resource: "outbox", Why: "no log knows it", Since: since, Scans: 2},
		{GID: gid, Resource: "bank", Why: "its log is that of fdt@shop", Since: since, Alone: true, Foreign: true, Service: "fdt@shop"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.run, "txn", "unexplained"), met, 0o640); err != nil {
		t.Fatal(err)
	}
	want := "Resource outbox holds a branch of " + gid.String() + " for 50h, which nothing explains: no log knows it\n" +
		"Resource bank holds a branch of " + gid.String() + " for 50h: its log is that of fdt@shop\n"
	if out, err := h.says(t, "list"); err != nil || h.stderr.String() != want {
		t.Errorf("%s%v, %s", out, err, h.stderr.String())
	}
}

// TestTxnNothingReadable: what cannot be read at all is not told as nothing.
func TestTxnNothingReadable(t *testing.T) {
	h := newHost(t)
	if out, err := h.says(t, "list"); err != nil || !strings.HasPrefix(out, "No transaction") {
		t.Fatalf("%s%v", out, err) // and the claims are those of this boot
	}
	if err := os.Mkdir(filepath.Join(h.run, "txn", "x-bad"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := h.says(t, "list"); err == nil || out != "" {
		t.Errorf("%s%v", out, err)
	}
}

// TestTxnUnreachable: the resource has been replaced by another, so what is decided is not carried out there.
func TestTxnUnreachable(t *testing.T) {
	h := newHost(t)
	h.prepare(t, "x")
	outbox := filepath.Join(h.lib, "outbox")
	if err := errors.Join(os.Rename(outbox, outbox+".away"), os.Mkdir(outbox, 0o750)); err != nil {
		t.Fatal(err)
	}
	if out, err := h.says(t, "commit", "x"); !errors.Is(err, txn.ErrUnreachable) || !strings.Contains(err.Error(), "the decision is recorded") || out != "" {
		t.Errorf("%s%v", out, err)
	}
	if out, err := h.says(t, "list"); err != nil || !strings.Contains(out, "committing") {
		t.Errorf("%s%v", out, err)
	}
}

// TestTxnResolve settles what has a decision, and what has none only by
// explicit word.
func TestTxnResolve(t *testing.T) {
	h := newHost(t)
	if out, err := h.says(t, "resolve"); err != nil || out != "Nothing waits for a decision or for a resource.\n" {
		t.Errorf("%s%v", out, err)
	}
	h.asJSON = true
	if out, err := h.says(t, "resolve"); err != nil || out != "[]\n" {
		t.Errorf("%s%v", out, err)
	}
	h.prepare(t, "x")
	out, err := h.says(t, "resolve")
	var all []txn.Settled
	if jerr := json.Unmarshal([]byte(out), &all); !errors.Is(err, errOpen) || jerr != nil || len(all) != 1 || all[0].Phase != txn.Prepared || all[0].Left == "" {
		t.Errorf("%s%v, %v", out, err, jerr)
	}
	h.asJSON = false
	want := "x: in doubt: waits for the decision of its coordinator, user alice\n"
	if out, err := h.says(t, "resolve"); !errors.Is(err, errOpen) || out != want {
		t.Errorf("%s%v", out, err)
	}
	h.rest = txn.Commit
	if out, err := h.says(t, "resolve"); err != nil || out != "x: committed (operator)\n" {
		t.Errorf("%s%v", out, err)
	}
	if list, _ := filepath.Glob(h.root + "/lib/outbox/new/*"); len(list) != 1 {
		t.Errorf("delivered %q", list)
	}
}

// TestTxnConfiguration: the resources are those of the configuration that
// served last when the one in /etc has faults.
func TestTxnConfiguration(t *testing.T) {
	t.Setenv(operatorEnv, "")
	h := newHost(t)
	h.prepare(t, "x")
	if err := os.WriteFile(h.etc+"/config.yaml", []byte("nonsense: 1\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := h.says(t, "commit", "x"); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("got %v", err)
	}
	h.configure(t, "lib/last-good")
	if out, err := h.says(t, "commit", "x"); err != nil || out != "x: committed\n" || !strings.Contains(h.stderr.String(), "served last") {
		t.Errorf("%s%v%s", out, err, h.stderr.String())
	}
	if err := os.RemoveAll(h.lib + "/txn"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.says(t, "list"); err == nil {
		t.Error("no log directory")
	}
	if err := os.RemoveAll(h.root + "/lib/outbox"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.says(t, "commit", "x"); err == nil {
		t.Error("no resource")
	}
}

func TestTxnCommandLine(t *testing.T) {
	var out, errs bytes.Buffer
	for want, lines := range map[int][][]string{
		0: {{"help"}, {"-h"}, {"--help"}},
		2: {{}, {"nonsense"}, {"list", "x"}, {"resolve"}, {"resolve", "x"}, {"resolve", "--all", "--commit", "--rollback"}, {"commit"}, {"forget"}, {"forget", "x", "--before", "1h"}, {"forget", "--all"}, {"forget", "--all", "--before", "nonsense"}, {"forget", "--all", "--before", "1h", "x"}, {"adopt"}, {"abandon", "--force", "x"}, {"show", "a", "b"}, {"list", "--nonsense"}},
	} {
		for _, args := range lines {
			if code := Txn(args, &out, &errs); code != want {
				t.Errorf("%q: exit %d, want %d", args, code, want)
			}
		}
	}
}

// TestTxnMisused: a wrong command line is told what is wrong with it.
func TestTxnMisused(t *testing.T) {
	for line, want := range map[string]string{
		"forget --before 24h":           "fdtctl txn forget: --before is for many outcomes at once: give --all with it, or a GID alone\n",
		"forget x --before 24h":         "fdtctl txn forget: --before is for many outcomes at once: give --all with it, or a GID alone\n",
		"forget --all":                  "fdtctl txn forget: --all takes --before and a time, and no GID\n",
		"forget x --all --before 24h":   "fdtctl txn forget: --all takes --before and a time, and no GID\n",
		"forget":                        "fdtctl txn forget: give a GID, or --all and --before: 0 arguments given\n",
		"rebind":                        "fdtctl txn rebind: give a RESOURCE: 0 arguments given\n",
		"commit x y":                    "fdtctl txn commit: give a GID: 2 arguments given\n",
		"list x":                        "fdtctl txn list: it takes no argument, and got [\"x\"]\n",
		"resolve x --all":               "fdtctl txn resolve: it takes no argument, and got [\"x\"]\n",
		"forget --all --before tuesday": "fdtctl txn forget: --before \"tuesday\" is no date, no time as 2026-11-30T12:00:00Z, and no time ago as 24h\n",
	} {
		var out, errs bytes.Buffer
		if code := Txn(strings.Fields(line), &out, &errs); code != 2 || errs.String() != want || out.Len() > 0 {
			t.Errorf("%s: %d %s%s", line, code, &out, &errs)
		}
	}
}

// TestNotes: what the library reports reaches the terminal as text, and no trouble is left out of it.
func TestNotes(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(notes{out: &out}).With("resource", "bank").WithGroup("g")
	log.Info("nothing of interest")
	log.Warn("a resource cannot be reached", "error", errors.New("dial:\nrefused"), "message_id", "1", "gid", "")
	slog.New(notes{out: &out}).Warn("plain")
	if got := out.String(); got != "fdtctl: a resource cannot be reached (resource bank): dial:; refused\nfdtctl: plain\n" {
		t.Error(got)
	}
}

func TestTxnWords(t *testing.T) {
	for in, want := range map[string]string{"x": "x", "a b": `"a b"`, "\x1b[31m": `"\x1b[31m"`, "ü": "ü", `"`: `"\""`} {
		if got := cli.Plain(in); got != want {
			t.Errorf("cli.Plain(%q) is %s, want %s", in, got, want)
		}
	}
	now := time.Now()
	for d, want := range map[time.Duration]string{3*time.Second + 5: "3s", 90 * time.Second: "1m30s", 10 * time.Minute: "10m", 50 * time.Hour: "50h"} {
		if got := age(now.Add(-d)); got != want {
			t.Errorf("age %s is %s, want %s", d, got, want)
		}
	}
	if s := state(txn.Transaction{Phase: txn.Committed, Heuristic: true, Hazard: "!"}); s != "committed (operator) (hazard)" {
		t.Error(s)
	}
	waits := txn.Transaction{Phase: txn.Committing, Waits: []string{"a", "b"}}
	if s := state(waits); s != "committing, waits for a, b" {
		t.Error(s)
	}
	if waits.Decided = time.Now().Add(-5 * time.Minute); state(waits) != "committing, waits for a, b since 5m" {
		t.Error(state(waits))
	}
	t.Setenv("SUDO_USER", "bob")
	if who := asked(operator()); who.User == "" || who.By.UID != strconv.Itoa(os.Getuid()) || !who.Operator {
		t.Errorf("%+v", who)
	}
	for env, want := range map[string]string{"": transient.User, "bob": transient.User, `{"user":"bob"}`: "bob"} {
		if who := asked(env); who.User != want {
			t.Errorf("%q is %+v", env, who)
		}
	}
	for stat, want := range map[string]string{
		"": "", "7 (a) b) S 1 7 7 0 -1": "", "7 (fdtctl) S 1 7 7 34819 -1": "pts/3", "7 (fdtctl) S 1 7 7 35074 -1": "pts/258",
		"7 (fdtctl) S 1 7 7 1025 -1": "tty1", "7 (fdtctl) S 1 7 7 1088 -1": "4:64",
	} {
		if got := terminalOf(stat); got != want {
			t.Errorf("terminal of %q is %q, want %q", stat, got, want)
		}
	}
	now = time.Date(2026, 11, 28, 12, 0, 0, 0, time.Local)
	for text, want := range map[string]time.Time{
		"24h": now.Add(-24 * time.Hour), "2026-11-27": time.Date(2026, 11, 27, 0, 0, 0, 0, time.Local),
		"2026-11-27 10:00:00": time.Date(2026, 11, 27, 10, 0, 0, 0, time.Local), "2026-11-27T10:00:00Z": time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC),
		"-1h": {}, "yesterday": {},
	} {
		if got, err := parseTime(text, now); !got.Equal(want) || err == nil == want.IsZero() {
			t.Errorf("%q is %s, %v", text, got, err)
		}
	}
}

// TestTxnForgetAll drops what is over, and nothing else.
func TestTxnForgetAll(t *testing.T) {
	h := newHost(t)
	for _, gid := range []string{"x", "y", "open"} {
		h.prepare(t, gid)
	}
	for _, gid := range []string{"x", "y"} {
		h.does(t, txnDone{GID: gid, Outcome: "committed"}, "commit", gid)
	}
	h.prepare(t, "z")
	h.does(t, txnDone{GID: "z", Outcome: "rolled back"}, "rollback", "z")
	h.does(t, txnDone{GID: "z", Outcome: "forgotten"}, "forget", "z")
	h.all, h.before = true, time.Now().Add(-time.Hour)
	if out, err := h.says(t, "forget"); err != nil || out != "outcomes forgotten: 0\n" {
		t.Errorf("%s%v", out, err)
	}
	h.before = time.Now()
	if out, err := h.says(t, "forget"); err != nil || out != "outcomes forgotten: 2\n" {
		t.Errorf("%s%v", out, err)
	}
	none := 0
	h.does(t, txnDone{Outcome: "forgotten", Count: &none}, "forget")
	if out, err := h.says(t, "list"); err != nil || strings.Count(out, "\n") != 2 || !strings.Contains(out, "open  in doubt") {
		t.Errorf("%s%v", out, err)
	}
}

// TestTxnOrder lists first what waits for somebody.
func TestTxnOrder(t *testing.T) {
	var order []int
	for _, tx := range []txn.Transaction{
		{Phase: txn.Prepared}, {Phase: txn.Committing}, {Phase: txn.Committed, Hazard: "!"}, {Phase: txn.Committed, Heuristic: true},
	} {
		order = append(order, urgency(&tx))
	}
	if !slices.Equal(order, []int{0, 1, 2, 3}) {
		t.Error(order)
	}
}

// TestTxnMoved does what fdtctl(8) says of a move to another disk: copy, adopt,
// start; and of a clone: abandon.
func TestTxnMoved(t *testing.T) {
	h := newHost(t)
	h.prepare(t, "x")
	adopted, abandoned := h.copied(t), h.copied(t)
	told, left := h.copied(t), h.copied(t)
	for _, c := range []*host{adopted, abandoned, told, left} {
		if out, err := c.says(t, "commit", "x"); !errors.Is(err, txn.ErrPutAside) {
			t.Errorf("%s%v", out, err)
		}
	}
	out, err := adopted.says(t, "list")
	_, id, ok := strings.Cut(adopted.stderr.String(), "The transaction log ")
	if err != nil || !ok || !strings.HasPrefix(id[32:], " was put aside with 1 open transactions: fdtctl txn adopt") {
		t.Fatalf("%s%v\n%s", out, err, adopted.stderr.String())
	}
	id = id[:32]
	if _, err := adopted.says(t, "adopt", "nonsense"); err == nil {
		t.Error("adopted nonsense")
	}
	if _, err := adopted.says(t, "adopt", strings.Repeat("0", 32)); err == nil {
		t.Error("adopted what is not there")
	}
	bare := h.copied(t)
	if out, err := bare.says(t, "commit", "x"); !errors.Is(err, txn.ErrPutAside) {
		t.Errorf("%s%v", out, err)
	}
	if err := os.WriteFile(filepath.Join(bare.etc, "config.yaml"), []byte("workers: {count: 1}\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := bare.says(t, "adopt", id); !errors.Is(err, txn.ErrNotAdopted) || !strings.Contains(err.Error(), "settle what is named, or give --force") {
		t.Errorf("adopted without its resource: %v", err)
	}
	if out, err := adopted.says(t, "adopt", id); err != nil || out != id+": adopted; systemctl start fdt\n" {
		t.Errorf("%s%v", out, err)
	}
	if out, err := adopted.says(t, "commit", "x"); err != nil || out != "x: committed\n" {
		t.Errorf("%s%v", out, err)
	}
	for _, wrong := range []string{"nonsense", strings.Repeat("0", 32)} {
		if _, err := abandoned.says(t, "abandon", wrong); err == nil {
			t.Error("abandoned " + wrong)
		}
	}
	if out, err := abandoned.says(t, "abandon", id); err != nil || out != id+": abandoned\noutbox holds 1 branches of it\n" {
		t.Errorf("%s%v", out, err)
	}
	told.does(t, txnDone{Log: id, Outcome: "adopted"}, "adopt", id)
	left.does(t, txnDone{Log: id, Outcome: "abandoned", Left: map[string]string{"outbox": "holds 1 branches of it"}}, "abandon", id)
	if _, err := abandoned.says(t, "commit", "x"); !errors.Is(err, txn.ErrUnknownGID) {
		t.Errorf("got %v", err)
	}
}

// TestTxnStores: the spool becomes another one with the same content, or is another one.
func TestTxnStores(t *testing.T) {
	if _, err := newHost(t).says(t, "rebind", "inbox"); !errors.Is(err, txn.ErrNoResource) || !strings.Contains(err.Error(), `"inbox", only "outbox" in /`) {
		t.Error(err)
	}
	for verb, said := range map[string]string{"rebind": "carries on", "give-up": "gave up"} {
		h, told := newHost(t), newHost(t)
		told.prepare(t, "x")
		h.prepare(t, "x")
		if out, err := h.says(t, verb, "outbox"); err == nil {
			t.Errorf("%s though nothing is missed: %s", verb, out)
		}
		stores := map[*host]string{}
		for _, of := range []*host{h, told} {
			id, err := os.ReadFile(of.root + "/lib/outbox/id")
			if err = errors.Join(err, os.WriteFile(of.root+"/lib/outbox/id", []byte(strings.Repeat("a", 32)+"\n"), 0o640)); err != nil {
				t.Fatal(err)
			}
			stores[of] = "spool:" + strings.TrimSpace(string(id))
		}
		told.does(t, txnDone{Resource: "outbox", Outcome: said, Stores: []string{stores[told]}}, verb, "outbox")
		if out, err := h.says(t, verb, "outbox"); err != nil || !strings.HasPrefix(out, "outbox "+said+" "+stores[h]+"\n") || !strings.Contains(out, "fdtctl txn resolve --all") {
			t.Errorf("%s: %s%v", verb, out, err)
		}
		out, err := h.says(t, "commit", "x")
		if lost := errors.Is(err, txn.ErrHeuristicHazard); lost != (verb == "give-up") || err != nil && !lost {
			t.Errorf("commit after %s: %s%v", verb, out, err)
		}
		if !strings.Contains(h.log.String(), "an operator decided about a store") {
			t.Errorf("the journal has %s", h.log.String())
		}
	}
}

// copied is a copy of all that the host has on disk, on another disk.
func (h *host) copied(t *testing.T) *host {
	t.Helper()
	to := newHost(t)
	if err := os.RemoveAll(to.root + "/lib"); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", h.root+"/lib", to.root+"/lib").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return to
}

// letters are the settings of a type of resource that only the workers' program knows.
type letters struct {
	Directory string `fdt:"directory,required"`
}

// TestTxnOfOwnType: the workers' program settles what resources of its own types hold, and nobody else does.
func TestTxnOfOwnType(t *testing.T) {
	h := newHost(t)
	h.prepare(t, "x")
	text := fmt.Sprintf("resources:\n  outbox: {type: letters, directory: %s/lib/outbox}\n", h.root)
	if err := os.WriteFile(filepath.Join(h.etc, "config.yaml"), []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := h.says(t, "commit", "x"); err == nil || !strings.Contains(err.Error(), "a letters is known to the program of the workers") {
		t.Error(err)
	}
	if out, err := h.says(t, "list"); err != nil || !strings.Contains(out, "in doubt") {
		t.Errorf("%s%v", out, err)
	}

	worker := func() transient.Worker {
		return transient.Worker{Program: "/usr/lib/post", As: []string{"--property=SupplementaryGroups=post"}}
	}
	args := h.unitArguments("commit", "/usr/bin/fdtctl", worker)
	if !slices.Equal(args[len(args)-3:], []string{"--", "/usr/lib/post", "-txn"}) || !slices.Contains(args, "--property=SupplementaryGroups=post") {
		t.Errorf("%q", args)
	}
	if args := h.unitArguments("list", "/usr/bin/fdtctl", worker); args[len(args)-1] != "txn-unit" {
		t.Errorf("%q", args)
	}

	typ, err := config.NewType[letters]("letters")
	if err != nil {
		t.Fatal(err)
	}
	h.own = &Own{Program: &config.Program{Types: []config.ResourceType{typ}}, Openers: map[string]resources.Opener{
		"letters": resources.OpenerOf(func(o resources.Opening, l *letters) (txn.Resource, error) { return spool.Open(o.Name, l.Directory) }),
	}}
	if out, err := h.says(t, "commit", "x"); err != nil || out != "x: committed\n" {
		t.Errorf("%s%v", out, err)
	}
	if err := os.Remove(filepath.Join(h.etc, "config.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err := h.says(t, "show", "x"); err == nil {
		t.Error("there is no configuration")
	}
}

// TestGIDs: what can be completed is what waits for somebody, and what is over where that is asked for.
func TestGIDs(t *testing.T) {
	h := newHost(t)
	h.prepare(t, "order-1")
	h.prepare(t, "order-2")
	if _, err := h.says(t, "commit", "order-2"); err != nil {
		t.Fatal(err)
	}
	here := []string{"--run", h.run, "--lib", h.lib, "--etc", h.etc}
	if got := gids(t.Context(), new(Own), here...); !slices.Equal(got, []string{"order-1"}) {
		t.Errorf("%q", got)
	}
	if got := gids(t.Context(), new(Own), append(here, "--all")...); !slices.Equal(got, []string{"order-1", "order-2"}) {
		t.Errorf("%q", got)
	}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	if got := GIDs(late, true); got != nil {
		t.Errorf("after the end: %q", got)
	}
}
