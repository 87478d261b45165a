package master

import (
	"log/slog"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/journal"
)

// age marks the workers that workers.recycle wants replaced, from their own answers.
func (m *Master) age(c counts) {
	if m.applied == nil {
		return
	}
	for name, s := range c {
		if s.Generation == m.applied.gen && outlived(m.applied.recycle, s.Status, time.Now()) {
			m.memo(name).expired = true
		}
	}
}

// outlived reports whether a worker is too old or too big.
func outlived(limit config.Recycle, s control.Status, now time.Time) bool {
	if s.State != "serving" || s.Since.IsZero() {
		return false
	}
	age := now.Sub(s.Since)
	return limit.After > 0 && age > limit.After || limit.Memory > 0 && s.Memory > limit.Memory && age > limit.Grace
}

// event is the log with the identifier of an event that operators know, by internal/journal.
func (m *Master) event(id string) *slog.Logger { return m.log.With(journal.ID(id)) }

// healed forgets why something was not as it should be.
func (m *Master) healed() error {
	m.crash = ""
	if m.state.Degraded == "" {
		return nil
	}
	state := m.state
	state.Degraded = ""
	return m.save(state)
}

// noteCrash keeps the last words for STATUS= and the journal.
func (m *Master) noteCrash(unit, words string) {
	m.crash = words
	m.event(journal.WorkerFailed).Error("a worker failed", "unit", unit, "words", words)
}
