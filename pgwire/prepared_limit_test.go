package pgwire_test

import (
	"testing"

	"github.com/fdtserver/fdt/config"
)

// TestPreparedLimit: the limit is refused as PostgreSQL refuses, shown as its setting, and
// the transaction is rolled back.
func TestPreparedLimit(t *testing.T) {
	f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) { f.limits.Prepared, f.limits.PreparedPerUser = 2, 1 })
	alice, bob := f.connect("alice"), f.connect("bob")
	alice.want("SHOW max_prepared_transactions", "T max_prepared_transactions:25/-1/0", "D 2", "C SHOW", "Z I")
	alice.want("BEGIN; CALL enqueue('a'); PREPARE TRANSACTION 'a'", "C BEGIN", "C CALL", "C PREPARE TRANSACTION", "Z I")
	alice.want("BEGIN; CALL enqueue('b'); PREPARE TRANSACTION 'b'", "C BEGIN", "C CALL",
		"E ERROR 53400 maximum number of prepared transactions of one user reached: 1, transaction.prepared_per_user in the configuration", "Z I")
	bob.want("BEGIN; PREPARE TRANSACTION 'b'", "C BEGIN", "C PREPARE TRANSACTION", "Z I")
	bob.want("BEGIN; PREPARE TRANSACTION 'c'", "C BEGIN",
		"E ERROR 53200 maximum number of prepared transactions reached: 2, transaction.prepared in the configuration", "Z I")
	alice.want("COMMIT PREPARED 'a'", "C COMMIT PREPARED", "Z I")
	f.delivered("a")
	bob.want("ROLLBACK PREPARED 'b'", "C ROLLBACK PREPARED", "Z I")
	alice.want("BEGIN; PREPARE TRANSACTION 'b'", "C BEGIN", "C PREPARE TRANSACTION", "Z I")
}
