package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/fdtserver/fdt/txn/xa"
)

// State is what a claim's file says: its last complete line.
type State struct {
	xa.Transaction

	// Claimant is the incarnation that carries it on: the one that began it while it
	// votes, later who decided or took over. 0: the first died without a vote.
	Claimant uint64 `json:"claimant"`
	// Deciding is set while DecidingBy forces a decision: found set with the
	// lock free, that incarnation is dead and its log must be read.
	Deciding   xa.Decision `json:"deciding,omitzero"`
	DecidingBy uint64      `json:"deciding_by,omitzero"`
	// Decision is what was decided.
	Decision xa.Decision `json:"decision,omitzero"`
	// Told names the resources that have acknowledged the decision, as long as others have not: a successor leaves them
	// out, since one that keeps no proof could only say that the branch is gone. That is lost with the claims at a boot, or
	// with who dies between the answer and this; there the outcome may be told as unknown, as the manual says.
	Told []string `json:"told,omitempty"`
	// ForgottenBy is the incarnation that noted that the outcome is forgotten, 0 if none did. Nobody is told of such a claim:
	// until that is durable, all that it does is to keep its name from being given away, as a failure of power would bring
	// the outcome back beside a later transaction of the name.
	ForgottenBy uint64 `json:"forgotten_by,omitempty"`
}

// Forgotten tells whether the outcome is told to nobody any more.
func (st *State) Forgotten() bool { return st.ForgottenBy != 0 }

// Untold returns the branches whose resource has not acknowledged the decision.
func (st *State) Untold() []xa.BranchID {
	return slices.DeleteFunc(slices.Clone(st.Branches), func(b xa.BranchID) bool { return slices.Contains(st.Told, b.Resource) })
}

// OperatorOnly tells whether only an operator may make the outcome forgotten.
func (st *State) OperatorOnly() bool {
	return st.Heuristic || st.Hazard != "" || st.HandsOff != ""
}

// Record is one of that kind, with what the claim says.
func (st *State) Record(k Kind) Record {
	return Record{
		Kind: k, GID: st.GID, ClientGID: st.ClientGID, Owner: st.Owner, Addr: st.Addr, Database: st.Database,
		Branches: st.Branches,
	}
}

// Claim is one that this process holds: nobody else changes it before it is given back.
type Claim struct {
	State

	row   Row
	ended bool // it was removed, given back or kept
}

// Row is where a ledger keeps a claim, locked.
type Row interface {
	// Write replaces what it was.
	Write(was, is State) error
	// Remove deletes it, and frees its lock whatever happens.
	Remove(was State) error
	// Release frees its lock.
	Release() error
}

// Row is where it is kept.
func (c *Claim) Row() Row { return c.row }

// Held is a claim that this process has just locked in its row.
func Held(st State, row Row) *Claim { return &Claim{State: st, row: row} }

// Set writes a new state.
func (c *Claim) Set(st State) error {
	if err := c.row.Write(c.State, st); err != nil {
		return err
	}
	c.State = st
	return nil
}

// Acknowledge keeps that resources have acknowledged the decision.
func (c *Claim) Acknowledge(resources ...string) error {
	if len(resources) == 0 {
		return nil
	}
	st := c.State
	st.Told = slices.Concat(st.Told, resources)
	return c.Set(st)
}

// Remove deletes the claim, which is given back by that.
func (c *Claim) Remove() error {
	c.ended = true
	return c.row.Remove(c.State)
}

// Release gives the claim back, unless it was removed, given back or kept before.
func (c *Claim) Release() error {
	if c.ended {
		return nil
	}
	c.ended = true
	return c.row.Release()
}

// Keep has nobody give the claim back any more: its lock ends with the process, or with its incarnation.
func (c *Claim) Keep() { c.ended = true }

// With calls f with a claim, and gives it back when f returns, if f has not.
func With(c *Claim, f func(*Claim) error) error { return errors.Join(f(c), c.Release()) }

// ErrHeld: somebody else works on the claim.
var ErrHeld = errors.New("the claim is held")

// ClaimName is the name of a transaction's claim: of ours its gid, of an outside
// coordinator's a hash, since that may hold any byte.
func ClaimName(t *xa.Transaction) string {
	if t.ClientGID == "" {
		return t.GID.String()
	}
	return ClientName(t.ClientGID)
}

// ClientName is the name of the claim of what a coordinator gave that gid.
func ClientName(gid string) string {
	sum := sha256.Sum256([]byte(gid))
	return "x-" + hex.EncodeToString(sum[:16])
}
