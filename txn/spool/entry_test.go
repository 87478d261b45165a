package spool

import (
	"testing"

	"github.com/fdtserver/fdt/txn"
)

func FuzzEntry(f *testing.F) {
	gid := txn.GID{Log: txn.LogID{1}, Incarnation: 1, Sequence: 1, Role: txn.RoleExternal}
	for _, k := range []kind{staged, committed, single, aborted} {
		f.Add(entryName(gid, "outbox", k))
	}
	f.Add(gid.String() + "+a.b.committed")
	f.Add("000001")
	f.Fuzz(func(t *testing.T, name string) {
		if gid, resource, k, ok := parseEntry(name); ok && entryName(gid, resource, k) != name {
			t.Errorf("%q is read as %s, %q, %q", name, gid, resource, k)
		}
		if n, ok := parseMessage(name); ok && messageName(n) != name {
			t.Errorf("%q is read as message %d", name, n)
		}
	})
}
