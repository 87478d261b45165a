package txn

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/fdtserver/fdt/txn/internal/ofd"
	"github.com/fdtserver/fdt/txn/internal/wal"
)

// history is what all logs together say of one transaction. Records may be
// added in any order: a decision often lies in another log than the vote.
type history struct {
	tx        Transaction
	named     time.Time // when its client asked for its id, or gave it to a coordinator after that
	decision  Decision  // 0: none
	decidedAt time.Time // also of an end without a decision
	decider   uint64    // incarnation in whose log the decision lies
	seen      []seen    // of each log with a record of it
	prepared  bool
	ended     bool
	forgotten bool
	published bool // its claim says that it is prepared and waits for a decision
}

// seen is what one log knows of a transaction.
type seen struct {
	log uint64
	low rank // of its earliest moment
	end bool // that it ended
}

func (h *history) add(file uint64, r record, known bool) {
	if !known {
		h.tx.HandsOff = fmt.Sprintf("log %d has a record %q of a newer version", file, r.Kind)
		return
	}
	in := h.see(file, kinds[r.Kind].rank)
	switch r.Kind {
	case kindNamed:
		h.named = r.At
	case kindPreparing, kindPrepared:
		h.opening(r)
	case kindCommit:
		h.decide(file, r, Commit)
	case kindAbort:
		h.decide(file, r, Abort)
	case kindHeuristic:
		h.tx.Heuristic = true
		h.decide(file, r, r.Decision)
	case kindEnd:
		h.ended = true
		in.end = true
		h.tx.Hazard = r.Hazard
		if h.decidedAt.IsZero() {
			h.decidedAt = r.At
		}
	case kindForget:
		h.forgotten, h.ended = true, true // its end may be gone already
	case kindOpen, kindBlock, kindDead: // of no transaction
	}
}

// see returns what is known of the log, in which a record of that rank was met.
func (h *history) see(log uint64, r rank) *seen {
	i := slices.IndexFunc(h.seen, func(s seen) bool { return s.log == log })
	if i < 0 {
		i = len(h.seen)
		h.seen = append(h.seen, seen{log: log, low: r})
	}
	h.seen[i].low = min(h.seen[i].low, r)
	return &h.seen[i]
}

func (h *history) opening(r record) {
	if h.prepared && r.Kind == kindPreparing {
		return // the vote knows more
	}
	h.prepared = r.Kind == kindPrepared
	if r.Named {
		h.named = r.At
	}
	t := &h.tx
	t.ClientGID, t.Owner, t.Addr, t.Database = r.ClientGID, r.Owner, r.Addr, r.Database
	t.Since, t.Branches = r.At, r.Branches
}

func (h *history) decide(file uint64, r record, d Decision) {
	if h.decision != 0 && h.decision != d {
		h.tx.HandsOff = fmt.Sprintf("decided both %s (log %d) and %s (log %d)", h.decision, h.decider, d, file)
		return
	}
	h.decision, h.decider, h.decidedAt = d, file, r.At
	h.tx.Decider = r.Decider
	if h.tx.Branches == nil {
		h.tx.Branches = r.Branches
	}
	if h.tx.Since.IsZero() {
		h.tx.Since, h.tx.Owner, h.tx.Addr, h.tx.Database = r.At, r.Owner, r.Addr, r.Database
	}
}

// phase is where the records leave the transaction.
func (h *history) phase() Phase {
	switch {
	case h.ended && h.decision == Commit:
		return Committed
	case h.ended:
		return Aborted
	case h.decision == Commit:
		return Committing
	case h.decision == Abort:
		return Aborting
	case h.prepared:
		return Prepared
	}
	return Preparing
}

// responsible is the incarnation that carries the transaction on as long as it
// lives.
func (h *history) responsible() uint64 {
	tombstone := h.decision == Abort && !h.prepared
	if h.decision != 0 && !tombstone {
		return h.decider
	}
	return h.tx.GID.Incarnation
}

// bare tells whether nothing is known but that its client may ask for it: its
// branches are those of a transaction that no log knows.
func (h *history) bare() bool {
	return h.tx.GID.Role == RoleLocal && !h.named.IsZero() && h.decision == 0 && !h.ended
}

