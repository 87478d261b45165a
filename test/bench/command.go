package main

import (
	"context"
	"fmt"
	"time"
)

// reloadTime is how long `systemctl reload fdt` takes, from the command to its end, for four of the installed workers. No health is
// waited for after READY (settle: 0s).
func reloadTime(ctx context.Context, s *site) ([]row, error) {
	if err := s.serve(ctx, "workers: {count: 4}\nreload: {settle: 0s}\n", ""); err != nil {
		return nil, err
	}
	var took series
	for range 7 {
		begun := time.Now()
		if _, err := s.shell(ctx, "exec systemctl reload fdt"); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begun).Seconds())
		if err := s.settled(ctx); err != nil {
			return nil, err
		}
	}
	return []row{{
		measure: "systemctl reload fdt, 4 workers, settle 0s", fdt: fmt.Sprintf("%.3f s", took.median()),
		ratio: took, aim: below(0.5, "%.3f s"),
	}}, nil
}
