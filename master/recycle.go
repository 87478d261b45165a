package master

import (
	"log/slog"
	"time"

	"github.com/fdtserver/fdt/internal/journal"
)

// age marks the workers that workers.recycle wants replaced, from their own answers.
func (m *Master) age(c counts) {
	if m.applied == nil {
		return
	}
	limit := m.applied.recycle
	for name, s := range c {
		if s.Generation == m.applied.gen && limit.After > 0 && s.State == "serving" && time.Since(s.Since) > limit.After {
			m.memo(name).expired = true
		}
	}
}

// event is the log with the identifier of an event that operators know, by internal/journal.
func (m *Master) event(id string) *slog.Logger { return m.log.With(journal.ID(id)) }

// noteCrash keeps the last words for STATUS= and the journal.
func (m *Master) noteCrash(unit, words string) {
	m.crash = words
	m.event(journal.WorkerFailed).Error("a worker failed", "unit", unit, "words", words)
}
