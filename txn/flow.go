package txn

import "github.com/fdtserver/fdt/txn/internal/ledger"

// This file is the flow of one transaction, top to bottom: vote, decision, phase two, end; then that of one which is
// decided here; then what recovery and the executors do about either. What is what is said in rules.go.

// prepare is phase one of a transaction that an outside coordinator decides.
func (s job) prepare(in input) (job, []effect) {
	switch s.at {
	case atBegin:
		return s.ask(nil)
	case atVoting:
		switch {
		case in.of == doCreate && in.result == none && !s.retired:
			s.retired, s.then = true, atRetiring
			return s.to(atRetiring, effect{do: doTake})
		case in.of == doCreate && in.result == none:
			return s.refuse(ErrDuplicateGID)
		case in.of == doForce:
			return s.end(effect{do: doRelease}, effect{do: doRollback}, answer(nil))
		case in.of == doNote:
			return s.end(effect{do: doRemove}, effect{do: doRollback}, answer(nil))
		case in.of == doRelease: // others may have the claim already: as if a resource had not answered
			in.vote = voteNo
		case in.result != done:
			return s.refuse(nil)
		}
		s.vote, s.then = in.vote, atVoted
		return s.to(atVoted, effect{do: doTake})
	case atRetiring:
		switch in.result {
		case none: // it has gone meanwhile
			return s.ask(nil)
		case done:
			s.claim, s.locked = in.claim, true
			return s.believe()
		default:
			return s.refuse(nil)
		}
	case atVoted:
		s.locked, s.lost = in.result == done, in.result == failed
		if !s.locked || in.refused {
			return s.withdraw(ErrRolledBack) // whoever decided has finished, and another may have the name
		}
		s.claim, s.read, s.gone = in.claim, false, in.gone
		return s.believe()
	case atDoubt:
		if in.of == doForce && in.result == failed {
			return s.withdraw(nil)
		}
		return s.freeze() // it may be durable, or it is, and nobody knows whether others can see it: only recovery can tell
	default:
		return s.withdrawn(in)
	}
}

// ask has all resources prepare.
//
// The claim comes first: a ROLLBACK PREPARED, or who has the same name, is to find it. It is free while the resources
// vote, so that a rollback need not wait for them. PREPARING is in the log before any resource is asked, so that recovery
// tells all of them, and not only those that show a branch by then.
func (s job) ask(before []effect) (job, []effect) {
	s.claim, s.locked, s.read = facts{}, false, false
	do := append(before,
		effect{do: doCreate, claim: facts{gid: s.gid, phase: Preparing, claimant: s.self}}.reaching("vote: claimed"),
		note(ledger.KindPreparing, s.gid))
	if s.named { // from here on its other name tells how it ends, and this one nothing
		own := s.gid
		own.Role = RoleLocal
		do = append(do, note(ledger.KindForget, own))
	}
	do[len(do)-1].then = "vote: preparing"
	return s.to(atVoting, append(do, effect{do: doRelease}, effect{do: doPrepare}.reaching("vote: prepared"))...)
}

// refuse rolls back before a resource was told to prepare.
func (s job) refuse(why *Error) (job, []effect) {
	return s.end(s.unlock(effect{do: doRollback}, answer(why))...)
}

// retire makes room for a gid whose outcome is known, if only from the log of a dead worker.
//
// The outcome is durably forgotten first. Were it not, a failure of power could lose that together with the end, while
// the decision is durable: then the later transaction's claim would be found as that of the earlier one, decided.
func (s job) retire() (job, []effect) {
	if c := s.claim; !c.phase.Terminal() || c.operatorOnly() && c.forgotten == 0 {
		return s.refuse(ErrDuplicateGID)
	}
	return s.ask([]effect{force(ledger.KindForget, s.claim.gid), {do: doRemove}})
}

// enterDoubt makes the vote durable, then lets everybody see it.
//
// Were it seen before, a coordinator could decide, and every resource commit, of which after a failure of power no log
// would know: what is left prepared would be rolled back.
func (s job) enterDoubt() (job, []effect) {
	_, tombstone := claimVote.after(s.claim.phase)
	switch {
	case s.vote == voteTaken, tombstone != nil, s.vote != voteNo && s.gone:
		return s.withdraw(ErrRolledBack)
	case s.vote == voteNo:
		return s.withdraw(nil) // with the resource's own error
	}
	voted := s.claim
	voted.phase = Prepared
	return s.to(atDoubt, force(ledger.KindPrepared, s.gid), effect{do: doLeave, then: "vote: durable"},
		publish(voted).reaching("vote: published"), effect{do: doRelease}, answer(nil))
}

