package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// row is a line of the table.
type row struct {
	measure   string
	fdt, peer string  // with their units; the peer's names it
	ratio     series  // of the rounds; the median counts
	whole     float64 // ratio of all rounds as one, which counts if it is there
	aim       aim
}

// aim is what a row's ratio is held against; the zero one is none.
type aim struct {
	format  string  // of the ratio, and of the limit
	limit   float64 // compared with the ratio
	atLeast bool    // and not at most
}

// Aims: of a ratio or, where there is no peer, of the figure itself.
func atLeast(x float64) aim { return aim{"%.2f", x, true} }
func atMost(x float64) aim  { return aim{"%.2f", x, false} }
func below(x float64, format string) aim {
	return aim{format, x, false}
}
func noAim(format string) aim { return aim{format: format, limit: -1} }

// figure is the ratio that counts.
func (r row) figure() float64 {
	if r.whole != 0 {
		return r.whole
	}
	return r.ratio.median()
}

func (r row) verdict() (aim, verdict string) {
	if r.aim.limit < 0 {
		return "", ""
	}
	sign, met := "≤ ", r.figure() <= r.aim.limit
	if r.aim.atLeast {
		sign, met = "≥ ", r.figure() >= r.aim.limit
	}
	aim = sign + fmt.Sprintf(r.aim.format, r.aim.limit)
	if met {
		return aim, "met"
	}
	return aim, "missed"
}

// printTable prints the rows. The middle half of a ratio's rounds tells how sure it is: where an aim lies within, the run has not
// decided it.
func printTable(out io.Writer, rows []row) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "measure\tfdt\tpeer\tratio\tmiddle half\taim\t")
	for _, r := range rows {
		aim, verdict := r.verdict()
		ratio, spread := fmt.Sprintf(r.aim.format, r.figure()), ""
		if len(r.ratio) > 2 {
			spread = fmt.Sprintf(r.aim.format+" to "+r.aim.format, quantile(r.ratio, 0.25), quantile(r.ratio, 0.75))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.measure, r.fdt, r.peer, ratio, spread, aim, verdict)
	}
	_ = w.Flush() // to a terminal or a pipe
}
