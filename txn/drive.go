package txn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/fdtserver/fdt/txn/internal/ledger"
	"github.com/fdtserver/fdt/txn/internal/pending"
)

// errand is a task at work. What the rules look at is in its job; here is what they do not look at.
type errand struct {
	m        *Manager
	ctx      context.Context // of what is done now
	client   context.Context // ends with the client
	name     string          // of the claim
	who      Principal
	t        *transaction     // of taskVote
	given    string           // likewise: the client's gid
	voted    []BranchID       // likewise
	of       *pending.Outcome // of taskFinish
	found    *ledger.State    // of taskConclude: the claim as it was
	own      ledger.Log       // see log; nil: none yet
	last     ledger.DeadLog   // reads the logs of the dead
	c        *ledger.Claim    // that it has, or had
	said     *ledger.History  // by the last log of a dead incarnation; nil: nothing, or it is in the claim by now
	why      error            // the last failure
	errs     []error          // all of them
	wrong    error            // why some could not be told
	missing  []BranchID       // those
	told     []string         // resources that did as told
	hazard   string           // what went against the decision
	stuck    uint64           // an incarnation that lives, and decides without having the claim
	noted    ledger.Mark      // of the last record that was noted
	absent   error            // why the claim could not be had: fs.ErrNotExist, ErrHeld
	detached context.CancelFunc

	record  *ledger.Record // of what is committed here: the decision
	at      BranchID       // likewise: the branch whose commit is the decision
	lost    lost
	beside  bool  // the client has been answered
	warning error // what is to be said to who was told that it is committed
	unasked error // of taskAsk: why the decider could not be asked
	dropped bool  // of taskTakeIn: the decider may drop the decision
}

// run does a task, as the rules say.
func (w *errand) run(ctx context.Context, j job) error {
	w.ctx, w.client = ctx, ctx
	err := w.goOn(j, nil, input{})
	if w.beside {
		return err // it is at work
	}
	return w.over(err)
}

// goOn does what is left of a list, and then what the rules say.
func (w *errand) goOn(j job, effects []effect, in input) error {
	for {
		for i, e := range effects {
			if e.do == doAnswer {
				return w.answer(&j, e)
			}
			if e.do == doReply {
				w.goOnBeside(j, effects[i+1:], in)
				return nil
			}
			how := w.effect(&j, e, &in)
			if how == done && e.then != "" {
				w.m.at(e.then)
			}
			if how != done && j.at != atEnd {
				in.result, in.of = how, e.do
				break
			}
		}
		j.self = w.self()
		j, effects = j.next(in)
		in = input{result: done}
	}
}

// log is the log that the errand writes, one and the same from its first look at a claim to its end: what it says in a claim about
// itself, and the lock of that, end with the incarnation whose log it is.
func (w *errand) log() (_ ledger.Log, err error) {
	if w.t != nil && w.t.log != nil {
		return w.t.log, nil
	}
	if w.own == nil {
		w.own, err = w.m.ledger.Log(w.ctx)
	}
	return w.own, err
}

// self is the incarnation of that log; 0 if there is none yet.
func (w *errand) self() uint64 {
	switch {
	case w.t != nil && w.t.log != nil:
		return w.t.log.Incarnation()
	case w.own != nil:
		return w.own.Incarnation()
	}
	return w.m.ledger.Incarnation()
}

// goOnBeside goes on while the client hears that it is committed. Its session waits for the end of that with its next
// transaction.
func (w *errand) goOnBeside(j job, effects []effect, in input) {
	told := make(chan struct{})
	w.t.told, w.beside = told, true
	go func() {
		defer close(told)
		defer w.m.work.end(j.gid)
		w.attach()
		w.detach()
		if err := w.over(errors.Join(w.goOn(j, effects, in), w.warning)); err != nil {
			w.m.log.WarnContext(w.ctx, "a transaction was answered, and a resource is told later",
				slog.String("gid", j.gid.String()), slog.Any("error", err))
		}
	}()
}

// over ends the errand, and gives back what it has.
func (w *errand) over(err error) error {
	if w.c != nil {
		err = errors.Join(err, w.c.Release())
	}
	w.attach()
	return err
}

// effect does one thing, and tells how that went.
func (w *errand) effect(j *job, e effect, in *input) result {
	err := w.do(j, e, in)
	switch {
	case err == nil:
		return done
	case (e.do == doTake || e.do == doTry) && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, ledger.ErrHeld)),
		e.do == doCreate && errors.Is(err, fs.ErrExist):
		w.absent = err
		return none
	case j.at == atForgetting && e.do == doPublish: // then it is forced
		return failed
	case j.then == atRetiring && (j.at == atReading || j.at == atLearned):
		w.m.warn(w.ctx, "learn how "+j.claim.gid.String()+" ended", err)
		return failed
	}
	w.why = err
	w.errs = append(w.errs, err)
	if (e.do == doForce || e.do == doDecide || e.do == doCommit) && InDoubt(err) {
		return unsure
	}
	return failed
}