// withdraw rolls back what may have been prepared of a transaction that will not vote yes, and gives its claim up.
func (s job) withdraw(why *Error) (job, []effect) {
	s.why = why
	if s.vote == voteTaken {
		return s.disown(why)
	}
	return s.to(atWithdrawing, effect{do: doUndo})
}

// withdrawn notes the end, so that nobody looks for what is left. Of what could not be told, or is still in the claim, the
// executors see to that.
func (s job) withdrawn(in input) (job, []effect) {
	switch {
	case in.of == doPublish:
		return s.freeze()
	case in.of == doRelease:
		return s.end(answer(s.why))
	case in.of == doRemove:
		return s.end(owe(Abort, true), answer(s.why))
	case in.result != done, in.missing, s.lost:
		return s.end(append([]effect{owe(Abort, s.locked || s.lost)}, s.unlock(answer(s.why))...)...)
	}
	do := []effect{note(ledger.KindEnd, s.gid)}
	if s.locked {
		do = append(do, s.claim.concluded()...)
	}
	return s.to(atWithdrawing, append(do, answer(s.why))...)
}

// disown gives up a transaction whose gid is another's. The log says so, durably, before this process ends: its
// successors presume nothing any more.
func (s job) disown(why *Error) (job, []effect) {
	do := []effect{{do: doDisown}}
	if s.locked {
		s.claim.handsOff = true
		do = append(do, publish(s.claim))
	}
	return s.end(append(do, s.unlock(answer(why))...)...)
}

// decide is what becomes of a transaction in doubt. Of several deciders one wins, under the lock of the claim; the
// others are told what it decided.
func (s job) decide(in input) (job, []effect) {
	switch s.at {
	case atBegin:
		return s.to(atTaken, effect{do: doTake})
	case atTaken:
		s.locked = in.result == done
		switch {
		case in.result == none:
			return s.end(answer(ErrUnknownGID))
		case in.result != done:
			return s.end(answer(nil))
		case in.claim.forgotten != 0:
			return s.end(s.unlock(answer(ErrUnknownGID))...)
		case in.refused:
			return s.end(s.unlock(answer(ErrNotOwner))...)
		}
		s.claim, s.gid = in.claim, in.claim.gid
		return s.believe()
	case atDeciding:
		return s.decided(in)
	case atUndecided:
		if in.of == doPublish {
			return s.freeze()
		}
		return s.end(answer(nil))
	default:
		return s.told(in)
	}
}

// rule is the compare-and-set of every decision.
func (s job) rule() (job, []effect) {
	c, home := s.claim, s.claim.gid.Incarnation
	to := claimTable[c.phase][eventOf(s.wants)]
	switch why := c.verdict(s.wants); {
	case c.handsOff && !s.operator:
		return s.end(s.unlock(answer(ErrUnreachable))...) // left to an operator
	case c.phase == Preparing && c.claimant == 0 && s.wants == Commit:
		return s.end(s.unlock(answer(ErrUnknownGID))...) // it never voted
	case why != nil, c.phase.Terminal():
		return s.end(s.unlock(answer(why))...)
	case c.phase == to: // decided before: go on with phase two
		return s.phaseTwo()
	}
	// That this process is about to decide is in the claim first: if it dies, whoever comes next reads its log. Without
	// that the next would find the claim undecided and the lock free, and could decide the opposite of what is durable.
	intent := c
	intent.deciding, intent.decidingBy = s.wants, s.self
	s.claim.phase, s.claim.decision, s.claim.operator = to, s.wants, s.operator
	if c.phase == Prepared || c.claimant == 0 {
		s.claim.claimant = s.self
	}
	k := ledger.KindAbort
	switch {
	case s.operator:
		k = ledger.KindHeuristic
	case s.wants == Commit:
		k = ledger.KindCommit
	}
	do := []effect{
		{do: doIntend, claim: intent, then: "decide: claimed"},
		force(k, c.gid).reaching("decide: durable"),
		publish(s.claim).reaching("decide: published"),
	}
	s.before = c
	if c.phase == Preparing && c.claimant == home { // its worker sees the tombstone and rolls back
		return s.to(atDeciding, append(do, effect{do: doRelease}, answer(nil))...)
	}
	return s.to(atDeciding, append(do, tell(s.wants).reaching("phase two: told"))...)
}

