package txn

import (
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// The explicit-state model of one transaction, and of a later one of its name: its home, two who decide it, and two who
// recover it, one after the other; two resources, the logs and the claim. Every process runs the rules of rules.go,
// flow.go and plan.go themselves. All interleavings are walked through, with deaths between any two effects, effects
// that fail or of which nobody knows, requests to prepare that arrive late, and a failure of power that loses what was
// not forced.

// Incarnations in the model, which are its processes.
const (
	homeN      = 1
	deciderN   = 2 // and 3
	recovererN = 4 // to 6
	reliableN  = 6 // it does not die, and nothing fails in it
	incarnated = 7
)

// branchState is a branch as its resource knows it.
type branchState uint8

const (
	branchActive branchState = iota
	branchPrepared
	branchCommitted
	branchAborted
)

// kinds of records that a log may hold of a transaction, as bits. An operator's are two, by what he decides.
var bitKinds = []ledger.Record{
	{Kind: ledger.KindPreparing}, {Kind: ledger.KindPrepared}, {Kind: ledger.KindCommit}, {Kind: ledger.KindAbort},
	{Kind: ledger.KindHeuristic, Decision: Commit}, {Kind: ledger.KindHeuristic, Decision: Abort}, {Kind: ledger.KindEnd}, {Kind: ledger.KindForget},
	{Kind: ledger.KindEnd, Decision: Commit}, {Kind: ledger.KindDecider},
}

// bits is a set of them, and of what is durable elsewhere.
type bits uint16

// What the decider, or a branch that was committed in one phase, has ever told.
const (
	committedThere bits = 1 << (iota + 14)
	abortedThere
)

func bitOf(k ledger.Kind, d Decision) bits {
	i := slices.IndexFunc(bitKinds, func(r ledger.Record) bool { return r.Kind == k && r.Decision == d })
	return 1 << i
}

var (
	commits = bitOf(ledger.KindCommit, 0) | bitOf(ledger.KindHeuristic, Commit) | committedThere
	aborts  = bitOf(ledger.KindAbort, 0) | bitOf(ledger.KindHeuristic, Abort) | abortedThere
)

// logs is what each process has of each transaction in its log.
type logs [incarnated][2]bits

func (l *logs) any(g int) (all bits) {
	for n := range l {
		all |= l[n][g]
	}
	return all
}

// being is what a process is.
type being uint8

const (
	idle being = iota
	busy
	dead
)

// process is one and what it is about.
type process struct {
	is     being
	at     pointID
	i      uint8    // of the effects there, the next
	part   uint8    // of that, the next resource
	acc    inputID  // what it has learned since
	unsure bool     // something failed of which nobody knows whether it happened
	failed bool     // something failed
	held   bool     // somebody else had the claim
	broken bool     // its log has failed: it must end, and does nothing more before
	runs   uint8    // tasks that it has begun
	wanted Decision // of the last
	means  uint8    // the transaction that the last was about, as its client meant it
	voted  bool     // that had voted by then
	named  bool     // that had its claim by then
	missed uint8    // resources, as bits, that could not be told
	owes   [2]owed  // by transaction
}

// point is where a process is: what follows from a state and an input.
type point struct {
	to job
	do []effect
}

type (
	pointID  uint32
	inputID  uint32
	pointKey struct {
		was job
		in  input
	}
)

// goes has a process go on from a state with an input.
func (m *scenario) goes(was job, in input) pointID {
	key := pointKey{was, in}
	id, ok := m.pointOf[key]
	if !ok {
		id = pointID(len(m.points))
		to, do := m.next(was, in)
		m.points = append(m.points, point{to, do})
		m.pointOf[key] = id
	}
	return id
}

// learns adds to what a process has learned.
func (m *scenario) learns(p *process, f func(*input)) {
	in := m.inputs[p.acc]
	f(&in)
	id, ok := m.inputOf[in]
	if !ok {
		id = inputID(len(m.inputs))
		m.inputs = append(m.inputs, in)
		m.inputOf[in] = id
	}
	p.acc = id
}

func (m *scenario) init() {
	m.surveys, m.plans = map[surveyKey]*ledger.Contents{}, map[planKey][]action{}
	m.pointOf, m.inputOf = map[pointKey]pointID{}, map[input]inputID{{}: 0}
	m.inputs = []input{{}}
	m.seed, m.settled = maphash.MakeSeed(), map[uint64]struct{}{}
	if m.next == nil {
		m.next = job.next
	}
}

// owed is what the executors of a process are to tell.
type owed struct {
	on       bool
	decision Decision
	missing  uint8 // resources, as bits
	asking   bool  // nobody knows what, and the decider is asked first
	claimed  bool  // it has a claim
	unnamed  bool  // it has none, but an end to be noted
}

// scan is where recovery is.
type scan struct {
	phase  scanPhase
	dead   uint8      // incarnations, as bits, that were sealed
	found  [2][2]bool // by transaction and resource
	snap   logs       // the logs, as they were read
	asked  bool       // the decider was, and answered
	stands Decision   // that
	i      uint8      // of its actions, the next
	fenced [2]uint8   // by resource, incarnations as bits; kept from scan to scan
}

// world is one state. It is comparable, so that states are visited once.
type world struct {
	procs                       [incarnated]process
	scan                        scan
	branch                      [2][2]branchState // by transaction and resource
	late                        [2][2]bool        // a request to prepare is under way
	row                         Decision          // of the first transaction, at the decider
	commit                      request           // to the resource 0, to commit
	refuses                     bool              // the resource 0 will not
	drops                       uint8             // incarnations, as bits, that will drop the row
	acked                       [2][2]bool        // its process has heard the vote
	written                     logs
	durable                     logs
	ever                        [2]bits // that was durable in any log
	ended                       [2]bool // somebody has noted the end
	claim                       facts
	claimed                     bool
	swept                       uint8   // incarnations, as bits, that will remove the claim
	told                        uint8   // in the claim: resources, as bits
	lock                        uint8   // incarnation that holds the claim, 0 none
	deleted                     uint8   // logs, as bits, of which nothing was needed any more
	stale                       bool    // the claim is gone, and is to be made anew from the logs
	created                     [2]bool // its claim
	voteOK                      [2]bool
	commitOK                    [2]bool // somebody was told that it is committed
	abortOK                     [2]bool
	sure                        [2]bool // committed, though not all resources may know
	deaths, faults, cuts, scans uint8
}

// request is how a request to commit fares, with the decision in it or in one phase.
type request uint8

const (
	commitUnsent request = iota
	commitSent
	commitDone
	commitRefused
)

// scenario bounds what happens.
type scenario struct {
	name                        string
	local                       bool // it is decided by its home
	way                         way  // then
	early                       bool // likewise: its client is answered when it is decided
	reads                       bool // nobody but the decider has written
	unsolicited                 bool // all but the decider have voted before they were asked
	named                       bool // its client may ask for it
	again                       bool // the name is used once more
	wants                       [2][]Decision
	oper                        bool // the first who decides is an operator
	forget                      bool // whoever has decided acknowledges it
	deaths, faults, cuts, scans uint8

	// What a test breaks: the rules, or what recovery keeps to.
	next     func(job, input) (job, []effect)
	unfenced bool // recovery does not end the sessions of the dead
	presumes bool // recovery does not ask the decider
	looks    bool // recovery only looks what the decider has
	expired  bool // recovery takes the living for dead
	forgets  bool // a rollback passes over what was prepared before it was asked

	surveys  map[surveyKey]*ledger.Contents
	points   []point
	pointOf  map[pointKey]pointID
	inputs   []input
	inputOf  map[input]inputID
	seed     maphash.Seed
	settled  map[uint64]struct{} // states of rest in which all is well
	settling bool                // recovery goes on without bound
	plans    map[planKey][]action
}

var gids = [2]GID{gidOf(homeN, 1, RoleExternal), gidOf(homeN, 2, RoleExternal)}

// gid is that of a transaction.
func (m *scenario) gid(g int) GID {
	gid := gids[g]
	if m.local {
		gid.Role = RoleLocal
	}
	return gid
}

func which(gid GID) int { return int(gid.Sequence - 1) }

// step is one possible step and what it leads to.
type step struct {
	name  string
	fault bool // it is not what should happen
	to    world
	err   error
}

// walk visits every state that can be reached. The error tells a promise that was broken, and how.
func (m *scenario) walk() (states, rests int, err error) {
	m.init()
	type node struct {
		from int32
		name string
	}
	type open struct {
		w  world
		id int32
	}
	seed := m.seed
	var start world
	nodes := []node{{-1, ""}}
	seen := map[uint64]struct{}{maphash.Comparable(seed, start): {}}
	told := func(id int32, last string, err error) (int, int, error) {
		path := []string{last}
		for ; id > 0; id = nodes[id].from {
			path = append(path, nodes[id].name)
		}
		slices.Reverse(path)
		return len(seen), rests, &broken{err, path}
	}
	for queue := []open{{start, 0}}; len(queue) > 0; queue = queue[1:] {
		at := &queue[0]
		for _, s := range m.steps(&at.w) {
			if s.err == nil {
				s.err = s.to.check()
			}
			if s.err != nil {
				return told(at.id, s.name, s.err)
			}
			key := maphash.Comparable(seed, s.to)
			if _, was := seen[key]; was {
				continue
			}
			seen[key] = struct{}{}
			nodes = append(nodes, node{at.id, s.name})
			queue = append(queue, open{s.to, int32(len(nodes) - 1)})
		}
		if at.w.quiet() {
			rests++
			if last, err := m.settle(at.w); err != nil {
				return told(at.id, last, err)
			}
		}
	}
	return len(seen), rests, nil
}

// broken is a promise that was not kept.
type broken struct {
	promise error
	path    []string
}

func (b *broken) Error() string { return fmt.Sprintf("%v\nafter: %q", b.promise, b.path) }

// quiet tells whether nobody is at work, but for who will recover.
func (w *world) quiet() bool {
	for n := range w.procs {
		if w.procs[n].is == busy {
			return false
		}
	}
	return w.scan.phase == scanRests
}

// settle has recovery go on undisturbed until nothing changes any more, and looks at what is left.
func (m *scenario) settle(w world) (last string, err error) {
	m.settling = true
	defer func() { m.settling = false }()
	last = "everything rests"
	w.deaths, w.faults, w.cuts = 0, 0, 0
	for quiet := w; ; {
		w.scans = 0
		s, any := first(m.own(&w))
		if any {
			if s.err == nil {
				s.err = s.to.check()
			}
			w, last = s.to, "then, undisturbed, "+s.name
			if s.err != nil {
				return last, s.err
			}
		}
		if any && !w.quiet() {
			continue
		}
		w.scans = 0
		key := maphash.Comparable(m.seed, w)
		if _, settled := m.settled[key]; settled {
			return last, nil
		}
		if !any || w == quiet {
			m.settled[key] = struct{}{}
			return last, w.rest()
		}
		quiet = w
	}
}

func first(all []step) (step, bool) {
	for _, s := range all {
		if !s.fault {
			return s, true
		}
	}
	return step{}, false
}

// check is what holds in every state.
func (w *world) check() error {
	for g := range w.branch {
		b := w.branch[g][:]
		has := func(s branchState) bool { return slices.Contains(b, s) }
		switch {
		case has(branchCommitted) && has(branchAborted):
			return fmt.Errorf("half a transaction: %v", b)
		case w.commitOK[g] && w.abortOK[g], w.sure[g] && w.abortOK[g]:
			return fmt.Errorf("contradictory answers")
		case w.commitOK[g] && slices.ContainsFunc(b, func(s branchState) bool { return s != branchCommitted }):
			return fmt.Errorf("told of a commit that is not there: %v", b)
		case w.abortOK[g] && has(branchCommitted):
			return fmt.Errorf("told of a rollback that is not there: %v", b)
		case w.sure[g] && (has(branchAborted) || w.ever[g]&commits == 0):
			return fmt.Errorf("told of a commit that is not durable: %v", b)
		case w.voteOK[g] && w.ever[g]&bitOf(ledger.KindPrepared, 0) == 0:
			return fmt.Errorf("a vote that is not durable")
		case w.voteOK[g] && has(branchAborted) && w.ever[g]&aborts == 0:
			return fmt.Errorf("rolled back after the vote without a decision: %v", b)
		case has(branchCommitted) && w.ever[g]&commits == 0:
			return fmt.Errorf("committed without a durable decision")
		case w.ever[g]&commits != 0 && w.ever[g]&aborts != 0:
			return fmt.Errorf("decided both ways")
		}
	}
	return nil
}

// rest is what holds where nothing moves any more: nobody is left prepared but in doubt, and no claim says that there
// is something to do where nobody does it.
func (w *world) rest() error {
	for g := range w.branch {
		inDoubt := w.written.any(g)&bitOf(ledger.KindPrepared, 0) != 0 && w.ever[g]&(commits|aborts) == 0 && !w.ended[g]
		for r, b := range w.branch[g] {
			if b == branchPrepared && !inDoubt {
				return fmt.Errorf("resource %d keeps transaction %d prepared for ever", r, g)
			}
		}
		if w.claimed && which(w.claim.gid) == g && w.claim.phase == Prepared && w.branch[g] != [2]branchState{branchPrepared, branchPrepared} {
			return fmt.Errorf("transaction %d can be decided for ever, but is not prepared: %v", g, w.branch[g])
		}
		if w.created[g] && slices.Contains(w.branch[g][:], branchActive) {
			return fmt.Errorf("the sessions of transaction %d keep their locks for ever", g)
		}
		if inDoubt && w.voteOK[g] && (!w.claimed || which(w.claim.gid) != g) {
			return fmt.Errorf("transaction %d is in doubt, and nobody finds it by its name", g)
		}
	}
	switch p := w.claim.phase; {
	case w.row != 0 && w.gone(homeN): // its owner drops it when it ends, at the latest
		return fmt.Errorf("the decider keeps a decision for ever")
	case w.lock != 0:
		return fmt.Errorf("incarnation %d keeps the claim for ever", w.lock)
	case w.claimed && w.claim.deciding != 0 && !w.gone(int(w.claim.decidingBy)):
		return fmt.Errorf("incarnation %d decides for ever", w.claim.decidingBy)
	case w.claimed && p != Prepared && !p.Terminal():
		return fmt.Errorf("the claim is %s for ever", p)
	}
	return nil
}