func (w *errand) do(j *job, e effect, in *input) error {
	switch e.do {
	case doCreate:
		if j.task != taskVote {
			return w.createHere(e.claim)
		}
		return w.create(e.claim)
	case doTake, doTry:
		return w.take(j, e.do, in)
	case doRead:
		return w.read(j, e.whose, in)
	case doIntend:
		w.detach()
		fallthrough
	case doPublish:
		return w.publish(j, e.claim)
	case doAcknowledge:
		return w.c.Acknowledge(w.told...)
	case doRelease:
		return w.c.Release()
	case doRemove:
		return w.c.Remove()
	case doHold:
		last := len(w.errs) - 1
		w.errs[last] = w.m.ledger.KeepLocked(w.c, w.errs[last])
	case doNote, doForce:
		return w.write(j, e)
	case doPrepare:
		return w.prepare(j, in)
	case doLeave:
		w.t.left()
	case doRollback:
		w.errs = append(w.errs, w.t.rollback(w.client))
	case doUndo:
		w.missing = w.t.rollbackPrepared(w.ctx, j.gid)
		in.missing = len(w.missing) > 0
	case doDisown:
		w.errs = append(w.errs, w.m.giveAway(w.ctx, w.t, j.gid))
	case doCommit:
		return w.commit()
	case doProve:
		return w.prove(in)
	case doDecide:
		return w.decide(j)
	case doAsk:
		return w.ask(j, in)
	case doTell:
		w.detach()
		if w.t != nil {
			w.tellHere(j, in)
			break
		}
		w.told, w.missing, w.hazard, w.wrong = w.m.tell(w.ctx, w.c.GID, e.decision, w.c.Untold())
		in.missing, in.hazard = w.wrong != nil, w.hazard != ""
	case doSweep:
		w.sweep(j)
	case doOwe:
		w.owe(j, e)
	case doAnswer, doReply: // see goOn
	}
	return nil
}

// detach has what follows go on without the client.
func (w *errand) detach() {
	switch {
	case w.detached != nil:
	case w.t != nil:
		w.ctx, w.detached = w.t.detached(w.client)
	default:
		w.ctx, w.detached = w.m.detached(w.client)
	}
}

// attach ends that.
func (w *errand) attach() {
	if w.detached != nil {
		w.detached()
		w.ctx, w.detached = w.client, nil
	}
}

// take takes the claim. Whoever may have to write begins its log before the rules are asked.
func (w *errand) take(j *job, how act, in *input) (err error) {
	switch {
	case w.c != nil && j.task == taskAdopt: // by who found that there is none
	case how == doTry:
		w.c, err = w.m.ledger.TryTake(w.ctx, w.name)
	default:
		w.c, err = w.m.ledger.Take(w.ctx, w.name)
	}
	if err != nil {
		return err
	}
	in.claim = factsOf(&w.c.State)
	in.gone = w.client.Err() != nil
	in.owed = w.m.pending.Has(w.c.GID)
	switch j.task {
	case taskDecide:
		in.refused = !w.who.Operator && w.who.User != w.c.Owner || !j.gid.IsZero() && j.gid != w.c.GID
	case taskConclude:
		in.refused = w.c.GID != j.gid || w.c.Phase != w.found.Phase || w.c.Claimant != w.found.Claimant
	case taskVote, taskAdopt, taskFinish:
		in.refused = j.at != atRetiring && w.c.GID != j.gid
	case taskForget, taskCommit, taskRehearse, taskAsk, taskTakeIn: // those that are decided here take none
	}
	if !in.refused && j.task != taskConclude && (j.task != taskDecide || !w.c.Phase.Terminal()) {
		if _, err = w.log(); err != nil {
			err = errors.Join(err, w.c.Release())
		}
	}
	return err
}