// verdict is the answer to a decision about what was decided before: who decided otherwise, or what went against it.
func (c facts) verdict(d Decision) *Error {
	refusal := claimRefusals[c.phase][eventOf(d)]
	switch {
	case refusal != nil && c.operator && c.decision == Commit:
		return ErrHeuristicCommit
	case refusal != nil && c.operator:
		return ErrHeuristicRollback
	case c.phase.Terminal() && c.hazard && refusal == nil:
		return ErrHeuristicHazard
	}
	return refusal
}

func (s job) decided(in input) (job, []effect) {
	switch {
	case in.result == done:
		return s.told(in)
	case in.of == doForce && in.result == failed:
		return s.to(atUndecided, publish(s.before), effect{do: doRelease}, answer(nil))
	case in.of == doForce, in.of == doPublish:
		return s.freeze() // it may be durable: only recovery can tell
	case in.of == doRelease:
		return s.end(answer(nil))
	}
	return s.end(s.unlock(answer(nil))...)
}

// phaseTwo goes on with a decision of another, who could not tell all, or who died.
func (s job) phaseTwo() (job, []effect) {
	s.claim.claimant = s.self
	return s.to(atTelling, publish(s.claim), tell(s.claim.decision).reaching("phase two: told"))
}

// told ends the transaction, if all resources know the decision. Their acknowledgement comes before the end, or nobody
// would tell the others after a death.
func (s job) told(in input) (job, []effect) {
	switch {
	case s.at == atMissing && in.of == doAcknowledge:
		return s.end(owe(s.claim.decision, true), effect{do: doRelease}, answer(ErrUnreachable))
	case s.at == atEnding && in.of == doPublish:
		return s.freeze()
	case s.at == atEnding && in.of == doNote:
		return s.end(owe(s.claim.decision, true), effect{do: doRelease}, answer(nil))
	case s.at == atTelling && in.result != done:
		return s.end(effect{do: doRelease}, answer(nil))
	case s.at == atEnding, s.at == atMissing:
		return s.end(answer(nil))
	case in.missing:
		return s.to(atMissing, effect{do: doAcknowledge}, owe(s.claim.decision, true), effect{do: doRelease}, answer(ErrUnreachable))
	}
	s.claim.hazard = in.hazard
	return s.finish()
}

// finish notes the end, then lets everybody see it.
func (s job) finish() (job, []effect) {
	var why *Error
	if s.claim.hazard {
		why = ErrHeuristicHazard
	}
	do := append([]effect{note(ledger.KindEnd, s.claim.gid).reaching("end: noted")}, s.claim.concluded()...)
	return s.to(atEnding, append(do, answer(why))...)
}

// commit decides a transaction here. No log needs to know of it before: what is prepared of a gid without a decision is
// presumed to be aborted.
func (s job) commit(in input) (job, []effect) {
	switch s.at {
	case atBegin:
		return s.phaseOne()
	case atVoting:
		return s.counted(in)
	case atCommitting, atProving:
		return s.onePhaseOver(in)
	case atDeciding, atAsking:
		return s.committed(in)
	case atMissing:
		return s.left(in)
	case atEnding:
		return s.end(nothingMore...)
	default:
		return s.undone(in)
	}
}

// What is the same for all is made once: commits are many.
var (
	askAll      = []effect{{do: doPrepare, then: "commit: prepared"}}
	commitAlone = []effect{{do: doCommit}}
	nothingMore = []effect{sure()}
)

// sure answers that it is committed, whatever failed after that.
func sure() effect { return effect{do: doAnswer, sure: true} }

// phaseOne has all prepare, but the branch that decides.
func (s job) phaseOne() (job, []effect) {
	switch s.way {
	case inOnePhase:
		return s.onePhase()
	case byDecider:
		// That the decider has this process's decisions is durable before it has one. Were it not, who recovers would
		// presume that there is none, and roll back what the others have prepared.
		return s.to(atVoting, append([]effect{force(ledger.KindDecider, GID{})}, askAll...)...)
	case byLog:
	}
	return s.to(atVoting, askAll...)
}

