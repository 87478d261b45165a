package pgwire_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// consoleCommands are psql's that ask the catalogue.
var consoleCommands = []string{
	`\conninfo`, `\d`, `\d pg_class`, `\d+ pg_roles`, `\dS`, `\dS+`, `\da`, `\dA`, `\dA+`, `\dAc`, `\dAf`, `\dAo`, `\dAp`, `\db`, `\db+`, `\dc`, `\dconfig`,
	`\dC`, `\dd`, `\dD`, `\ddp`, `\dE`, `\des`, `\det`, `\deu`, `\dew`, `\df`, `\df+`, `\dfS+`, `\df dep*`, `\dfp`, `\dF`, `\dFd`, `\dFp`, `\dFt`, `\dg`, `\dg+`, `\di`, `\dl`,
	`\dL`, `\dL+`, `\dm`, `\dn`, `\dn+`, `\do`, `\dO`, `\dOS`, `\dp`, `\dP`, `\drds`, `\dRp`, `\dRs`, `\ds`, `\dt`, `\dtS`, `\dtS+`, `\dT`, `\dTS+`, `\du`, `\du+`, `\dv`, `\dx`, `\dX`, `\dy`,
	`\l`, `\l+`, `\sf deposit`, `\z`, `\encoding`, `\timing`, `\sv pg_roles`, `\df *.*`, `\dT *.*`, `\dn *`,
}

// TestConsole gives psql's commands to psql: none may end with an error, but where PostgreSQL's does.
func TestConsole(t *testing.T) {
	f := newFDT(t, withBank(t))
	run := func(command string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "psql", "-X", "-A", "-v", "ON_ERROR_STOP=1", "-h", filepath.Dir(f.sock), "-p", "7432", "-U", "alice", "-d", "bank", "-c", command)
		cmd.Env = []string{"PATH=/usr/bin:/bin", "PAGER=cat"}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, command := range consoleCommands {
		out, err := run(command)
		switch {
		case strings.HasPrefix(command, `\dconfig`) && strings.Contains(out, "invalid command"), strings.HasPrefix(command, `\sv`):
		case err != nil || strings.Contains(out, "ERROR"):
			t.Errorf("%s: %v: %s", command, err, out)
		}
	}
	for command, want := range map[string]string{
		`\df`:             "public|deposit|",
		`\df+ deposit`:    "|fdt|",
		`\dn`:             "public|pg_database_owner",
		`\l`:              "bank|pg_database_owner|UTF8",
		`\du`:             "alice|",
		`\dT int8`:        "pg_catalog|bigint|",
		`\dtS pg_class`:   "pg_catalog|pg_class|table|pg_database_owner",
		`\d pg_namespace`: "nspname|name||not null|",
		`\conninfo`:       `database "bank" as user "alice"`,
		`SELECT usename, state FROM pg_stat_activity`: "alice|active",
	} {
		if out, err := run(command); err != nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v: %s\nwant %s", command, err, out, want)
		}
	}
}
