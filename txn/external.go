package txn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
	"unicode/utf8"
)

// This file is the flow of one transaction that an outside coordinator
// decides, top to bottom: vote, decision, phase two, end.
//
// Its rules: a record is durable before what it says is acted upon or told;
// the claim is changed only under its lock, after the log; a step that may or
// may not have happened keeps the lock until this process has ended.

// vote is phase one of PREPARE TRANSACTION client. It owns the transaction:
// whatever it returns, the session has none any more.
func (m *Manager) vote(ctx context.Context, t *transaction, client string) error {
	if err := checkClientGID(client); err != nil {
		return errors.Join(err, t.rollback(ctx))
	}
	gid := t.gid
	gid.Role = RoleExternal
	c, err := m.register(ctx, t, gid, client)
	if err == nil {
		// From here on the claim may be taken by a ROLLBACK PREPARED, so the
		// lock is free while the resources vote.
		m.at("vote: preparing")
		err = c.release()
	}
	if err != nil {
		return errors.Join(err, t.rollback(ctx))
	}
	branches, err := t.prepare(ctx, gid)
	m.at("vote: prepared")
	detached, cancel := m.detached(ctx)
	defer cancel()
	c, lost := m.take(detached, clientName(client))
	if lost != nil || c.GID != gid {
		err = errors.Join(err, fmt.Errorf("%w: its claim is gone: %w", ErrRolledBack, errors.Join(lost, closeClaim(c))))
		return errors.Join(err, m.withdraw(detached, t, gid, nil))
	}
	err = errors.Join(err, m.catchUp(c, m.lastWords(detached)))
	if err == nil {
		_, err = c.Phase.next(claimVote) // ErrRolledBack: the tombstone
	}
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", ErrRolledBack, context.Cause(ctx)) // nobody would hear the vote
	}
	if err != nil {
		return errors.Join(err, m.withdraw(detached, t, gid, c))
	}
	return m.enterDoubt(detached, t, c, branches)
}

func closeClaim(c *claim) error {
	if c == nil {
		return nil
	}
	return c.release()
}

func checkClientGID(client string) error {
	switch {
	case client == "":
		return fmt.Errorf("%w: empty", ErrGIDInvalid)
	case len(client) > MaxClientGIDLen:
		return fmt.Errorf("%w: %d bytes, at most %d", ErrGIDInvalid, len(client), MaxClientGIDLen)
	case !utf8.ValidString(client) || strings.ContainsRune(client, 0):
		return fmt.Errorf("%w: not UTF-8 text", ErrGIDInvalid)
	}
	return nil
}

