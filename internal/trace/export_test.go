package trace

import "time"

// QueueLength is how many spans are kept.
const QueueLength = queueLength

// Hurry has e try again soon.
func Hurry(e *Exporter) { e.first = time.Millisecond }

// Patient has it wait.
func Patient(e *Exporter) { e.first = time.Hour }
