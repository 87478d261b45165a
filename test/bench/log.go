package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/txn"
)

const (
	logRounds   = 5
	logRecords  = 300
	recordBytes = 432 // about what a decision over two resources takes
	bareFile    = 16 << 20
)

// logForce compares the log with a bare write and fdatasync(2) of as many bytes, in a file on the same filesystem that has its
// blocks already, as the log's has. The log is driven by its own benchmark. The last row is a whole commit over two resources
// that cost nothing: one forced record, one that is not, and the coordinator's work.
func logForce(ctx context.Context, s *site) (rows []row, err error) {
	dir := filepath.Join(scratch, "log")
	m, err := openManager(ctx, dir, "/run/bench-log", "", &null{"a"}, &null{"b"})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close(context.WithoutCancel(ctx))) }()
	file, err := bareLog(filepath.Join(dir, "bare"))
	if err != nil {
		return nil, err
	}
	defer file.Close()

	forced := func(callers int) side {
		return func(ctx context.Context) (float64, error) {
			figures, err := s.benchmark(ctx, "wal.test", fmt.Sprintf("^BenchmarkForce$/^callers=%d$", callers), fmt.Sprintf("%dx", callers*logRecords), dir)
			return figures["ns/op"] / 1e6, err
		}
	}
	offset := int64(0)
	bare := timed(func() error {
		offset = (offset + recordBytes) % (bareFile - recordBytes)
		if _, err := file.WriteAt(make([]byte, recordBytes), offset); err != nil {
			return err
		}
		return unix.Fdatasync(int(file.Fd()))
	})
	session := m.NewSession(txn.Principal{User: "bench"})
	commit := timed(func() error { return commitNull(ctx, session) })
	figures, err := interleave(ctx, logRounds, forced(1), bare, forced(64), commit)
	if err != nil {
		return nil, err
	}
	one, fsync, many, whole := figures[0], figures[1], figures[2], figures[3]
	peer := fmt.Sprintf("write+fdatasync %.3f ms", fsync.median())
	return []row{{
		measure: "log: time of a forced record, 1 caller", fdt: fmt.Sprintf("%.3f ms", one.median()), peer: peer,
		ratio: one.over(fsync), aim: atMost(1.5),
	}, {
		measure: "log: time per forced record, 64 callers", fdt: fmt.Sprintf("%.3f ms, %.0f/s", many.median(), 1e3/many.median()), peer: peer,
		ratio: many.over(fsync), aim: atMost(1.5),
	}, {
		measure: "log: time of a commit over two resources that cost nothing", fdt: fmt.Sprintf("%.3f ms", whole.median()), peer: peer,
		ratio: whole.over(fsync), aim: noAim("%.2f"),
	}}, nil
}

// timed is a side: the mean time of a call, ms.
func timed(call func() error) side {
	return func(context.Context) (float64, error) {
		begun := time.Now()
		for range logRecords {
			if err := call(); err != nil {
				return 0, err
			}
		}
		return ms(time.Since(begun)) / logRecords, nil
	}
}

// openManager opens a coordinator whose directories are made if need be.
func openManager(ctx context.Context, logs, claims, decider string, resources ...txn.Resource) (*txn.Manager, error) {
	for _, dir := range []string{logs, claims} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	return txn.Open(ctx, txn.Options{LogDir: logs, ClaimDir: claims, Program: "bench", Resources: resources, Decider: decider})
}

// commitNull commits a transaction over both resources of logForce.
func commitNull(ctx context.Context, s *txn.Session) error {
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

// bareLog is a file full of zeros, on disk.
func bareLog(path string) (*os.File, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if _, err := file.Write(make([]byte, bareFile)); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if err := file.Sync(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
