package master

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/unit"
)

// pollInterval is how old the counts in STATUS= may be.
const pollInterval = 5 * time.Second

// Status is what fdtctl status prints. Fields are only ever added.
type Status struct {
	Version     string       `json:"version"`
	Generation  int          `json:"generation"` // the applied one; 0: none yet
	Pending     int          `json:"pending,omitempty"`
	Step        string       `json:"step"`
	Stopping    bool         `json:"stopping,omitempty"`
	Rejected    string       `json:"rejected,omitempty"` // why the configuration that was asked for last is not what serves
	Degraded    string       `json:"degraded,omitempty"` // what the applied generation lacks, or a failed worker's last words
	Missing     string       `json:"missing,omitempty"`  // directories of /run/fdt that are not there, and what makes them
	Generations []Generation `json:"generations"`
	Listeners   []Listener   `json:"listeners"`
	// Resources are what the workers know of them together; as the applied generation has them, if it has workers that tell.
	Resources   []control.Resource `json:"resources,omitempty"`
	Warnings    []string           `json:"warnings,omitempty"` // of the applied configuration: what is allowed and hardly meant
	Connections int                `json:"connections"`
	InDoubt     int                `json:"in_doubt"`
	Untold      int                `json:"untold,omitempty"` // of decided transactions, those of which a resource is yet to be told
	Aside       int                `json:"aside,omitempty"`  // transaction logs that were put aside with open transactions
}

// Generation is one generation that has workers.
type Generation struct {
	Generation int      `json:"generation"`
	State      string   `json:"state"`      // serving, starting, draining
	Configured int      `json:"configured"` // workers wanted; 0 while draining
	Ready      int      `json:"ready"`
	Open       int      `json:"connections"`
	Workers    []Worker `json:"workers"`
	// Of one that drains: since when, when what is still open is cut, and since when the longest of what is busy is so.
	Since    time.Time `json:"since,omitzero"`
	Deadline time.Time `json:"deadline,omitzero"`
	Oldest   time.Time `json:"oldest,omitzero"`
}

// Worker is one worker's unit.
type Worker struct {
	Unit  string          `json:"unit"`
	Slot  int             `json:"slot"`
	State string          `json:"state"` // starting, ready, failed, draining
	Words string          `json:"words,omitempty"`
	Live  *control.Status `json:"live,omitempty"` // the worker's own answer; nil: it gave none
	// Of one that runs: the fields of Live that it does not tell, as a program of another make may; they are 0 there, if there is Live.
	NotTold []string `json:"not_told,omitempty"`

	gen int
}

// tellable are the fields of a worker's answer that fdtctl status shows, fdt-worker(8).
var tellable = []string{"pid", "open", "busy", "threads", "memory", "accepted"}

// Listener is one socket unit.
type Listener struct {
	Unit    string `json:"unit"`
	Open    bool   `json:"open"`
	Name    string `json:"name,omitempty"`    // in the configuration; empty: no generation that serves or starts has it
	Address string `json:"address,omitempty"` // likewise
	Queue   int    `json:"queue"`             // connections that no worker has taken yet; of a unix socket 1 stands for any number
}

// status is everything but the workers' own counts.
func (m *Master) status() Status {
	v := m.last
	s := Status{
		Version: m.opt.Version, Generation: m.state.Applied, Pending: m.state.Pending, Step: m.step.String(),
		Stopping: v.stopping, Rejected: m.state.Rejected, Degraded: cmp.Or(m.state.Degraded, m.crash), Missing: m.missing(), Listeners: []Listener{}, Generations: []Generation{},
	}
	gens := map[int]*Generation{}
	var order []int
	add := func(t *target, state string) {
		if t != nil {
			gens[t.gen] = &Generation{Generation: t.gen, State: state, Configured: t.count}
			order = append(order, t.gen)
		}
	}
	add(v.applied, "serving")
	add(v.pending, "starting")
	for _, w := range v.workers {
		g := gens[w.gen]
		if g == nil {
			g = &Generation{Generation: w.gen, State: "draining"}
			gens[w.gen] = g
			order = append(order, w.gen)
		}
		if w.phase == ready {
			g.Ready++
		}
		g.Workers = append(g.Workers, Worker{Unit: w.unit, Slot: w.slot, State: w.phase.String(), Words: w.words, gen: w.gen})
	}
	slices.Sort(order)
	for _, gen := range slices.Backward(order) {
		g := *gens[gen]
		slices.SortFunc(g.Workers, func(a, b Worker) int { return a.Slot - b.Slot })
		s.Generations = append(s.Generations, g)
	}
	if v.applied != nil {
		s.Warnings = v.applied.warnings
	}
	for _, u := range sortedKeys(v.sockets) {
		if sock := v.sockets[u]; sock.open || v.applied != nil && slices.Contains(v.applied.sockets, u) {
			l := Listener{Unit: u, Open: sock.open}
			for _, t := range []*target{v.pending, v.applied} {
				if t != nil && t.listeners[u].Address.Address != "" {
					l.Name, l.Address = t.listeners[u].Listener.Name, t.listeners[u].Address.String()
				}
			}
			s.Listeners = append(s.Listeners, l)
		}
	}
	return s
}

