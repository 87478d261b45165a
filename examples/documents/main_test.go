package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt"
	"github.com/fdtserver/fdt/txn"
)

func TestPublish(t *testing.T) {
	dir := t.TempDir()
	app := fdt.Test(t, fmt.Sprintf("resources:\n  shelf: {type: documents, directory: %s, longest: 10}\n", dir), parts()...)
	c, err := pgx.Connect(t.Context(), app.DSN("alice"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	for _, sql := range []string{"BEGIN", "CALL publish('shelf', 'a', 'one')", "CALL publish('shelf', 'a', 'two')", "PREPARE TRANSACTION 'p'", "COMMIT PREPARED 'p'"} {
		if _, err := c.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "now", "a")); err != nil || string(text) != "two" {
		t.Errorf("%q, %v", text, err)
	}
	for sql, want := range map[string]string{
		"CALL publish('shelf', '../a', 'x')":          `"../a" is no name of a document`,
		"CALL publish('attic', 'a', 'x')":             "no such resource",
		"CALL publish('shelf', 'a', 'far too long.')": "",
	} {
		_, err := c.Exec(t.Context(), sql)
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || !strings.Contains(e.Message, want) {
			t.Errorf("%s: %v", sql, err)
		}
	}
	found := ""
	(&settings{Directory: "here"}).Check(func(key, what, hint string) { found = key + ": " + what + "; " + hint })
	if found != `directory: "here" is not absolute; begin it with a slash` {
		t.Error(found)
	}
}

// TestSyncFails: after a sync has failed the process claims nothing more; the next one begins anew.
func TestSyncFails(t *testing.T) {
	dir := t.TempDir()
	s, err := Open("shelf", dir, 100)
	if err != nil {
		t.Fatal(err)
	}
	log := txn.NewLogID()
	begin := func(n uint64) (*Branch, txn.GID) {
		t.Helper()
		gid := txn.GID{Log: log, Incarnation: 1, Sequence: n, Role: txn.RoleLocal}
		b, err := s.Enlist(t.Context(), txn.BranchOptions{GID: gid})
		if err != nil {
			t.Fatal(err)
		}
		branch := b.(*Branch)
		if err := branch.Write("a", "text"); err != nil {
			t.Fatal(err)
		}
		return branch, gid
	}
	prepared, gid := begin(1)
	if vote, err := prepared.Prepare(t.Context(), gid); vote != txn.VotePrepared || err != nil {
		t.Fatal(vote, err)
	}
	other, ogid := begin(2)
	third, _ := begin(3)
	lost := errors.New("the disk is gone")
	s.syncs = func(string) error { return lost }
	if _, err := other.Prepare(t.Context(), ogid); !errors.Is(err, lost) {
		t.Error(err)
	}
	s.syncs = fsync
	if err := prepared.CommitPrepared(t.Context(), gid); err == nil {
		t.Error("what may be lost is claimed")
	}
	if err := third.Commit(t.Context()); err == nil {
		t.Error("it goes on")
	}
	if _, err := s.Enlist(t.Context(), txn.BranchOptions{GID: ogid}); err == nil {
		t.Error("a broken store begins a branch")
	}
	if s, err = Open("shelf", dir, 100); err != nil {
		t.Fatal(err)
	}
	if how, err := s.Resolve(t.Context(), gid, txn.Commit, ""); how != txn.ResolvedDone || err != nil {
		t.Error(how, err)
	}
	if _, err := Open("shelf", filepath.Join(dir, "none"), 100); err == nil {
		t.Error("a directory that is not there is opened")
	}
}
