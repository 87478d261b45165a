package xa

import "fmt"

// Phase is where a distributed transaction stands: what its records in the
// log, all taken together, say.
type Phase int

// The phases.
const (
	// Preparing: an outside coordinator asked for the vote, which is not
	// durable yet. If its worker is dead it is rolled back.
	Preparing Phase = iota + 1
	// Prepared: the vote is durable, the transaction in doubt.
	Prepared
	// Committing: the decision to commit is durable, not all resources know.
	Committing
	// Aborting: the decision to roll back is durable, not all resources know.
	Aborting
	// Committed: every resource has committed.
	Committed
	// Aborted: every resource has rolled back.
	Aborted
)

var phaseNames = map[Phase]string{
	Preparing: "preparing", Prepared: "prepared", Committing: "committing",
	Aborting: "aborting", Committed: "committed", Aborted: "aborted",
}

// String returns the phase in lower case.
func (p Phase) String() string {
	if n, ok := phaseNames[p]; ok {
		return n
	}
	return fmt.Sprintf("Phase(%d)", int(p))
}

// Terminal tells whether every resource knows the outcome.
func (p Phase) Terminal() bool { return p == Committed || p == Aborted }

// MarshalText is String.
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (p *Phase) UnmarshalText(text []byte) error {
	for k, v := range phaseNames {
		if v == string(text) {
			*p = k
			return nil
		}
	}
	return fmt.Errorf("unknown phase %q", text)
}

// Decision is what phase two tells the branches.
type Decision int

// The decisions.
const (
	Commit Decision = iota + 1
	Abort
)

var decisionNames = map[Decision]string{Commit: "commit", Abort: "abort"}

// String returns commit or abort.
func (d Decision) String() string {
	if s, ok := decisionNames[d]; ok {
		return s
	}
	return fmt.Sprintf("Decision(%d)", int(d))
}

// MarshalText is String.
func (d Decision) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads commit or abort.
func (d *Decision) UnmarshalText(text []byte) error {
	for k, v := range decisionNames {
		if v == string(text) {
			*d = k
			return nil
		}
	}
	return fmt.Errorf("unknown decision %q", text)
}

// Proof is what a resource needs to tell later how a branch ended that it no
// longer knows by its gid, PostgreSQL's xid8 for instance, and to end the
// session that may still be about to prepare it. Its text is the resource's
// own, kept in the log; empty if there is none.
type Proof string
