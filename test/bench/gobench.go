package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// benchmark runs one of the benchmarks of a package of fdt, in a directory, and returns its figures by their units. What only the
// package itself can measure is measured there.
func (s *site) benchmark(ctx context.Context, program, name, times, dir string) (map[string]float64, error) {
	out, err := s.shell(ctx, fmt.Sprintf("mkdir -p %[1]s; cd %[1]s; TMPDIR=%[1]s %[2]s/%[3]s -test.run '^$' -test.bench '%[4]s' -test.benchtime %[5]s",
		dir, inside, program, name, times))
	if err != nil {
		return nil, err
	}
	figures := map[string]float64{}
	for line := range strings.Lines(out) {
		if words := strings.Fields(line); strings.HasPrefix(line, "Benchmark") {
			for i := 2; i+1 < len(words); i += 2 {
				if figures[words[i+1]], err = strconv.ParseFloat(words[i], 64); err != nil {
					return nil, err
				}
			}
		}
	}
	if len(figures) == 0 {
		return nil, fmt.Errorf("no benchmark %s in %s: %s", name, program, out)
	}
	return figures, nil
}
