package txn

import (
	"cmp"
	"fmt"
	"slices"
)

// findings is what a recoverer found beside the logs.
type findings struct {
	dead  map[uint64]bool             // proven dead and sealed; any other is taken for alive
	found map[string][]PreparedBranch // per resource that answered
	// fenced tells whether nothing that the incarnation began can still change
	// the resource.
	fenced func(resource string, incarnation uint64) bool
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
	verbPublish: "publish", verbFinish: "finish", verbAbandon: "abandon", verbPresume: "presume abort", verbAlarm: "alarm",
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

// plan decides what recovery has to do. It is pure: the same logs and findings
// give the same actions, in the order of the gids. What a living incarnation
// answers for is left to it.
func plan(s *survey, f findings) []action {
	var do []action
	for gid, h := range s.histories {
		if a, ok := planHistory(s, f, gid, h); ok {
			do = append(do, a)
		}
	}
	for resource, list := range f.found {
		for _, b := range list {
			if a, ok := planBranch(s, f, resource, s.named(b.GID)); ok {
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

func planHistory(s *survey, f findings, gid GID, h *history) (action, bool) {
	switch {
	case h.tx.HandsOff != "":
		return action{verb: verbAlarm, gid: gid, why: h.tx.HandsOff}, true
	case h.ended || h.bare() || h.published && h.decision == 0 || !f.dead[h.responsible()]:
		return action{}, false
	case h.decision != 0:
		return action{verb: verbFinish, gid: gid, decision: h.decision}, true
	case h.prepared:
		return action{verb: verbPublish, gid: gid}, true
	case s.damaged[gid.Incarnation] != nil:
		return action{}, false // the vote may be among what is lost
	}
	return action{verb: verbAbandon, gid: gid, decision: Abort}, true
}

func planBranch(s *survey, f findings, resource string, gid GID) (action, bool) {
	home := gid.Incarnation
	alarm := func(why string) (action, bool) {
		return action{verb: verbAlarm, gid: gid, resource: resource, why: why}, true
	}
	reserved, logged := s.reserved[home]
	switch {
	case home > s.highest:
		return alarm(fmt.Sprintf("incarnation %d was never given away: the log is an older copy", home))
	case logged && gid.Sequence > reserved && s.damaged[home] == nil:
		return alarm(fmt.Sprintf("sequence number %d was never reserved: the log is an older copy", gid.Sequence))
	}
	h := s.histories[gid]
	if h != nil && h.bare() {
		h = nil
	}
	switch {
	case h != nil && h.tx.HandsOff != "", h != nil && !h.ended:
		return action{}, false // planHistory's
	case s.damaged[home] != nil && h == nil:
		return alarm(fmt.Sprintf("the log of incarnation %d is damaged: %v", home, s.damaged[home]))
	case logged && !f.dead[home] || !f.fenced(resource, home):
		return action{}, false
	case h != nil && h.decision == Commit:
		// All had acknowledged, yet the branch is back, or was seen before.
		return action{verb: verbPresume, gid: gid, resource: resource, decision: Commit}, true
	}
	return action{verb: verbPresume, gid: gid, resource: resource, decision: Abort}, true
}
