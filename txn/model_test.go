package txn

import (
	"fmt"
	"slices"
	"testing"
)

// The explicit-state model of one transaction that an outside coordinator
// decides: its home, two deciders with any decision each, two resources, the
// logs, the claim and a recoverer. Every interleaving is walked through, with
// deaths of processes between any two steps, a reboot that loses any unforced
// records, and requests that arrive late or never. Recovery's decisions are
// those of plan, the claim's those of claimTable: the model holds the code's
// own rules against what is promised.

// Incarnations in the model.
const (
	homeN      = 1
	deciderN   = 2 // and 3
	recovererN = 4
)

// branchState is a branch as its resource knows it.
type branchState uint8

const (
	branchActive branchState = iota
	branchPrepared
	branchCommitted
	branchAborted
)

// bits of what a log holds.
const (
	hasPreparing = 1 << iota
	hasPrepared
	hasCommit
	hasAbort
	hasEnd
)

var bitKinds = []kind{kindPreparing, kindPrepared, kindCommit, kindAbort, kindEnd}

// pc is where a process is.
type pc uint8

const (
	pcIdle pc = iota
	pcVoting
	pcLocked  // home: has the claim, will force the vote
	pcWritten // home or decider: written, not forced
	pcForced
	pcTelling0 // decider: will tell resource 0
	pcTelling1
	pcTold
	pcEnded
	pcDone
	pcDead
)

type process struct {
	at    pc
	wants Decision // of a decider
}

// world is one state. It is comparable, so that states are visited once.
type world struct {
	home     process
	deciders [2]process
	rec      process
	branch   [2]branchState
	late     [2]bool // a Prepare is under way to the resource
	acked    [2]bool // the home heard the vote
	written  [5]uint8
	durable  [5]uint8
	claim    struct {
		exists     bool
		phase      Phase
		claimant   uint8
		deciding   Decision
		decidingBy uint8
		decision   Decision
	}
	lock     uint8 // incarnation that holds the claim, 0 none
	voteOK   bool  // the coordinator heard yes
	commitOK bool  // somebody was told that it is committed
	abortOK  bool
	deaths   uint8
	rebooted bool
	broken   rule // that the processes do not keep
}

// rule is one of the protocol's, which a test breaks to see that it matters.
type rule string

const (
	ruleTombstone rule = "the vote respects a tombstone"
	ruleDeciding  rule = "a decider says that it decides before it forces"
	ruleForced    rule = "a decision is forced before a resource is told"
	ruleVote      rule = "a vote is durable before it is told"
	ruleLastWords rule = "a dead decider's log is read first"
	ruleLock      rule = "deciders take the claim's lock"
)

var modelGID = gidOf(homeN, 1, RoleExternal)

// survey is what the logs say.
func (w *world) survey() *survey {
	s := newSurvey()
	s.highest = recovererN
	for n := uint64(1); n <= recovererN; n++ {
		s.records[n] = []logged{}
		s.add(n, record{Kind: kindOpen, Log: LogID{1}, Incarnation: n, Through: 100}, true)
		for i, k := range bitKinds {
			if w.written[n]&(1<<i) != 0 {
				s.add(n, record{Kind: k, GID: modelGID, ClientGID: "x"}, true)
			}
		}
	}
	return s
}

// history seals the log of a dead incarnation and reads it.
func (w *world) history(n uint8) *history {
	w.force(int(n))
	s := newSurvey()
	for i, k := range bitKinds {
		if w.written[n]&(1<<i) != 0 {
			s.add(uint64(n), record{Kind: k, GID: modelGID, ClientGID: "x"}, true)
		}
	}
	return s.histories[modelGID]
}

func (w *world) dead(n uint8) bool {
	switch n {
	case homeN:
		return w.home.at == pcDead
	case deciderN, deciderN + 1:
		return w.deciders[n-deciderN].at == pcDead
	}
	return n == 0 // nobody
}

func (w *world) note(n int, bit uint8) { w.written[n] |= bit }

// force makes all of a log durable.
func (w *world) force(n int) { w.durable[n] = w.written[n] }

// ensure rebuilds the claim after a reboot.
func (w *world) ensure() {
	if h := w.survey().histories[modelGID]; !w.claim.exists && h != nil && !(h.ended && h.decision == 0) {
		st := h.claim(newSurvey())
		w.claim.exists, w.claim.phase, w.claim.claimant, w.claim.decision = true, st.Phase, uint8(st.Claimant), st.Decision
	}
}