// done tells whether nobody will ever ask for the transaction again.
func (h *history) done(now time.Time, retain time.Duration) bool {
	switch {
	case h.bare():
		return h.tx.HandsOff == "" && now.Sub(h.named) > retain
	case !h.ended || h.tx.HandsOff != "":
		return false
	case h.forgotten || h.tx.GID.Role == RoleLocal && h.named.IsZero() && !h.tx.Heuristic && h.tx.Hazard == "":
		return true
	case h.decision == 0 && h.named.IsZero():
		return true // rolled back before it voted: nobody knows of it
	case h.tx.Heuristic || h.tx.Hazard != "":
		return false // by an operator only
	}
	return now.Sub(h.decidedAt) > retain
}

// logged is a record's place in its log, where it is read again when it is to
// be copied: copies keep what we do not know.
type logged struct {
	offset int64
	of     *history // nil: of no transaction
	rank   rank
}

// survey is the content of all logs at one time.
type survey struct {
	histories map[GID]*history
	records   map[uint64][]logged     // of each log, in order
	damaged   map[uint64]error        // logs that cannot be read to their end
	reserved  map[uint64]uint64       // highest sequence number of each log
	read      map[uint64]wal.Position // up to where each log was read
	highest   uint64                  // incarnation ever given away
}

func newSurvey() *survey {
	return &survey{
		histories: map[GID]*history{}, records: map[uint64][]logged{}, damaged: map[uint64]error{},
		reserved: map[uint64]uint64{}, read: map[uint64]wal.Position{},
	}
}

// survey reads all logs, or only those named. The caller holds the lock "seal",
// so that no log is compacted meanwhile.
func (h *home) survey(only ...uint64) (*survey, error) {
	s := newSurvey()
	var err error
	if s.highest, err = h.highest(); err != nil {
		return nil, err
	}
	list := only
	if len(only) == 0 {
		if list, err = h.logs(); err != nil {
			return nil, err
		}
	}
	for _, n := range list {
		if err := h.read(s, n); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.damaged[n] = err
		}
	}
	return s, nil
}

func (h *home) read(s *survey, n uint64) error {
	f, err := os.Open(h.path(logName(n)))
	if err = errors.Join(err, h.fault.at("open log")); err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only
	return s.readLog(n, h.id, wal.Replay(f, wal.Position{}))
}

// readLog adds one log's records. It reads on behind what it does not
// understand: every decision that is readable counts.
func (s *survey) readLog(n uint64, id LogID, replay func(func([]byte, error) bool)) error {
	var bad error
	s.records[n] = []logged{}
	for payload, err := range replay {
		if err != nil {
			return errors.Join(bad, err)
		}
		at := s.read[n].Offset
		s.read[n] = s.read[n].Past(payload)
		r, known, err := decodeRecord(payload)
		if err == nil && !known && r.GID.IsZero() {
			err = fmt.Errorf("record %q of a newer version", r.Kind)
		}
		if err == nil && len(s.records[n]) == 0 && (r.Kind != kindOpen || r.Log != id || r.Incarnation != n) {
			err = fmt.Errorf("begins with %q of log %s, incarnation %d", r.Kind, r.Log, r.Incarnation)
		}
		if err != nil {
			bad = errors.Join(bad, err)
			continue
		}
		r.share()
		s.records[n] = append(s.records[n], logged{at, s.add(n, r, known), kinds[r.Kind].rank})
	}
	return bad
}

// add adds a record of log n, and returns the history it belongs to.
func (s *survey) add(n uint64, r record, known bool) *history {
	s.reserved[n] = max(s.reserved[n], r.Through)
	if r.GID.IsZero() {
		return nil
	}
	h := s.histories[r.GID]
	if h == nil {
		h = &history{tx: Transaction{GID: r.GID}}
		s.histories[r.GID] = h
	}
	h.add(n, r, known)
	return h
}

// named returns the gid by which the logs know a branch's transaction: not
// every resource can keep the role. One that was given to a coordinator after
// its client had asked for its id is known by both.
func (s *survey) named(gid GID) GID {
	for _, role := range []Role{RoleExternal, RoleLocal} {
		if as := (GID{gid.Log, gid.Incarnation, gid.Sequence, role}); s.histories[as] != nil {
			return as
		}
	}
	return gid
}

