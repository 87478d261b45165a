package txn

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// BenchmarkRecovery is the first scan after a boot with 100,000 transactions
// in doubt: open-ns is what READY waits for, scan-s the rest.
func BenchmarkRecovery(b *testing.B) {
	const n = 100_000
	for b.Loop() {
		b.StopTimer()
		root := b.TempDir()
		opt := Options{LogDir: filepath.Join(root, "log"), ClaimDir: filepath.Join(root, "claims"), MachineID: "m1"}
		for _, d := range []string{opt.LogDir, opt.ClaimDir} {
			if err := os.Mkdir(d, 0o700); err != nil {
				b.Fatal(err)
			}
		}
		crowd(b, opt, n)
		b.StartTimer()
		begun := time.Now()
		m, err := Open(b.Context(), opt)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(begun).Nanoseconds()), "open-ns")
		begun = time.Now()
		if err := m.Scan(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(begun).Seconds(), "scan-s")
		begun = time.Now()
		if err := m.Scan(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(begun).Seconds(), "rescan-s")
		var mem runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&mem)
		b.ReportMetric(float64(mem.Sys)/(1<<20), "MiB-sys")
		if m.Counts().InDoubt != n {
			b.Errorf("%d in doubt", m.Counts().InDoubt)
		}
		if err := m.Close(context.WithoutCancel(b.Context())); err != nil {
			b.Fatal(err)
		}
	}
}

// crowd leaves the log of a dead incarnation with n transactions in doubt.
func crowd(b testing.TB, opt Options, n int) {
	b.Helper()
	m, err := Open(b.Context(), opt)
	if err != nil {
		b.Fatal(err)
	}
	j, err := m.ledger.Log(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for i := range n {
		gid, err := j.Number(RoleExternal)
		if err != nil {
			b.Fatal(err)
		}
		r := ledger.Record{
			Kind: ledger.KindPreparing, GID: gid, ClientGID: fmt.Sprintf("1_%d_%x", i, i), Owner: "alice", Addr: "unix", Database: "alice",
			Branches: []BranchID{
				{Resource: "a", Identity: "postgres:7301010101010101010/a/1"}, {Resource: "b", Identity: "mariadb:0123456789abcdef/b"},
			},
		}
		if _, err := j.Note(r); err != nil {
			b.Fatal(err)
		}
		r.Kind = ledger.KindPrepared
		if _, err := j.Note(r); err != nil {
			b.Fatal(err)
		}
	}
	if err := m.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}
