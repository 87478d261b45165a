package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/fdtserver/fdt/internal/ofd"
	"github.com/fdtserver/fdt/txn/internal/wal"
	"github.com/fdtserver/fdt/txn/xa"
)

// History is what all logs together say of one transaction. Records may be
// added in any order: a decision often lies in another log than the vote.
type History struct {
	Tx         xa.Transaction
	Named      time.Time   // when its client asked for its id, or gave it to a coordinator after that
	Decision   xa.Decision // 0: none
	DecidedAt  time.Time   // also of an end without a decision
	Decider    uint64      // incarnation in whose log the decision lies
	seen       []seen      // of each log with a record of it
	Prepared   bool
	Ended      bool
	Forgotten  bool
	Published  bool // its claim says that it is prepared and waits for a decision
	Claimed    bool // it has a claim
	opened     int  // its place in the order in which the votes of its worker began
	Unnamed    bool // its name is that of a later transaction, so it has no claim
	Superseded bool // likewise, and that tells that it was forgotten, which no record does
}

// seen is what one log knows of a transaction.
type seen struct {
	log uint64
	low rank // of its earliest moment
	end bool // that it ended
}

func (h *History) add(file uint64, r Record) {
	if _, known := kinds[r.Kind]; !known {
		h.Tx.HandsOff = fmt.Sprintf("log %d has a record %q of a newer version", file, r.Kind)
		return
	}
	in := h.see(file, kinds[r.Kind].rank)
	switch r.Kind {
	case KindNamed:
		h.Named = r.At
	case KindPreparing, KindPrepared:
		h.opening(r)
	case KindCommit:
		h.decide(file, r, xa.Commit)
	case KindAbort:
		h.decide(file, r, xa.Abort)
	case KindHeuristic:
		h.Tx.Heuristic = true
		h.decide(file, r, r.Decision)
	case KindEnd:
		h.Ended = true
		in.end = true
		h.Tx.Hazard = r.Hazard
		if r.Decision != 0 {
			h.decide(file, r, r.Decision)
		}
		if h.DecidedAt.IsZero() {
			h.DecidedAt = r.At
		}
	case KindForget:
		h.Forgotten, h.Ended = true, true // its end may be gone already
	case KindTaken:
		h.Tx.HandsOff = OlderCopy(r.GID)
	case KindOpen, KindBlock, KindDead, KindDecider: // of no transaction
	}
}

// see returns what is known of the log, in which a record of that rank was met.
func (h *History) see(log uint64, r rank) *seen {
	i := slices.IndexFunc(h.seen, func(s seen) bool { return s.log == log })
	if i < 0 {
		i = len(h.seen)
		h.seen = append(h.seen, seen{log: log, low: r})
	}
	h.seen[i].low = min(h.seen[i].low, r)
	return &h.seen[i]
}

func (h *History) opening(r Record) {
	if h.Prepared && r.Kind == KindPreparing {
		return // the vote knows more
	}
	h.Prepared = r.Kind == KindPrepared
	if r.Named {
		h.Named = r.At
	}
	t := &h.Tx
	t.ClientGID, t.Owner, t.Addr, t.Database = r.ClientGID, r.Owner, r.Addr, r.Database
	t.Since, t.Branches = r.At, r.Branches
}

func (h *History) decide(file uint64, r Record, d xa.Decision) {
	if h.Decision != 0 && h.Decision != d {
		h.Tx.HandsOff = fmt.Sprintf("decided both %s (log %d) and %s (log %d)", h.Decision, h.Decider, d, file)
		return
	}
	h.Decision, h.Decider, h.DecidedAt = d, file, r.At
	h.Tx.Decider, h.Tx.DecidedBy = r.Decider, r.DecidedBy
	if h.Tx.Branches == nil {
		h.Tx.Branches = r.Branches
	}
	if h.Tx.Since.IsZero() {
		h.Tx.Since, h.Tx.ClientGID, h.Tx.Owner, h.Tx.Addr, h.Tx.Database = r.At, r.ClientGID, r.Owner, r.Addr, r.Database
	}
}

// Phase is where the records leave the transaction.
func (h *History) Phase() xa.Phase {
	switch {
	case h.Ended && h.Decision == xa.Commit:
		return xa.Committed
	case h.Ended:
		return xa.Aborted
	case h.Decision == xa.Commit:
		return xa.Committing
	case h.Decision == xa.Abort:
		return xa.Aborting
	case h.Prepared:
		return xa.Prepared
	}
	return xa.Preparing
}

