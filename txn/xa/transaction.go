package xa

import "time"

// Transaction is what is known of a distributed transaction.
type Transaction struct {
	GID       GID        `json:"gid"`
	ClientGID string     `json:"client_gid,omitempty"` // the coordinator's own name; empty for a local one
	Phase     Phase      `json:"phase"`
	Heuristic bool       `json:"heuristic,omitempty"` // an operator decided
	Hazard    string     `json:"hazard,omitempty"`    // what went against the decision, or is unknown
	HandsOff  string     `json:"hands_off,omitempty"` // why only an operator may decide
	Owner     string     `json:"owner"`
	Addr      string     `json:"addr,omitempty"`
	Database  string     `json:"database,omitempty"`
	Since     time.Time  `json:"since"`               // of the vote; of its beginning while Preparing
	Decider   string     `json:"decider,omitempty"`   // who decided
	DecidedBy Operator   `json:"decided_by,omitzero"` // the person behind an operator's decision
	Decided   time.Time  `json:"decided,omitzero"`    // when, if that is known
	Waits     []string   `json:"waits,omitempty"`     // the resources that are yet to be told the decision
	Ended     time.Time  `json:"ended,omitzero"`      // when every resource knew the outcome; when it was decided, after a boot
	Branches  []BranchID `json:"branches"`
}

// Name is the coordinator's name of the transaction, or our own.
func (t *Transaction) Name() string {
	if t.ClientGID != "" {
		return t.ClientGID
	}
	return t.GID.String()
}

// BranchID names one branch of a transaction and the store that holds it.
type BranchID struct {
	Resource string `json:"resource"`
	Identity string `json:"identity"`
	Proof    Proof  `json:"proof,omitempty"`
	State    string `json:"state,omitempty"` // as the resource itself reports it; only from Show
}

// Operator is the person behind an operator's decision, as far as that is
// known: for the record and the journal only. All are texts, empty if unknown.
type Operator struct {
	UID      string `json:"uid,omitempty"`       // of the process that asked
	LoginUID string `json:"login_uid,omitempty"` // who logged in: proc_pid_loginuid(5)
	Terminal string `json:"terminal,omitempty"`
}

// IsZero tells whether nothing is known.
func (o Operator) IsZero() bool { return o == Operator{} }

// JoinHazards returns both hazards of one transaction as one text.
func JoinHazards(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}
