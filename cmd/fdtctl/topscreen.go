package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/meter"
	"github.com/fdtserver/fdt/internal/printable"
	"github.com/fdtserver/fdt/master"
	"github.com/fdtserver/fdt/txn"
)

const (
	// topKeys is the last line of top.
	topKeys = "sort: [i]d [u]ser [f]rom [l]istener [s]tate sinc[e] [p]rocedure [r]everse [q]uit"
	// topHead is how many lines the headline and each fault have at most.
	topHead = 3
)

// sortKeys are the orders of a list by the key that is typed for them.
var sortKeys = map[string]string{"i": "id", "u": "user", "f": "from", "l": "listener", "s": "state", "e": "since", "p": "procedure"}

// scrollKeys are by how many lines a key moves the list, as terminals send it.
var scrollKeys = map[string]int{"j": 1, "\x1b[B": 1, "\x1bOB": 1, "k": -1, "\x1b[A": -1, "\x1bOA": -1, " ": 10, "\x1b[6~": 10, "b": -10, "\x1b[5~": -10}

// view is what whoever looks at top has chosen.
type view struct {
	by       string // one of sessionOrders
	reversed bool
	skip     int // lines of the list that were scrolled past
}

// typed does what keys ask for; false if they end it.
func (v *view) typed(keys string) bool {
	for keys != "" {
		key := keys[:1]
		for sequence := range scrollKeys {
			if strings.HasPrefix(keys, sequence) {
				key = sequence
			}
		}
		keys = keys[len(key):]
		switch by, sorts := sortKeys[key]; {
		case key == "q":
			return false
		case key == "r":
			v.reversed = !v.reversed
		case sorts:
			v.by = by
		default:
			v.skip = max(0, v.skip+scrollKeys[key])
		}
	}
	return true
}

// topScreen is a glance on a screen of that size. What was scrolled past the end of the list is taken back.
func topScreen(g glance, v *view, columns, lines int) string {
	head := []string{"fdt at " + g.at.Format("15:04:05")}
	add := func(text string) {
		rows := strings.Split(strings.TrimSuffix(wrapped(printable.Line(text), columns, "  "), "\n"), "\n")
		if len(rows) > topHead {
			rows[topHead-1] += "…"
		}
		head = append(head, rows[:min(len(rows), topHead)]...)
	}
	if g.statusFault != nil {
		add(config.Detail(g.statusFault))
	} else {
		add(g.status.Line())
		add(slotsLine(g.status, g.load))
		add(resourcesLine(g.status, g.at))
	}
	if g.sessionsFault != nil {
		add(config.Detail(g.sessionsFault))
	}
	list := slices.Clone(g.sessions)
	order := sessionOrders[v.by]
	slices.SortFunc(list, func(a, b session) int {
		n := cmp.Or(order(a, b), cmp.Compare(a.ID, b.ID))
		if v.reversed {
			n = -n
		}
		return n
	})
	rows := strings.Split(strings.TrimSuffix(sessionScreen(list, columns, g.at), "\n"), "\n")
	room := max(1, lines-len(head)-4) // without the counts, the order, the titles and the keys
	v.skip = min(v.skip, max(0, len(rows)-1-room))
	shown := rows[1+v.skip : min(len(rows), 1+v.skip+room)]
	place := "sorted by " + v.by
	if v.reversed {
		place += ", reversed"
	}
	if len(shown) < len(rows)-1 {
		place += fmt.Sprintf("; lines %d to %d of %d", v.skip+1, v.skip+len(shown), len(rows)-1)
	}
	all := slices.Concat(head, []string{countsLine(list), place, rows[0]}, shown)
	all = append(all[:min(len(all), lines-1)], slices.Repeat([]string{""}, max(0, lines-1-len(all)))...)
	all = append(all, topKeys)
	for i, line := range all {
		if runes := []rune(line); len(runes) > columns {
			all[i] = string(runes[:columns])
		}
	}
	return strings.Join(all, "\n")
}

// slotsLine is what the headline leaves out: the workers' slots, and what they do.
func slotsLine(s master.Status, l load) string {
	used, slots, waiting := 0, 0, 0
	for _, g := range s.Generations {
		for _, k := range g.Workers {
			if k.Live != nil {
				used, slots, waiting = used+k.Live.Open-k.Live.Reserve, slots+k.Live.Threads, waiting+k.Live.Reserve
			}
		}
	}
	calls, within := "-", "-"
	if l.known {
		calls = fmt.Sprintf("%.1f", l.rate)
	}
	switch {
	case math.IsInf(l.within, 1):
		within = "over " + (meter.Longest * time.Second).String()
	case l.within > 0:
		within = "within " + rounded(l.within).String()
	}
	return fmt.Sprintf("slots %d/%d, %d waiting; calls %s/s, p99 %s; in doubt %d, untold %d", used, slots, waiting, calls, within, s.InDoubt, s.Untold)
}

// resourcesLine has all resources with their states, those that transactions cannot use first.
func resourcesLine(s master.Status, now time.Time) string {
	var up, down []string
	for _, r := range s.Resources {
		text := r.Name + " " + r.State
		if r.Limit > 0 {
			text += fmt.Sprintf(" %d/%d", r.InUse, r.Limit)
		}
		if r.Waiting > 0 {
			text += fmt.Sprintf(" %d waiting", r.Waiting)
		}
		if r.Fault != "" {
			down = append(down, text+" for "+sinceThen(r.Since, now))
		} else {
			up = append(up, text)
		}
	}
	return "resources: " + dash(strings.Join(append(down, up...), ", "))
}

// countsLine says how many sessions there are, and in which states they are.
func countsLine(list []session) string {
	states := map[string]int{}
	for _, s := range list {
		states[s.State]++
	}
	var counts []string
	for _, state := range []string{"active", "in transaction", "aborted", "idle"} {
		counts = append(counts, fmt.Sprintf("%d %s", states[state], state))
	}
	if n := waiters(list); n > 0 {
		counts[0] += fmt.Sprintf(" (%d waiting)", n)
	}
	return fmt.Sprintf("sessions %d: ", len(list)) + strings.Join(counts, ", ")
}

// waiters is how many are known to wait for a lock, or something else.
func waiters(list []session) (n int) {
	for i := range list {
		if slices.ContainsFunc(list[i].Waits, func(w txn.Wait) bool { return w.Fault == "" }) {
			n++
		}
	}
	return n
}

// rounded is a number of seconds with three digits.
func rounded(seconds float64) time.Duration {
	unit := math.Pow10(int(math.Floor(math.Log10(seconds))) - 2)
	return time.Duration(math.Round(seconds/unit) * unit * float64(time.Second)).Round(time.Nanosecond)
}
