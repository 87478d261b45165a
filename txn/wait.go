package txn

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Located is a Branch on a session of its resource that others see there, too.
type Located interface {
	// Backend is the resource's number of the session that the branch is begun
	// on: a process of PostgreSQL, a connection of MariaDB.
	Backend() uint64
}

// Place is where a transaction has a branch.
type Place struct {
	Resource string    `json:"resource"`
	Backend  uint64    `json:"backend"` // see Located
	Since    time.Time `json:"since"`   // the resource gives one number to many, one after the other

	Cut time.Time `json:"cut,omitzero"` // when the branch was taken from its code, which goes on: see Session.Guard
}

// Watched is a Resource that can tell for whose locks its sessions wait.
type Watched interface {
	// Waits tells which of these sessions wait for locks, and for whose, on a
	// connection that no branch is kept from. known lists the branches there
	// that have voted or may have, for a resource that cannot name them itself.
	Waits(ctx context.Context, backends []uint64, known func() ([]KnownBranch, error)) ([]Wait, error)
}

// KnownBranch is a branch that is prepared as far as is known.
type KnownBranch struct {
	GID   GID
	Proof Proof
}

// What a Wait is for.
const (
	ForLock       = "lock"       // of the resource
	ForConnection = "connection" // to the resource, of those that its pool may have
	ForResume     = "resume"     // of the resource, which an operator has paused
)

// Wait is what a transaction waits for, as a rule at a resource.
type Wait struct {
	Resource string    `json:"resource,omitempty"` // empty: it is not for a resource
	For      string    `json:"for"`
	Since    time.Time `json:"since,omitzero"`    // zero if the resource does not tell
	Why      string    `json:"why,omitempty"`     // there is no connection yet
	Backend  uint64    `json:"backend,omitempty"` // the resource's number of the session that waits for a lock
	Lock     string    `json:"lock,omitempty"`    // what is locked, in the words of PostgreSQL's pg_locks.locktype
	Holders  []Holder  `json:"holders,omitempty"` // who has the lock, or waits for it in front; none if the resource does not tell
	Fault    string    `json:"fault,omitempty"`   // why nothing is told of a session that may wait for a lock
}

// Holder is who has what others wait for, as far as the resource tells.
type Holder struct {
	Session     uint32 `json:"session,omitempty"`     // a client's, by its number here; 0: it is none of those that are listed
	Backend     uint64 `json:"backend,omitempty"`     // its session at the resource; 0: none, as a prepared transaction needs none
	GID         GID    `json:"gid,omitzero"`          // of a prepared transaction of ours
	ClientGID   string `json:"client_gid,omitempty"`  // its coordinator's name for that, if it has one
	Owner       string `json:"owner,omitempty"`       // whose that is
	Prepared    string `json:"prepared,omitempty"`    // the resource's name of one of others
	OneOf       int    `json:"one_of,omitempty"`      // of how many prepared transactions it is one, where the resource does not tell which
	User        string `json:"user,omitempty"`        // of the resource
	Database    string `json:"database,omitempty"`    // likewise
	Application string `json:"application,omitempty"` // as the resource's client calls itself
	Address     string `json:"address,omitempty"`     // of the resource's client
}

// places are where a session's open transaction has branches, and what it waits
// for before it has another. Others may ask for them at any time.
type places struct {
	mu   sync.Mutex
	list []Place
	wait Wait // zero: for nothing
}

func (p *places) enter(resource string, b Branch) {
	at, ok := b.(Located)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = append(p.list, Place{Resource: resource, Backend: at.Backend(), Since: time.Now()})
}

// cut notes that a branch was cut off.
func (p *places) cut(resource string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.list {
		if at := &p.list[i]; at.Resource == resource && at.Cut.IsZero() {
			at.Cut = time.Now()
		}
	}
}

func (p *places) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = p.list[:0]
}

// Places returns where the open transaction has branches. Other than all else
// of a Session it may be called by anybody at any time.
func (s *Session) Places() []Place {
	s.places.mu.Lock()
	defer s.places.mu.Unlock()
	return slices.Clone(s.places.list)
}

// awaits notes what the transaction waits for; the zero Wait is that it does so no more.
func (p *places) awaits(w Wait) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch w.For {
	case "":
	case p.wait.For: // for another reason
		w.Since = p.wait.Since
	default:
		w.Since = time.Now()
	}
	p.wait = w
}

// Waiting returns what the open transaction waits for before it is begun on a
// resource, if it does: a connection, or the end of a pause. As Places it may be
// called by anybody at any time.
func (s *Session) Waiting() (w Wait, waits bool) {
	s.places.mu.Lock()
	defer s.places.mu.Unlock()
	return s.places.wait, s.places.wait.For != ""
}

// Waits asks the resources at once for whose locks the branches at these places
// wait. Those that do not wait are not in the answer, those whose resource does
// not answer before ctx ends with a Fault.
func (m *Manager) Waits(ctx context.Context, at []Place) []Wait {
	backends := map[string][]uint64{}
	for _, p := range at {
		backends[p.Resource] = append(backends[p.Resource], p.Backend)
	}
	var mu sync.Mutex
	var list []Wait
	var all sync.WaitGroup
	for name, own := range backends {
		r, ok := m.resources[name].(Watched)
		if !ok {
			continue
		}
		all.Go(func() {
			waits, err := r.Waits(ctx, own, func() ([]KnownBranch, error) { return m.knownOn(ctx, name) })
			if cause := context.Cause(ctx); err != nil && cause != nil {
				err = cause
			}
			if err != nil {
				waits = nil
				for _, n := range own {
					waits = append(waits, Wait{Backend: n, Fault: err.Error()})
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for _, w := range waits {
				w.Resource, w.For = name, ForLock
				list = append(list, w)
			}
		})
	}
	all.Wait()
	m.nameHolders(ctx, list)
	return list
}

// nameHolders names the prepared transactions as their coordinators do, as far as that is known.
func (m *Manager) nameHolders(ctx context.Context, list []Wait) {
	var all []Transaction
	for i := range list {
		for n := range list[i].Holders {
			h := &list[i].Holders[n]
			if h.GID.Role != RoleExternal {
				continue
			}
			if all == nil {
				all, _ = m.List(ctx) // what is missing keeps its number
			}
			if k := slices.IndexFunc(all, func(t Transaction) bool { return t.GID == h.GID }); k >= 0 {
				h.ClientGID, h.Owner = all[k].ClientGID, all[k].Owner
			}
		}
	}
}

// knownOn lists the branches on a resource of transactions that have not ended.
func (m *Manager) knownOn(ctx context.Context, resource string) (list []KnownBranch, err error) {
	all, err := m.List(ctx)
	for _, t := range all {
		if t.Phase == Committed || t.Phase == Aborted {
			continue
		}
		for _, b := range t.Branches {
			if b.Resource == resource {
				list = append(list, KnownBranch{t.GID, b.Proof})
			}
		}
	}
	return list, err
}
