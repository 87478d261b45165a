package meter

import "time"

// Worker is a worker's answer to the operation "metrics" of its control socket, and what it leaves behind when it
// ends. Counts are since its start. Fields are only ever added.
type Worker struct {
	Generation int       `json:"generation"`
	Slot       int       `json:"slot"`
	Started    time.Time `json:"started"`
	Memory     int64     `json:"memory,omitempty"` // resident bytes; 0: not known
	CPU        float64   `json:"cpu"`              // seconds, of user and system

	Threads   int                 `json:"threads"`   // connections that it serves at once
	Reserve   int                 `json:"reserve"`   // connections that wait for one of these
	Listeners map[string]Listener `json:"listeners"` // by name in the configuration
	Drained   uint64              `json:"drained"`   // connections that ended while it drained
	Cut       uint64              `json:"cut"`       // and those whose time was up
	Fatal     map[string]uint64   `json:"fatal"`     // sessions refused or ended by fdt, by class of SQLSTATE

	Calls        map[string]Calls    `json:"calls"`        // by procedure
	Transactions map[string]uint64   `json:"transactions"` // that used a resource, by outcome
	Open         int                 `json:"open"`         // transactions
	Decisions    map[string]uint64   `json:"decisions"`    // on prepared transactions: commit, rollback
	Pending      int                 `json:"pending"`      // decisions that a resource has not been told yet
	Hazards      uint64              `json:"hazards"`      // outcomes that nothing proves
	Spans        map[string]uint64   `json:"spans"`        // of traces: sent, dropped; nil: none are made
	Forces       Distribution        `json:"forces"`       // how long records took to be on disk
	Resources    map[string]Resource `json:"resources"`    // by name

	// What all workers tell alike.
	InDoubt     int       `json:"in_doubt"`
	Oldest      time.Time `json:"oldest,omitzero"`      // since when the oldest of them is in doubt
	Unexplained int       `json:"unexplained,omitzero"` // branches of a resource that nothing explains
	Aside       int       `json:"aside,omitzero"`       // logs that were put aside with open transactions
	Scanned     time.Time `json:"scanned,omitzero"`     // last recovery that this worker ended
}

// Listener is what one listener brought.
type Listener struct {
	Accepted uint64    `json:"accepted"`
	Busy     int       `json:"busy"`
	Idle     int       `json:"idle"`
	Expires  time.Time `json:"expires,omitzero"` // when its certificate ends; zero: it has none
	Queue    int       `json:"queue"`            // connections in the kernel's queue, which all workers share; of a unix socket 1 for any
}

// Calls are the calls of one procedure.
type Calls struct {
	Classes  map[string]uint64 `json:"classes"` // by class of SQLSTATE, 00 for success
	Duration Distribution      `json:"duration"`
}

// Resource is a resource manager's connections.
type Resource struct {
	InUse     int    `json:"in_use"`
	Limit     int    `json:"limit"` // 0: it has none
	Waiting   int    `json:"waiting"`
	Exhausted uint64 `json:"exhausted"`

	State    string    `json:"state,omitempty"` // as in control.Resource
	Since    time.Time `json:"since,omitzero"`  // when it began
	Latency  float64   `json:"latency"`         // seconds that its last answer took; 0 if there was none
	Warnings int       `json:"warnings"`        // how many of its settings do not suit transactions
	InDoubt  int       `json:"in_doubt"`        // what all workers tell alike: in doubt with a branch there
	Untold   int       `json:"untold"`          // branches that this worker is yet to tell it of
}
