package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/fdtserver/fdt/internal/service"
)

// TestNoMaster: of a service whose name is misspelt it is said that there is none, and which there are.
func TestNoMaster(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"etc/fdt/shop/config.yaml", "etc/fdt/bank/config.yaml", "var/lib/fdt@gone/txn"} {
		name = filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"":     "the master does not run: systemctl status fdt",
		"shop": "the master does not run: systemctl status fdt@shop",
		"gone": "the master does not run: systemctl status fdt@gone",
		"shpo": "there is no service shpo, as there is no /etc/fdt/shpo/config.yaml; there is fdt, fdt@bank, fdt@shop",
	} {
		s, err := service.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := noMaster(root, s).Error(); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}
