package txn

import "github.com/fdtserver/fdt/txn/internal/ledger"

// This file and flow.go are the rules of one transaction, without a call that does anything: from where a task is and
// what it has learned follows where it is then, and what is to be done, in order. The worker does it (drive.go), and
// the model check does it, with every failure and every death in between: both run the rules that are here.
//
// What is to be done is done in the order of the list, and the next is begun when the one before is known to have been
// done. So the list shows the rules themselves: a record is durable before what it says is acted upon or told; the
// claim is changed only under its lock, after the log; a step that may or may not have happened keeps the lock until
// this process has ended. TestMutants breaks one rule after the other, and tells what goes wrong
// then.

// task is what a process is about to do with a transaction.
type task uint8

const (
	taskVote     task = iota + 1 // PREPARE TRANSACTION: phase one for an outside coordinator
	taskDecide                   // COMMIT PREPARED, ROLLBACK PREPARED, an operator's decision
	taskCommit                   // COMMIT of a transaction that is decided here
	taskRehearse                 // phase one without a decision, to see whether it gets through
	taskAsk                      // ask once more for a decision whose answer was lost
	taskTakeIn                   // recovery: go on with a commit that only the decider knows
	taskAdopt                    // recovery: go on with what a dead process left
	taskFinish                   // note the end of what all resources were told later
	taskConclude                 // recovery: bring a claim to its end that the logs have reached
	taskForget                   // drop an outcome that was acknowledged
)

// way is how a transaction is committed that is decided here.
type way uint8

const (
	byLog      way = iota // all prepare, then our log has the decision
	byDecider             // all others prepare, then the decider's branch commits, and with it the decision
	inOnePhase            // at most one has written: its commit is all there is
)

// stage is where a task waits for the outcome of what it has asked for.
type stage uint8

const (
	atBegin       stage = iota
	atVoting            // all resources prepare
	atRetiring          // takes the claim of the transaction that had the name before
	atVoted             // takes its claim again
	atReading           // reads the log of who died with the claim
	atLearned           // has published what that says
	atDoubt             // makes the vote durable
	atWithdrawing       // rolls back what was prepared
	atTaken             // takes the claim
	atDeciding          // makes the decision durable, then tells it
	atUndecided         // could not, and takes back that it was about to
	atTelling           // tells a decision that was made before
	atMissing           // leaves the rest to the executors
	atEnding            // notes the end
	atForgetting        // notes that the outcome is forgotten
	atForgotten         // forces that
	atAsking            // asks the decider, whose answer was lost
	atCommitting        // commits in one phase
	atProving           // asks for the outcome of that
	atEnd
)

// act is something that is to be done.
type act uint8

const (
	doCreate      act = iota + 1 // make the claim, locked. None: there is one of that name
	doTake                       // wait for the claim's lock, then read it. None: there is no claim
	doTry                        // likewise without waiting. None also: somebody has it
	doRead                       // seal the log of a dead incarnation and read it
	doIntend                     // say in the claim that this process is about to decide
	doPublish                    // write into the claim what is so
	doAcknowledge                // write into the claim who was told
	doRelease                    // free the claim's lock
	doRemove                     // delete the claim, and with it its lock
	doHold                       // keep the lock until this process has ended, which it must now
	doNote                       // write a record that survives this process, not the machine
	doForce                      // write a record, and wait until it is durable
	doPrepare                    // phase one at all resources
	doLeave                      // end the session's hold of the branches: they are reached through their resources from now on
	doRollback                   // undo branches of which none was told to prepare
	doUndo                       // undo branches that were told to prepare
	doCommit                     // commit in one phase
	doProve                      // ask who did not answer that whether it has committed
	doDecide                     // commit the decider's branch, and with it the decision
	doAsk                        // ask the decider for the decision. It decides to roll back if there is none
	doReply                      // tell the client that it is committed, and go on beside it
	doDisown                     // undo what is not prepared of a transaction whose gid is another's; this process must end
	doTell                       // tell all resources that are yet to know it the decision
	doSweep                      // remove the claim, or the decider's copy of the decision, once what was noted is durable
	doOwe                        // have them told later, by the executors or by who recovers
	doAnswer                     // tell the client; of recovery: it is done
)

