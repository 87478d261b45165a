package spool_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
	"github.com/fdtserver/fdt/txn/txntest"
)

// count tells how many files in new/ hold exactly that.
func count(t testing.TB, dir, body string) int {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "new", "*"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range list {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if string(raw) == body {
			n++
		}
	}
	return n
}

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	txntest.Run(t, txntest.Harness{
		Open: func(t testing.TB, name string) txn.Resource {
			s, err := spool.Open(name, dir)
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		Write: func(ctx context.Context, b txn.Branch, id string) error {
			return b.(*spool.Branch).Put(ctx, []byte(id))
		},
		Written: func(t testing.TB, id string) int { return count(t, dir, id) },
	})
	for _, sub := range []string{"tmp", "prepared"} {
		if list, _ := os.ReadDir(filepath.Join(dir, sub)); len(list) > 0 {
			t.Errorf("left in %s: %v", sub, list)
		}
	}
}
