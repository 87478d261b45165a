package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	idleSessions = 10_000
	openers      = 16
)

// memory is what an idle session costs the workers: the growth of their proportional set size, proc_pid_smaps(5), from few sessions
// to 10,000, each of which has logged in and been answered once. What the kernel keeps for a socket is not in it.
func memory(ctx context.Context, s *site) (rows []row, err error) {
	const workers = 4
	config := fmt.Sprintf("workers: {count: %d, threads: 5000}\nreload: {settle: 0s}\ntransaction: {idle_timeout: 10m}\n", workers)
	if err := s.serve(ctx, config, ""); err != nil {
		return nil, err
	}
	pids, err := s.workers(ctx)
	if err != nil {
		return nil, err
	}
	sessions := make([]*session, idleSessions)
	for i := range sessions {
		sessions[i] = &session{statement: "SELECT 1"}
	}
	defer func() {
		for _, c := range sessions {
			c.quit()
		}
	}()
	// The first ones pay for what all share.
	const first = 200
	if err := open(ctx, sessions[:first]); err != nil {
		return nil, err
	}
	before, err := pss(pids)
	if err != nil {
		return nil, err
	}
	if err := open(ctx, sessions[first:]); err != nil {
		return nil, err
	}
	after, err := pss(pids)
	if err != nil {
		return nil, err
	}
	each := float64(after-before) / (idleSessions - first) / 1024
	return []row{{
		measure: "memory per idle session, of 10,000", fdt: fmt.Sprintf("%.1f KiB", each),
		ratio: series{each}, aim: below(16, "%.1f KiB"),
	}}, nil
}

// open has each of the sessions opened and answered once.
func open(ctx context.Context, sessions []*session) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var all sync.WaitGroup
	errs := make([]error, openers)
	for n := range openers {
		all.Go(func() {
			for i := n; i < len(sessions) && errs[n] == nil; i += openers {
				errs[n] = sessions[i].ask(ctx)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// pss sums up the proportional set sizes, in bytes.
func pss(pids []int) (sum int64, err error) {
	for _, pid := range pids {
		file, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		for lines := bufio.NewScanner(file); lines.Scan(); {
			if text, ok := strings.CutPrefix(lines.Text(), "Pss:"); ok {
				kib, err := strconv.ParseInt(strings.Fields(text)[0], 10, 64)
				if err != nil {
					return 0, errors.Join(err, file.Close())
				}
				sum += kib << 10
			}
		}
		if err := file.Close(); err != nil {
			return 0, err
		}
	}
	return sum, nil
}
