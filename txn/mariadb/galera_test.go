package mariadb

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/txn"
)

// A node of a Galera cluster refuses XA at its first use, which a rehearsal and Check find.
func TestGalera(t *testing.T) {
	address := fmt.Sprintf("127.55.%d.%d", os.Getpid()>>8&0xff, os.Getpid()&0xff) // of this process alone
	node, err := testdb.StartMariaDB("wsrep-on=ON", "wsrep-provider=/usr/lib/galera/libgalera_smm.so", "wsrep-cluster-address=gcomm://",
		"wsrep-node-address="+address, "wsrep-provider-options=gmcast.listen_addr=tcp://"+address+":4567;ist.recv_bind="+address,
		"binlog-format=ROW", "innodb-autoinc-lock-mode=2")
	must(t, err)
	defer func() { must(t, node.Close()) }()
	must(t, node.Database(t.Context(), "a"))
	r := open(t, Options{DSN: node.DSN("fdt", "a")})
	if _, err := r.Check(t.Context()); !errors.Is(err, ErrGalera) {
		t.Errorf("Check: %v", err)
	}
	b := enlist(t, r, txn.BranchOptions{})
	if _, err := b.Exec(t.Context(), "DO 1", nil); !errors.Is(err, ErrGalera) || txn.SQLState(err) != "42000" {
		t.Errorf("Exec: %v", err)
	}
	must(t, b.Rollback(t.Context()))
}
