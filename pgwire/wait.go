package pgwire

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fdtserver/fdt/txn"
)

// A database is asked for whose locks its sessions wait only if somebody wants to know and a statement takes long; then once at a time, and
// not again for a while: for the moment of the answer PostgreSQL stops all its locking.
const (
	waitsAfter = 500 * time.Millisecond // a statement takes long
	waitsAge   = time.Second            // an answer is told again
	waitsFor   = 200 * time.Millisecond // a question of a client may take
)

// ForSlot is what a [txn.Wait] is for of who has no slot of the worker yet.
const ForSlot = "slot"

// waiting is what the resources have said of waits.
type waiting struct {
	mu     sync.Mutex
	asking chan struct{} // closed when who asks has an answer; nil if nobody does
	said   map[txn.Place]txn.Wait
	at     time.Time
	within time.Duration // for a client's question; zero: waitsFor
}

// ask returns the waits at these places, of which an answer that is not old may know none.
func (w *waiting) ask(ctx context.Context, m *txn.Manager, at []txn.Place) map[txn.Place]txn.Wait {
	for {
		w.mu.Lock()
		if w.asking == nil {
			break
		}
		asking := w.asking
		w.mu.Unlock()
		select {
		case <-asking:
		case <-ctx.Done():
			return faultAt(at, context.Cause(ctx))
		}
	}
	if !w.at.IsZero() && time.Since(w.at) < waitsAge {
		defer w.mu.Unlock()
		return w.said
	}
	asking := make(chan struct{})
	w.asking = asking
	w.mu.Unlock()
	said, whole := map[txn.Place]txn.Wait{}, true
	for _, wait := range m.Waits(ctx, at) {
		for _, p := range at {
			if p.Resource == wait.Resource && p.Backend == wait.Backend {
				said[p] = wait
			}
		}
		whole = whole && wait.Fault == ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asking = nil
	close(asking)
	if whole { // who has more time may hear more
		w.said, w.at = said, time.Now()
	}
	return said
}

// faultAt says of all places why nothing is known.
func faultAt(at []txn.Place, why error) map[txn.Place]txn.Wait {
	all := map[txn.Place]txn.Wait{}
	for _, p := range at {
		all[p] = txn.Wait{Resource: p.Resource, For: txn.ForLock, Backend: p.Backend, Fault: why.Error()}
	}
	return all
}

// Waits is Activity with the locks for which statements wait that take long. The resources are asked for as long as ctx lets them. Who holds
// a lock is known as the resource knows it: see Join.
func (s *Server) Waits(ctx context.Context) []Activity {
	list := s.Activity()
	maybe := func(a *Activity) bool { return a.State == "active" && len(a.Waits) == 0 } // nothing else is what it waits for
	var at []txn.Place
	for i := range list {
		if a := &list[i]; maybe(a) && time.Since(a.Query) >= waitsAfter {
			at = append(at, a.Places...)
		}
	}
	if len(at) == 0 {
		return list
	}
	waits := s.waiting.ask(ctx, s.Manager, at)
	for i := range list {
		a := &list[i]
		if !maybe(a) {
			continue
		}
		for _, p := range a.Places {
			if w, ok := waits[p]; ok {
				a.Waits = append(a.Waits, w)
			}
		}
	}
	return list
}

// Join finds those who hold the locks that others wait for among these sessions, which are those of all workers at best.
func Join(list []Activity) {
	type place struct {
		resource string
		backend  uint64
	}
	at := map[place]*Activity{}
	since := map[place]time.Time{}
	having := map[txn.GID]*Activity{}
	for i := range list {
		a := &list[i]
		for _, p := range a.Places {
			key := place{p.Resource, p.Backend}
			if since[key].Before(p.Since) { // another has just given it back
				at[key], since[key] = a, p.Since
			}
		}
		if gid, err := txn.ParseGID(a.GID); err == nil {
			having[anyRole(gid)] = a
		}
	}
	for i := range list {
		list[i].Waits = slices.Clone(list[i].Waits)
		for n := range list[i].Waits {
			w := &list[i].Waits[n]
			w.Holders = slices.Clone(w.Holders)
			for k := range w.Holders {
				h := &w.Holders[k]
				holder := at[place{w.Resource, h.Backend}]
				if !h.GID.IsZero() {
					holder = having[anyRole(h.GID)]
				}
				if holder != nil {
					h.Session = holder.PID
				}
			}
		}
	}
}

// anyRole is the same for all that txn.GID.Same takes for one.
func anyRole(gid txn.GID) txn.GID {
	gid.Role = txn.RoleLocal
	return gid
}

// HolderText says in a few words who holds a lock. Only an operator is told what is not of fdt's.
func HolderText(h *txn.Holder, operator bool) string {
	switch {
	case h.Session != 0:
		return fmt.Sprintf("session %d", h.Session)
	case h.ClientGID != "":
		return fmt.Sprintf("prepared %q", h.ClientGID)
	case !h.GID.IsZero():
		return "prepared " + h.GID.String()
	case h.OneOf > 0:
		return fmt.Sprintf("one of %d prepared transactions", h.OneOf)
	case !operator && h.Prepared != "":
		return "a prepared transaction of others"
	case !operator:
		return "a session of others"
	case h.Prepared != "":
		return fmt.Sprintf("prepared %q of others", h.Prepared)
	}
	var about []string
	for _, part := range []struct{ name, value string }{{"user", h.User}, {"database", h.Database}, {"application", h.Application}, {"from", h.Address}} {
		if part.value != "" {
			about = append(about, part.name+" "+part.value)
		}
	}
	return fmt.Sprintf("backend %d (%s)", h.Backend, strings.Join(about, ", "))
}

// WaitText says what a wait is for: whose lock, or what else.
func WaitText(w *txn.Wait, operator bool) string {
	switch w.For {
	case ForSlot:
		return "a slot (workers.threads)"
	case txn.ForConnection:
		return "a connection (" + w.Why + ")"
	case txn.ForResume:
		return "the end of a pause"
	}
	var who []string
	for i := range w.Holders {
		who = append(who, HolderText(&w.Holders[i], operator))
	}
	switch {
	case w.Fault != "" && operator:
		return "not told: " + w.Fault
	case len(who) == 0:
		return "not told"
	}
	return strings.Join(who, ", ")
}
