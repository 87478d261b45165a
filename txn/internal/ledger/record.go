package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	"unique"

	"github.com/fdtserver/fdt/txn/xa"
)

// Kind is what a record of the log says.
type Kind string

// The kinds. A kind that is not here was written by a newer fdt: whatever it
// names is left alone.
const (
	KindOpen      Kind = "open"      // first of a file: whose log it is, sequence numbers through Through
	KindBlock     Kind = "block"     // sequence numbers through Through may be used
	KindNamed     Kind = "named"     // a client may ask how it ended; none is prepared yet
	KindPreparing Kind = "preparing" // X: before the first Prepare is sent
	KindPrepared  Kind = "prepared"  // X: before the vote
	KindCommit    Kind = "commit"    // the decision
	KindAbort     Kind = "abort"     // the decision, or the tombstone of a vote under way
	KindHeuristic Kind = "heuristic" // an operator's decision
	KindEnd       Kind = "end"       // every resource acknowledged
	KindDead      Kind = "dead"      // Incarnation is dead; its log is sealed
	KindForget    Kind = "forget"    // the outcome is no longer wanted
	KindTaken     Kind = "taken"     // a resource held a branch of the gid before it was given away here
	KindDecider   Kind = "decider"   // Branches names the store that keeps decisions of this incarnation; without it none may be presumed
)

// rank orders the moments of a transaction. Records of a lower rank must be
// gone from all logs before those of a higher one may go: otherwise it would
// rise from the dead.
type rank int8

// kinds are those that are known, with the rank of each, and whether it may use
// the space that is kept back on a full disk, as it lets transactions end.
var kinds = map[Kind]struct {
	rank   rank
	urgent bool
}{
	KindOpen: {3, false}, KindBlock: {3, false}, KindDead: {3, true}, // of no transaction
	KindNamed: {0, false}, KindPreparing: {0, false}, KindPrepared: {0, false},
	KindCommit: {1, true}, KindAbort: {1, true}, KindHeuristic: {1, true},
	KindEnd:    {2, true},
	KindTaken:  {0, true},
	KindForget: {3, true}, KindDecider: {3, false},
}

// Kinds returns those that are known.
func Kinds() []Kind { return slices.Collect(maps.Keys(kinds)) }

// Record is one entry of a log, as JSON: fields are only ever added.
type Record struct {
	Kind        Kind          `json:"kind"`
	At          time.Time     `json:"at"`
	GID         xa.GID        `json:"gid,omitzero"`
	ClientGID   string        `json:"client_gid,omitempty"`
	Named       bool          `json:"named,omitzero"` // of preparing: known by another name before
	Owner       string        `json:"owner,omitempty"`
	Addr        string        `json:"addr,omitempty"`
	Database    string        `json:"database,omitempty"`
	Decider     string        `json:"decider,omitempty"`
	Decision    xa.Decision   `json:"decision,omitzero"`   // of heuristic, and of an end whose decision was not in a log
	DecidedBy   xa.Operator   `json:"decided_by,omitzero"` // likewise
	Hazard      string        `json:"hazard,omitempty"`    // of end
	Branches    []xa.BranchID `json:"branches,omitempty"`
	Log         xa.LogID      `json:"log,omitzero"`         // of open
	Incarnation uint64        `json:"incarnation,omitzero"` // of open, dead
	Through     uint64        `json:"through,omitzero"`     // of open, block
	Program     string        `json:"program,omitempty"`    // of open
}

// Encode returns the record as Decode reads it.
func (r *Record) Encode() []byte { return r.encode() }

// Decode reads a record that Encode wrote, of a kind that is known.
func Decode(payload []byte) (Record, error) {
	r, known, err := decodeRecord(payload)
	if err == nil && !known {
		err = fmt.Errorf("record %q of a newer version", r.Kind)
	}
	return r, err
}

// Transaction is what a record of a commit tells.
func (r *Record) Transaction() xa.Transaction {
	return xa.Transaction{
		GID: r.GID, Phase: xa.Committing, Owner: r.Owner, Addr: r.Addr, Database: r.Database, Since: r.At, Decided: r.At, Decider: r.Decider, Branches: r.Branches,
	}
}

func (r *Record) encode() []byte {
	b, _ := json.Marshal(r) // never fails: there is no value of a field that has no text
	return b
}

// share has the texts that many records have in common take memory once.
func (r *Record) share() {
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
func decodeRecord(payload []byte) (r Record, known bool, err error) {
	if err := json.Unmarshal(payload, &r); err != nil {
		return Record{}, false, fmt.Errorf("record %.80q: %w", payload, err)
	}
	if r.Kind == "" {
		return Record{}, false, errors.New("record without a kind")
	}
	_, known = kinds[r.Kind]
	return r, known, nil
}
