package txn

import (
	"fmt"
)

// This file is the steps of the model of model_test.go.

// step is one possible step and what it leads to.
type step struct {
	name string
	to   world
	err  error
}

func (w world) steps() []step {
	var all []step
	do := func(name string, f func(*world) error) {
		to := w
		err := f(&to)
		all = append(all, step{name, to, err})
	}
	w.homeSteps(do)
	for i := range w.deciders {
		w.deciderSteps(i, do)
	}
	w.recovererSteps(do)
	for r := range w.late {
		if w.late[r] {
			do(fmt.Sprintf("resource %d prepares", r), func(w *world) error {
				w.late[r] = false
				if w.branch[r] == branchActive {
					w.branch[r] = branchPrepared
					w.acked[r] = w.home.at == pcVoting
				}
				return nil
			})
		}
	}
	w.deathSteps(do)
	return all
}

func (w world) homeSteps(do func(string, func(*world) error)) {
	switch w.home.at {
	case pcIdle:
		do("home sends prepare", func(w *world) error {
			w.note(homeN, hasPreparing)
			w.claim.exists, w.claim.phase, w.claim.claimant = true, Preparing, homeN
			w.late, w.home.at = [2]bool{true, true}, pcVoting
			return nil
		})
	case pcVoting:
		if w.lock != 0 {
			return
		}
		if w.acked == [2]bool{true, true} {
			do("home takes the claim", func(w *world) error {
				w.catchUp(homeN)
				if _, err := w.claim.phase.next(claimVote); err != nil && w.broken != ruleTombstone {
					return w.withdraw()
				}
				w.lock, w.home.at = homeN, pcLocked
				return nil
			})
		}
		do("home gives up", (*world).withdraw)
	case pcLocked:
		do("home writes the vote", func(w *world) error {
			w.note(homeN, hasPrepared)
			w.home.at = pcWritten
			return nil
		})
	case pcWritten:
		do("home forces the vote", func(w *world) error {
			if w.broken != ruleVote {
				w.force(homeN)
			}
			w.home.at = pcForced
			return nil
		})
	case pcForced:
		do("home publishes and answers", func(w *world) error {
			w.claim.phase, w.lock, w.home.at = Prepared, 0, pcDone
			w.voteOK = true
			return nil
		})
	case pcTelling0, pcTelling1, pcTold, pcEnded, pcDone, pcDead: // not of a home, or nothing to do
	}
}

// withdraw rolls back what the home had prepared.
func (w *world) withdraw() error {
	w.catchUp(homeN)
	w.home.at = pcDone
	w.late = [2]bool{} // its own sessions are gone
	w.note(homeN, hasEnd)
	if w.claim.phase == Preparing {
		w.claim.exists = false
	} else if to, err := w.claim.phase.next(claimEnd); err == nil {
		w.claim.phase = to
	}
	return errFirst(w.tell(0, Abort), w.tell(1, Abort))
}

