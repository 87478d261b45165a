package txn

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"path/filepath"
	"sync"
	"time"
)

// Identifiers of the events that an operator may act on, given with the
// attribute message_id; journalctl -x explains them from the message catalog.
const (
	eventInDoubt     = "48292507ce5f5b42941d4ffea9ac1d18"
	eventDecided     = "dc215148d2a357d7bb868b1145d56ab7"
	eventHazard      = "5082b1a93a6e54099b18bbd3a1b2ee73"
	eventPoisoned    = "96502609c20c5b00a6cb37f6a8dc44e6"
	eventUnreachable = "245b8b0373b4575b941a2859e4e6a3df"
	eventBack        = "075b6d326faa58839cdd9f423cb1f6e7"
	eventForeign     = "c86b405bafdd40f7bf931ede72c399c4"
	eventDamaged     = "03ccae3f4dd0405cb7d47738ef40cd7f"
	eventLeftAlone   = "8aee9be3871849afb88606f3151bf499"
	eventAside       = "f979d53993365005a2678176fcee3b72"
	eventAdopted     = "0a6b9154c7795dd885ac0c5d39f03cd7"
	eventAbandoned   = "583bca4f73435d5e95b30d0fa521c910"
	eventStore       = "7507edc49e4c4d55bdcc373bad001a3c"
	eventRefused     = "a35afe95cf03542fb605e6c5070742d9"
	eventNoRoom      = "bbca64c48ae05e558b5db4bdb95d7d0d"
	eventTrimmed     = "5d382d6b51c45d54a8a13e8bd1af9746"
	eventForgotten   = "adff28fe3aa557b38df845fa3777303b"
	eventCutOff      = "15b9ed2aceca4b28b4b4ba3b39a93d22"
)

func event(id string) slog.Attr { return slog.String("message_id", id) }

// reported is what this process has told once. What it has no more reason to tell, as it is no longer so, is not kept.
type reported struct {
	mu    sync.Mutex
	last  map[string]time.Time // when there was reason to
	swept time.Time
}

// reportedFor is how long a thing is known to be told that there is no reason to tell any more: longer than a scan lasts, with the
// pause after it.
const reportedFor = 6 * time.Hour

// once tells whether it was not told before.
func (s *reported) once(what string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.swept) > reportedFor {
		maps.DeleteFunc(s.last, func(_ string, last time.Time) bool { return now.Sub(last) > reportedFor })
		s.swept = now
	}
	if s.last == nil {
		s.last = map[string]time.Time{}
	}
	_, told := s.last[what]
	s.last[what] = now
	return !told
}

// once tells whether this process has not said that before.
func (m *Manager) once(what string) bool { return m.told.once(what, time.Now()) }

// waitsLong reports a transaction that has been in doubt for longer than
// Limits.Doubt, once, and of many one a minute.
func (m *Manager) waitsLong(ctx context.Context, t *Transaction) {
	if t.Phase != Prepared || time.Since(t.Since) <= m.opt.Limits.Doubt || !m.once("doubt "+t.GID.String()) {
		return
	}
	if more, tell := m.floods.pass("doubt"); tell {
		m.log.WarnContext(ctx, "a prepared transaction waits for its decision", slog.String("gid", t.Name()),
			slog.String("owner", t.Owner), slog.Time("since", t.Since), slog.Int("more", more), event(eventInDoubt))
	}
}

// hazard reports a heuristic outcome.
func (m *Manager) hazard(ctx context.Context, t *Transaction, d Decision, what string) {
	if what != "" {
		m.meters.hazards.Add(1)
		m.log.ErrorContext(ctx, "a transaction's outcome is not the one decided, or unknown", slog.String("gid", t.Name()),
			slog.String("decision", d.String()), slog.Any("error", errors.New(what)), event(eventHazard))
	}
}

// alarm reports what must be left alone, once.
func (m *Manager) alarm(ctx context.Context, a action) {
	if m.once("alarm " + a.gid.String() + " " + a.resource + " " + a.why) {
		m.log.ErrorContext(ctx, "a transaction is left alone: settle it by hand", slog.String("gid", a.gid.String()),
			slog.String("resource", a.resource), slog.Any("error", errors.New(a.why)), event(eventLeftAlone))
	}
}

// reach takes note that a resource could be reached, by whatever was asked of it, or not, and reports that it went away
// or came back. Of one that is paused an operator knows.
func (m *Manager) reach(ctx context.Context, resource string, err error) {
	was := m.pending.Fared(resource, time.Now(), err)
	if errors.Is(was, ErrPaused) {
		was = nil
	}
	switch {
	case errors.Is(err, ErrPaused):
	case err != nil && was == nil:
		m.log.WarnContext(ctx, "a resource cannot be reached: decisions wait for it",
			slog.String("resource", resource), slog.Any("error", err), event(eventUnreachable))
	case err == nil && was != nil:
		m.log.InfoContext(ctx, "a resource can be reached again", slog.String("resource", resource), event(eventBack))
	}
}

// Heard takes note, as reach does, of how somebody else fared who asked a resource: nil, or why it does not answer. What waits
// for it is told at once when it is back.
func (m *Manager) Heard(ctx context.Context, resource string, err error) { m.reach(ctx, resource, err) }

// told is the Manager as the ledger tells it what happens.
type told Manager

// Failed reports that this process decides nothing more.
func (m *told) Failed(file string, err error) {
	m.log.Error("the transaction log has failed: this process decides nothing more, its successor recovers",
		slog.String("file", file), slog.Any("error", err), event(eventPoisoned))
}

// Full reports that there is no space, and returns what a client is told.
func (m *told) Full(ctx context.Context, err error) error { return (*Manager)(m).noRoom(ctx, err) }

// Damaged reports, once, a log that cannot be read to its end.
func (m *told) Damaged(ctx context.Context, file string, err error) {
	if (*Manager)(m).once("damaged " + filepath.Base(file)) {
		m.log.ErrorContext(ctx, "cannot read the log of a dead worker: its transactions are left alone",
			slog.String("file", file), slog.Any("error", err), event(eventDamaged))
	}
}

// Froze reports a process that was killed, or could not be.
func (m *told) Froze(ctx context.Context, pid int, file string, err error) {
	attrs := []any{slog.String("file", file), slog.Int("process", pid)}
	if err != nil {
		m.log.ErrorContext(ctx, "a stopped process holds a lock that recovery needs, and cannot be killed: let it go on or kill it",
			append(attrs, slog.Any("error", err))...)
		return
	}
	m.log.WarnContext(ctx, "killed a process that was stopped with a lock that recovery needs", attrs...)
}

// Silenced reports a process of this cluster whose part others have ended.
func (m *told) Silenced(ctx context.Context, incarnation uint64) {
	m.log.WarnContext(ctx, "a process of the cluster has said nothing for long, as where it stands still or its host is cut off: its session was ended, and what it has left is settled by others",
		slog.Uint64("incarnation", incarnation))
}
