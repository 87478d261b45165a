package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
)

const module = "github.com/fdtserver/fdt/"

// scaffold are the packages that exist for tests; they are left out.
func scaffold(pkg string) bool {
	for _, prefix := range []string{"test", "internal/bed", "internal/powercut", "internal/testcover", "internal/testdb", "internal/testgolden", "internal/testwait", "txn/txntest", "examples"} {
		if pkg == prefix || strings.HasPrefix(pkg, prefix+"/") {
			return true
		}
	}
	return false
}

// coverage merges what the programs and tests wrote into dirs, keeps it in profile, for go tool cover -html, and
// prints the share of statements run, per package and in total.
func coverage(ctx context.Context, out io.Writer, dirs []string, profile string) error {
	c := exec.CommandContext(ctx, "go", "tool", "covdata", "textfmt", "-i="+strings.Join(dirs, ","), "-o="+profile)
	if said, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("go tool covdata: %w: %s", err, said)
	}
	f, err := os.Open(profile)
	if err != nil {
		return err
	}
	defer f.Close()
	shares, err := read(f)
	if err != nil {
		return fmt.Errorf("%s: %w", profile, err)
	}
	var total share
	for _, pkg := range slices.Sorted(maps.Keys(shares)) {
		s := shares[pkg]
		total.statements += s.statements
		total.run += s.run
		fmt.Fprintf(out, "%6.1f%%  %s\n", s.percent(), pkg)
	}
	fmt.Fprintf(out, "%6.1f%%  total\n", total.percent())
	return nil
}

type share struct{ statements, run int }

func (s share) percent() float64 {
	if s.statements == 0 {
		return 100
	}
	return 100 * float64(s.run) / float64(s.statements)
}

// read reads a coverage profile (golang.org/x/tools/cover describes it): one line per block, and several for
// one that several programs contain.
func read(profile io.Reader) (map[string]share, error) {
	type block struct {
		statements int
		run        bool
	}
	blocks := map[string]block{}
	for in := bufio.NewScanner(profile); in.Scan(); {
		line := in.Text()
		if strings.HasPrefix(line, "mode:") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) != 3 {
			return nil, fmt.Errorf("no block: %q", line)
		}
		statements, err := strconv.Atoi(fields[1])
		if err != nil {
			return nil, fmt.Errorf("no block: %w", err)
		}
		known := blocks[fields[0]]
		blocks[fields[0]] = block{statements, known.run || fields[2] != "0"}
	}
	shares := map[string]share{}
	for place, b := range blocks {
		file, _, _ := strings.Cut(place, ":")
		pkg := strings.TrimPrefix(path.Dir(file), module)
		if scaffold(pkg) {
			continue
		}
		s := shares[pkg]
		s.statements += b.statements
		if b.run {
			s.run += b.statements
		}
		shares[pkg] = s
	}
	return shares, nil
}
