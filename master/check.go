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

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/control"
)

// verdict is what is known of a question to a worker: of its self-check, of its sign of life.
type verdict int

const (
	unasked verdict = iota
	asked
	passed
	failed
)

// checked is the outcome of one self-check; words are empty if it was passed.
type checked struct{ unit, words, alien string }

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
		answer, foreign, err := selfCheck(ctx, path)
		words, alien := "", ""
		switch {
		case foreign:
			if cfg, err := m.opt.Run.Load(pending); err == nil { // what cannot be read fails elsewhere
				alien = misplaced(w.unit, cfg)
			}
		case err != nil:
			words = fmt.Sprintf("%s does not answer its self-check: %v", w.unit, err)
		case len(answer.Faults) > 0 || len(answer.Program) > 0:
			words = m.judge(ctx, w.unit, answer, m.unchanged(applied, pending), older, m.placing(pending))
		}
		select {
		case m.checks <- checked{w.unit, words, alien}:
		case <-ctx.Done():
		}
	})
}

// judge returns why a worker must not take over, or nothing: a resource that an unchanged configuration reaches no
// better in the generation that serves is no fault of the new one, and must not stand in the way of a reload. placing puts a line to its
// place in the configuration.
func (m *Master) judge(ctx context.Context, unit string, found control.Check, unchanged map[string]bool, older []string, placing func(path, line string) string) string {
	var known control.Check
	if len(older) > 0 {
		known, _, _ = selfCheck(ctx, older[0]) // without an answer every fault counts
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(found.Faults)) {
		if unchanged[name] && known.Faults[name] != "" {
			m.log.Warn("a resource fails in the generation that serves as well", "resource", name, "error", found.Faults[name])
			continue
		}
		prefix := "resource " + name + ": "
		fault := found.Faults[name]
		for strings.HasPrefix(fault, prefix) {
			fault = strings.TrimPrefix(fault, prefix)
		}
		lines = append(lines, placing(found.Places[name], fmt.Sprintf("%s fails its self-check: %s%s", unit, prefix, fault)))
	}
	for _, fault := range found.Program {
		lines = append(lines, fmt.Sprintf("%s fails its self-check: %s", unit, fault))
	}
	return strings.Join(lines, "\n")
}

// placing returns what puts the file, line and column of a path in front of a text: those of /etc/fdt, if that is what the generation
// has. What is rolled back to, or was edited meanwhile, has no place there.
func (m *Master) placing(gen int) func(path, text string) string {
	cfg, err := m.opt.Run.Load(gen)
	etc, places, also := config.LoadPlaced(m.opt.Etc)
	return func(path, text string) string {
		if path == "" || err != nil || also != nil || !reflect.DeepEqual(cfg, etc) {
			return text
		}
		return places.At(path, text, "").Error()
	}
}

// selfCheck asks a worker. A program that has no control socket, or does not know the question, is foreign.
func selfCheck(ctx context.Context, path string) (answer control.Check, foreign bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, control.CheckTimeout)
	defer cancel()
	err = control.Call(ctx, path, control.OpCheck, nil, &answer)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, control.ErrUnknownOp) {
		return answer, true, nil
	}
	return answer, false, err
}

// misplaced says which listeners another program cannot serve as they are configured: it knows nothing of how fdt's own lets
// clients in, so that whoever connects would be.
func misplaced(unit string, cfg *config.Config) string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(cfg.Listen)) {
		l := cfg.Listen[name]
		what := "auth: " + l.Auth
		switch {
		case l.Serve != "":
			what = "serve: " + l.Serve
		case l.Auth == config.AuthProgram:
			continue
		}
		lines = append(lines, fmt.Sprintf("%s runs another program, which does not go by %s of listener %s: give it auth: program, or take it away", unit, what, name))
	}
	return strings.Join(lines, "\n")
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
	k.verdict, k.faults, k.alien = passed, c.words, c.alien
	if c.words != "" {
		k.verdict = failed
	}
}
