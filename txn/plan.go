package txn

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// findings is what a recoverer found beside the logs.
type findings struct {
	dead  map[uint64]bool             // proven dead and sealed; any other is taken for alive
	found map[string][]PreparedBranch // per resource that answered
	// fenced tells whether nothing that the incarnation began can still change
	// the resource.
	fenced func(resource string, incarnation uint64) bool
	// own is the recoverer's own incarnation, 0 if it has none, and atWork its
	// transactions that a session still has, by their sequence numbers, looked
	// at after the resources and before the logs.
	own    uint64
	atWork map[uint64]bool
	// decided is what is decided of transactions of incarnations that have deciders, by gids with RoleLocal; blind those
	// whose decider cannot tell, with why an operator has to see to that, if he has.
	decided map[GID]Decision
	blind   blind
}

// settled tells whether nobody but recovery answers for what no log explains:
// not a session that lives, nor one that is gone but not from the resource.
func (f *findings) settled(resource string, gid GID, logged bool) bool {
	if gid.Incarnation == f.own {
		return !f.atWork[gid.Sequence]
	}
	return (!logged || f.dead[gid.Incarnation]) && f.fenced(resource, gid.Incarnation)
}

// verb is what recovery does about a transaction.
type verb int

const (
	verbPublish verb = iota + 1 // keep it in doubt and let everybody see it
	verbFinish                  // tell its branches the decision
	verbAbandon                 // an external one that never voted: roll back all it may have prepared
	verbPresume                 // a branch that no log knows: roll it back
	verbAlarm                   // hands off
)

var verbNames = map[verb]string{
	verbPublish: "publish", verbFinish: "finish", verbAbandon: "abandon", verbPresume: "settle", verbAlarm: "alarm",
}

// String returns the verb.
func (v verb) String() string {
	if n, ok := verbNames[v]; ok {
		return n
	}
	return fmt.Sprintf("verb(%d)", int(v))
}

// action is one verb on one transaction.
type action struct {
	verb     verb
	gid      GID
	resource string // of presume and alarm: where the branch was found
	decision Decision
	why      string // of alarm
}

// planClaim decides what recovery has to do about a claim that is behind the logs, of which h is what they say, nil if
// nothing: bring it to its end, drop an outcome that is no longer kept, or go on with what is decided. Whoever carried it
// on has died before the claim said so too; the logs alone leave nothing to do then.
func planClaim(c facts, h *ledger.History, gone func(incarnation uint64) bool, done func(*ledger.History) bool) (task, bool) {
	decided := c.phase == Committing || c.phase == Aborting
	switch {
	case c.forgotten != 0:
		return taskConclude, gone(c.forgotten) // else it goes with the next sweep of that one
	case c.phase == Prepared, c.phase.Terminal() && c.operatorOnly():
	case h == nil: // never noted, or done and dropped
		return taskConclude, gone(c.claimant)
	case c.phase.Terminal():
		return taskConclude, done(h)
	case h.Ended:
		return taskConclude, gone(c.claimant)
	case decided:
		// The tombstone of a vote is left to the worker that collects it. If that dies at the same moment, having noted the
		// end of its vote, its log may be gone before the tombstone is seen.
		return taskAdopt, gone(c.claimant)
	}
	return 0, false
}

// plan decides what recovery has to do. It is pure: the same logs and findings
// give the same actions, in the order of the gids. What a living incarnation
// answers for is left to it; the recoverer's own has nobody else to find what a
// resource brings back after the end was noted: an answer that was not durable,
// as MariaDB's to XA ROLLBACK, or a resource that was restored.
func plan(s *ledger.Contents, f findings) []action {
	var do []action
	for gid, h := range s.Histories {
		if a, ok := planHistory(s, f, gid, h); ok {
			do = append(do, a)
		}
	}
	for resource, list := range f.found {
		for _, b := range list {
			if a, ok := planBranch(s, f, resource, s.Named(b.GID)); ok {
				do = append(do, a)
			}
		}
	}
	slices.SortFunc(do, func(a, b action) int {
		return cmp.Or(
			cmp.Compare(a.gid.Incarnation, b.gid.Incarnation), cmp.Compare(a.gid.Sequence, b.gid.Sequence),
			cmp.Compare(a.verb, b.verb), cmp.Compare(a.resource, b.resource))
	})
	return do
}

func planHistory(s *ledger.Contents, f findings, gid GID, h *ledger.History) (action, bool) {
	switch {
	case h.Tx.HandsOff != "":
		return action{verb: verbAlarm, gid: gid, why: h.Tx.HandsOff}, true
	case h.Ended || h.Bare() || h.Published && h.Decision == 0 || !f.dead[s.Responsible(h)]:
		return action{}, false
	case h.Decision != 0:
		return action{verb: verbFinish, gid: gid, decision: h.Decision}, true
	case h.Prepared:
		return action{verb: verbPublish, gid: gid}, true
	case s.Damaged[gid.Incarnation] != nil:
		return action{}, false // the vote may be among what is lost
	case !s.Taken.IsZero():
		return action{verb: verbAlarm, gid: gid, why: ledger.OlderCopy(s.Taken)}, true // likewise
	}
	return action{verb: verbAbandon, gid: gid, decision: Abort}, true
}

func planBranch(s *ledger.Contents, f findings, resource string, gid GID) (action, bool) {
	home := gid.Incarnation
	alarm := func(why string) (action, bool) {
		return action{verb: verbAlarm, gid: gid, resource: resource, why: why}, true
	}
	reserved, logged := s.Reserved[home]
	switch {
	case !s.Given(home):
		return alarm(fmt.Sprintf("incarnation %d was never given away: the log is an older copy", home))
	case logged && gid.Sequence > reserved && s.Damaged[home] == nil:
		return alarm(fmt.Sprintf("sequence number %d was never reserved: the log is an older copy", gid.Sequence))
	}
	h := s.Histories[gid]
	if h != nil && h.Bare() {
		h = nil
	}
	switch {
	case h != nil && h.Tx.HandsOff != "" && gid.Role == RoleLocal:
		return alarm(h.Tx.HandsOff) // no claim shows it
	case h != nil && h.Tx.HandsOff != "", h != nil && !h.Ended:
		return action{}, false // planHistory's
	case s.Damaged[home] != nil && h == nil:
		return alarm(fmt.Sprintf("the log of incarnation %d is damaged: %v", home, s.Damaged[home]))
	case !f.settled(resource, gid, logged):
		return action{}, false
	case !s.Taken.IsZero() && h == nil:
		return alarm(ledger.OlderCopy(s.Taken))
	case h == nil && s.Deciders[home] != nil:
		if why := f.blind[home]; why != "" {
			return alarm(why)
		}
		d := f.decided[local(gid)] // 0: not known yet
		return action{verb: verbPresume, gid: gid, resource: resource, decision: d}, d != 0
	case h != nil && h.Decision == Commit:
		// All had acknowledged, yet the branch is back, or was seen before.
		return action{verb: verbPresume, gid: gid, resource: resource, decision: Commit}, true
	}
	return action{verb: verbPresume, gid: gid, resource: resource, decision: Abort}, true
}