// Responsible is the incarnation that carries the transaction on as long as it
// lives. The tombstone of a vote is for the worker that collects it, as long as
// its log tells that there is one.
func (s *Contents) Responsible(h *History) uint64 {
	began := h.Tx.GID.Incarnation
	tombstone := h.Decision == xa.Abort && !h.Prepared && s.records[began] != nil && s.Damaged[began] == nil
	if h.Decision != 0 && !tombstone {
		return h.Decider
	}
	return began
}

// Bare tells whether nothing is known but that its client may ask for it: its
// branches are those of a transaction that no log knows.
func (h *History) Bare() bool {
	return h.Tx.GID.Role == xa.RoleLocal && !h.Named.IsZero() && h.Decision == 0 && !h.Ended
}

// Done tells whether nobody will ever ask for the transaction again.
func (h *History) Done(now time.Time, retain time.Duration) bool {
	switch {
	case h.Bare():
		return h.Tx.HandsOff == "" && now.Sub(h.Named) > retain
	case !h.Ended || h.Tx.HandsOff != "":
		return false
	case h.Forgotten || h.Tx.GID.Role == xa.RoleLocal && h.Named.IsZero() && !h.Tx.Heuristic && h.Tx.Hazard == "":
		return true
	case h.Decision == 0 && h.Named.IsZero():
		return true // rolled back before it voted: nobody knows of it
	case h.Tx.Heuristic || h.Tx.Hazard != "":
		return false // by an operator only
	}
	return now.Sub(h.DecidedAt) > retain
}

// logged is a record's place in its log, where it is read again when it is to
// be copied: copies keep what we do not know.
type logged struct {
	offset  int64
	of      *History // nil: of no transaction
	rank    rank
	decider bool
}

// Contents is the content of all logs at one time.
type Contents struct {
	Histories map[xa.GID]*History
	records   map[uint64][]logged      // of each log, in order
	Damaged   map[uint64]error         // logs that cannot be read to their end
	Reserved  map[uint64]uint64        // highest sequence number of each log
	read      map[uint64]wal.Position  // up to where each log was read
	Highest   uint64                   // incarnation ever given away
	skipped   []span                   // below it, what never was
	opened    int                      // votes that were begun
	Deciders  map[uint64][]xa.BranchID // the stores that keep decisions of an incarnation
	cleared   map[uint64]bool          // incarnations of which none is kept there any more
	Taken     xa.GID                   // that a resource knew before we gave it away; zero: none
}

func NewContents() *Contents {
	return &Contents{
		Histories: map[xa.GID]*History{}, records: map[uint64][]logged{}, Damaged: map[uint64]error{},
		Reserved: map[uint64]uint64{}, read: map[uint64]wal.Position{}, Deciders: map[uint64][]xa.BranchID{}, cleared: map[uint64]bool{},
	}
}

// Has tells whether log n was there.
func (s *Contents) Has(n uint64) bool { return s.records[n] != nil }

// Given tells whether incarnation n was ever given away. What a resource holds of one that was not is another copy's of the log.
func (s *Contents) Given(n uint64) bool {
	return n <= s.Highest && !slices.ContainsFunc(s.skipped, func(k span) bool { return k.from <= n && n <= k.through })
}

func (s *Contents) know(g given) { s.Highest, s.skipped = g.highest, g.skipped }

// Skipped notes that incarnations were never given away, both ends included.
func (s *Contents) Skipped(from, through uint64) { s.skipped = append(s.skipped, span{from, through}) }

// Last is the place of the last record of log n that was read; 0 if there is none.
func (s *Contents) Last(n uint64) int64 {
	if list := s.records[n]; len(list) > 0 {
		return list[len(list)-1].offset
	}
	return 0
}

// Count is how many records of log n were read.
func (s *Contents) Count(n uint64) int { return len(s.records[n]) }

// Begin notes that log n was there, though no record of it may be.
func (s *Contents) Begin(n uint64) { s.records[n] = []logged{} }

// Cleared notes that no decision of incarnation n is kept elsewhere any more.
func (s *Contents) Cleared(n uint64) { s.cleared[n] = true }

// contents reads all logs, or only those named. The caller holds the lock "seal",
// so that no log is compacted meanwhile.
func (h *directory) contents(only ...uint64) (*Contents, error) {
	s := NewContents()
	if len(only) == 0 {
		return s, h.readOthers(s)
	}
	err := h.tell(s)
	h.readThese(s, only)
	return s, err
}

// tell tells s which incarnations were given away.
func (h *directory) tell(s *Contents) error {
	g, err := h.given()
	s.know(g)
	return err
}

// readOthers reads all logs that are not in s yet.
func (h *directory) readOthers(s *Contents) error {
	if err := h.tell(s); err != nil {
		return err
	}
	list, err := h.logs()
	h.readThese(s, slices.DeleteFunc(list, s.Has))
	return err
}