// register claims the coordinator's gid and notes PREPARING. The claim is
// locked.
func (m *Manager) register(ctx context.Context, t *transaction, gid GID, client string) (*claim, error) {
	err := m.rebuild(ctx)
	var j *journal
	if err == nil {
		j, err = m.ours(ctx)
	}
	if err != nil {
		return nil, err
	}
	st := claimState{Claimant: j.incarnation, Transaction: Transaction{
		GID: gid, ClientGID: client, Phase: Preparing, Owner: t.who.User, Addr: t.who.Addr, Database: t.who.Database,
		Since: time.Now(), Branches: t.branchIDs(),
	}}
	c, err := m.claims.create(st)
	if errors.Is(err, fs.ErrExist) {
		if err = m.retire(ctx, j, client); err == nil {
			c, err = m.claims.create(st)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%w: %q", ErrDuplicateGID, client)
	}
	if err != nil {
		return nil, err
	}
	m.at("vote: claimed")
	r := st.record(kindPreparing)
	r.Named = t.named
	if _, err = j.note(r); err == nil && t.named {
		// From here on its other name tells how it ends, and this one nothing.
		t.named = false
		_, err = j.note(record{Kind: kindForget, GID: t.gid})
	}
	if err != nil {
		return nil, errors.Join(err, c.remove())
	}
	return c, nil
}

// retire makes room for a gid whose outcome is known, if only from the log of a
// dead worker: the outcome is durably forgotten first. ErrDuplicateGID while the
// gid is live.
func (m *Manager) retire(ctx context.Context, j *journal, client string) error {
	c, err := m.take(ctx, clientName(client))
	if err != nil {
		return ignoreNotExist(err)
	}
	m.warn(ctx, "learn how "+client+" ended", m.catchUp(c, m.lastWords(ctx)))
	if !c.Phase.Terminal() || c.operatorOnly() {
		return errors.Join(fmt.Errorf("%w: %q is %s", ErrDuplicateGID, client, c.Phase), c.release())
	}
	if err := j.force(record{Kind: kindForget, GID: c.GID}); err != nil {
		return errors.Join(err, c.release())
	}
	return c.remove()
}

// operatorOnly tells whether only an operator may make the outcome forgotten.
func (st *claimState) operatorOnly() bool {
	return st.Heuristic || st.Hazard != "" || st.HandsOff != ""
}

func (st *claimState) record(k kind) record {
	return record{
		Kind: k, GID: st.GID, ClientGID: st.ClientGID, Owner: st.Owner, Addr: st.Addr, Database: st.Database,
		Branches: st.Branches,
	}
}

// enterDoubt makes the vote durable, then visible.
func (m *Manager) enterDoubt(ctx context.Context, t *transaction, c *claim, branches []BranchID) error {
	st := c.claimState
	st.Phase, st.Branches, st.Since = Prepared, branches, time.Now()
	j, err := m.ours(ctx)
	if err == nil {
		err = j.force(st.record(kindPrepared))
	}
	switch {
	case InDoubt(err):
		return m.hold(c, err) // the vote may be durable: only recovery can tell
	case err != nil:
		return errors.Join(err, m.withdraw(ctx, t, c.GID, c))
	}
	t.left()
	m.at("vote: durable")
	if err := c.set(st); err != nil {
		return m.hold(c, err)
	}
	m.inDoubt.Add(1)
	m.oldest.CompareAndSwap(0, st.Since.UnixNano())
	m.at("vote: published")
	return c.release()
}

// withdraw rolls back what may have been prepared of a transaction that will
// not vote yes, and gives its claim up. A resource that cannot be told is
// told later.
func (m *Manager) withdraw(ctx context.Context, t *transaction, gid GID, c *claim) error {
	missing := t.rollbackPrepared(ctx, gid)
	if len(missing) > 0 {
		name := ""
		if c != nil {
			name = clientName(c.ClientGID)
		}
		m.left.add(&leftover{gid: gid, decision: Abort, branches: missing, claim: name})
		return closeClaim(c)
	}
	j, err := m.ours(ctx)
	if err == nil {
		_, err = j.note(record{Kind: kindEnd, GID: gid})
	}
	if err != nil || c == nil {
		return errors.Join(err, closeClaim(c))
	}
	return m.concluded(c, "")
}

// settle decides a transaction that is in doubt. Of several deciders one wins,
// under the lock of the claim; the others are told what it decided.
func (m *Manager) settle(ctx context.Context, who Principal, name string, d Decision, operator bool) error {
	if err := m.rebuild(ctx); err != nil {
		return err
	}
	c, err := m.take(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrUnknownGID
	}
	if err != nil {
		return err
	}
	if !who.Operator && who.User != c.Owner {
		return errors.Join(ErrNotOwner, c.release())
	}
	if err := m.catchUp(c, m.lastWords(ctx)); err != nil {
		return errors.Join(err, c.release())
	}
	if c.HandsOff != "" && !operator {
		return errors.Join(fmt.Errorf("%w: left to an operator: %s", ErrUnreachable, c.HandsOff), c.release())
	}
	if c.Phase == Preparing && c.Claimant == 0 && d == Commit {
		return errors.Join(ErrUnknownGID, c.release()) // it never voted
	}
	to, err := c.Phase.next(d.event())
	if err != nil {
		return errors.Join(c.disagrees(err), c.release())
	}
	detached, cancel := m.detached(ctx)
	defer cancel()
	switch {
	case c.Phase.Terminal():
		return errors.Join(c.verdict(), c.release())
	case c.Phase == to: // decided before: go on with phase two
		return m.phaseTwo(detached, c)
	}
	voting := c.Phase == Preparing
	if err := m.decide(detached, c, to, d, who, operator); err != nil {
		return err
	}
	if voting && c.Claimant == c.GID.Incarnation {
		return c.release() // its worker sees the tombstone and rolls back
	}
	return m.phaseTwo(detached, c)
}

// disagrees names who decided otherwise.
func (st *claimState) disagrees(refusal error) error {
	switch {
	case st.Heuristic && st.Decision == Commit:
		return ErrHeuristicCommit
	case st.Heuristic:
		return ErrHeuristicRollback
	}
	return refusal
}

// verdict is the answer to a decision that was carried out before.
func (st *claimState) verdict() error {
	if st.Hazard != "" {
		return fmt.Errorf("%w: %s", ErrHeuristicHazard, st.Hazard)
	}
	return nil
}

// words returns what the log of a dead incarnation says about a transaction,
// nil if nothing.
type words func(incarnation uint64, gid GID) (*history, error)

// catchUp brings the claim up to what the log of a dead claimant says: it may
// have died between the log and the claim.
func (m *Manager) catchUp(c *claim, last words) error {
	if c.Deciding != 0 {
		if err := m.finishDeciding(c, last); err != nil {
			return err
		}
	}
	if c.Claimant == 0 || c.Claimant == m.incarnation() || c.Phase == Prepared || c.Phase.Terminal() {
		return nil
	}
	if alive, err := m.home.alive(c.Claimant); alive || err != nil {
		return err
	}
	h, err := last(c.Claimant, c.GID)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	st := c.claimState
	switch {
	case c.Phase != Preparing: // decided: perhaps finished, too
		if h != nil && h.ended {
			return c.setEnded(h.tx.Hazard)
		}
		return nil
	case h != nil && h.prepared:
		st.Phase, st.Branches, st.Since = Prepared, h.tx.Branches, h.tx.Since
	default:
		st.Claimant = 0
	}
	return c.set(st)
}

// finishDeciding learns whether a decider that died had decided.
func (m *Manager) finishDeciding(c *claim, last words) error {
	alive, err := m.home.alive(c.DecidingBy)
	if err == nil && alive {
		err = fmt.Errorf("incarnation %d is stuck", c.DecidingBy)
	}
	var h *history
	if err == nil {
		h, err = last(c.DecidingBy, c.GID)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	st := c.claimState
	st.Deciding, st.DecidingBy = 0, 0
	if h != nil && h.decision != 0 {
		if st.Phase != Preparing {
			st.Claimant = c.DecidingBy
		}
		st.Phase, _ = Prepared.next(h.decision.event())
		st.Decision, st.Heuristic, st.Decider = h.decision, h.tx.Heuristic, h.tx.Decider
	}
	return c.set(st)
}

// setEnded makes the end visible.
func (cl *claim) setEnded(hazard string) error {
	st, err := cl.claimState, error(nil)
	st.Hazard = hazard
	if st.Phase, err = cl.Phase.next(claimEnd); err == nil {
		err = cl.set(st)
	}
	return err
}

// lastWords seals the log of a dead incarnation and reads it.
func (m *Manager) lastWords(ctx context.Context) words {
	return func(incarnation uint64, gid GID) (*history, error) {
		unlock, err := m.home.lock(ctx, "seal")
		if err != nil {
			return nil, err
		}
		err = m.home.seal(incarnation)
		var s *survey
		if err == nil {
			s, err = m.home.survey(incarnation)
		}
		if err = errors.Join(err, unlock()); err != nil {
			return nil, err
		}
		return s.histories[gid], nil
	}
}

// decide makes the decision durable, then visible. After an error the claim is
// no longer the caller's.
func (m *Manager) decide(ctx context.Context, c *claim, to Phase, d Decision, who Principal, operator bool) error {
	j, err := m.ours(ctx)
	if err != nil {
		return errors.Join(err, c.release())
	}
	was := c.claimState
	st := was
	st.Deciding, st.DecidingBy = d, j.incarnation // whose log is read first if we die now
	if err := c.set(st); err != nil {
		return errors.Join(err, c.release())
	}
	st.Deciding, st.DecidingBy = 0, 0
	st.Phase, st.Decision, st.Decider, st.Heuristic = to, d, who.User, operator
	if was.Phase == Prepared || was.Claimant == 0 {
		st.Claimant = j.incarnation
	}
	r := st.record(map[Decision]kind{Commit: kindCommit, Abort: kindAbort}[d])
	if operator {
		r.Kind, r.Decision = kindHeuristic, d
	}
	r.Decider = who.User
	m.at("decide: claimed")
	switch err := j.force(r); {
	case InDoubt(err):
		return m.hold(c, err) // the decision may be durable: only recovery can tell
	case err != nil:
		if serr := c.set(was); serr != nil {
			return errors.Join(err, m.hold(c, serr))
		}
		return errors.Join(err, c.release())
	}
	m.at("decide: durable")
	if err := c.set(st); err != nil {
		return m.hold(c, err)
	}
	if was.Phase == Prepared {
		m.inDoubt.Add(-1)
	}
	m.at("decide: published")
	return nil
}

// phaseTwo tells every resource the decision, under the lock of the claim,
// which it gives back. ErrUnreachable: decided, some are told later.
func (m *Manager) phaseTwo(ctx context.Context, c *claim) error {
	j, err := m.ours(ctx)
	if err == nil {
		st := c.claimState
		st.Claimant = j.incarnation
		err = c.set(st)
	}
	if err != nil {
		return errors.Join(err, c.release())
	}
	missing, hazard, err := m.tell(ctx, c.GID, c.Decision, c.Branches)
	if err != nil {
		m.left.add(&leftover{gid: c.GID, decision: c.Decision, branches: missing, hazard: hazard, claim: claimName(&c.Transaction)})
		return errors.Join(fmt.Errorf("%w: %w", ErrUnreachable, err), c.release())
	}
	m.at("phase two: told")
	return m.end(ctx, c, hazard)
}

// end notes that every resource knows the outcome.
func (m *Manager) end(ctx context.Context, c *claim, hazard string) error {
	j, err := m.ours(ctx)
	if err == nil {
		err = m.noteEnd(j, c.GID, hazard, c.Branches, c.Decision)
	}
	if err != nil {
		return errors.Join(err, c.release())
	}
	m.at("end: noted")
	m.hazard(ctx, &c.Transaction, c.Decision, hazard)
	st := claimState{Transaction: Transaction{Hazard: hazard}}
	return errors.Join(st.verdict(), m.concluded(c, hazard))
}

// concluded makes the end visible and gives the claim back. Outcomes that
// nobody will ask for are not kept.
func (m *Manager) concluded(c *claim, hazard string) error {
	if c.Phase == Preparing {
		return c.remove()
	}
	if err := c.setEnded(hazard); err != nil {
		return m.hold(c, err)
	}
	if c.GID.Role == RoleLocal && !c.operatorOnly() {
		return c.remove()
	}
	return c.release()
}

// forgetLocal drops an outcome that the session's client has acknowledged.
func (m *Manager) forgetLocal(gid GID) error {
	j, err := m.ours(context.Background())
	if err == nil {
		_, err = j.note(record{Kind: kindForget, GID: gid})
	}
	return err
}

// forget drops an outcome that its coordinator has acknowledged.
func (m *Manager) forget(name string, operator bool) error {
	c, err := m.claims.tryTake(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errHeld) {
		return nil
	}
	if err != nil {
		return err
	}
	if !c.Phase.Terminal() || c.operatorOnly() && !operator {
		return c.release()
	}
	j, err := m.ours(context.Background())
	if err == nil {
		_, err = j.note(record{Kind: kindForget, GID: c.GID})
	}
	if err != nil {
		return errors.Join(err, c.release())
	}
	return c.remove()
}
