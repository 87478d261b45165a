package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// recovery is what a worker meets that starts after a reboot with 100,000 transactions in doubt in the log: what its start waits for,
// and how long the first scan takes. Only package txn can write such a log in good time, so this is its own benchmark.
func recovery(ctx context.Context, s *site) ([]row, error) {
	// In memory, where claims are; the log is read from the page cache in any case, for it was just written.
	out, err := s.shell(ctx, "mkdir -p /run/bench-crowd; cd /run/bench-crowd; "+
		"TMPDIR=$PWD "+inside+"/txn.test -test.run '^$' -test.bench '^BenchmarkRecovery$' -test.benchtime 1x")
	if err != nil {
		return nil, err
	}
	metric := func(unit string) float64 {
		words := strings.Fields(out)
		for i, word := range words {
			if i > 0 && word == unit {
				x, _ := strconv.ParseFloat(words[i-1], 64) // go test wrote it
				return x
			}
		}
		err = fmt.Errorf("no %s in %s", unit, out)
		return 0
	}
	opened, scanned, held := metric("open-ns")/1e6, metric("scan-s"), metric("MiB-sys")
	return []row{{
		measure: "recovery, 100,000 in doubt: before READY", fdt: fmt.Sprintf("%.1f ms", opened),
		ratio: opened, aim: below(50, "%.1f ms"),
	}, {
		measure: "recovery, 100,000 in doubt: first scan", fdt: fmt.Sprintf("%.2f s", scanned),
		ratio: scanned, aim: below(10, "%.2f s"),
	}, {
		measure: "recovery, 100,000 in doubt: memory of the process", fdt: fmt.Sprintf("%.0f MiB", held),
		ratio: held, aim: below(512, "%.0f MiB"),
	}}, err
}
