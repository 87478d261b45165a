// Package tally brings together what all workers count. It asks and reads, and changes nothing.
package tally

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/meter"
	"github.com/fdtserver/fdt/internal/service"
)

// Place names a worker.
type Place struct{ Generation, Slot int }

// Counts are those of all workers.
type Counts struct {
	Live   []meter.Worker // who answered
	Silent []Place        // who did not
	Left   []meter.Worker // who has ended, also in an earlier life of a place, each for as long as [meter.Kept] says
}

// Read asks the workers whose sockets are in a directory, all at once, until the context ends. The error tells what could not be found
// out; the rest was.
func Read(ctx context.Context, dir string) (Counts, error) {
	var c Counts
	var mu sync.Mutex
	var errs []error
	var all sync.WaitGroup
	sockets, _ := filepath.Glob(filepath.Join(dir, "*.sock")) // the pattern is sound
	for _, path := range sockets {
		gen, slot, ok := service.ParseInstance(strings.TrimSuffix(filepath.Base(path), ".sock"))
		if !ok {
			continue
		}
		all.Go(func() {
			var w meter.Worker
			err := control.Call(ctx, path, control.OpMetrics, nil, &w)
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, syscall.ECONNREFUSED) {
				return // left by one that was killed
			}
			if err != nil {
				c.Silent = append(c.Silent, Place{gen, slot})
				errs = append(errs, err)
				return
			}
			w.Generation, w.Slot = gen, slot // it does not speak for another
			c.Live = append(c.Live, w)
		})
	}
	all.Wait()
	// After the asking: who ended meanwhile has left its counts.
	left, err := meter.Left(dir)
	c.Left = c.ended(left)
	return c, errors.Join(append(errs, err)...)
}

// life is one life of a worker: its place, and when it started, in nanoseconds of Unix time.
type life struct {
	Place

	started int64
}

func lifeOf(w meter.Worker) life { return life{Place{w.Generation, w.Slot}, w.Started.UnixNano()} }

// ended drops those who told their counts a moment before they ended. Who lives again in the same place is another.
func (c *Counts) ended(left []meter.Worker) []meter.Worker {
	live := map[life]bool{}
	for _, w := range c.Live {
		live[lifeOf(w)] = true
	}
	var out []meter.Worker
	for _, w := range left {
		if !live[lifeOf(w)] {
			out = append(out, w)
		}
	}
	return out
}
