package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/txn"
)

const (
	logRounds   = 7
	logPeriod   = 400 * time.Millisecond
	logCallers  = 64
	recordBytes = 512 // about what a decision over two resources takes
	bareFile    = 64 << 20
)

// logForce compares the log with a bare write and fdatasync(2) of as many bytes into a file on the same filesystem that has
// its blocks already, as the log's has. fdt's side is a whole local commit over two resources that cost nothing: one forced record, one
// that is not, and the coordinator.
func logForce(ctx context.Context, _ *site) (rows []row, err error) {
	dir := filepath.Join(scratch, "log")
	m, err := openManager(ctx, dir, "/run/bench-log", &null{"a"}, &null{"b"})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close(context.WithoutCancel(ctx))) }()
	file, err := bareLog(filepath.Join(dir, "bare"))
	if err != nil {
		return nil, err
	}
	defer file.Close()

	write := func(n int64) error {
		_, err := file.WriteAt(make([]byte, recordBytes), n*recordBytes%(bareFile-recordBytes))
		if err != nil {
			return err
		}
		return unix.Fdatasync(int(file.Fd()))
	}
	var latency [2]series // p50 of each round, ms
	timed := func(i, callers int, f func(caller, n int64) error) side {
		return func(context.Context) (float64, error) {
			took, period, err := hammer(callers, f)
			if callers == 1 {
				latency[i] = append(latency[i], ms(quantile(took, 0.5)))
			}
			return float64(len(took)) / period.Seconds(), err
		}
	}
	commit := committers(ctx, m, logCallers)
	one, err := interleave(ctx, logRounds, timed(0, 1, commit), timed(1, 1, func(_, n int64) error { return write(n) }))
	if err != nil {
		return nil, err
	}
	many, err := interleave(ctx, logRounds, timed(0, logCallers, commit),
		timed(1, logCallers, func(caller, n int64) error { return write(caller + n*logCallers) }))
	if err != nil {
		return nil, err
	}
	return []row{{
		measure: "log: latency of a forced record, 1 caller",
		fdt:     fmt.Sprintf("%.2f ms", latency[0].median()), peer: fmt.Sprintf("write+fdatasync %.2f ms", latency[1].median()),
		ratio: latency[0].over(latency[1]), aim: atMost(1.5),
	}, {
		measure: "log: time per forced record, 1 caller",
		fdt:     fmt.Sprintf("%.0f records/s", one[0].median()), peer: fmt.Sprintf("write+fdatasync %.0f/s", one[1].median()),
		ratio: one[1].over(one[0]), aim: atMost(1.5),
	}, {
		measure: fmt.Sprintf("log: time per forced record, %d callers", logCallers),
		fdt:     fmt.Sprintf("%.0f records/s", many[0].median()), peer: fmt.Sprintf("write+fdatasync %.0f/s", many[1].median()),
		ratio: many[1].over(many[0]), aim: atMost(1.5),
	}}, nil
}

// openManager opens a coordinator whose directories are made if need be.
func openManager(ctx context.Context, logs, claims string, resources ...txn.Resource) (*txn.Manager, error) {
	for _, dir := range []string{logs, claims} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	return txn.Open(ctx, txn.Options{LogDir: logs, ClaimDir: claims, Program: "bench", Resources: resources})
}

// committers returns a function by which so many callers may commit transactions over both resources.
func committers(ctx context.Context, m *txn.Manager, callers int) func(caller, n int64) error {
	sessions := make([]*txn.Session, callers)
	for i := range sessions {
		sessions[i] = m.NewSession(txn.Principal{User: "bench"})
	}
	return func(caller, _ int64) error {
		s := sessions[caller]
		if err := s.Begin(ctx, txn.TxOptions{}); err != nil {
			return err
		}
		for _, name := range []string{"a", "b"} {
			if _, err := s.Branch(ctx, name); err != nil {
				return err
			}
		}
		return s.Commit(ctx)
	}
}

// bareLog is a file full of zeros, on disk.
func bareLog(path string) (*os.File, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, 1<<20)
	for range bareFile / len(zeros) {
		if _, err := file.Write(zeros); err != nil {
			return nil, errors.Join(err, file.Close())
		}
	}
	if err := file.Sync(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// hammer has callers call f again and again for a moment, and returns how long each call took, and the whole. n counts a caller's calls.
func hammer(callers int, f func(caller, n int64) error) (took []time.Duration, period time.Duration, err error) {
	var all sync.WaitGroup
	logs, errs := make([][]time.Duration, callers), make([]error, callers)
	begun := time.Now()
	for c := range callers {
		all.Go(func() {
			last := time.Now()
			for n := int64(0); last.Sub(begun) < logPeriod; n++ {
				if errs[c] = f(int64(c), n); errs[c] != nil {
					return
				}
				now := time.Now()
				logs[c] = append(logs[c], now.Sub(last))
				last = now
			}
		})
	}
	all.Wait()
	period = time.Since(begun)
	for _, log := range logs {
		took = append(took, log...)
	}
	return took, period, errors.Join(errs...)
}