// facts is what the rules look at in a claim.
type facts struct {
	gid        GID
	phase      Phase
	claimant   uint64   // who carries it on; 0: its home died without a vote
	deciding   Decision // decidingBy is about to force it
	decidingBy uint64
	decision   Decision
	operator   bool   // an operator decided
	hazard     bool   // something went against the decision
	handsOff   bool   // only an operator may decide
	forgotten  uint64 // who has noted that the outcome is: nobody is told of it any more
}

// effect is one thing to be done, with all that the rules say about it.
type effect struct {
	do       act
	record   ledger.Kind // of doNote, doForce
	gid      GID         // likewise
	claim    facts       // of doCreate, doIntend, doPublish
	decision Decision    // of doTell, doOwe
	whose    uint64      // of doRead: the incarnation
	err      *Error      // of doAnswer, along with what failed before
	claimed  bool        // of doOwe: the claim says so, too
	asking   bool        // of doOwe: nobody knows what to tell, and the decider is asked first
	sure     bool        // of doAnswer: committed; what failed is a warning
	then     string      // the moment that is reached, by the name that tests stop a process at
}

// result is how it went with the effects.
type result uint8

const (
	begun  result = iota
	done          // all of them
	none          // the last one: there is none, or there is one already
	failed        // the last one was not done, and those behind it were not begun
	unsure        // likewise, but the last one may have been done
)

// vote is what all resources together answer to doPrepare.
type vote uint8

const (
	voteYes      vote = iota + 1
	voteNo            // or no answer
	voteReadOnly      // none has anything to commit
	voteTaken         // one holds a branch of that gid already: it is another's
)

// said is what the log of a dead incarnation says of a transaction.
type said struct {
	alive    bool // it is not dead: its claim says all
	prepared bool
	decision Decision
	operator bool
	ended    bool
	hazard   bool
}

// input is what became of the effects.
type input struct {
	result  result
	of      act   // of none, failed, unsure: the last one
	claim   facts // as it was taken
	refused bool  // with it: it is another user's. For recovery: it is not the one that was looked for any more
	owed    bool  // of taskAdopt: the executors have it already
	said    said
	vote    vote
	stands  Decision // of doAsk, doProve: what was answered
	gone    bool     // the client is: nobody would hear a yes
	missing bool     // some resource could not be told
	hazard  bool     // some resource did the opposite, or does not know
}

// job is one task's state.
type job struct {
	task     task
	at       stage
	then     stage // behind atReading and atLearned
	self     uint64
	gid      GID // of taskVote, taskCommit and taskAdopt
	wants    Decision
	operator bool // who decides is one
	named    bool // its client may ask for it by its own gid
	way      way  // of taskCommit
	early    bool // likewise: the client is answered when it is decided, before all know
	vote     vote
	retired  bool // the name was free, or made so
	locked   bool // it has the claim's lock
	lost     bool // it could not get that
	read     bool // the log of the claimant was read
	alive    bool // the claimant is
	gone     bool // the client is
	owed     bool // the executors have it
	hazard   bool // of taskFinish and taskConclude: something went against the decision
	claim    facts
	before   facts  // of the claim, when the decision was begun
	why      *Error // of what is answered in the end
}

// next returns where the task is, and what is to be done now. The task is over with doAnswer. What comes before that at
// atEnd is done whatever fails of it, and is asked about no more.
func (s job) next(in input) (job, []effect) {
	switch {
	case s.at == atReading:
		return s.learn(in)
	case s.at == atLearned && in.result != done:
		return s.ignorant()
	case s.at == atLearned:
		return s.believe()
	}
	switch s.task {
	case taskVote:
		return s.prepare(in)
	case taskDecide:
		return s.decide(in)
	case taskCommit, taskRehearse:
		return s.commit(in)
	case taskAsk, taskTakeIn:
		return s.learnDecision(in)
	case taskAdopt:
		return s.adopt(in)
	default:
		return s.close(in)
	}
}

// to is where the task goes, and what it does before it is there.
func (s job) to(at stage, do ...effect) (job, []effect) {
	s.at = at
	return s, do
}

func (s job) end(do ...effect) (job, []effect) { return s.to(atEnd, do...) }