// workers lists those whose counts are of interest.
func (s Status) workers() []Worker {
	var out []Worker
	for _, g := range s.Generations {
		out = append(out, g.Workers...)
	}
	return out
}

// counts are the workers' own answers, by unit.
type counts map[string]told

// told is one worker's answer.
type told struct {
	control.Status

	left []string // of what is tellable, what it leaves out
}

// count fills the workers' answers in.
func (s *Status) count(c counts) {
	s.Connections, s.InDoubt, s.Untold, s.Aside = 0, 0, 0, 0
	for i := range s.Generations {
		g := &s.Generations[i]
		g.Open = 0
		for j := range g.Workers {
			w := &g.Workers[j]
			if live, ok := c[w.Unit]; !ok {
				if w.State == ready.String() || w.State == draining.String() {
					w.NotTold = tellable
				}
			} else {
				w.Live, w.NotTold = &live.Status, live.left
				g.Open += live.Open
				s.Aside = max(s.Aside, live.Aside)
				s.Untold += live.Untold
				s.InDoubt = max(s.InDoubt, live.InDoubt) // every worker sees the same ones
				s.queue(live.Queues)
				if !live.Draining.IsZero() {
					g.Since, g.Oldest = earlier(g.Since, live.Draining), earlier(g.Oldest, live.Oldest)
					g.Deadline = later(g.Deadline, live.Deadline)
				}
			}
		}
		s.Connections += g.Open
	}
	s.Resources = resourcesOf(s.Generations, s.Generation)
}

// queue takes in what one worker sees of the queues that all share.
func (s *Status) queue(queues map[string]int) {
	for i := range s.Listeners {
		l := &s.Listeners[i]
		l.Queue = max(l.Queue, queues[unit.FDNameOf(l.Unit)])
	}
}

// earlier and later take a zero time for unknown.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// gather asks workers for their counts, all at once; who does not answer is left out.
func (m *Master) gather(ctx context.Context, workers []Worker) counts {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	out := counts{}
	for _, w := range workers {
		all.Go(func() {
			var text json.RawMessage
			if err := control.Call(ctx, m.controlPath(w.gen, w.Slot), control.OpStatus, nil, &text); err != nil {
				return // a foreign program may have no such socket
			}
			t, err := hear(text)
			if err != nil {
				m.log.Debug("a worker's status cannot be read", "unit", w.Unit, "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out[w.Unit] = t
		})
	}
	all.Wait()
	return out
}

// hear reads a worker's answer.
func hear(text []byte) (t told, err error) {
	var fields map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(text, &t.Status), json.Unmarshal(text, &fields)); err != nil {
		return told{}, err
	}
	for _, name := range tellable {
		if _, ok := fields[name]; !ok {
			t.left = append(t.left, name)
		}
	}
	return t, nil
}

// ask sends a helper for the workers' counts, unless one is out already.
func (m *Master) ask(ctx context.Context) {
	if m.asking {
		return
	}
	m.asking = true
	workers := m.status()
	m.helpers.Go(func() {
		m.counted <- m.gather(ctx, workers.workers())
	})
}

// show sends STATUS= when it has changed, and READY=1 with the first one that serves.
func (m *Master) show() {
	s := m.status()
	s.count(m.counts)
	m.publish(s)
	line := s.Line()
	send := m.opt.Status
	if !m.isReady && m.applied != nil {
		m.isReady = true
		send = m.opt.Ready
	} else if line == m.shown {
		return
	}
	m.shown = line
	if err := send(line); err != nil {
		m.log.Warn("systemd cannot be told the status", "error", err)
	}
}

// Line is the status in one line.
func (s Status) Line() string {
	var parts []string
	open := 0
	for _, l := range s.Listeners {
		if l.Open {
			open++
		}
	}
	if s.Stopping {
		parts = append(parts, "stopping")
	}
	for _, g := range s.Generations {
		switch g.State {
		case "serving":
			part := fmt.Sprintf("generation %d: %d/%d workers, %s, %s", g.Generation, g.Ready, g.Configured,
				plural(open, "listener"), plural(g.Open, "connection"))
			if s.InDoubt > 0 {
				part += fmt.Sprintf(", %d in doubt", s.InDoubt)
			}
			if s.Untold > 0 {
				part += fmt.Sprintf(", %d decided and not told to a resource yet", s.Untold)
			}
			if s.Aside > 0 {
				part += fmt.Sprintf(", %s put aside: fdtctl txn list", plural(s.Aside, "transaction log"))
			}
			parts = append(parts, part)
		case "starting":
			parts = append(parts, fmt.Sprintf("generation %d: %s, %d/%d workers", g.Generation, s.Step, g.Ready, g.Configured))
		default:
			parts = append(parts, fmt.Sprintf("generation %d: draining %s", g.Generation, plural(g.Open, "connection")))
		}
	}
	if len(s.Generations) == 0 {
		parts = append(parts, "no workers")
	}
	parts = append(parts, unserviceable(s.Resources)...)
	if s.Missing != "" {
		parts = append(parts, s.Missing)
	}
	if s.Degraded != "" {
		parts = append(parts, "degraded: "+firstLine(s.Degraded))
	}
	if s.Rejected != "" {
		parts = append(parts, "configuration not applied: "+firstLine(s.Rejected))
	}
	return strings.Join(parts, "; ")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return strings.TrimSuffix(line, ":")
}
