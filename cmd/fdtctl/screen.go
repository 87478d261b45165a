package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/printable"
	"github.com/fdtserver/fdt/master"
)

const (
	// plainWidth is what tables keep to where there is no terminal to fit.
	plainWidth = 80
	// leastWidth is the narrowest terminal that tables are made to fit.
	leastWidth = 60
	// tall is how many lines push the headline out of the smallest screen, so that it is told again below them.
	tall = 22
	// narrowest is what is left of a cell that is cut.
	narrowest = 8
)

// screenOf is standard output if it is one, with its columns; nil and 0 if it is not. One that does not know its size has the usual one.
func screenOf(stdout io.Writer) (file *os.File, columns int) {
	w, ok := stdout.(*printable.Writer)
	if !ok {
		return nil, 0
	}
	file, ok = w.Unwrap().(*os.File)
	if !ok {
		return nil, 0
	}
	if _, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS); err != nil {
		return nil, 0
	}
	if size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
		return file, int(size.Col)
	}
	return file, plainWidth
}

// screen is the status for people, of a width; 0: lines of text are as long as they are, tables as wide as on the usual terminal.
func screen(s master.Status, width int, now time.Time) string {
	var b strings.Builder
	fit := width
	if width == 0 {
		fit = plainWidth
	}
	fit = max(fit, leastWidth)
	headline := wrapped(s.Line(), width, "")
	b.WriteString(headline)
	about := func(title string, lines ...string) {
		if len(lines) == 0 {
			return
		}
		fmt.Fprintf(&b, "\n%s:\n", title)
		for _, line := range lines {
			b.WriteString(wrapped(line, width, "  "))
		}
	}
	about("Configuration not applied", texts(s.Rejected)...)
	about("Directories are missing", texts(s.Missing)...)
	about("A worker failed", texts(s.Degraded)...)
	about("Resources that transactions cannot use", faults(s.Resources)...)
	about("Databases that do not suit transactions", unsuited(s.Resources)...)
	about("The configuration leaves open", s.Warnings...)
	for _, rows := range [][][]string{workerRows(s), drainRows(s, now), listenerRows(s), resourceRows(s, now)} {
		if len(rows) > 1 {
			b.WriteString("\n" + table(rows, fit))
		}
	}
	if strings.Count(b.String(), "\n") > tall {
		b.WriteString("\n" + headline)
	}
	return b.String()
}