func (h *directory) readThese(s *Contents, list []uint64) {
	for _, n := range list {
		if err := h.read(s, n); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.Damaged[n] = err
		}
	}
}

// keepsSealed takes out what was read of logs that are not sealed, and tells whether it could: not if they have records of
// a transaction. Nor is anything kept that follows from all logs together, as what a later name proves.
func (s *Contents) keepsSealed(sealed map[uint64]bool) bool {
	for _, h := range s.Histories {
		if h.Unnamed {
			return false
		}
	}
	for n, records := range s.records {
		if sealed[n] {
			continue
		}
		if slices.ContainsFunc(records, func(r logged) bool { return r.of != nil }) {
			return false
		}
		delete(s.records, n)
		delete(s.read, n)
		delete(s.Reserved, n)
		delete(s.Deciders, n)
		delete(s.Damaged, n)
	}
	return true
}

func (h *directory) read(s *Contents, n uint64) error {
	return h.replay(n, func(all iter.Seq2[[]byte, error]) error { return s.readLog(n, h.id, all) })
}

// replay has g read a log from its beginning.
func (h *directory) replay(n uint64, g func(iter.Seq2[[]byte, error]) error) error {
	f, err := os.Open(h.path(logName(n)))
	if err = errors.Join(err, h.fault.At("open log")); err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only
	return g(wal.Replay(f, wal.Position{}))
}

// readLog adds one log's records.
func (s *Contents) readLog(n uint64, id xa.LogID, replay func(func([]byte, error) bool)) error {
	s.Begin(n)
	to, err := readRecords(n, id, wal.Position{}, replay, func(at int64, r Record) {
		r.share()
		s.AddAt(n, at, r)
	})
	s.read[n] = to
	return err
}

// readRecords calls add for each record of log n, which is replayed from a position on, and
// returns the position behind. It reads on behind what it does not
// understand: every decision that is readable counts.
func readRecords(n uint64, id xa.LogID, from wal.Position, replay func(func([]byte, error) bool), add func(at int64, r Record)) (to wal.Position, bad error) {
	opened := from != wal.Position{}
	to = from
	for payload, err := range replay {
		if err != nil {
			return to, errors.Join(bad, err)
		}
		at := to.Offset
		to = to.Past(payload)
		r, known, err := decodeRecord(payload)
		if err == nil && !known && r.GID.IsZero() {
			err = fmt.Errorf("record %q of a newer version", r.Kind)
		}
		if err == nil && !opened && (r.Kind != KindOpen || r.Log != id || r.Incarnation != n) {
			err = fmt.Errorf("begins with %q of log %s, incarnation %d", r.Kind, r.Log, r.Incarnation)
		}
		if err != nil {
			bad = errors.Join(bad, err)
			continue
		}
		opened = true
		add(at, r)
	}
	return to, bad
}

// AddAt is Add of a record that is at an offset of its log.
func (s *Contents) AddAt(n uint64, offset int64, r Record) {
	s.records[n] = append(s.records[n], logged{offset, s.Add(n, r), kinds[r.Kind].rank, r.Kind == KindDecider})
}

// Decoded adds what Record.Encode wrote, at its place in log n. A record of a newer version has its transaction left alone; one of
// no transaction has the whole log taken for damaged.
func (s *Contents) Decoded(n uint64, place int64, payload []byte) {
	r, known, err := decodeRecord(payload)
	if err == nil && !known && r.GID.IsZero() {
		err = fmt.Errorf("record %q of a newer version", r.Kind)
	}
	if err != nil {
		s.Damaged[n] = errors.Join(s.Damaged[n], err)
		return
	}
	r.share()
	s.AddAt(n, place, r)
}

// Add adds a record of log n, and returns the history it belongs to.
func (s *Contents) Add(n uint64, r Record) *History {
	s.Reserved[n] = max(s.Reserved[n], r.Through)
	if r.Kind == KindDecider {
		s.Deciders[n] = append(s.Deciders[n], r.Branches...)
	}
	if r.GID.IsZero() {
		return nil
	}
	h := s.Histories[r.GID]
	if h == nil {
		h = &History{Tx: xa.Transaction{GID: r.GID}}
		s.Histories[r.GID] = h
	}
	h.add(n, r)
	if h.opened == 0 && (r.Kind == KindPreparing || r.Kind == KindPrepared) {
		s.opened++
		h.opened = s.opened
	}
	if r.Kind == KindTaken {
		s.Taken = r.GID
	}
	return h
}

