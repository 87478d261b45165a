package txn

import (
	"context"
	"errors"
	"log/slog"
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
)

func event(id string) slog.Attr { return slog.String("message_id", id) }

// once tells whether this process has not said that before.
func (m *Manager) once(what string) bool {
	_, told := m.told.LoadOrStore(what, true)
	return !told
}

// fail ends this process's part: nothing more may be promised or decided.
func (m *Manager) fail(err error) {
	if m.Err() != nil {
		return
	}
	m.kill(err)
	file := ""
	if n := m.incarnation(); n != 0 {
		file = m.home.path(logName(n))
	}
	m.log.Error("the transaction log has failed: this process decides nothing more, its successor recovers",
		slog.String("file", file), slog.Any("error", err), event(eventPoisoned))
}

// waitsLong reports a transaction that has been in doubt for longer than
// Limits.Doubt, once.
func (m *Manager) waitsLong(ctx context.Context, t *Transaction) {
	if t.Phase == Prepared && time.Since(t.Since) > m.opt.Limits.Doubt && m.once("doubt "+t.GID.String()) {
		m.log.WarnContext(ctx, "a prepared transaction waits for its decision", slog.String("gid", t.Name()),
			slog.String("owner", t.Owner), slog.Time("since", t.Since), event(eventInDoubt))
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

// reach reports that a resource went away or came back.
func (m *Manager) reach(ctx context.Context, resource string, err error) {
	switch was := m.left.fared(resource, time.Now(), err); {
	case err != nil && was == nil:
		m.log.WarnContext(ctx, "a resource cannot be reached: decisions wait for it",
			slog.String("resource", resource), slog.Any("error", err), event(eventUnreachable))
	case err == nil && was != nil:
		m.log.InfoContext(ctx, "a resource can be reached again", slog.String("resource", resource), event(eventBack))
	}
}
