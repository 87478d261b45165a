package txn

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unique"
)

// kind is what a record of the log says.
type kind string

// The kinds. A kind that is not here was written by a newer fdt: whatever it
// names is left alone.
const (
	kindOpen      kind = "open"      // first of a file: whose log it is, sequence numbers through Through
	kindBlock     kind = "block"     // sequence numbers through Through may be used
	kindNamed     kind = "named"     // a client may ask how it ended; none is prepared yet
	kindPreparing kind = "preparing" // X: before the first Prepare is sent
	kindPrepared  kind = "prepared"  // X: before the vote
	kindCommit    kind = "commit"    // the decision
	kindAbort     kind = "abort"     // the decision, or the tombstone of a vote under way
	kindHeuristic kind = "heuristic" // an operator's decision
	kindEnd       kind = "end"       // every resource acknowledged
	kindDead      kind = "dead"      // Incarnation is dead; its log is sealed
	kindForget    kind = "forget"    // the outcome is no longer wanted
)

// rank orders the moments of a transaction. Records of a lower rank must be
// gone from all logs before those of a higher one may go: otherwise it would
// rise from the dead.
type rank int8

// kinds are those that are known, with the rank of each, and whether it may use
// the space that is kept back on a full disk, as it lets transactions end.
var kinds = map[kind]struct {
	rank   rank
	urgent bool
}{
	kindOpen: {3, false}, kindBlock: {3, false}, kindDead: {3, true}, // of no transaction
	kindNamed: {0, false}, kindPreparing: {0, false}, kindPrepared: {0, false},
	kindCommit: {1, true}, kindAbort: {1, true}, kindHeuristic: {1, true},
	kindEnd:    {2, true},
	kindForget: {3, true},
}

// record is one entry of a log, as JSON: fields are only ever added.
type record struct {
	Kind        kind       `json:"kind"`
	At          time.Time  `json:"at"`
	GID         GID        `json:"gid,omitzero"`
	ClientGID   string     `json:"client_gid,omitempty"`
	Named       bool       `json:"named,omitzero"` // of preparing: known by another name before
	Owner       string     `json:"owner,omitempty"`
	Addr        string     `json:"addr,omitempty"`
	Database    string     `json:"database,omitempty"`
	Decider     string     `json:"decider,omitempty"`
	Decision    Decision   `json:"decision,omitzero"` // of heuristic
	Hazard      string     `json:"hazard,omitempty"`  // of end
	Branches    []BranchID `json:"branches,omitempty"`
	Log         LogID      `json:"log,omitzero"`         // of open
	Incarnation uint64     `json:"incarnation,omitzero"` // of open, dead
	Through     uint64     `json:"through,omitzero"`     // of open, block
	Program     string     `json:"program,omitempty"`    // of open
}

func (r *record) encode() []byte {
	b, _ := json.Marshal(r) // never fails: there is no value of a field that has no text
	return b
}

// share has the texts that many records have in common take memory once.
func (r *record) share() {
	texts := []*string{&r.Owner, &r.Addr, &r.Database, &r.Decider}
	for i := range r.Branches {
		texts = append(texts, &r.Branches[i].Resource, &r.Branches[i].Identity)
	}
	for _, t := range texts {
		*t = unique.Make(*t).Value()
	}
}

// decodeRecord reads a record. Fields it does not know are ignored; known is
// false for a kind it does not know, whose gid, if it has one, is filled in.
func decodeRecord(payload []byte) (r record, known bool, err error) {
	if err := json.Unmarshal(payload, &r); err != nil {
		return record{}, false, fmt.Errorf("record %.80q: %w", payload, err)
	}
	if r.Kind == "" {
		return record{}, false, errors.New("record without a kind")
	}
	_, known = kinds[r.Kind]
	return r, known, nil
}