// needed returns where the records of log n are that somebody may still have to
// read. The vote may go once the transaction is done; the decision and its end only
// when no other log knows an earlier moment, and the resources were told to
// forget it.
func (s *survey) needed(n uint64, done func(*history) bool, swept func(GID) bool) []int64 {
	var keep []int64
	for _, r := range s.records[n] {
		if r.of == nil || done(r.of) && (r.rank == 0 || swept(r.of.tx.GID) && !r.of.elsewhere(n, r.rank)) {
			continue
		}
		keep = append(keep, r.offset)
	}
	return keep
}

// again reads records of log n once more, at these offsets of a survey. The
// caller holds the lock "seal", or the log is a sealed one that none but the
// caller shortens.
func (h *home) again(n uint64, offsets ...int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		f, err := os.Open(h.path(logName(n)))
		if err = errors.Join(err, h.fault.at("read log again")); err != nil {
			yield(nil, err)
			return
		}
		defer func() { _ = f.Close() }() // read only
		wal.At(f, offsets)(yield)
	}
}

// elsewhere tells whether another log than n has a record of a lower rank.
func (h *history) elsewhere(n uint64, than rank) bool {
	return slices.ContainsFunc(h.seen, func(s seen) bool { return s.log != n && s.low < than })
}

// alive tells whether the incarnation of log n still holds its lock. A log
// that is gone belonged to nobody any more.
func (h *home) alive(n uint64) (bool, error) {
	for {
		f, err := os.OpenFile(h.path(logName(n)), os.O_RDWR|syscall.O_CLOEXEC, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		held, err := ofd.Held(f)
		linked, lerr := ofd.Linked(f)
		if err = errors.Join(err, lerr, f.Close(), h.fault.at("probe log")); err != nil || held || linked {
			return held, err
		}
		// Replaced between open and lock: look at the new one.
	}
}

// seal copies what is readable of a dead incarnation's log into a new file,
// forced, with DEAD at its end. Only from that may anything be decided: what
// the old file shows may never have reached the disk. A damaged log is left
// as it is. The caller holds the lock "seal".
func (h *home) seal(n uint64) error {
	if _, known := h.sealed.Load(n); known {
		return nil
	}
	f, err := os.Open(h.path(logName(n)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err = errors.Join(err, h.fault.at("read log")); err != nil {
		return fmt.Errorf("log of incarnation %d: %w", n, err)
	}
	defer func() { _ = f.Close() }() // read only
	whole := wal.Replay(f, wal.Position{})
	last, err := lastOf(whole)
	if err != nil {
		return fmt.Errorf("log of incarnation %d: %w", n, err)
	}
	if r, _, err := decodeRecord(last); err != nil || r.Kind != kindDead || r.Incarnation != n {
		dead := record{Kind: kindDead, At: time.Now(), Incarnation: n}
		if err := h.rewrite(n, ended(whole, dead.encode())); err != nil {
			return err
		}
	}
	h.sealed.Store(n, true)
	return nil
}

// ended yields all payloads, then the last one.
func ended(all iter.Seq2[[]byte, error], last []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		more := true
		all(func(payload []byte, err error) bool {
			more = yield(payload, err)
			return more
		})
		if more {
			yield(last, nil)
		}
	}
}

// lastOf returns the last of all payloads, of which there must be one.
func lastOf(payloads iter.Seq2[[]byte, error]) (last []byte, err error) {
	for payload, err := range payloads {
		if err != nil {
			return nil, err
		}
		last = payload
	}
	if last == nil {
		return nil, errors.New("no record is readable")
	}
	return last, nil
}

// rewrite replaces the log of a dead incarnation.
func (h *home) rewrite(n uint64, payloads iter.Seq2[[]byte, error]) error {
	log, err := h.writeLog(n, payloads, nil)
	if err == nil {
		err = errors.Join(h.publishLog(n), log.Close())
	}
	if err != nil {
		return fmt.Errorf("rewrite the log of incarnation %d: %w", n, err)
	}
	return nil
}
