package main

import (
	"context"
	"fmt"
)

// recovery is what a worker meets that starts after a reboot with 100,000 transactions in doubt in the log: what its start waits for,
// and how long the first scan takes. All is in memory, where claims are anyway; the log would be read from the page cache all the
// same, as it was just written.
func recovery(ctx context.Context, s *site) ([]row, error) {
	figures, err := s.benchmark(ctx, "txn.test", "^BenchmarkRecovery$", "1x", "/run/bench-crowd")
	if err != nil {
		return nil, err
	}
	opened, scanned, held := figures["open-ns"]/1e6, figures["scan-s"], figures["MiB-sys"]
	return []row{{
		measure: "recovery, 100,000 in doubt: before READY", fdt: fmt.Sprintf("%.1f ms", opened),
		ratio: series{opened}, aim: below(50, "%.1f ms"),
	}, {
		measure: "recovery, 100,000 in doubt: first scan", fdt: fmt.Sprintf("%.2f s", scanned),
		ratio: series{scanned}, aim: below(10, "%.2f s"),
	}, {
		measure: "recovery, 100,000 in doubt: memory of the process", fdt: fmt.Sprintf("%.0f MiB, %.1f KiB each", held, held*1024/100_000),
		ratio: series{held}, aim: below(200, "%.0f MiB"),
	}}, nil
}