func errFirst(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (w world) deciderSteps(i int, do func(string, func(*world) error)) {
	n := uint8(deciderN + i)
	name := fmt.Sprintf("decider %d ", n)
	at := func(w *world) *process { return &w.deciders[i] }
	switch w.deciders[i].at {
	case pcIdle:
		if w.lock != 0 && w.broken != ruleLock {
			return
		}
		for _, d := range []Decision{Commit, Abort} {
			if d == Commit && !w.voteOK && !w.rebooted {
				continue // no coordinator commits without a vote
			}
			do(name+"takes the claim to "+d.String(), func(w *world) error { return w.claimTo(n, at(w), d) })
		}
	case pcLocked:
		do(name+"writes", func(w *world) error {
			w.note(int(n), map[Decision]uint8{Commit: hasCommit, Abort: hasAbort}[at(w).wants])
			at(w).at = pcWritten
			return nil
		})
	case pcWritten:
		do(name+"forces", func(w *world) error {
			if w.broken != ruleForced {
				w.force(int(n))
			}
			at(w).at = pcForced
			return nil
		})
	case pcForced:
		do(name+"publishes", func(w *world) error {
			voting := w.claim.phase == Preparing && w.claim.claimant == homeN
			w.claim.phase, _ = w.claim.phase.next(at(w).wants.event())
			w.claim.decision, w.claim.deciding, w.claim.decidingBy = at(w).wants, 0, 0
			if voting { // the home sees the tombstone
				w.abortOK, w.lock, at(w).at = true, 0, pcDone
				return nil
			}
			w.claim.claimant, at(w).at = n, pcTelling0
			return nil
		})
	case pcTelling0, pcTelling1:
		r := int(w.deciders[i].at - pcTelling0)
		do(fmt.Sprintf("%stells %d", name, r), func(w *world) error {
			at(w).at++
			return w.tell(r, w.claim.decision)
		})
	case pcTold:
		do(name+"notes the end", func(w *world) error {
			w.note(int(n), hasEnd)
			at(w).at = pcEnded
			return nil
		})
	case pcEnded:
		do(name+"answers", func(w *world) error {
			w.claim.phase, _ = w.claim.phase.next(claimEnd)
			w.ok(w.claim.decision)
			w.lock, at(w).at = 0, pcDone
			return nil
		})
	case pcVoting, pcDone, pcDead: // not of a decider, or nothing to do
	}
}

func (w *world) ok(d Decision) {
	w.commitOK = w.commitOK || d == Commit
	w.abortOK = w.abortOK || d == Abort
}

// claimTo is the first half of Manager.settle.
func (w *world) claimTo(n uint8, p *process, d Decision) error {
	w.ensure()
	p.at, p.wants = pcDone, d
	if !w.claim.exists || w.catchUp(n) {
		return nil // unknown, or a decider is stuck: ask again
	}
	c := &w.claim
	if c.phase == Preparing && c.claimant == 0 && d == Commit {
		return nil // unknown
	}
	to, err := c.phase.next(d.event())
	switch {
	case err != nil:
	case c.phase.Terminal():
		w.ok(d)
	case c.phase == to:
		if c.claimant == homeN && !w.dead(homeN) && w.home.at == pcVoting {
			w.ok(d) // a second ROLLBACK PREPARED while the home votes
			return nil
		}
		w.lock, p.at, c.claimant = n, pcTelling0, n
	default:
		if w.broken != ruleDeciding {
			c.deciding, c.decidingBy = d, n
		}
		w.lock, p.at = n, pcLocked
	}
	return nil
}

func (w world) recovererSteps(do func(string, func(*world) error)) {
	switch w.rec.at {
	case pcIdle:
		if w.lock != 0 {
			return
		}
		actions := plan(w.survey(), w.findings())
		for _, a := range actions {
			do("recovery: "+a.verb.String(), func(w *world) error { return w.recover(a) })
		}
	case pcTelling0, pcTelling1:
		r := int(w.rec.at - pcTelling0)
		do(fmt.Sprintf("recovery tells %d", r), func(w *world) error {
			w.rec.at++
			return w.tell(r, w.rec.wants)
		})
	case pcTold:
		do("recovery ends", func(w *world) error {
			w.note(recovererN, hasEnd)
			if w.claim.phase == Preparing {
				w.claim.exists = false
			} else {
				w.claim.phase, _ = w.claim.phase.next(claimEnd)
			}
			w.lock, w.rec = 0, process{}
			return nil
		})
	case pcVoting, pcLocked, pcWritten, pcForced, pcEnded, pcDone, pcDead: // not of a recoverer
	}
}

func (w *world) findings() findings {
	f := findings{dead: map[uint64]bool{}, found: map[string][]PreparedBranch{}, fenced: func(string, uint64) bool { return true }}
	for n := uint8(1); n < recovererN; n++ {
		if w.dead(n) {
			f.dead[uint64(n)] = true
		}
	}
	for r, b := range w.branch {
		if b == branchPrepared {
			f.found[fmt.Sprint(r)] = []PreparedBranch{{GID: modelGID}}
		}
	}
	return f
}

func (w *world) recover(a action) error {
	for n := uint8(1); n < recovererN; n++ {
		if w.dead(n) {
			w.force(int(n)) // sealed
		}
	}
	if w.dead(homeN) {
		w.late = [2]bool{} // fenced
		for r, b := range w.branch {
			if b == branchActive {
				w.branch[r] = branchAborted
			}
		}
	}
	if a.verb == verbPresume {
		return w.tell(int(a.resource[0]-'0'), a.decision)
	}
	if a.verb == verbAlarm {
		return fmt.Errorf("alarm: %s", a.why)
	}
	w.ensure()
	if !w.claim.exists || w.catchUp(recovererN) {
		return nil
	}
	c := &w.claim
	abandoned := c.phase == Preparing && c.claimant == 0
	if !abandoned && c.phase != Committing && c.phase != Aborting || !abandoned && c.claimant != recovererN && !w.dead(c.claimant) {
		return nil
	}
	w.rec = process{at: pcTelling0, wants: c.decision}
	if abandoned {
		w.rec.wants = Abort
	}
	w.lock, c.claimant = recovererN, recovererN
	return nil
}

func (w world) deathSteps(do func(string, func(*world) error)) {
	kill := func(n uint8, p func(*world) *process) {
		if at := p(&w).at; w.deaths >= 2 || at == pcDead || at == pcIdle {
			return
		}
		do(fmt.Sprintf("incarnation %d dies", n), func(w *world) error {
			w.deaths++
			p(w).at = pcDead
			if w.lock == n {
				w.lock = 0
			}
			return nil
		})
	}
	kill(homeN, func(w *world) *process { return &w.home })
	for i := range w.deciders {
		kill(uint8(deciderN+i), func(w *world) *process { return &w.deciders[i] })
	}
	if w.rebooted || w.home.at == pcIdle {
		return
	}
	for _, loses := range []bool{true, false} {
		do(fmt.Sprintf("reboot, unforced records lost: %t", loses), func(w *world) error {
			w.rebooted, w.lock, w.rec = true, 0, process{}
			w.home.at = pcDead
			for i := range w.deciders {
				if w.deciders[i].at != pcIdle {
					w.deciders[i].at = pcDead
				}
			}
			w.claim = world{}.claim
			if loses {
				w.written = w.durable
			}
			w.durable = w.written
			return nil
		})
	}
}
