package pgwire_test

import (
	"context"
	"testing"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
)

// TestOneCall: the transaction of a CALL knows that COMMIT follows it at once, where nothing else can come before.
func TestOneCall(t *testing.T) {
	told := make(chan bool, 9)
	tells := procedure.New(procedure.Spec{Name: "tells", Where: "test"},
		func(_ context.Context, s *txn.Session, _ []value.Value, _ procedure.Emit) error {
			told <- s.Options().OneCall
			return nil
		})
	f := newFDT(t, bank{}, func(f *fdt, cfg *config.Config) {
		set, err := procedure.Compile(cfg, tells)
		if err != nil {
			t.Fatal(err)
		}
		f.wire.Procedures = set
	})
	c := connect(t, "unix", f.sock, "a")
	c.want("CALL tells()", "C CALL", "Z I")
	c.want("CALL tells(); CALL tells()", "C CALL", "C CALL", "Z I")
	c.want("BEGIN", "C BEGIN", "Z T")
	c.want("CALL tells()", "C CALL", "Z T")
	c.want("COMMIT", "C COMMIT", "Z I")
	c.want("CALL tells()", "C CALL", "Z I")
	for i, want := range []bool{true, false, false, false, true} {
		if got := <-told; got != want {
			t.Errorf("call %d: %t", i+1, got)
		}
	}
}
