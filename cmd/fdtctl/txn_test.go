package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// host is the directories of an installed fdt, and what fdtctl printed.
type host struct {
	txnCommand

	root           string
	stdout, stderr bytes.Buffer
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
	h.txnCommand = txnCommand{run: h.root + "/run", lib: h.root + "/lib", etc: h.root + "/etc", stdout: &h.stdout, stderr: &h.stderr}
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

func TestTxn(t *testing.T) {
	t.Setenv(operatorEnv, "bob")
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
	h.asJSON = true
	out, err := h.says(t, "show", "x")
	var shown txn.Transaction
	if err = errors.Join(err, json.Unmarshal([]byte(out), &shown)); err != nil || shown.Decider != "bob" || !shown.Heuristic || shown.Phase != txn.Committed {
		t.Errorf("%s%v", out, err)
	}
	out, err = h.says(t, "list")
	var all []aged
	if err = errors.Join(err, json.Unmarshal([]byte(out), &all)); err != nil || len(all) != 2 || all[0].Age <= 0 || all[0].Owner != "alice" {
		t.Errorf("%s%v", out, err)
	}
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
	if out, err := h.says(t, "list"); err != nil || out != "[]\n" {
		t.Errorf("%s%v", out, err)
	}
}

// TestTxnUnreadable lists what can be read beside what cannot.
func TestTxnUnreadable(t *testing.T) {
	h := newHost(t)
	h.prepare(t, "x")
	bad := filepath.Join(h.run, "txn", "x-bad")
	if err := os.WriteFile(bad, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := h.says(t, "list"); err == nil || !strings.Contains(err.Error(), bad) || !strings.Contains(out, "in doubt") {
		t.Errorf("%s%v", out, err)
	}
}

// TestTxnNothingReadable: what cannot be read at all is not told as nothing.
func TestTxnNothingReadable(t *testing.T) {
	h := newHost(t)
	if out, err := h.says(t, "list"); err != nil || !strings.HasPrefix(out, "No transaction") {
		t.Fatalf("%s%v", out, err) // and the claims are those of this boot
	}
	if err := os.WriteFile(filepath.Join(h.run, "txn", "x-bad"), []byte("{"), 0o600); err != nil {
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
		2: {{}, {"nonsense"}, {"list", "x"}, {"resolve"}, {"resolve", "x"}, {"resolve", "--all", "--commit", "--rollback"}, {"list", "--all"}, {"commit"}, {"show", "a", "b"}, {"list", "--nonsense"}},
	} {
		for _, args := range lines {
			if code := runTxn(args, &out, &errs); code != want {
				t.Errorf("%q: exit %d, want %d", args, code, want)
			}
		}
	}
}

func TestTxnWords(t *testing.T) {
	for in, want := range map[string]string{"x": "x", "a b": `"a b"`, "\x1b[31m": `"\x1b[31m"`, "ü": "ü", `"`: `"\""`} {
		if got := plain(in); got != want {
			t.Errorf("plain(%q) is %s, want %s", in, got, want)
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
	if operator() == "" {
		t.Error("nobody is the operator")
	}
	t.Setenv("SUDO_USER", "bob")
	if who := operator(); who == "" {
		t.Error("nobody is the operator")
	}
}
