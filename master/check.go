package master

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"github.com/fdtserver/fdt/internal/control"
)

// verdict is what is known of a new worker's self-check.
type verdict int

const (
	unasked verdict = iota
	asked
	passed
	failed
)

// checked is the outcome of one self-check; words are empty if it was passed.
type checked struct{ unit, words string }

// check has a new worker, beside a generation that serves, prove that it can serve transactions, not only say READY=1. The
// answer comes to Run; there is always one.
func (m *Master) check(ctx context.Context, w worker) {
	m.memo(w.unit).verdict = asked
	m.log.Debug("self-check", "unit", w.unit)
	path := m.controlPath(w.gen, w.slot)
	var older []string
	for _, o := range m.last.of(m.applied.gen, ready) {
		older = append(older, m.controlPath(o.gen, o.slot))
	}
	applied, pending := m.applied.gen, m.pending.gen
	m.helpers.Go(func() {
		faults, err := selfCheck(ctx, path)
		words := ""
		switch {
		case err != nil:
			words = fmt.Sprintf("%s does not answer its self-check: %v", w.unit, err)
		case len(faults) > 0:
			words = m.judge(ctx, w.unit, faults, m.unchanged(applied, pending), older)
		}
		select {
		case m.checks <- checked{w.unit, words}:
		case <-ctx.Done():
		}
	})
}

// judge returns why a worker must not take over, or nothing: a resource that an unchanged configuration reaches no
// better in the generation that serves is no fault of the new one, and must not stand in the way of a reload.
func (m *Master) judge(ctx context.Context, unit string, faults map[string]string, unchanged map[string]bool, older []string) string {
	var known map[string]string
	if len(older) > 0 {
		known, _ = selfCheck(ctx, older[0]) // without an answer every fault counts
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		if unchanged[name] && known[name] != "" {
			m.log.Warn("a resource fails in the generation that serves as well", "resource", name, "error", faults[name])
			continue
		}
		prefix := "resource " + name + ": "
		fault := faults[name]
		for strings.HasPrefix(fault, prefix) {
			fault = strings.TrimPrefix(fault, prefix)
		}
		lines = append(lines, fmt.Sprintf("%s fails its self-check: %s%s", unit, prefix, fault))
	}
	return strings.Join(lines, "\n")
}

// selfCheck asks a worker. A program that has no control socket, or does not know the question, has passed.
func selfCheck(ctx context.Context, path string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, control.Timeout)
	defer cancel()
	var answer control.Check
	err := control.Call(ctx, path, control.OpCheck, nil, &answer)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, control.ErrUnknownOp) {
		err = nil
	}
	return answer.Faults, err
}

// unchanged are the resources that a pending generation has exactly as the applied one.
func (m *Master) unchanged(applied, pending int) map[string]bool {
	out := map[string]bool{}
	old, err := m.opt.Run.Load(applied)
	cfg, also := m.opt.Run.Load(pending)
	if err := errors.Join(err, also); err != nil {
		m.log.Warn("resources cannot be compared", "error", err)
		return out
	}
	for name, r := range cfg.Resources {
		out[name] = reflect.DeepEqual(r, old.Resources[name])
	}
	return out
}

// concluded takes a self-check's outcome in.
func (m *Master) concluded(c checked) {
	k := m.memos[c.unit]
	if k == nil || k.verdict != asked {
		return // another process by now
	}
	k.verdict, k.faults = passed, c.words
	if c.words != "" {
		k.verdict = failed
	}
}
