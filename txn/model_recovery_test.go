package txn

import (
	"fmt"
	"time"

	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// This file is recovery in the model of model_test.go. What to do is what plan and the rules say; when it asks whom is
// as scan.go does it.

type scanPhase uint8

const (
	scanRests scanPhase = iota
	scanSeals
	scanLists0
	scanFences0
	scanListsAgain0
	scanLists1
	scanFences1
	scanListsAgain1
	scanReads
	scanFencesDecider
	scanListsOnceMore
	scanAsks
	scanActs
	scanClears
	scanCompacts
)

// recoverer is the process that recovers, 0 if none is left.
func (w *world) recoverer() int {
	for n := recovererN; n < incarnated; n++ {
		if w.procs[n].is != dead {
			return n
		}
	}
	return 0
}

// recovers tells whether n is in the middle of it.
func (w *world) recovers(n int) bool {
	return n == w.recoverer() && (w.scan.phase != scanRests || w.procs[n].owing())
}

func (w *world) gone(n int) bool { return w.procs[n].is == dead }

// recover is the next step of a scan.
func (m *scenario) recover(w *world, do doFunc) {
	n := w.recoverer()
	if n == 0 || w.procs[n].is == busy || w.stale || w.procs[n].broken {
		return
	}
	phase := w.scan.phase
	go1 := func(name string, fault bool, f func(*world) error) {
		do("recovery "+name, fault, func(w *world) error {
			w.scan.phase = phase + 1
			return f(w)
		})
	}
	switch phase {
	case scanRests:
		if w.scans >= m.scans && !m.settling || !m.some(w) {
			return
		}
		go1("begins", false, func(w *world) error { w.scans++; return nil })
	case scanSeals:
		go1("seals the logs of the dead", false, func(w *world) error {
			for d := range w.procs {
				if d > 0 && w.deleted&(1<<d) == 0 && (w.gone(d) || m.expired && d == homeN && w.procs[d].runs > 0) {
					w.scan.dead |= 1 << d
					w.durable[d] = w.written[d]
				}
			}
			return nil
		})
	case scanLists0, scanListsAgain0, scanLists1, scanListsAgain1:
		r := int(phase-scanLists0) / 3
		go1(fmt.Sprintf("asks resource %d", r), false, func(w *world) error {
			for g := range w.branch {
				w.scan.found[g][r] = w.branch[g][r] == branchPrepared
			}
			return nil
		})
	case scanFences0, scanFences1:
		r := int(phase-scanLists0) / 3
		go1(fmt.Sprintf("fences the dead at resource %d", r), false, func(w *world) error { w.fence(r, m.unfenced || m.looks && r == 0); return nil })
		if w.faults < m.faults {
			go1(fmt.Sprintf("cannot fence the dead at resource %d", r), true, func(w *world) error { w.faults++; return nil })
		}
	case scanReads:
		go1("reads the logs", false, func(w *world) error {
			w.scan.snap = w.written
			return nil
		})
	case scanFencesDecider:
		switch {
		case w.scan.snap[homeN][0]&bitOf(ledger.KindDecider, 0) == 0 || w.scan.dead&(1<<homeN) == 0 || m.presumes:
			do("recovery knows of no decider", false, func(w *world) error { w.scan.phase = scanActs; return nil })
			return
		case m.looks:
			go1("does not fence the dead at the decider", false, func(*world) error { return nil })
			return
		}
		go1("fences the dead at the decider", false, func(w *world) error { w.fence(0, m.unfenced); return nil })
		if w.faults < m.faults && w.scan.fenced[0]&(1<<homeN) == 0 {
			do("recovery cannot fence the dead at the decider", true, func(w *world) error { w.faults++; w.scan.phase = scanActs; return nil })
		}
	case scanListsOnceMore:
		go1("asks the resources once more", false, func(w *world) error {
			for r := range w.branch[0] {
				w.scan.found[0][r] = w.branch[0][r] == branchPrepared
			}
			return nil
		})
	case scanAsks:
		go1("asks the decider", false, func(w *world) error { return m.askDecider(w, n) })
		if w.faults < m.faults {
			do("recovery cannot ask the decider", true, func(w *world) error { w.faults++; w.scan.phase = scanActs; return nil })
		}
	case scanActs:
		m.act(w, n, do)
	case scanClears:
		go1("clears the decider", false, func(w *world) error {
			if m.looks {
				w.fence(0, false)
			}
			if m.clears(w) {
				w.row = 0
			}
			return nil
		})
	case scanCompacts:
		do("recovery shortens the logs", false, func(w *world) error { m.compact(w, n); return nil })
	}
}

// askDecider is recovery.ask and takeIn.
func (m *scenario) askDecider(w *world, n int) error {
	w.scan.asked, w.scan.stands = true, w.row
	known := w.scan.snap.any(0)&(commits|bitOf(ledger.KindEnd, Commit)) != 0
	switch {
	case w.row == Commit && known:
		w.row = 0 // all knew it, or somebody took it in before
	case w.row == Commit:
		m.start(w, n, 0, job{task: taskTakeIn, gid: m.gid(0), way: byDecider})
	case w.row == 0 && m.looks:
		w.scan.stands = Abort
	case w.row == 0 && !known && (w.scan.found[0][0] || w.scan.found[0][1]):
		w.row, w.scan.stands = Abort, Abort
	}
	return nil
}

// clears tells whether recovery.clear drops what the decider still has of the dead.
func (m *scenario) clears(w *world) bool {
	known := w.scan.snap.any(0)&(commits|aborts|bitOf(ledger.KindEnd, 0)|bitOf(ledger.KindEnd, Commit)) != 0
	waits := !known && (w.scan.found[0][0] || w.scan.found[0][1])
	return w.scan.asked && !waits && w.scan.dead&(1<<homeN) != 0 && w.scan.fenced[0]&w.scan.fenced[1]&(1<<homeN) != 0
}

// some tells whether there is anything that a scan could be about.
func (m *scenario) some(w *world) bool {
	for n := range w.procs {
		if n > 0 && n < recovererN && w.procs[n].runs > 0 && w.gone(n) {
			return true
		}
	}
	return w.gone(recovererN) || m.expired && w.procs[homeN].runs > 0
}

// fence ends the sessions of the dead at a resource.
func (w *world) fence(r int, not bool) {
	w.scan.fenced[r] |= w.scan.dead
	if not || w.scan.dead&(1<<homeN) == 0 {
		return
	}
	if r == 0 {
		w.commit = commitUnsent
	}
	for g := range w.branch {
		w.late[g][r] = false
		if w.branch[g][r] == branchActive {
			w.branch[g][r] = branchAborted
		}
	}
}

// act does the next action of the plan: first what the claim is behind with.
func (m *scenario) act(w *world, n int, do doFunc) {
	s := m.survey(w.scan.snap, w.deleted, w.scan.dead)
	actions := m.plan(w)
	i := int(w.scan.i) - 1
	if i == len(actions) {
		do("recovery has done all", false, func(w *world) error { w.scan.phase = scanClears; return nil })
		return
	}
	if i < 0 {
		do("recovery looks at the claim", false, func(w *world) error {
			w.scan.i++
			if !w.claimed {
				return nil
			}
			h := s.Histories[w.claim.gid]
			gone := func(n uint64) bool { return n == 0 || (w.scan.dead|w.deleted)&(1<<n) != 0 }
			over := func(h *ledger.History) bool { return h.Done(h.DecidedAt, time.Hour) }
			if what, some := planClaim(w.claim, h, gone, over); some && w.lock == 0 {
				m.start(w, n, uint8(which(w.claim.gid)), job{task: what, gid: w.claim.gid, hazard: h != nil && h.Tx.Hazard != ""})
			}
			return nil
		})
		return
	}
	a := actions[i]
	do("recovery is to "+a.verb.String(), false, func(w *world) error {
		w.scan.i++
		switch a.verb {
		case verbAlarm:
			return fmt.Errorf("alarm: %s", a.why)
		case verbPresume:
			if o := &w.procs[n].owes[which(a.gid)]; !o.on || !o.claimed {
				o.on, o.decision = true, a.decision
				o.missing |= 1 << (a.resource[0] - '0')
			}
		case verbPublish, verbFinish, verbAbandon:
			return m.adopt(w, n, s, a)
		}
		return nil
	})
}

// adopt is recovery.adopt and confirm.
func (m *scenario) adopt(w *world, n int, s *ledger.Contents, a action) error {
	h := s.Histories[a.gid]
	switch {
	case h.Unnamed && h.Decision != 0:
		if o := &w.procs[n].owes[which(a.gid)]; !o.on {
			*o = owed{on: true, decision: h.Decision, missing: 3, unnamed: true}
		}
		return nil
	case w.claimed:
		if w.lock == 0 {
			m.start(w, n, uint8(which(a.gid)), job{task: taskAdopt, gid: a.gid})
		}
		return nil
	}
	st := h.State(s)
	for d := 1; d < incarnated; d++ {
		if l := w.written[d][which(a.gid)]; !w.gone(d) && l&(commits|aborts|bitOf(ledger.KindEnd, 0)|bitOf(ledger.KindForget, 0)) != 0 {
			return nil // it ended meanwhile, or is decided
		}
	}
	w.claimed, w.claim, w.told = true, factsOf(&st), 0
	m.start(w, n, uint8(which(a.gid)), job{task: taskAdopt, gid: a.gid})
	return nil
}

type surveyKey struct {
	l             logs
	deleted, dead uint8
}

type planKey struct {
	surveyKey
	stands Decision // of the first transaction, at the decider
	found  [2][2]bool
	fenced [2]uint8
}

// survey is what the logs say.
func (m *scenario) survey(l logs, deleted, dead uint8) *ledger.Contents {
	key := surveyKey{l, deleted, dead}
	s := m.surveys[key]
	if s == nil {
		s = m.surveyAnew(l, deleted, dead)
		m.surveys[key] = s
	}
	return s
}

// surveyAnew is survey that is the caller's own.
func (m *scenario) surveyAnew(l logs, deleted, dead uint8) *ledger.Contents {
	s := ledger.NewContents()
	s.Highest = incarnated
	for n := uint64(1); n < incarnated; n++ {
		if deleted&(1<<n) != 0 {
			continue
		}
		s.Begin(n)
		s.AddAt(n, 0, ledger.Record{Kind: ledger.KindOpen, Log: LogID{1}, Incarnation: n, Through: 100})
		for g := range l[n] {
			for i, r := range bitKinds {
				if l[n][g]&(1<<i) != 0 {
					s.AddAt(n, int64(g)<<16|1<<i, m.record(r, g))
				}
			}
		}
	}
	sealed := map[uint64]bool{}
	for n := uint64(1); n < incarnated; n++ {
		sealed[n] = dead&(1<<n) != 0
	}
	s.Supersede(sealed)
	return s
}

// record is one of transaction g.
func (m *scenario) record(r ledger.Record, g int) ledger.Record {
	if r.Branches = []BranchID{{Resource: "0"}, {Resource: "1"}}; r.Kind == ledger.KindDecider {
		return r
	}
	r.GID, r.At = m.gid(g), time.Unix(int64(1_700_000_000+g), 0)
	if !m.local {
		r.ClientGID = "x"
	}
	return r
}

// said is what one log says of a transaction.
func (w *world) said(m *scenario, n, g int) said {
	s := ledger.NewContents()
	for i, r := range bitKinds {
		if w.written[n][g]&(1<<i) != 0 {
			s.Add(uint64(n), m.record(r, g))
		}
	}
	return saidOf(s.Histories[m.gid(g)])
}

func (m *scenario) plan(w *world) []action {
	key := planKey{surveyKey{w.scan.snap, w.deleted, w.scan.dead}, w.scan.stands, w.scan.found, w.scan.fenced}
	if p, ok := m.plans[key]; ok {
		return p
	}
	s := m.survey(key.l, key.deleted, key.dead)
	if m.presumes {
		clear(s.Deciders)
	}
	f := findings{decided: map[GID]Decision{local(gids[0]): key.stands}, dead: map[uint64]bool{}, found: map[string][]PreparedBranch{}}
	for n := uint64(1); n < incarnated; n++ {
		f.dead[n] = key.dead&(1<<n) != 0
	}
	f.fenced = func(resource string, n uint64) bool {
		return !s.Has(n) || key.fenced[resource[0]-'0']&(1<<n) != 0
	}
	for r := range 2 {
		for g := range key.found {
			if key.found[g][r] {
				f.found[fmt.Sprint(r)] = append(f.found[fmt.Sprint(r)], PreparedBranch{GID: m.gid(g)})
			}
		}
	}
	p := plan(s, f)
	m.plans[key] = p
	return p
}

// compact is restate and compact.
func (m *scenario) compact(w *world, n int) {
	s := m.survey(w.scan.snap, w.deleted, w.scan.dead)
	for gid, h := range s.Histories {
		if h.Superseded {
			w.written[n][which(gid)] |= bitOf(ledger.KindEnd, 0) | bitOf(ledger.KindForget, 0)
			w.durable[n] = w.written[n]
		}
	}
	if m.clears(w) {
		s = m.surveyAnew(w.scan.snap, w.deleted, w.scan.dead)
		s.Cleared(homeN)
	}
	retained := func(h *ledger.History) bool { return h.Done(h.DecidedAt, time.Hour) }
	swept := func(gid GID) bool {
		h := s.Histories[gid]
		back := w.scan.found[which(gid)][0] || w.scan.found[which(gid)][1]
		return h.Decision != Commit || !back
	}
	for d := uint64(1); d < incarnated; d++ {
		if bit := uint8(1) << d; w.scan.dead&bit == 0 || w.scan.fenced[0]&w.scan.fenced[1]&bit == 0 {
			continue
		}
		kept := [2]bits{}
		some := false
		for _, at := range s.Needed(d, retained, swept) {
			kept[at>>16] |= bits(at & 0xffff)
			some = true
		}
		w.written[d], w.durable[d] = kept, kept
		if !some {
			w.deleted |= 1 << d
		}
	}
	w.scan = scan{fenced: w.scan.fenced}
}

// rebuild makes the claim anew.
func (m *scenario) rebuild(w *world) error {
	var dead uint8
	for n := range w.procs {
		if n > 0 && w.gone(n) {
			dead |= 1 << n
			w.durable[n] = w.written[n]
		}
	}
	w.stale = false
	s := m.survey(w.written, w.deleted, dead)
	for g := range w.branch {
		h := s.Histories[m.gid(g)]
		if h == nil || h.Tx.GID.Role != RoleExternal || h.Unnamed || h.Done(h.DecidedAt, time.Hour) {
			continue
		}
		if w.claimed {
			return fmt.Errorf("two transactions of one name")
		}
		st := h.State(s)
		w.claimed, w.claim, w.told = true, factsOf(&st), 0
	}
	return nil
}
