package master

import (
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

// noteCrash keeps the last words for STATUS= and the journal.
func (m *Master) noteCrash(unit, words string) {
	m.crash = words
	m.log.Error("a worker failed", journal.ID(journal.WorkerFailed), "unit", unit, "words", words)
}
