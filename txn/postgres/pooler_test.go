package postgres

import (
	"errors"
	"fmt"
	"net"
	"os"
	osexec "os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// pgbouncer stands before the server, with a line of configuration more. It returns the connection string of database a through it.
func pgbouncer(t *testing.T, line string) string {
	t.Helper()
	account, err := user.Lookup("postgres")
	must(t, err)
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	dir, err := os.MkdirTemp("", "fdt-pooler-") // a short name, as sockets need
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	must(t, os.Chown(dir, uid, gid))
	config := filepath.Join(dir, "pgbouncer.ini")
	must(t, os.WriteFile(config, fmt.Appendf(nil, "[databases]\na = host=%s user=app dbname=a\n[pgbouncer]\nunix_socket_dir=%s\nauth_type=any\n%s\n", server.Dir(), dir, line), 0o644))
	cmd := osexec.Command("/usr/sbin/pgbouncer", config)
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	must(t, cmd.Start())
	t.Cleanup(func() {
		must(t, cmd.Process.Kill())
		_ = cmd.Wait() // killed, as it says
	})
	testwait.Until(t, "pgbouncer listens", func() bool {
		c, err := net.Dial("unix", filepath.Join(dir, ".s.PGSQL.6432"))
		return err == nil && c.Close() == nil
	})
	return "host=" + dir + " port=6432 user=app dbname=a"
}

// A pooler hands one session to several clients, and theirs are not the server's numbers: it is refused before anything is begun, however
// much it pretends.
func TestPooler(t *testing.T) {
	for _, line := range []string{
		"", "pool_mode=session", "ignore_startup_parameters=client_connection_check_interval\npool_mode=session",
		"ignore_startup_parameters=client_connection_check_interval\npool_mode=transaction",
		"ignore_startup_parameters=client_connection_check_interval\npool_mode=statement",
	} {
		r := open(t, Options{DSN: pgbouncer(t, line)})
		_, enlisted := r.Enlist(t.Context(), txn.BranchOptions{GID: newGID(txn.RoleLocal)})
		_, checked := r.Check(t.Context())
		for _, err := range []error{enlisted, checked} {
			if !errors.Is(err, errPooled) || txn.SQLState(err) != "08001" || !strings.Contains(err.Error(), "pooler") {
				t.Errorf("%q: %v", line, err)
			}
		}
	}
}