// texts are the lines of a text; none if it is empty.
func texts(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

func faults(all []control.Resource) (lines []string) {
	for _, r := range all {
		if r.Fault != "" {
			lines = append(lines, fmt.Sprintf("%s: %s: %s", r.Name, r.State, printable.Line(r.Fault)))
		}
	}
	return lines
}

func unsuited(all []control.Resource) (lines []string) {
	for _, r := range all {
		lines = append(lines, r.Warnings...)
	}
	return lines
}

func workerRows(s master.Status) [][]string {
	rows := [][]string{{"WORKER", "STATE", "PID", "SLOTS", "BUSY", "WAIT", "MEMORY", "ACCEPTED"}}
	for _, g := range s.Generations {
		for _, k := range g.Workers {
			var l control.Status
			if k.Live != nil {
				l = *k.Live
			}
			cell := func(field, told string) string {
				switch {
				case slices.Contains(k.NotTold, field):
					return "not told"
				case k.Live == nil: // it does not run
					return "-"
				}
				return told
			}
			slots := strconv.Itoa(l.Open - l.Reserve)
			if l.Threads > 0 {
				slots += "/" + strconv.Itoa(l.Threads)
			}
			rows = append(rows, []string{fmt.Sprintf("%d-%d", g.Generation, k.Slot), k.State, cell("pid", strconv.Itoa(l.PID)), cell("open", slots),
				cell("busy", strconv.Itoa(l.Busy)), cell("open", strconv.Itoa(l.Reserve)), cell("memory", fmt.Sprintf("%dM", l.Memory>>20)),
				cell("accepted", strconv.FormatUint(l.Accepted, 10))})
		}
	}
	return rows
}

func drainRows(s master.Status, now time.Time) [][]string {
	rows := [][]string{{"DRAINING", "CONNECTIONS", "FOR", "CUT IN", "OLDEST BUSY FOR"}}
	for _, g := range s.Generations {
		if g.Since.IsZero() {
			continue
		}
		cut := "never"
		if !g.Deadline.IsZero() {
			cut = span(max(0, g.Deadline.Sub(now)))
		}
		rows = append(rows, []string{fmt.Sprintf("generation %d", g.Generation), strconv.Itoa(g.Open), sinceThen(g.Since, now), cut, sinceThen(g.Oldest, now)})
	}
	return rows
}

func listenerRows(s master.Status) [][]string {
	rows := [][]string{{"LISTENER", "ADDRESS", "STATE", "QUEUE"}}
	for _, l := range s.Listeners {
		state := "closed"
		if l.Open {
			state = "open"
		}
		rows = append(rows, []string{dash(l.Name), cmp.Or(l.Address, l.Unit), state, strconv.Itoa(l.Queue)})
	}
	return rows
}

func resourceRows(s master.Status, now time.Time) [][]string {
	rows := [][]string{{"RESOURCE", "TYPE", "STATE", "FOR", "ANSWER", "POOL", "WAIT", "DOUBT", "UNTOLD"}}
	for _, r := range s.Resources {
		pool, waiting, answer := "-", "-", "-"
		if r.Limit > 0 {
			pool, waiting = fmt.Sprintf("%d/%d", r.InUse, r.Limit), strconv.Itoa(r.Waiting)
		}
		if r.Latency > 0 {
			answer = fmt.Sprintf("%.1fms", 1000*r.Latency)
		}
		rows = append(rows, []string{r.Name, r.Type, r.State, sinceThen(r.Since, now), answer, pool, waiting, strconv.Itoa(r.InDoubt), strconv.Itoa(r.Untold)})
	}
	return rows
}

// sinceThen is for how long something is so; a dash if that is not known.
func sinceThen(then, now time.Time) string {
	if then.IsZero() {
		return "-"
	}
	return span(max(0, now.Sub(then)))
}

// table is rows of cells in columns, the first of them the titles. Where it would be wider than width, cells of the first two columns,
// which are names, are cut.
func table(rows [][]string, width int) string { return tableOf(rows, width, 0, 1) }

// tableOf is a table of which the named columns are cut, the longest first, where it would be too wide.
func tableOf(rows [][]string, width int, names ...int) string {
	const gap = 2
	widths := make([]int, len(rows[0]))
	total := gap * (len(widths) - 1)
	for i := range widths {
		for _, row := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		total += widths[i]
	}
	for ; total > width; total-- {
		longest := slices.MaxFunc(names, func(a, b int) int { return widths[a] - widths[b] })
		if widths[longest] <= narrowest {
			break
		}
		widths[longest]--
	}
	var b strings.Builder
	for _, row := range rows {
		line := ""
		for i, cell := range row {
			cell = cut(cell, widths[i])
			line += cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+gap)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// cut shortens a text to n characters: its beginning and its end say more than its middle.
func cut(s string, n int) string {
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	head := (n - 1) / 2
	return string(runes[:head]) + "…" + string(runes[len(runes)-(n-1-head):])
}

// wrapped is a text in lines of at most width characters, if that is not 0, broken at spaces; each but the first begins with indent.
func wrapped(s string, width int, indent string) string {
	if width <= 0 {
		return s + "\n"
	}
	width = max(width, leastWidth)
	var b strings.Builder
	line := s[:len(s)-len(strings.TrimLeft(s, " \t"))]
	lead := utf8.RuneCountInString(line)
	for _, word := range strings.Fields(s) {
		n := utf8.RuneCountInString(line)
		if n > lead && n+1+utf8.RuneCountInString(word) > width {
			b.WriteString(line + "\n")
			line, lead = indent, utf8.RuneCountInString(indent)
			n = lead
		}
		if n > lead {
			line += " "
		}
		line += word
	}
	b.WriteString(line + "\n")
	return b.String()
}