// counted goes on with the votes.
func (s job) counted(in input) (job, []effect) {
	switch {
	case in.of == doForce:
		return s.end(effect{do: doRollback}, answer(ErrRolledBack))
	case in.vote == voteTaken:
		return s.disown(ErrRolledBack)
	case in.vote == voteNo, s.task == taskRehearse:
		return s.giveUp()
	case in.vote == voteReadOnly && s.way == byDecider: // it alone has written
		return s.onePhase()
	case in.vote == voteReadOnly && !s.named:
		return s.end(answer(nil))
	case s.way == byDecider:
		return s.to(atDeciding, append([]effect{effect{do: doDecide}.reaching("commit: decided")}, s.phaseTwoHere()...)...)
	}
	// The decision is durable before a resource is told. Were it not, a failure of power could lose it when one
	// has committed, and the others would be rolled back.
	return s.to(atDeciding, append([]effect{force(ledger.KindCommit, s.gid).reaching("commit: durable")}, s.phaseTwoHere()...)...)
}

// phaseTwoHere tells the decision, which is durable.
func (s job) phaseTwoHere() []effect {
	all := tell(Commit).reaching("commit: told")
	if s.early {
		return []effect{{do: doReply}, all}
	}
	return []effect{all}
}

// committed goes on with a decision, or with what became of the attempt.
func (s job) committed(in input) (job, []effect) {
	switch {
	case in.of == doForce && in.result == unsure:
		return s.end(effect{do: doLeave}, answer(nil)) // recovery decides
	case in.of == doDecide && in.result == unsure:
		// Its row may come yet. One to roll back keeps it out, so what is answered stands.
		return s.to(atAsking, effect{do: doAsk})
	case in.of == doAsk: // nobody knows. It is not the session's any more
		return s.end(effect{do: doLeave}, effect{do: doOwe, asking: true}, answer(nil))
	case in.of == doForce, in.of == doDecide, s.at == atAsking && in.stands == Abort:
		return s.giveUp()
	case s.at == atAsking:
		return s.to(atDeciding, s.phaseTwoHere()...)
	case in.missing:
		return s.leave()
	}
	end := note(ledger.KindEnd, s.gid)
	end.decision = Commit
	if s.way == byDecider { // a row without an end has who recovers ask those of whom nobody can tell any more
		return s.to(atEnding, end, effect{do: doSweep}, sure())
	}
	return s.end(end, sure())
}

// leave has the others told later. A decision that is not in a log goes there first, as if it had been made there: nobody
// has to ask the decider for it, which may be down then. Only then the decider may drop it.
func (s job) leave() (job, []effect) {
	do := []effect{
		{do: doCreate, claim: facts{gid: s.gid, phase: Committing, claimant: s.self, decision: Commit}},
		owe(Commit, true), {do: doRelease}, sure(),
	}
	if s.way == byDecider {
		do = append([]effect{force(ledger.KindCommit, s.gid), {do: doSweep}}, do...)
	}
	return s.to(atMissing, do...)
}

// left ends what others are told later. Without a claim they are told all the same, and a successor ends it.
func (s job) left(in input) (job, []effect) {
	switch {
	case in.of == doForce && s.task == taskTakeIn: // the next scan finds it where it is
		return s.end(answer(nil))
	case in.of == doCreate, in.of == doForce:
		return s.end(owe(Commit, false), sure())
	}
	return s.end(nothingMore...)
}

// learnDecision goes on with a transaction of which the decider knows how it is decided.
func (s job) learnDecision(in input) (job, []effect) {
	switch {
	case s.at == atBegin && s.task == taskAsk:
		return s.to(atAsking, effect{do: doAsk})
	case s.at == atMissing:
		return s.left(in)
	case s.at == atAsking && in.result != done:
		return s.end(answer(nil))
	case s.at == atAsking && in.stands == Abort: // with the session that may still be there
		return s.end(owe(Abort, false), answer(nil))
	}
	return s.leave()
}

// onePhase commits without a decision.
func (s job) onePhase() (job, []effect) { return s.to(atCommitting, commitAlone...) }

