package pgwire

import (
	"time"

	"github.com/fdtserver/fdt/internal/meter"
)

// succeeded is the SQLSTATE of what went well, and success its class.
const (
	succeeded = "00000"
	success   = "00"
)

// calls counts the calls of one procedure.
type calls struct {
	classes  meter.Counts // by class of SQLSTATE
	duration meter.Histogram
}

// ended counts one call.
func (c *calls) ended(took time.Duration, class string) {
	c.classes.Add(class)
	c.duration.Observe(took)
}

// classOf is the class of a failure's SQLSTATE: its first two characters, of which there are few.
func classOf(f *Failure) string { return f.Code[:2] }

// Stats is what a Server counted.
type Stats struct {
	// Calls are those of each procedure, by its name: until it returned; a transaction's end is not part of it.
	Calls map[string]meter.Calls
	// Fatal counts the sessions that were refused, or ended by the server, by the class of the SQLSTATE that the
	// client was told.
	Fatal map[string]uint64
}

// Stats returns the counts; it reads memory only.
func (s *Server) Stats() Stats {
	s.init()
	st := Stats{Calls: make(map[string]meter.Calls, len(s.calls)), Fatal: s.fatal.Read()}
	for p, c := range s.calls {
		classes := c.classes.Read()
		classes[success] += 0 // there from the start: who sees it first at one takes that for no increase
		st.Calls[p.Name()] = meter.Calls{Classes: classes, Duration: c.duration.Read()}
	}
	return st
}
