package txn

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
	Since     time.Time  `json:"since"`             // of the vote; of its beginning while Preparing
	Decider   string     `json:"decider,omitempty"` // who decided
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
