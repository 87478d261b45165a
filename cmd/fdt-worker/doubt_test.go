package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
)

// oneRow is a configuration with a database, whose one row every call locks.
const oneRow = `
listen: {local: {address: %s, auth: trust}}
workers: {count: 1, threads: 2}
resources:
  bank: {type: postgres, dsn: "%s"}
procedures:
  add: {steps: [{on: bank, sql: "UPDATE t SET n = n + 1"}]}
`

// TestSlotsWaitForDoubt fills all slots of a worker with calls that wait for the
// row lock of a transaction in doubt. It is settled all the same, by the shipped
// fdtctl and by its coordinator, and one that waits can be cancelled.
func TestSlotsWaitForDoubt(t *testing.T) {
	db, err := testdb.StartPostgres()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := db.Exec(t.Context(), "postgres", "CREATE TABLE t (n int)", "INSERT INTO t VALUES (0)"); err != nil {
		t.Fatal(err)
	}
	h := newShipped(t)
	proxy, err := testdb.NewProxy(filepath.Join(db.Dir(), ".s.PGSQL.5432")) // its directory, unlike the server's, is the tester's
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	}()
	h.configure(fmt.Sprintf(oneRow, h.sock, proxy.Through(db.DSN("postgres"))))
	if err := (snapshot.Dir(h.run)).WriteState(snapshot.State{Schema: 1, Next: 2, Applied: 1}); err != nil {
		t.Fatal(err)
	}
	h.start("1-0", h.name())
	watch, err := pgx.Connect(t.Context(), db.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watch.Close(t.Context()) }()
	blocked := func(t *testing.T) (n int) {
		t.Helper()
		if err := watch.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}

	added := 0
	for name, settle := range map[string]func(h *host) error{
		"fdtctl": func(h *host) error {
			return errors.Join(h.fdtctl("txn", "commit", "x"), h.fdtctl("txn", "forget", "x"))
		},
		"COMMIT PREPARED": func(h *host) error {
			c := h.connect() // the slots are taken: this one is on the reserve
			defer func() { _ = c.Close(h.t.Context()) }()
			_, err := c.Exec(h.t.Context(), "COMMIT PREPARED 'x'", pgx.QueryExecModeSimpleProtocol)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.in(t)
			c := h.connect()
			for _, s := range []string{"BEGIN", "CALL add()", "PREPARE TRANSACTION 'x'"} {
				if _, err := c.Exec(t.Context(), s, pgx.QueryExecModeSimpleProtocol); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			waiting := []*pgx.Conn{h.connect(), h.connect()}
			answers := make(chan error, len(waiting))
			for _, w := range waiting {
				defer func() { _ = w.Close(t.Context()) }()
				go func() {
					_, err := w.Exec(t.Context(), "CALL add()", pgx.QueryExecModeSimpleProtocol)
					answers <- err
				}()
			}
			testwait.Until(t, "both wait for the row", func() bool { return blocked(t) == len(waiting) })

			if err := waiting[0].PgConn().CancelRequest(t.Context()); err != nil {
				t.Error(err)
			}
			if refusal, ok := errors.AsType[*pgconn.PgError](testwait.For(t, "the cancelled call's answer", answers)); !ok || refusal.Code != "57014" {
				t.Errorf("the call that was cancelled: %+v", refusal)
			}
			again := make(chan error, 1)
			go func() {
				_, err := waiting[0].Exec(t.Context(), "CALL add()", pgx.QueryExecModeSimpleProtocol)
				again <- err
			}()
			testwait.Until(t, "both wait for the row", func() bool { return blocked(t) == len(waiting) })
			if err := settle(h); err != nil {
				t.Error(err)
			}
			if err := errors.Join(testwait.For(t, "an answer", answers), testwait.For(t, "an answer", again)); err != nil {
				t.Error(err)
			}
			added += 1 + len(waiting)
			var n int
			if err := watch.QueryRow(t.Context(), "SELECT n FROM t").Scan(&n); err != nil || n != added {
				t.Errorf("the row holds %d, want %d: %v", n, added, err)
			}
		})
	}
}

// fdtctl runs the shipped program as a user that is not root, to which the
// host's files belong all the same.
func (h *host) fdtctl(args ...string) error {
	h.t.Helper()
	shipped, err := release()
	if err != nil {
		return err
	}
	verb := append(args[:2:2], "-run="+h.run, "-lib="+h.lib)
	cmd := exec.CommandContext(h.t.Context(), shipped.operator, append(verb, args[2:]...)...)
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 1, HostID: 0, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 1, HostID: 0, Size: 1}},
			Credential:  &syscall.Credential{Uid: 1, Gid: 1, NoSetGroups: true},
		}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("fdtctl %v: %w\n%s", args, err, out)
	}
	return nil
}