// Named returns the gid by which the logs know a branch's transaction: not
// every resource can keep the role. One that was given to a coordinator after
// its client had asked for its id is known by both.
func (s *Contents) Named(gid xa.GID) xa.GID {
	for _, role := range []xa.Role{xa.RoleExternal, xa.RoleLocal} {
		if as := (xa.GID{Log: gid.Log, Incarnation: gid.Incarnation, Sequence: gid.Sequence, Role: role}); s.Histories[as] != nil {
			return as
		}
	}
	return gid
}

// Needed returns where the records of log n are that somebody may still have to
// read. The vote may go once the transaction is done; the decision and its end only
// when no other log knows an earlier moment, and the resources have been told to
// forget it.
//
// Say that the vote is in log 1, the commit in log 2 and its end in log 3. Were the commit dropped first, the vote would
// be found alone, and a coordinator could roll back what has committed. Were the end dropped before the commit, the commit
// would be carried out again, on resources that have dropped the proof of it: the outcome would be reported as unknown.
func (s *Contents) Needed(n uint64, done func(*History) bool, forgotten func(xa.GID) bool) []int64 {
	var keep []int64
	for _, r := range s.records[n] {
		if r.decider && !s.cleared[n] { // that decisions are kept elsewhere is known until none is
			keep = append(keep, r.offset)
			continue
		}
		if r.of == nil || done(r.of) && (r.rank == 0 || forgotten(r.of.Tx.GID) && !r.of.elsewhere(n, r.rank)) {
			continue
		}
		keep = append(keep, r.offset)
	}
	return keep
}

// again reads records of log n once more, at these offsets of a Contents. The
// caller holds the lock "seal", or the log is a sealed one that none but the
// caller shortens.
func (h *directory) again(n uint64, offsets ...int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		f, err := os.Open(h.path(logName(n)))
		if err = errors.Join(err, h.fault.At("read log again")); err != nil {
			yield(nil, err)
			return
		}
		defer func() { _ = f.Close() }() // read only
		wal.At(f, offsets)(yield)
	}
}

// elsewhere tells whether another log than n has a record of a lower rank.
func (h *History) elsewhere(n uint64, than rank) bool {
	return slices.ContainsFunc(h.seen, func(s seen) bool { return s.log != n && s.low < than })
}

// alive tells whether the incarnation of log n still holds its lock. A log
// that is gone belonged to nobody any more.
func (h *directory) alive(n uint64) (bool, error) {
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
		if err = errors.Join(err, lerr, f.Close(), h.fault.At("probe log")); err != nil || held || linked {
			return held, err
		}
		// Replaced between open and lock: look at the new one.
	}
}

// seal copies what is readable of a dead incarnation's log into a new file,
// forced, with DEAD at its end. Only from that may anything be decided: what
// the old file shows may never have reached the disk. A damaged log is left
// as it is. The caller holds the lock "seal".
func (h *directory) seal(n uint64) error {
	if _, known := h.sealed.Load(n); known {
		return nil
	}
	f, err := os.Open(h.path(logName(n)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err = errors.Join(err, h.fault.At("read log")); err != nil {
		return fmt.Errorf("log of incarnation %d: %w", n, err)
	}
	defer func() { _ = f.Close() }() // read only
	whole := wal.Replay(f, wal.Position{})
	last, err := lastOf(whole)
	if err != nil {
		return fmt.Errorf("log of incarnation %d: %w", n, err)
	}
	if r, _, err := decodeRecord(last); err != nil || r.Kind != KindDead || r.Incarnation != n {
		dead := Record{Kind: KindDead, At: time.Now(), Incarnation: n}
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
func (h *directory) rewrite(n uint64, payloads iter.Seq2[[]byte, error]) error {
	log, err := h.writeLog(n, payloads, nil)
	if err == nil {
		err = errors.Join(h.publishLog(n), log.Close())
	}
	if err != nil {
		return fmt.Errorf("rewrite the log of incarnation %d: %w", n, err)
	}
	return nil
}

// OlderCopy tells why a transaction is left alone.
func OlderCopy(gid xa.GID) string {
	return fmt.Sprintf("a resource held a branch of %s before that gid was given away: the log is an older copy", gid)
}

// Whole tells whether all records of the transaction are still there: those of
// its first moment go first.
func (h *History) Whole() bool {
	for _, s := range h.seen {
		if s.low == kinds[KindNamed].rank {
			return true
		}
	}
	return false
}

// EndNoted tells whether a log has the end.
func (h *History) EndNoted() bool {
	return slices.ContainsFunc(h.seen, func(s seen) bool { return s.end })
}

// EndIn tells whether one of these logs has the end.
func (h *History) EndIn(logs map[uint64]bool) bool {
	return slices.ContainsFunc(h.seen, func(s seen) bool { return s.end && logs[s.log] })
}
