package bank

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/postgres"
	"github.com/fdtserver/fdt/txn/spool"
)

// forcing has strace(1) count what a process, and what it starts from then on, forces below a directory, until stop.
func forcing(t *testing.T, pid int, below string) (stop func() int) {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("NOT TESTED: strace is not installed")
	}
	file := filepath.Join(t.TempDir(), "calls")
	cmd := exec.Command(strace, "-f", "-y", "-e", "trace=fsync,fdatasync,sync_file_range,msync", "-e", "signal=none", "-o", file, "-p", strconv.Itoa(pid))
	said, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	first := make([]byte, 200)
	n, _ := said.Read(first)
	if !strings.Contains(string(first[:n]), "attached") {
		_ = cmd.Wait()
		t.Skipf("NOT TESTED: strace may not trace here: %s", first[:n])
	}
	ended := make(chan error, 1)
	go func() {
		_, _ = io.Copy(io.Discard, said)
		ended <- cmd.Wait()
	}()
	return func() int {
		t.Helper()
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = testwait.For(t, "strace's end", ended)
		raw, err := os.ReadFile(file)
		must(t, err)
		count := 0
		for line := range strings.Lines(string(raw)) {
			if strings.Contains(line, "<"+below) && !strings.Contains(line, "resumed>") {
				count++
			}
		}
		return count
	}
}

// TestForces counts what one transaction forces: in each database and in fdt's log.
func TestForces(t *testing.T) {
	const rounds = 40 // against the few forces that belong to none
	pg, err := testdb.StartPostgres("autovacuum=off")
	must(t, err)
	defer func() { must(t, pg.Close()) }()
	my, err := testdb.StartMariaDB()
	must(t, err)
	defer func() { must(t, my.Close()) }()
	must(t, my.Database(t.Context(), "bank"))
	create := []string{"CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL)", "INSERT INTO t VALUES (1, 0)"}
	must(t, pg.Exec(t.Context(), "postgres", append(create, postgres.DeciderSQL("fdt")...)...))
	must(t, my.Exec(t.Context(), "bank", create...))
	for _, test := range []struct {
		decider, with          string
		postgres, mariadb, log int
	}{
		{"", "bank_b", 2, 2, 1},
		{"bank_a", "bank_b", 1, 2, 0},
		{"", "outbox", 2, 0, 1},
		{"bank_a", "outbox", 1, 0, 0},
	} {
		t.Run(test.decider+" "+test.with, func(t *testing.T) {
			at := place{log: t.TempDir(), claims: t.TempDir(), spool: t.TempDir(), postgres: pg.DSN("postgres"), mariadb: my.DSN("fdt", "bank"), decider: test.decider}
			m, rms, err := at.manager(t.Context(), "forces", slog.New(slog.DiscardHandler))
			must(t, err)
			// Sessions are processes of PostgreSQL that it begins from here on.
			ofPG, ofMy := forcing(t, pg.PID(), pg.Dir()), forcing(t, my.PID(), my.Dir())
			self := forcing(t, os.Getpid(), at.log)
			for range rounds {
				s := m.NewSession(txn.Principal{User: "teller"})
				must(t, s.Begin(t.Context(), txn.TxOptions{}))
				must(t, add(t.Context(), s, "bank_a", 1))
				if test.with == "outbox" {
					b, err := s.Branch(t.Context(), "outbox")
					must(t, err)
					must(t, b.(*spool.Branch).Put(t.Context(), []byte("message")))
				} else {
					must(t, add(t.Context(), s, "bank_b", 1))
				}
				must(t, s.Commit(t.Context()))
			}
			each := func(n int) int { return (n + rounds/2) / rounds }
			is := fmt.Sprintf("PostgreSQL %d, MariaDB %d, the log %d", each(ofPG()), each(ofMy()), each(self()))
			if want := fmt.Sprintf("PostgreSQL %d, MariaDB %d, the log %d", test.postgres, test.mariadb, test.log); is != want {
				t.Errorf("forced: %s; want %s", is, want)
			}
			t.Log("forced: ", is)
			must(t, m.Close(context.WithoutCancel(t.Context())))
			for _, r := range rms {
				must(t, r.Close())
			}
		})
	}
}