// catchUp is Manager.catchUp.
func (w *world) catchUp(self uint8) (stuck bool) {
	c := &w.claim
	if c.deciding != 0 {
		if !w.dead(c.decidingBy) {
			return true
		}
		if w.broken == ruleLastWords {
			c.deciding, c.decidingBy = 0, 0
			return false
		}
		if h := w.history(c.decidingBy); h != nil && h.decision != 0 {
			if c.phase != Preparing {
				c.claimant = c.decidingBy
			}
			c.phase, _ = Prepared.next(h.decision.event())
			c.decision = h.decision
		}
		c.deciding, c.decidingBy = 0, 0
	}
	if c.claimant == 0 || c.claimant == self || c.phase == Prepared || c.phase.Terminal() || !w.dead(c.claimant) {
		return false
	}
	h := w.history(c.claimant)
	switch {
	case c.phase != Preparing:
		if h != nil && h.ended {
			c.phase, _ = c.phase.next(claimEnd)
		}
	case h != nil && h.prepared:
		c.phase = Prepared
	default:
		c.claimant = 0
	}
	return false
}

// tell tells a resource a decision, as Resource.Resolve does.
func (w *world) tell(r int, d Decision) error {
	b := &w.branch[r]
	switch {
	case d == Commit && *b == branchPrepared:
		*b = branchCommitted
	case d == Abort && (*b == branchPrepared || *b == branchActive):
		*b = branchAborted
	case d == Commit && *b != branchCommitted, d == Abort && *b == branchCommitted:
		return fmt.Errorf("resource %d is told to %s in state %d", r, d, *b)
	}
	return nil
}

// check is what holds in every state.
func (w *world) check() error {
	switch {
	case slices.Contains(w.branch[:], branchCommitted) && slices.Contains(w.branch[:], branchAborted):
		return fmt.Errorf("half a transaction: %v", w.branch)
	case w.commitOK && w.abortOK:
		return fmt.Errorf("contradictory answers")
	case w.commitOK && slices.ContainsFunc(w.branch[:], func(b branchState) bool { return b != branchCommitted }):
		return fmt.Errorf("told of a commit that is not there: %v", w.branch)
	case w.abortOK && slices.Contains(w.branch[:], branchCommitted):
		return fmt.Errorf("told of a rollback that is not there: %v", w.branch)
	case w.voteOK && w.durable[homeN]&hasPrepared == 0:
		return fmt.Errorf("a vote that is not durable")
	case w.voteOK && slices.Contains(w.branch[:], branchAborted) && !w.decided(hasAbort):
		return fmt.Errorf("rolled back after the vote without a decision: %v", w.branch)
	case slices.Contains(w.branch[:], branchCommitted) && !w.decided(hasCommit):
		return fmt.Errorf("committed without a durable decision")
	}
	return nil
}

func (w *world) decided(bit uint8) bool {
	return slices.ContainsFunc(w.durable[:], func(b uint8) bool { return b&bit != 0 })
}

// rest is what holds where nothing moves any more: nobody is left prepared but
// in doubt.
func (w *world) rest() error {
	inDoubt := w.durable[homeN]&hasPrepared != 0 && !w.decided(hasCommit) && !w.decided(hasAbort)
	for r, b := range w.branch {
		if b == branchPrepared && !inDoubt || b == branchActive {
			return fmt.Errorf("resource %d rests in state %d", r, b)
		}
	}
	return nil
}

// walk visits every state that can be reached from start. The error tells a
// promise that was broken, and how.
func walk(start world) (states, rests int, err error) {
	type from struct {
		was  world
		name string
	}
	came := map[world]from{start: {}}
	told := func(w world, err error) (int, int, error) {
		var path []string
		for at := w; at != start; at = came[at].was {
			path = append(path, came[at].name)
		}
		slices.Reverse(path)
		return len(came), rests, fmt.Errorf("%w\nafter: %q\nstate: %+v", err, path, w)
	}
	for queue := []world{start}; len(queue) > 0; queue = queue[1:] {
		moves := false
		for _, s := range queue[0].steps() {
			if s.to == queue[0] {
				continue
			}
			moves = true
			if _, seen := came[s.to]; seen {
				continue
			}
			came[s.to] = from{queue[0], s.name}
			if err := errFirst(s.err, s.to.check()); err != nil {
				return told(s.to, err)
			}
			queue = append(queue, s.to)
		}
		if moves {
			continue
		}
		rests++
		if err := queue[0].rest(); err != nil {
			return told(queue[0], err)
		}
	}
	return len(came), rests, nil
}

// TestModel walks through every state; then it breaks each rule in turn, which
// must break a promise.
func TestModel(t *testing.T) {
	states, rests, err := walk(world{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d states, %d of rest", states, rests)
	for _, r := range []rule{ruleTombstone, ruleDeciding, ruleForced, ruleVote, ruleLastWords, ruleLock} {
		if _, _, err := walk(world{broken: r}); err == nil {
			t.Errorf("without %q all promises are kept: the model does not look close enough", r)
		}
	}
}
