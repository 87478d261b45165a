package ledger

import (
	"cmp"
	"slices"
)

// Supersede finds what the name of a later transaction proves. A coordinator's gid is free again only when the vote of the
// one before was withdrawn, which is not forced, or its outcome is forgotten, which earlier versions did not force either:
// a failure of power may leave records of the earlier and the vote of the later one. Without this there would be two
// transactions of one name.
//
// The logs are not read in one moment, so what they say of one that lives may be out of date: only what lies in sealed
// logs alone is taken for ended and forgotten, and a failure of power leaves nothing else. Nor is the order of two known
// for certain, where clocks tell it: what waits for its decision, or for its resources to be told, goes on without the
// name.
func (s *Contents) Supersede(sealed map[uint64]bool) {
	byName := map[string][]*History{}
	for _, h := range s.Histories {
		if h.Tx.ClientGID != "" {
			byName[h.Tx.ClientGID] = append(byName[h.Tx.ClientGID], h)
		}
	}
	for _, all := range byName {
		last := slices.MaxFunc(all, laterOf)
		for _, h := range all {
			if h == last || h.Forgotten || h.Tx.HandsOff != "" {
				continue
			}
			h.Unnamed = true
			if open := h.Decision != 0 || h.Prepared; (h.Ended || !open) && h.Within(sealed) {
				h.Ended, h.Forgotten, h.Superseded = true, true, true
			}
		}
	}
}

// laterOf compares two transactions of one name. What voted and is not decided came last, whatever the clocks say: what it
// came after had been decided, which is forced, or had been withdrawn. What is known to be over came first. Of one worker
// the log has the order.
func laterOf(a, b *History) int {
	stands := func(h *History) int {
		switch {
		case h.Forgotten, h.Ended && h.Decision == 0:
			return 0
		case h.Prepared && h.Decision == 0:
			return 2
		}
		return 1
	}
	order := 0
	if a.Tx.GID.Incarnation == b.Tx.GID.Incarnation {
		order = cmp.Compare(a.opened, b.opened)
	}
	return cmp.Or(cmp.Compare(stands(a), stands(b)), order, a.Tx.Since.Compare(b.Tx.Since))
}

// Within tells whether no other logs than these have, or may still get, a record of the transaction.
func (h *History) Within(logs map[uint64]bool) bool {
	return logs[h.Tx.GID.Incarnation] && !slices.ContainsFunc(h.seen, func(s seen) bool { return !logs[s.log] })
}