// unlock frees the claim's lock, if it is held, before the rest.
func (s job) unlock(rest ...effect) []effect {
	if !s.locked {
		return rest
	}
	return append([]effect{{do: doRelease}}, rest...)
}

// freeze is what is done where nobody can tell whether a step has happened: as long as this process lives, nobody else
// may decide; then its log tells.
func (s job) freeze() (job, []effect) { return s.end(effect{do: doHold}, answer(nil)) }

func answer(err *Error) effect { return effect{do: doAnswer, err: err} }

func publish(c facts) effect { return effect{do: doPublish, claim: c} }

func note(k ledger.Kind, gid GID) effect { return effect{do: doNote, record: k, gid: gid} }

func force(k ledger.Kind, gid GID) effect { return effect{do: doForce, record: k, gid: gid} }

func owe(d Decision, claimed bool) effect { return effect{do: doOwe, decision: d, claimed: claimed} }

func tell(d Decision) effect { return effect{do: doTell, decision: d} }

// reaching names the moment behind an effect.
func (e effect) reaching(moment string) effect {
	e.then = moment
	return e
}

// operatorOnly tells whether only an operator may make the outcome forgotten.
func (c facts) operatorOnly() bool { return c.operator || c.hazard || c.handsOff }

// believe brings the claim up to what the logs of the dead say, and goes on as the task does then. Whoever died may have
// done so between log and claim: the log is first, so the claim may be behind it, but never ahead.
func (s job) believe() (job, []effect) {
	c := s.claim
	switch {
	case c.deciding != 0:
		return s.to(atReading, effect{do: doRead, whose: c.decidingBy})
	case s.read || c.claimant == 0 || c.claimant == s.self || c.phase == Prepared || c.phase.Terminal():
		return s.judge()
	}
	return s.to(atReading, effect{do: doRead, whose: c.claimant})
}

// ignorant goes on where nobody can tell how the transaction stands.
func (s job) ignorant() (job, []effect) {
	switch {
	case s.task == taskVote && s.then == atRetiring:
		return s.judge() // by what the claim says
	case s.task == taskVote:
		return s.withdraw(nil)
	}
	return s.end(s.unlock(answer(nil))...)
}

func (s job) learn(in input) (job, []effect) {
	switch {
	case in.result != done:
		return s.ignorant()
	case s.claim.deciding != 0 && in.said.alive:
		// A process that lives has the lock while it decides. That it has not is a fault nobody can mend from here.
		return s.end(s.unlock(answer(ErrUnreachable))...)
	}
	s.read = s.claim.deciding == 0
	s.alive = s.read && in.said.alive
	c := s.claim.after(in.said)
	if c == s.claim {
		return s.believe()
	}
	s.claim = c
	return s.to(atLearned, publish(c))
}

// after is the claim as the log of who decided, or else of the claimant, leaves it.
func (c facts) after(w said) facts {
	switch {
	case c.deciding != 0:
		by := c.decidingBy
		c.deciding, c.decidingBy = 0, 0
		if w.decision == 0 {
			return c
		}
		if c.phase != Preparing {
			c.claimant = by
		}
		c.phase, _ = eventOf(w.decision).after(Prepared)
		c.decision, c.operator = w.decision, w.operator
	case w.alive:
	case c.phase != Preparing: // decided: perhaps finished, too
		if w.ended {
			c.phase, _ = claimEnd.after(c.phase)
			c.hazard = w.hazard
		}
	case w.prepared:
		c.phase = Prepared
	default:
		c.claimant = 0
	}
	return c
}

// judge goes on with a claim that is up to date.
func (s job) judge() (job, []effect) {
	switch {
	case s.task == taskDecide:
		return s.rule()
	case s.task == taskAdopt:
		return s.inherit()
	case s.then == atRetiring:
		return s.retire()
	}
	return s.enterDoubt()
}

// concluded makes the end visible and gives the claim back. Outcomes that nobody will ask for are not kept.
func (c facts) concluded() []effect {
	if c.phase == Preparing {
		return []effect{{do: doRemove}} // it never voted
	}
	c.phase, _ = claimEnd.after(c.phase)
	last := effect{do: doRelease}
	if c.gid.Role == RoleLocal && !c.operatorOnly() {
		last.do = doRemove
	}
	return []effect{publish(c), last}
}
