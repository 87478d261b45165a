package pgwire_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/pgwire"
)

// TestPrincipals shows that users of one name who have proven it in different ways, or not at all, are not the same: none
// sees or settles what another has prepared, or calls what another may, but for an operator.
func TestPrincipals(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user: run as root")
	}
	f := newFDT(t, bank{}, onTCP(pgwire.Listener{Auth: users(t)}), func(f *fdt, _ *config.Config) {
		f.onUnix = append(f.onUnix, pgwire.Listener{Auth: &pgwire.Peer{Group: "root"}})
	})
	trusted := f.connect("alice")
	trusted.want("BEGIN; CALL enqueue('trusted'); PREPARE TRANSACTION 'trusted'", "C BEGIN", "C CALL", "C PREPARE TRANSACTION", "Z I")
	proven, err := pgx.Connect(t.Context(), "host=127.0.0.1 port="+f.tcp[strings.LastIndex(f.tcp, ":")+1:]+
		" user=alice password=wonderland dbname=db sslmode=disable default_query_exec_mode=simple_protocol")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = proven.Close(t.Context()) }()
	run := func(text string) string {
		if _, err := proven.Exec(t.Context(), text); err != nil {
			return err.Error()
		}
		return ""
	}
	if got := run("BEGIN; CALL enqueue('proven'); PREPARE TRANSACTION 'proven'"); got != "" {
		t.Fatal(got)
	}
	const denied = "permission denied to finish prepared transaction"
	if got := run("COMMIT PREPARED 'trusted'"); !strings.Contains(got, denied) {
		t.Error(got)
	}
	trusted.want("COMMIT PREPARED 'proven'", "E ERROR 42501 "+denied, "Z I")
	trusted.want("SELECT gid, owner FROM pg_prepared_xacts", "T gid:25/-1/0 owner:19/64/0", "D trusted|alice", "C SELECT 1", "Z I")
	// A name without a method is whoever has proven it.
	for name, c := range map[string]struct{ trusted, proven bool }{
		"secret": {true, false}, "proven": {false, true}, "by_password": {false, true}, "by_peer": {false, false},
	} {
		want := []string{"C CALL", "Z I"}
		if !c.trusted {
			want = []string{"E ERROR 42501 permission denied for procedure " + name, "Z I"}
		}
		trusted.want("CALL "+name+"()", want...)
		if got := run("CALL " + name + "()"); (got == "") != c.proven {
			t.Errorf("%s: %s", name, got)
		}
	}
	// root, by peer, is an operator: it sees and settles all.
	for _, gid := range []string{"trusted", "proven"} {
		if out, err := f.psqlAs("root", f.socks[0], "root", "COMMIT PREPARED '"+gid+"'"); err != nil {
			t.Error(out)
		}
	}
	got := f.messages()
	slices.Sort(got)
	if g := strings.Join(slices.Compact(got), " "); g != "proven secret trusted" {
		t.Error(g)
	}
}

// TestPeerProcess shows that it is the process that is a member of a group, by whatever way, and that names may come from
// elsewhere than /etc/passwd.
func TestPeerProcess(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user: run as root")
	}
	f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) {
		f.onUnix = append(f.onUnix, pgwire.Listener{Auth: &pgwire.Peer{Group: "daemon"}})
	})
	host, port := filepath.Dir(f.socks[0]), f.socks[0][strings.LastIndex(f.socks[0], ".")+1:]
	psql := func(uid uint32, groups ...uint32) string {
		cmd := exec.Command("psql", "-X", "-h", host, "-p", port, "-U", "nobody", "-c", "CALL enqueue('x')", "db")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: 65534, Groups: groups}}
		cmd.Env = []string{"PATH=/usr/bin:/bin"}
		cmd.Dir = "/"
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	if out := psql(65534); !strings.Contains(out, `must be a member of the group "daemon"`) {
		t.Error(out)
	}
	if out := psql(65534, 1); out != "CALL\n" { // as SupplementaryGroups= does
		t.Error(out)
	}
	many := make([]uint32, 200)
	for i := range many {
		many[i] = uint32(5000 + i)
	}
	if out := psql(65534, append(many, 1)...); out != "CALL\n" {
		t.Error(out)
	}
	// getent(1) knows a user that /etc/passwd does not.
	dir := t.TempDir()
	script := "#!/bin/sh\n[ \"$1 $2\" = 'passwd 61234' ] && echo 'nobody:x:61234:61234::/:/bin/false'\n"
	if err := os.WriteFile(filepath.Join(dir, "getent"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if out := psql(61234, 1); out != "CALL\n" {
		t.Error(out)
	}
	if out := psql(61235, 1); !strings.Contains(out, "authentication failed") {
		t.Error(out)
	}
}