// read reads the log of a dead incarnation.
func (w *errand) read(j *job, n uint64, in *input) error {
	alive, err := w.m.ledger.Alive(n)
	if err == nil && !alive {
		if w.last == nil {
			w.last = w.m.ledger.DeadLogs(w.ctx)
		}
		if w.said, err = w.last(n, w.c.GID); err == nil {
			in.said = saidOf(w.said)
			return nil
		}
		err = fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if in.said.alive = alive; alive && j.claim.deciding != 0 {
		w.stuck = n
	}
	return err
}

// publish writes what the rules say into the claim, and with it all that they do not look at.
func (w *errand) publish(j *job, f facts) error {
	st := w.c.State
	st.Phase, st.Claimant, st.Deciding, st.DecidingBy = f.phase, f.claimant, f.deciding, f.decidingBy
	st.Decision, st.Heuristic, st.ForgottenBy = f.decision, f.operator, f.forgotten
	switch h := w.said; {
	case f.handsOff && st.HandsOff == "":
		st.HandsOff = ledger.OlderCopy(st.GID)
	case j.at == atLearned && h != nil:
		w.learned(&st, h)
	case j.at == atDoubt:
		st.Branches, st.Since = w.voted, time.Now()
	case j.at == atDeciding && f.decision != 0 && f.deciding == 0:
		st.Decider, st.Decided, st.DecidedBy = w.who.User, time.Now(), w.by(j)
	case f.phase.Terminal() && f.forgotten == 0:
		st.Hazard, st.Ended = w.hazard, time.Now()
	}
	w.said = nil
	if err := w.c.Set(st); err != nil {
		return err
	}
	if j.at == atDoubt {
		w.m.oldest.CompareAndSwap(0, st.Since.UnixNano())
	}
	return nil
}

// learned adds to a claim what the log of who died says of it.
func (w *errand) learned(st *ledger.State, h *ledger.History) {
	switch {
	case st.Phase == Prepared:
		if h.Prepared && w.c.Phase == Preparing {
			st.Branches, st.Since = h.Tx.Branches, h.Tx.Since
		}
	case st.Phase.Terminal():
		st.Hazard, st.Ended = h.Tx.Hazard, time.Now()
	case h.Decision != 0:
		st.Decider, st.DecidedBy, st.Decided = h.Tx.Decider, h.Tx.DecidedBy, h.DecidedAt
	}
}

// by is the person behind an operator's decision.
func (w *errand) by(j *job) Operator {
	if j.operator {
		return w.who.By
	}
	return Operator{}
}

// write notes a record, or forces it.
func (w *errand) write(j *job, e effect) error {
	log, err := w.log()
	if err != nil {
		return err
	}
	r := ledger.Record{Kind: e.record, GID: e.gid}
	switch {
	case e.record == ledger.KindDecider:
		if err = log.DecidedIn(w.at); InDoubt(err) {
			err = errors.New(err.Error()) // of the log; this transaction is not in it
		}
		return err
	case e.record == ledger.KindCommit && j.task == taskCommit && j.way == byLog:
		w.record = w.t.decision(w.voted)
		r = *w.record
	case e.record == ledger.KindCommit && j.task != taskDecide:
		r = *w.record
	case e.record == ledger.KindEnd && e.decision != 0 && j.way == byDecider:
		r = *w.record
		r.Kind, r.Decision = e.record, e.decision
	case e.record == ledger.KindEnd && e.decision != 0:
		return w.m.noteEnd(log, e.gid, "", w.voted, e.decision)
	case e.record == ledger.KindPreparing:
		r = w.c.State.Record(e.record)
		r.Named = w.t.named
	case e.record == ledger.KindPrepared:
		st := w.c.State
		st.Branches = w.voted
		r = st.Record(e.record)
	case e.record == ledger.KindForget && e.gid.Role == RoleLocal && w.t != nil:
		w.t.named = false
	case e.record == ledger.KindEnd && w.t == nil:
		if err := w.m.noteEnd(log, e.gid, w.hazard, w.c.Branches, w.c.Decision); err != nil {
			return err
		}
		if w.of != nil {
			w.m.toldAll(w.ctx, w.of)
		}
		w.m.hazard(w.ctx, &w.c.Transaction, w.c.Decision, w.hazard)
		return nil
	case j.at == atDeciding:
		r = w.c.State.Record(e.record)
		r.Decider = w.who.User
		if j.operator {
			r.Decision, r.DecidedBy = j.wants, w.who.By
		}
	}
	if e.do == doForce {
		what := PartRecord
		if e.record == ledger.KindCommit || j.at == atDeciding {
			what = PartDecide
		}
		part := begin(w.observer(), what, "")
		err = log.Force(r)
		part.End(err)
		if err == nil && j.operator && j.at == atDeciding {
			w.m.log.LogAttrs(w.ctx, slog.LevelInfo, "an operator decided a transaction", w.who.attrs(eventDecided,
				slog.String("gid", w.c.Name()), slog.String("owner", w.c.Owner), slog.String("outcome", j.wants.String()))...)
		}
		return err
	}
	w.noted, err = log.Note(r)
	return err
}

// owe has the executors tell what could not be told.
func (w *errand) owe(j *job, e effect) {
	o := &pending.Outcome{GID: j.gid, Decision: e.decision, Open: len(w.lost.branches) > 0}
	missing := w.missing
	switch {
	case e.asking:
		o.Asking, missing = w.record, []BranchID{w.t.deciding.known()}
	case j.task == taskAsk && e.decision == Abort:
		missing = append([]BranchID{w.at}, w.record.Branches...)
	case j.task == taskAsk, j.task == taskTakeIn:
		missing = w.record.Branches
	case j.task == taskAdopt:
		missing = w.c.Untold()
	case j.task == taskRehearse && len(missing) == 0:
		return
	}
	w.m.pending.Hazard(o, w.hazard)
	if e.claimed {
		o.Claim = w.name
	}
	w.m.pending.Add(o, missing)
}

// create makes the claim of a vote.
func (w *errand) create(f facts) error {
	st := ledger.State{Claimant: f.claimant, Transaction: Transaction{
		GID: f.gid, ClientGID: w.given, Phase: f.phase, Owner: w.who.User, Addr: w.who.Addr, Database: w.who.Database,
		Since: time.Now(), Branches: w.t.branchIDs(),
	}}
	if taken, err := w.m.openElsewhere(w.ctx, w.name); taken || err != nil {
		return cmp.Or(err, error(ErrDuplicateGID))
	}
	err := w.m.admit(w.ctx, w.who.User)
	if err != nil {
		return err
	}
	if w.c, err = w.m.ledger.Create(w.ctx, st); err != nil && !errors.Is(err, fs.ErrExist) {
		err = w.m.noRoom(w.ctx, err)
	}
	return err
}

// prepare is phase one.
func (w *errand) prepare(j *job, in *input) (err error) {
	w.voted, err = w.t.prepare(w.client, j.gid)
	in.vote = voteYes
	switch {
	case w.t.taken.Load() && j.task == taskVote: // not the client's own gid, which the resource's answer would be taken for
		in.vote, err = voteTaken, fmt.Errorf("%w: %w", ErrRolledBack, err)
	case w.t.taken.Load():
		in.vote = voteTaken
	case err != nil:
		in.vote = voteNo
	case len(w.voted) == 0:
		in.vote = voteReadOnly
	}
	if err != nil {
		w.errs = append(w.errs, err)
	}
	w.detach()
	return nil
}

// answer is what the client is told: what the rules say, with what they do not know, and what failed.
func (w *errand) answer(j *job, e effect) error {
	var err error
	switch {
	case j.decidedHere():
		return w.answerHere(e)
	case e.err == nil:
	case e.err == ErrUnknownGID && (w.c == nil || w.c.Forgotten()):
		err = w.m.elsewhere(w.client, w.who, w.name, j.wants)
	case e.err == ErrDuplicateGID:
		err = fmt.Errorf("%w: %q", e.err, w.given)
	case e.err == ErrHeuristicHazard:
		err = verdict(e.err, cmp.Or(w.hazard, w.c.Hazard))
	case e.err == ErrUnreachable && w.stuck != 0:
		err = fmt.Errorf("%w: incarnation %d is stuck", e.err, w.stuck)
	case e.err == ErrUnreachable && w.wrong != nil:
		err = fmt.Errorf("%w: %w", e.err, w.wrong)
	case e.err == ErrUnreachable:
		err = fmt.Errorf("%w: %w", e.err, leftAlone(w.c.HandsOff))
	case e.err == ErrRolledBack && w.client.Err() != nil:
		err = fmt.Errorf("%w: %w", e.err, context.Cause(w.client)) // nobody would hear the vote
	case e.err == ErrRolledBack && w.absent != nil:
		err = fmt.Errorf("%w: its claim is gone: %w", e.err, w.absent)
	default:
		err = e.err
	}
	if j.task == taskVote { // what failed first tells more
		return errors.Join(append(w.errs, err)...)
	}
	return errors.Join(append([]error{err}, w.errs...)...)
}

// verdict adds to the answer that something went against a decision what that was.
func verdict(why *Error, hazard string) error {
	switch why {
	case nil:
		return nil
	case ErrHeuristicHazard:
		return fmt.Errorf("%w: %s", why, hazard)
	}
	return why
}

// factsOf is a claim as the rules see it.
func factsOf(st *ledger.State) facts {
	return facts{
		gid: st.GID, phase: st.Phase, claimant: st.Claimant, deciding: st.Deciding, decidingBy: st.DecidingBy,
		decision: st.Decision, operator: st.Heuristic, hazard: st.Hazard != "", handsOff: st.HandsOff != "", forgotten: st.ForgottenBy,
	}
}

// saidOf is what a log says as the rules see it; nil if nothing.
func saidOf(h *ledger.History) said {
	if h == nil {
		return said{}
	}
	return said{
		prepared: h.Prepared, decision: h.Decision, operator: h.Tx.Heuristic, ended: h.Ended, hazard: h.Tx.Hazard != "",
	}
}
