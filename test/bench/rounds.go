package main

import (
	"context"
	"slices"
	"time"
)

// side is one of the things compared: it runs for a moment and returns its figure.
type side func(ctx context.Context) (float64, error)

// series are a side's figures, one a round.
type series []float64

// interleave has the sides take turns, every other round in reverse, and returns their figures.
func interleave(ctx context.Context, rounds int, sides ...side) ([]series, error) {
	all := make([]series, len(sides))
	for n := range rounds {
		for i := range sides {
			if n%2 == 1 {
				i = len(sides) - 1 - i
			}
			figure, err := sides[i](ctx)
			if err != nil {
				return nil, err
			}
			all[i] = append(all[i], figure)
		}
	}
	return all, nil
}

func (s series) median() float64 { return quantile(s, 0.5) }

// over are the rounds' ratios.
func (s series) over(peer series) series {
	ratios := make(series, len(s))
	for i := range s {
		ratios[i] = s[i] / peer[i]
	}
	return ratios
}

// quantile of figures in any order, 0 if there are none: the lowest with at least that share of them not above it.
func quantile[T float64 | time.Duration](figures []T, q float64) T {
	if len(figures) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(figures))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }
