package txn

import (
	"fmt"
	"strings"

	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// This file is what the processes of the model of model_test.go do: the effects of the rules, with all that may become
// of each.

// steps is all that may happen in w.
func (m *scenario) steps(w *world) []step {
	all := m.own(w)
	do := m.doer(w, &all)
	for n := range w.procs {
		m.begin(w, n, do)
		if n > 0 && w.deaths < m.deaths && n != reliableN && !w.procs[n].broken && w.procs[n].is != dead && (w.procs[n].is == busy || w.procs[n].runs > 0 || w.recovers(n)) {
			do(fmt.Sprintf("%d dies", n), true, func(w *world) error { w.deaths++; w.die(n); return nil })
		}
	}
	if w.cuts < m.cuts && w.procs[homeN].runs > 0 {
		for _, loses := range []bool{true, false} {
			do(fmt.Sprintf("power fails, unforced records lost: %t", loses), true, func(w *world) error { w.cut(loses); return nil })
		}
	}
	return all
}

// own is all that happens by itself, whether or not somebody asks for something or dies.
func (m *scenario) own(w *world) (all []step) {
	do := m.doer(w, &all)
	if w.stale {
		do("the claims are made anew", false, func(w *world) error { return m.rebuild(w) })
	}
	for n := 1; n < incarnated; n++ {
		if w.procs[n].broken && w.procs[n].is != dead {
			do(fmt.Sprintf("%d ends", n), false, func(w *world) error { w.die(n); return nil })
		}
		if w.procs[n].is == busy {
			m.effect(w, n, do)
		}
		for g := range w.branch {
			m.execute(w, n, g, do)
		}
	}
	for n := range w.procs {
		if w.swept&(1<<n) != 0 && w.lock == 0 && !w.procs[n].broken {
			do(fmt.Sprintf("%d sweeps", n), false, func(w *world) error {
				w.durable[n] = w.written[n]
				w.swept &^= 1 << n
				if w.claim.forgotten == uint64(n) {
					w.claimed, w.claim, w.told = false, facts{}, 0
				}
				return nil
			})
		}
	}
	if w.commit == commitSent {
		do("resource 0 commits", false, func(w *world) error { w.commitAt0(m.way); return nil })
	}
	for n := range w.procs {
		if w.drops&(1<<n) != 0 {
			do(fmt.Sprintf("%d has the decision dropped", n), false, func(w *world) error { w.drops, w.row = w.drops&^(1<<n), 0; return nil })
		}
	}
	for g := range w.late {
		for r := range w.late[g] {
			if w.late[g][r] {
				do(fmt.Sprintf("resource %d prepares %d", r, g), false, func(w *world) error {
					w.late[g][r] = false
					if w.branch[g][r] == branchActive {
						w.branch[g][r] = branchPrepared
						w.acked[g][r] = w.procs[homeN].is == busy
					}
					return nil
				})
			}
		}
	}
	m.recover(w, do)
	return all
}

type doFunc func(name string, fault bool, f func(*world) error)

func (m *scenario) doer(w *world, all *[]step) doFunc {
	return func(name string, fault bool, f func(*world) error) {
		s := step{name: name, fault: fault, to: *w}
		s.err = f(&s.to)
		if m.way == inOnePhase || m.reads { // there is no other branch
			s.to.branch[0][1] = s.to.branch[0][0]
		}
		for n := range s.to.durable {
			for g, b := range s.to.durable[n] {
				s.to.ever[g] |= b
			}
		}
		if s.to.row != 0 {
			s.to.ever[0] |= map[Decision]bits{Commit: committedThere, Abort: abortedThere}[s.to.row]
		}
		*all = append(*all, s)
	}
}

// begin is what clients ask for.
func (m *scenario) begin(w *world, n int, do doFunc) {
	p := &w.procs[n]
	if p.is != idle || p.owing() || p.broken {
		return
	}
	start := func(g uint8, j job) func(*world) error {
		return func(w *world) error {
			w.procs[n].runs++
			m.start(w, n, g, j)
			return nil
		}
	}
	means := max(w.procs[homeN].runs, 1) - 1 // whoever decides means the latest of the name
	switch n {
	case homeN:
		switch {
		case p.runs == 0 && m.local:
			do("home commits", false, func(w *world) error {
				w.created[0] = true
				if m.unsolicited {
					w.branch[0] = [2]branchState{map[way]branchState{byLog: branchPrepared}[m.way], branchPrepared}
				}
				return start(0, job{task: taskCommit, gid: m.gid(0), named: m.named, way: m.way, early: m.early})(w)
			})
		case p.runs == 0, p.runs == 1 && m.again && (w.commitOK[0] || w.abortOK[0]) && w.procs[deciderN].is != busy && w.procs[deciderN+1].is != busy:
			do("home prepares", false, start(p.runs, job{task: taskVote, gid: m.gid(int(p.runs)), named: m.named}))
		}
	case deciderN, deciderN + 1:
		i := n - deciderN
		for _, d := range m.wants[i] {
			if p.runs > 0 || d == Commit && !w.voteOK[means] {
				continue // no coordinator commits without a vote
			}
			do(fmt.Sprintf("%d is to %s", n, d), false, start(means, job{task: taskDecide, wants: d, operator: m.oper && i == 0}))
		}
		if ok := w.commitOK[0] || w.abortOK[0]; m.forget && ok && p.runs == 1 && p.is == idle {
			do(fmt.Sprintf("%d acknowledges", n), false, start(means, job{task: taskForget}))
		}
	}
}

func (m *scenario) start(w *world, n int, means uint8, j job) {
	p := &w.procs[n]
	j.self = uint64(n)
	*p = process{is: busy, at: m.goes(j, input{}), runs: p.runs, owes: p.owes, wanted: j.wants, means: means, voted: w.voteOK[means], named: w.created[means]}
}

func (p *process) owing() bool { return p.owes[0].on || p.owes[1].on }

func (w *world) die(n int) {
	p := &w.procs[n]
	*p = process{is: dead, runs: p.runs}
	if w.lock == uint8(n) {
		w.lock = 0
	}
	w.swept &^= 1 << n
	w.drops &^= 1 << n
	if w.recoverer() != n && n >= recovererN {
		w.scan = scan{}
	}
}

func (w *world) cut(loses bool) {
	w.cuts++
	for n := 1; n < incarnated; n++ {
		switch p := &w.procs[n]; {
		case n >= recovererN && p.is != dead && w.written[n] == [2]bits{}:
			*p = process{} // it is there again
		case p.is == busy || p.runs > 0 || n >= recovererN && p.is != dead:
			w.die(n)
		}
	}
	w.lock, w.swept, w.drops, w.commit = 0, 0, 0, commitUnsent
	if loses {
		w.written = w.durable
	}
	w.durable = w.written
	w.scan, w.claim, w.claimed, w.told, w.stale = scan{}, facts{}, false, 0, true
}

// broke is unsure where the log has failed before: nothing more is written.
const broke = unsure + 1

// effect does the next effect of a process in all ways.
func (m *scenario) effect(w *world, n int, do doFunc) {
	at := &m.points[w.procs[n].at]
	e := at.do[w.procs[n].i]
	name := fmt.Sprintf("%d: %s", n, e)
	goes := func(name string, fault bool, f func(*world, *process) error) {
		do(name, fault, func(w *world) error {
			p := &w.procs[n]
			err := f(w, p)
			m.done(p)
			return err
		})
	}
	ok := func(f func(*world, *process) error) { goes(name, false, f) }
	gone := func(f func(*world, *process) error) { goes(name+", the client is gone", true, f) }
	fails := func(how result, f func(*world, *process)) {
		free := how == none || how == broke
		if how == broke {
			how = unsure
		}
		if free || w.faults < m.faults && n != reliableN {
			do(fmt.Sprintf("%s fails (%d)", name, how), !free, func(w *world) error {
				p := &w.procs[n]
				if !free {
					w.faults++
				}
				f(w, p)
				m.fails(p, e.do, how)
				return nil
			})
		}
	}
	nothing := func(*world, *process) {}
	switch e.do {
	case doCreate, doTake, doTry, doRead, doIntend, doPublish, doAcknowledge, doRelease, doRemove:
		m.onClaim(w, n, e, &at.to, ok, gone, fails)
	case doHold:
		ok(func(_ *world, p *process) error { p.broken, p.unsure = true, true; return nil })
	case doNote, doForce:
		g, bit := m.recorded(e, &at.to)
		if w.procs[n].broken {
			fails(broke, nothing)
			return
		}
		ok(func(w *world, _ *process) error {
			w.written[n][g] |= bit
			w.ended[g] = w.ended[g] || e.record == ledger.KindEnd
			if e.do == doForce {
				w.durable[n] = w.written[n]
			}
			return nil
		})
		fails(failed, nothing)
		if e.do == doForce {
			fails(unsure, func(w *world, p *process) { w.written[n][g] |= bit; p.broken = true })
		}
	case doPrepare:
		m.vote(w, n, e, which(at.to.gid), do)
	case doCommit, doDecide:
		m.commitAlone(w, n, e, do, goes, fails)
	case doAsk, doProve:
		m.ask(w, e, ok, fails)
	case doReply:
		ok(func(w *world, p *process) error { w.sure[p.means] = true; return nil })
	case doLeave:
		ok(func(*world, *process) error { return nil })
	case doRollback, doUndo, doTell:
		m.tellAll(w, n, e, which(at.to.gid), do)
	case doSweep:
		ok(func(w *world, _ *process) error {
			switch at.to.task {
			case taskForget:
				w.swept |= 1 << n
			case taskTakeIn:
				w.row = 0
			default:
				w.drops |= 1 << n
			}
			return nil
		})
	case doOwe:
		ok(func(w *world, p *process) error {
			g := which(at.to.gid)
			o := owed{on: true, decision: e.decision, missing: p.missed, claimed: e.claimed, asking: e.asking}
			switch {
			case at.to.task == taskAdopt:
				o.missing = 3 &^ w.told
			case at.to.task == taskAsk && e.decision == Abort:
				o.missing = 3
			case at.to.task == taskAsk, at.to.task == taskTakeIn:
				o.missing = 2
			}
			p.owes[g] = o
			return nil
		})
	case doAnswer:
		do(name, false, func(w *world) error { return m.answer(w, n, e) })
	}
}

// vote is phase one, which ends when both have voted yes, or without that at any time.
func (m *scenario) vote(w *world, n int, e effect, g int, do doFunc) {
	if w.procs[n].part == 0 {
		do(fmt.Sprintf("%d: %s", n, e), false, func(w *world) error {
			w.procs[n].part, w.late[g] = 1, [2]bool{m.way == byLog && !m.unsolicited, !m.reads && !m.unsolicited}
			w.acked[g][0], w.acked[g][1] = m.way != byLog || m.unsolicited, m.reads || m.unsolicited
			return nil
		})
		return
	}
	end := func(name string, v vote) {
		do(fmt.Sprintf("%d: %s", n, name), v == voteNo, func(w *world) error {
			p := &w.procs[n]
			p.failed = p.failed || v == voteNo
			m.learns(p, func(in *input) { in.vote = v })
			m.done(p)
			return nil
		})
	}
	switch {
	case m.reads:
		end("all have only read", voteReadOnly)
	case w.acked[g] == [2]bool{true, true}:
		end("all vote yes", voteYes)
	}
	end("somebody votes no, or says nothing", voteNo)
}

// recorded is where and what a record says.
func (m *scenario) recorded(e effect, to *job) (g int, bit bits) {
	switch {
	case e.record == ledger.KindDecider:
		return 0, bitOf(e.record, 0)
	case m.local != (e.gid.Role == RoleLocal):
		return which(e.gid), 0 // by its other name
	case e.record == ledger.KindHeuristic:
		return which(e.gid), bitOf(e.record, to.wants)
	case e.record == ledger.KindEnd && to.way == byDecider:
		return which(e.gid), bitOf(e.record, e.decision)
	}
	return which(e.gid), bitOf(e.record, 0)
}

// commitAt0 is what becomes of a request to commit, with the decision in it or in one phase. A decision to roll back that
// is there keeps it out.
func (w *world) commitAt0(way way) {
	w.commit = commitRefused
	if w.branch[0][0] != branchActive {
		return
	}
	if w.refuses || w.row == Abort {
		w.branch[0][0] = branchAborted
		return
	}
	w.branch[0][0], w.commit = branchCommitted, commitDone
	w.ever[0] |= committedThere
	if way == byDecider {
		w.row = Commit
	}
}

// commitAlone has the resource 0 commit. Its answer may be lost before it does, or after.
func (m *scenario) commitAlone(w *world, n int, e effect, do doFunc, goes func(string, bool, func(*world, *process) error), fails func(result, func(*world, *process))) {
	name := fmt.Sprintf("%d: %s", n, e)
	if w.procs[n].part == 0 {
		do(name, false, func(w *world) error { w.procs[n].part, w.commit = 1, commitSent; return nil })
		if w.faults < m.faults {
			do(name+", which will be refused", true, func(w *world) error {
				w.faults++
				w.procs[n].part, w.commit, w.refuses = 1, commitSent, true
				return nil
			})
		}
		return
	}
	switch w.commit {
	case commitDone:
		goes(name+" is done", false, func(*world, *process) error { return nil })
	case commitRefused:
		do(name+" is refused", false, func(w *world) error { m.fails(&w.procs[n], e.do, failed); return nil })
	case commitSent, commitUnsent:
	}
	fails(unsure, func(_ *world, p *process) { p.missed |= 1 })
	if w.commit == commitSent && w.faults < m.faults {
		do(name+" does not reach it", true, func(w *world) error {
			p := &w.procs[n]
			w.faults, w.commit, p.missed = w.faults+1, commitUnsent, p.missed|1
			m.fails(p, e.do, unsure)
			return nil
		})
	}
}

// ask asks the resource 0 how that ended. The decider has what is not decided rolled back.
func (m *scenario) ask(w *world, e effect, ok func(func(*world, *process) error), fails func(result, func(*world, *process))) {
	if e.do == doAsk || w.commit != commitSent { // else the resource is at it still, and says so
		ok(func(w *world, p *process) error {
			stands := w.row
			switch {
			case e.do == doAsk && w.row == 0:
				w.row, stands = Abort, Abort
			case e.do == doProve && w.branch[0][0] == branchCommitted:
				stands = Commit
			case e.do == doProve:
				stands = Abort
				w.branch[0][0] = branchAborted // with its session
			}
			p.failed, p.unsure = false, false
			m.learns(p, func(in *input) { in.stands = stands })
			return nil
		})
	}
	fails(failed, func(_ *world, p *process) { p.unsure = true })
}

// onClaim is what is done to the claim, which is made anew from the logs where it is gone.
func (m *scenario) onClaim(w *world, n int, e effect, to *job, ok func(func(*world, *process) error), gone func(func(*world, *process) error), fails func(result, func(*world, *process))) {
	nothing := func(*world, *process) {}
	if w.stale && e.do != doRead {
		return // it is made first
	}
	switch e.do {
	case doCreate:
		if w.claimed {
			fails(none, nothing)
			return
		}
		ok(func(w *world, _ *process) error {
			w.claimed, w.claim, w.told, w.lock = true, e.claim, 0, uint8(n)
			w.created[which(e.claim.gid)] = true
			return nil
		})
	case doTake, doTry:
		if w.procs[n].broken {
			fails(broke, nothing)
			return
		}
		switch {
		case !w.claimed, w.lock != 0 && e.do == doTry:
			fails(none, nothing)
			return
		case w.lock != 0:
			return // it waits
		}
		take := func(gone bool) func(*world, *process) error {
			return func(w *world, p *process) error {
				w.lock = uint8(n)
				m.learns(p, func(in *input) {
					in.claim, in.gone = w.claim, gone
					in.refused = !to.gid.IsZero() && to.gid != w.claim.gid && to.at != atRetiring
					in.owed = p.owes[which(w.claim.gid)].on
				})
				return nil
			}
		}
		ok(take(false))
		if to.task == taskVote && to.at == atVoted {
			gone(take(true))
		}
	case doRead:
		ok(func(w *world, p *process) error {
			if !w.gone(int(e.whose)) {
				m.learns(p, func(in *input) { in.said.alive = true })
				return nil
			}
			w.durable[e.whose] = w.written[e.whose] // sealed
			m.learns(p, func(in *input) { in.said = w.said(m, int(e.whose), which(to.claim.gid)) })
			return nil
		})
	case doIntend, doPublish:
		ok(func(w *world, _ *process) error { w.claim = e.claim; return nil })
	case doAcknowledge:
		ok(func(w *world, p *process) error { w.told |= 3 &^ p.missed; return nil })
	case doRelease:
		ok(func(w *world, _ *process) error { w.unlock(n); return nil })
	case doRemove:
		ok(func(w *world, _ *process) error {
			w.claimed, w.claim, w.told = false, facts{}, 0
			w.unlock(n)
			return nil
		})
	}
	fails(failed, func(w *world, _ *process) {
		if e.do == doRelease || e.do == doRemove {
			w.unlock(n) // the file is closed
		}
	})
}

func (w *world) unlock(n int) {
	if w.lock == uint8(n) {
		w.lock = 0
	}
}

// tellAll tells one resource after the other.
func (m *scenario) tellAll(w *world, n int, e effect, g int, do doFunc) {
	r, d := int(w.procs[n].part), e.decision
	if e.do != doTell {
		d = Abort
	}
	name := fmt.Sprintf("%d: %s, resource %d", n, e, r)
	then := func(w *world, missed bool) {
		p := &w.procs[n]
		if missed {
			w.faults++
			p.missed |= 1 << r
			m.learns(p, func(in *input) { in.missing = e.do != doRollback })
			p.unsure = p.unsure || e.do == doTell
		}
		if p.part++; p.part == 2 {
			if e.do == doRollback && p.missed != 0 {
				p.owes[g] = owed{on: true, decision: Abort, missing: p.missed}
			}
			m.done(p)
		}
	}
	if e.do == doTell && (w.told&(1<<r) != 0 || m.way == byDecider && r == 0) {
		do(name+" knows", false, func(w *world) error { then(w, false); return nil })
		return
	}
	if m.forgets && e.do == doRollback && w.branch[g][r] == branchPrepared {
		do(name+" is passed over", false, func(w *world) error { then(w, false); return nil })
		return
	}
	do(name, false, func(w *world) error { err := m.tell(w, g, r, d); then(w, false); return err })
	if w.faults < m.faults && n != reliableN {
		do(name+" does not hear it", true, func(w *world) error { then(w, true); return nil })
		do(name+" does, which is lost", true, func(w *world) error { err := m.tell(w, g, r, d); then(w, true); return err })
	}
}

// tell tells a resource a decision, as Resource.Resolve does: a rollback ends the session, too.
func (m *scenario) tell(w *world, g, r int, d Decision) error {
	b := &w.branch[g][r]
	if r == 0 && d == Abort && m.way != byLog {
		w.commit = commitUnsent // its session is ended
	}
	switch {
	case m.way == inOnePhase || m.reads: // whoever heard no answer says that what has not ended is to end
		if *b == branchActive {
			*b = branchAborted
		}
	case d == Commit && *b == branchPrepared:
		*b = branchCommitted
	case d == Abort && (*b == branchPrepared || *b == branchActive):
		*b, w.late[g][r] = branchAborted, false
	case d == Commit && *b != branchCommitted, d == Abort && *b == branchCommitted:
		return fmt.Errorf("resource %d is told to %s in state %d", r, d, *b)
	}
	return nil
}

// answer is what the client hears.
func (m *scenario) answer(w *world, n int, e effect) error {
	p := &w.procs[n]
	j := &m.points[p.at].to
	ok := e.err == nil && !p.failed && !p.unsure
	unsure := p.unsure || e.err != nil && InDoubt(e.err)
	g := p.means
	was := *p
	*p = process{is: idle, runs: p.runs, wanted: p.wanted, owes: p.owes, broken: p.broken}
	switch j.task {
	case taskVote:
		w.voteOK[g] = w.voteOK[g] || ok
		w.abortOK[g] = w.abortOK[g] || !ok && !unsure
	case taskAsk:
		if p.owes[g].asking && !was.failed {
			return fmt.Errorf("it was asked, and nothing follows from that")
		}
	case taskCommit:
		w.sure[g] = w.sure[g] || e.sure
		w.abortOK[g] = w.abortOK[g] || !e.sure && !unsure
	case taskDecide:
		if ok && !was.voted {
			g = uint8(which(j.gid)) // it may come before the request to prepare, and mean what was there
		}
		switch {
		case ok && was.wanted == Commit:
			w.commitOK[g] = true
		case ok:
			w.abortOK[g] = true
		case e.err == ErrUnknownGID && was.voted && !w.ended[g]:
			return fmt.Errorf("what is prepared is told to be unknown")
		case (e.err == ErrAlreadyCommitted || e.err == ErrHeuristicCommit) && was.named && w.ever[g]&commits == 0:
			return fmt.Errorf("what is not committed is told to be")
		}
	case taskFinish:
		if !was.held && !was.failed && !was.unsure {
			p.owes[which(j.gid)] = owed{}
		}
	}
	return nil
}

// done goes on behind an effect that was done.
func (m *scenario) done(p *process) {
	at := &m.points[p.at]
	p.part = 0
	if p.i++; int(p.i) < len(at.do) {
		return
	}
	m.learns(p, func(in *input) { in.result = done })
	p.at, p.acc, p.i = m.goes(at.to, m.inputs[p.acc]), 0, 0
}

// fails goes on behind one that was not, or perhaps.
func (m *scenario) fails(p *process, of act, how result) {
	at := &m.points[p.at]
	p.failed = p.failed || how != none
	p.held = p.held || how == none && of == doTry
	p.unsure = p.unsure || how == unsure || of == doRead
	if at.to.at == atEnd {
		m.done(p)
		return
	}
	m.learns(p, func(in *input) { in.result, in.of = how, of })
	p.at, p.acc, p.i, p.part = m.goes(at.to, m.inputs[p.acc]), 0, 0, 0
}

// execute is the executors of a process, and the end of what they have told.
func (m *scenario) execute(w *world, n, g int, do doFunc) {
	p := &w.procs[n]
	o := p.owes[g]
	if !o.on {
		return
	}
	ours := !o.claimed || w.claimed && w.claim.gid == m.gid(g) && !w.claim.phase.Terminal() && (w.claim.claimant == 0 || w.claim.claimant == uint64(n))
	if !ours {
		do(fmt.Sprintf("%d's executors leave it to another", n), false, func(w *world) error { w.procs[n].owes[g] = owed{}; return nil })
		return
	}
	if o.asking {
		if p.is != busy && !p.broken {
			do(fmt.Sprintf("%d's executors ask the decider", n), false, func(w *world) error {
				m.start(w, n, uint8(g), job{task: taskAsk, gid: m.gid(g), way: byDecider})
				return nil
			})
		}
		return
	}
	for r := range w.branch[g] {
		if o.missing&(1<<r) != 0 {
			do(fmt.Sprintf("%d's executors tell resource %d", n, r), false, func(w *world) error {
				w.procs[n].owes[g].missing &^= 1 << r
				return m.tell(w, g, r, o.decision)
			})
		}
	}
	if o.missing != 0 || p.is == busy || p.broken || o.claimed && w.lock != 0 {
		return
	}
	do(fmt.Sprintf("%d's executors are done", n), false, func(w *world) error {
		if o.claimed {
			m.start(w, n, uint8(g), job{task: taskFinish, gid: m.gid(g)})
			return nil
		}
		w.procs[n].owes[g] = owed{}
		if o.unnamed {
			w.written[n][g] |= bitOf(ledger.KindEnd, 0)
		}
		return nil
	})
}

// String names an effect and all that belongs to it.
func (e effect) String() string {
	text := []string{actNames[e.do]}
	if e.record != "" {
		text = append(text, string(e.record))
	}
	if e.do == doIntend {
		text = append(text, e.claim.deciding.String())
	}
	if e.do == doPublish || e.do == doCreate {
		text = append(text, e.claim.phase.String())
	}
	if e.decision != 0 {
		text = append(text, e.decision.String())
	}
	if e.asking {
		text = append(text, "asking")
	}
	if e.err != nil {
		text = append(text, e.err.SQLState())
	}
	if e.sure {
		text = append(text, "committed")
	}
	return strings.Join(text, " ")
}

var actNames = map[act]string{
	doCreate: "create", doTake: "take", doTry: "try", doRead: "read", doIntend: "intend", doPublish: "publish",
	doAcknowledge: "acknowledge", doRelease: "release", doRemove: "remove", doHold: "hold", doNote: "note", doForce: "force",
	doPrepare: "prepare", doLeave: "leave", doRollback: "roll back", doUndo: "undo", doDisown: "disown", doTell: "tell",
	doOwe: "owe", doSweep: "sweep", doAnswer: "answer", doCommit: "commit", doProve: "prove", doDecide: "decide", doAsk: "ask",
	doReply: "reply",
}