// onePhaseOver tells how that ended. Where nobody knows, what has not ended by now is to end.
func (s job) onePhaseOver(in input) (job, []effect) {
	switch {
	case in.of == doCommit && in.result == unsure:
		return s.to(atProving, effect{do: doProve})
	case in.of == doProve:
		return s.end(owe(Abort, false), answer(nil))
	case s.at == atProving && in.stands == Abort:
		return s.end(answer(ErrRolledBack))
	case in.result != done:
		return s.end(answer(nil)) // with the resource's own error
	}
	return s.end(nothingMore...)
}

// undone ends a transaction that is rolled back.
func (s job) undone(in input) (job, []effect) {
	var do []effect
	if in.missing {
		do = append(do, owe(Abort, false))
	}
	if s.named { // else it would count as in progress while this process lives
		do = append(do, note(ledger.KindEnd, s.gid))
	}
	var why *Error
	if s.task == taskCommit {
		why = ErrRolledBack
	}
	return s.end(append(do, answer(why))...)
}

func (s job) giveUp() (job, []effect) { return s.to(atWithdrawing, effect{do: doUndo}) }

// adopt goes on with what a dead incarnation left.
func (s job) adopt(in input) (job, []effect) {
	switch {
	case s.at == atBegin:
		return s.to(atTaken, effect{do: doTry})
	case s.at == atTaken && in.result != done:
		return s.end(answer(nil))
	case s.at == atTaken:
		s.claim, s.locked, s.owed = in.claim, true, in.owed
		if in.refused {
			return s.end(s.unlock(answer(nil))...) // the name was given to a later transaction
		}
		return s.believe()
	case in.of == doPublish:
		return s.end(s.unlock(answer(nil))...)
	}
	return s.end(answer(nil))
}

// inherit makes a dead incarnation's transaction this one's, if there is something to do for it. What is prepared
// without a decision waits for its coordinator.
func (s job) inherit() (job, []effect) {
	c := &s.claim
	abandoned := c.phase == Preparing && c.claimant == 0
	decided := c.phase == Committing || c.phase == Aborting
	if !abandoned && !decided || decided && s.alive || s.owed {
		return s.end(s.unlock(answer(nil))...)
	}
	d := c.decision
	if abandoned {
		d = Abort
	}
	c.claimant = s.self
	return s.to(atTelling, publish(*c), owe(d, true), effect{do: doRelease}, answer(nil))
}

// close ends a claim: one of which all resources were told, one that is behind the logs, or one whose outcome nobody
// will ask for.
func (s job) close(in input) (job, []effect) {
	switch {
	case s.at == atBegin:
		return s.to(atTaken, effect{do: doTry})
	case s.at == atTaken && in.result != done:
		return s.end(answer(nil))
	case s.at == atEnding && in.of == doPublish:
		return s.freeze()
	case s.at == atForgetting && in.of == doPublish: // no room for one more line
		return s.to(atForgotten, force(ledger.KindForget, s.claim.gid), effect{do: doRemove}, answer(nil))
	case in.of == doNote, in.of == doForce:
		return s.end(s.unlock(answer(nil))...)
	case s.at != atTaken:
		return s.end(answer(nil))
	}
	s.claim, s.locked = in.claim, true
	s.claim.hazard = s.claim.hazard || s.hazard
	switch terminal := s.claim.phase.Terminal(); {
	case in.refused:
	case s.task == taskFinish && !terminal && (s.claim.claimant == 0 || s.claim.claimant == s.self):
		return s.finish()
	case s.task == taskConclude && terminal:
		return s.end(effect{do: doRemove}, answer(nil))
	case s.task == taskConclude:
		return s.to(atEnding, append(s.claim.concluded(), answer(nil))...)
	case s.task == taskForget && terminal && s.claim.forgotten == 0 && (s.operator || !s.claim.operatorOnly()):
		// That is not forced, as nobody waits for it, so the claim keeps the name until the next sweep has forced it.
		s.claim.forgotten = s.self
		return s.to(atForgetting, note(ledger.KindForget, s.claim.gid), publish(s.claim), effect{do: doSweep}, effect{do: doRelease}, answer(nil))
	}
	return s.end(s.unlock(answer(nil))...)
}
