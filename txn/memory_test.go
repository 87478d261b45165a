package txn

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestScanMemory: the first scan after a boot needs 1 KiB at most for each transaction in doubt, and keeps none of that.
func TestScanMemory(t *testing.T) {
	const n = 10_000
	root := t.TempDir()
	var before, most uint64
	steps := 0
	opt := Options{LogDir: filepath.Join(root, "log"), ClaimDir: filepath.Join(root, "claims"), MachineID: "m1"}
	for _, d := range []string{opt.LogDir, opt.ClaimDir} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	crowd(t, opt, n)
	var reads []string
	opt.fault = func(step string) error {
		if steps++; before > 0 && steps%1000 == 0 {
			most = max(most, heap())
		}
		if before > 0 && strings.HasPrefix(step, "open log") {
			reads = append(reads, step)
		}
		return nil
	}
	m, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	before = heap()
	if err := m.Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	if steps < n {
		t.Fatalf("looked at %d steps only", steps)
	}
	if len(reads) != 1 {
		t.Errorf("the log was read %d times", len(reads))
	}
	if in := m.Counts().InDoubt; in != n {
		t.Errorf("%d in doubt", in)
	}
	after := heap()
	t.Logf("%d bytes each, then %d", (most-before)/n, (after-min(before, after))/n)
	if most-before > n<<10 || after > before+n*64 {
		t.Errorf("%d bytes each in the scan, %d bytes more after it", (most-before)/n, after-before)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// heap is how many bytes are in use.
func heap() uint64 {
	runtime.GC()
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	return now.HeapAlloc
}
