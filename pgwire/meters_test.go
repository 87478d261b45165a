package pgwire_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/txn"
)

// TestStats: what a session does is counted, here and by the manager, each thing once.
func TestStats(t *testing.T) {
	f := newFDT(t, withBank(t))
	if st := f.wire.Stats(); !slices.Equal(slices.Sorted(maps.Keys(st.Calls)), f.wire.Procedures.Names()) || !maps.Equal(st.Calls["secret"].Classes, map[string]uint64{"00": 0}) || len(st.Fatal) != 0 {
		t.Errorf("before the first session: %+v", st)
	}
	conn, err := pgx.Connect(t.Context(), "host="+f.dir+" port=7432 user=bob dbname=db default_query_exec_mode=simple_protocol")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, sql := range []string{
		"CALL enqueue('a')", "CALL enqueue('b')",
		"BEGIN", "CALL enqueue('c')", "ROLLBACK",
		"BEGIN", "COMMIT", // used no resource
		"BEGIN", "CALL enqueue('d')", "PREPARE TRANSACTION 'd'", "COMMIT PREPARED 'd'",
		"BEGIN", "CALL enqueue('e')", "PREPARE TRANSACTION 'e'", "ROLLBACK PREPARED 'e'",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	for _, sql := range []string{"CALL secret()", "COMMIT PREPARED 'nobody'"} {
		if _, err := conn.Exec(t.Context(), sql); err == nil {
			t.Errorf("%s went well", sql)
		}
	}
	if _, err := conn.Exec(t.Context(), "BEGIN; CALL deposit(77, 1)"); err != nil { // and goes on
		t.Fatal(err)
	}
	if c, err := pgx.Connect(t.Context(), "host="+f.dir+" port=7432 user=bob dbname=db replication=true"); err == nil {
		c.Close(t.Context())
		t.Error("replication was begun")
	}

	st := f.wire.Stats()
	enqueue := st.Calls["enqueue"]
	if n, _ := enqueue.Duration.Cumulative(); n != 5 || enqueue.Duration.Sum <= 0 || !maps.Equal(enqueue.Classes, map[string]uint64{"00": 5}) {
		t.Errorf("enqueue: %+v", enqueue)
	}
	if got := st.Calls["secret"].Classes; !maps.Equal(got, map[string]uint64{"00": 0, "42": 1}) {
		t.Errorf("secret: %v", got)
	}
	if !maps.Equal(st.Fatal, map[string]uint64{"0A": 1}) {
		t.Errorf("fatal: %v", st.Fatal)
	}
	m := f.manager.Stats()
	if !maps.Equal(m.Transactions, map[txn.Ending]uint64{txn.EndCommitted: 2, txn.EndRolledBack: 1, txn.EndPrepared: 2, txn.EndUnknown: 0}) ||
		!maps.Equal(m.Decisions, map[string]uint64{"commit": 1, "abort": 1}) || m.Hazards != 0 || m.Active != 1 {
		t.Errorf("%+v", m)
	}
	if n, _ := m.Forces.Cumulative(); n < 4 { // two votes, two decisions
		t.Errorf("%d records were forced", n)
	}
	if r, ok := m.Resources["outbox"]; !ok || r != (txn.ResourceStats{}) {
		t.Errorf("outbox: %+v, %t", r, ok)
	}
	if r := m.Resources["bank"]; r != (txn.ResourceStats{InUse: 1, Limit: 8}) {
		t.Errorf("bank: %+v", r)
	}
}
