package settle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/testdb"
)

// A database is made ready by its role, or by an administrator with what is printed.
func TestDecider(t *testing.T) {
	server, err := testdb.StartPostgres("max_prepared_transactions=0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	admin := func(statements ...string) {
		t.Helper()
		if err := server.Exec(t.Context(), "postgres", statements...); err != nil {
			t.Fatal(err)
		}
	}
	admin("CREATE ROLE app LOGIN")
	etc := t.TempDir()
	configure := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(etc, "config.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configure(fmt.Sprintf("resources:\n  outbox: {type: spool, directory: %s}\n  bank: {type: postgres, dsn: %q}\n  gone: {type: postgres, dsn: \"host=/nonexistent user=app\"}\n  odd: {type: postgres, dsn: \"host=/nonexistent connect_timeout=x\"}\n",
		t.TempDir(), strings.Replace(server.DSN("postgres"), "user=fdt", "user=app", 1)))
	says := func(code int, want string, args ...string) string {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if is := deciderIn(t.Context(), new(Own), args, &stdout, &stderr); is != code || !strings.Contains(stdout.String()+stderr.String(), want) {
			t.Errorf("%q: %d %s%s, want %d and %s", args, is, stdout.String(), stderr.String(), code, want)
		}
		return stdout.String()
	}
	at := "--etc=" + etc
	says(0, "Usage:", "--help")
	says(2, "Usage:")
	says(2, "Usage:", "drop")
	says(2, "0 arguments given", "init", at)
	says(1, `no resource "bnk"`, "init", at, "bnk")
	says(1, "outbox is a spool", "init", at, "outbox")
	says(1, "decider: resource gone", "init", at, "gone")
	says(1, "resource odd: dsn", "init", at, "odd")
	says(1, "run what fdtctl decider init --print bank prints", "init", at, "bank")
	sql := says(0, `TO "app";`, "init", "--print", at, "bank")
	admin("CREATE SCHEMA fdt_txn", "CREATE TABLE fdt_txn.decision (x int)", "GRANT ALL ON SCHEMA fdt_txn TO app", "GRANT ALL ON fdt_txn.decision TO app")
	says(1, "", "init", at, "bank")
	admin("DROP SCHEMA fdt_txn CASCADE", sql)
	admin(sql)
	admin("DROP SCHEMA fdt_txn CASCADE", "GRANT CREATE ON DATABASE postgres TO app")
	says(0, "bank: ready to keep decisions", "init", at, "bank")
	says(0, "max_prepared_transactions is 0", "init", at, "bank")
	told := says(0, "", "init", "--json", at, "bank")
	var made txnDone
	if err := json.Unmarshal([]byte(told), &made); err != nil || made.Resource != "bank" || made.Outcome != "ready to keep decisions" || len(made.Warnings) != 1 {
		t.Errorf("%v: %s", err, told)
	}
	says(0, `"sql": [`, "init", "--print", "--json", at, "bank")
	configure("nothing: true")
	says(1, "nothing", "init", at, "bank")
	if code := Decider([]string{"help"}, new(bytes.Buffer), new(bytes.Buffer)); code != 0 {
		t.Errorf("help: %d", code)
	}
}
