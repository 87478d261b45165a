package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/txntest"
)

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	txntest.Run(t, txntest.Harness{
		Open: func(t testing.TB, name string) txn.Resource {
			s, err := Open(name, dir, 1000)
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		Write: func(_ context.Context, b txn.Branch, id string) error { return b.(*Branch).Write(id, id) },
		Written: func(t testing.TB, id string) int {
			list, err := filepath.Glob(filepath.Join(dir, "now", id))
			if err != nil {
				t.Fatal(err)
			}
			return len(list)
		},
	})
	for _, sub := range []string{"open", "prepared", "decided"} {
		if list, _ := os.ReadDir(filepath.Join(dir, sub)); len(list) > 0 {
			t.Errorf("left in %s: %v", sub, list)
		}
	}
}
