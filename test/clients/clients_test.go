package clients

import (
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write golden files anew")

// TestClients runs every client every way, and then pools of connections while fdt reloads.
func TestClients(t *testing.T) {
	m := boot(t)
	t.Run("Statements", m.statements)
	t.Run("Reloads", m.reloads)
	if got := m.run(t, "fdtctl txn list --json; runuser -u fdt -- psql -At bank -c 'SELECT gid FROM pg_prepared_xacts'"); got != "[]" && got != "" {
		t.Errorf("left in doubt: %s", got)
	}
	if got := m.run(t, "journalctl -b -q -u 'fdt*' -p warning"); got != "" {
		t.Errorf("complaints: %s", got)
	}
}

func (m *machine) statements(t *testing.T) {
	for _, client := range []struct {
		name string
		ways []string
		args []string
	}{
		{"Psycopg2", []string{"peer", "bound", "session", "transaction"}, []string{"python3", "/clients/psycopg2_client.py"}},
		{"Psycopg3", []string{"peer", "bound", "session"}, []string{"python3", "/clients/psycopg3_client.py"}},
		{"Zope", []string{"peer", "session", "transaction"}, []string{"python3", "/clients/zope_client.py"}},
		{"PgJDBC", []string{"scram"}, []string{"java", "-XX:TieredStopAtLevel=1", "-cp", jars, "/clients/Jdbc.java"}},
		{"PGX", []string{"peer", "scram"}, []string{"/clients/bin/pgx"}},
		{"PQ", []string{"peer", "scram", "session"}, []string{"/clients/bin/pq"}},
		{"Node", []string{"peer", "scram", "session"}, []string{"node", "--no-deprecation", "/clients/node/client.js"}},
	} {
		for _, way := range client.ways {
			t.Run(client.name+"/"+way, func(t *testing.T) {
				t.Parallel()
				m.play(t, way, m.account(), client.args...)
			})
		}
	}
	for _, way := range []string{"peer", "bound", "session"} {
		t.Run("Psql/"+way, func(t *testing.T) {
			t.Parallel()
			m.psql(t, way)
		})
	}
	for _, way := range []string{"peer", "session", "transaction"} {
		for _, mode := range []string{"simple", "extended", "prepared"} {
			if way == "transaction" && mode == "prepared" {
				continue // this version of PgBouncer knows no prepared statements there
			}
			t.Run("Pgbench/"+way+"/"+mode, func(t *testing.T) {
				t.Parallel()
				m.pgbench(t, way, mode)
			})
		}
	}
}

// psql prints what is in the golden file.
func (m *machine) psql(t *testing.T, way string) {
	const name = "testdata/psql.out"
	got := m.play(t, way, m.account(), "psql", "-X", "-f", "/clients/psql.sql")
	if *update {
		must(t, os.WriteFile(name, []byte(got), 0o644))
	}
	want, err := os.ReadFile(name)
	must(t, err)
	if got != string(want) {
		t.Errorf("%s differs (-update writes it anew); got:\n%s", name, got)
	}
}

// pgbench makes 160 transactions by four clients; each adds 1 to one account, in two parts.
func (m *machine) pgbench(t *testing.T, way, mode string) {
	account := m.account()
	m.play(t, way, account, "sh", "-c", "exec pgbench --no-vacuum --protocol="+mode+
		" --client=4 --jobs=2 --transactions=40 --define=account=$ACCOUNT --file=/clients/pgbench.sql")
	if got := m.balance(t, account); got != "160" {
		t.Errorf("balance: %s", got)
	}
}
