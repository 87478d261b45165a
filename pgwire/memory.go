package pgwire

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/statement"
)

// A session has one budget of memory, Server.MaxMemory. What it keeps counts
// against it: prepared statements, portals with their rows, settings and
// savepoints. So does what its request makes on the way: the text, what is
// parsed of it, and every value. What counts is the text of values and a bound
// for what is made of them, so that the sum says how much can be held, and not
// what the garbage collector holds at a moment.

// Bounds in bytes of what is kept besides texts and values.
const (
	statementCost = 512 // a prepared statement or a portal, in its map
	valueCost     = 64  // a value, and its place in a list
	columnCost    = 64  // a column of a plan
	settingCost   = 192 // a setting in its map, and an older value of it
	savepointCost = 512 // a savepoint, here and in the transaction
)

// spend counts what the request has made against the session's budget. A
// request that makes much takes turns with others.
func (se *session) spend(bytes int) error {
	se.spent += bytes
	se.strive(max(0, bytes))
	n := se.spent + se.keeps()
	if n > se.server.MaxMemory {
		return se.full()
	}
	if !se.share.cover(n + se.text) {
		return errCrammed
	}
	return nil
}

// keeps is what is kept between requests.
func (se *session) keeps() int {
	return se.statements.bytes + se.portals.bytes + se.settings.bytes
}

// long is asked before a message takes so many bytes, and tells whether it may.
func (se *session) long(bytes int) bool {
	se.text = bytes
	se.turn.goOn(se.ctx)
	return se.share.cover(bytes + se.keeps())
}

// crammed answers a message for which there was no memory, and which was passed over.
func (se *session) crammed(kind byte) error {
	switch kind {
	case 'Q', 'F':
		return se.refused(errCrammed)
	case 'd', 'c', 'f': // which are passed over in any case
		return nil
	}
	se.fail(errCrammed)
	se.skipping = true
	se.report(errCrammed)
	return se.wire.fault
}

// errCrammed is the error where all sessions have used up what they have together.
var errCrammed = errorf("53200", "out of memory").hint("Other sessions hold what this one asks for. Try again later.")

// Bounds in bytes of what a session takes of the memory that all share.
const (
	own   = 256 << 10 // it has in any case
	grain = 64 << 10  // is taken and given back at once
)

// pool is memory that all sessions share.
type pool struct {
	most  int64
	taken atomic.Int64
}

// share is what one session has of a pool.
type share struct {
	of   *pool
	held int64
}

// cover makes the share enough for a session that holds so many bytes, and no larger. It returns false if there is no more.
func (s *share) cover(bytes int) bool {
	want := int64(max(0, bytes-own)+grain-1) / grain * grain
	more := want - s.held
	if more == 0 {
		return true
	}
	if s.of.taken.Add(more) > s.of.most && more > 0 {
		s.of.taken.Add(-more)
		return false
	}
	s.held = want
	return true
}

// strive counts work. From when there is much, the request goes on only in its turn.
func (se *session) strive(bytes int) {
	if se.work += bytes; se.work >= light {
		se.turn.goOn(cmp.Or(se.asked, se.ctx))
	}
}

// meter is spend for what can be asked to stop: its error is the reason then.
func (se *session) meter(ctx context.Context) statement.Meter {
	return func(bytes int) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return se.spend(bytes)
	}
}

// watch counts work of which nothing is left, for what can be asked to stop.
func (se *session) watch(ctx context.Context) value.Watch {
	return func(bytes int) error {
		se.strive(bytes)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return nil
	}
}

// full is the error of a session that has used its budget up.
func (se *session) full() *Failure {
	f := errorf("53200", "out of memory")
	f.Detail = fmt.Sprintf("One session may hold and make %d bytes of statements, portals, settings, savepoints and values.", se.server.MaxMemory)
	return f.hint("Close statements and portals that are no longer used, or send DEALLOCATE ALL; split what is large.")
}

// store is named things that are kept, and how many bytes they are taken for.
type store[T any] struct {
	named map[string]kept[T]
	bytes int
}

type kept[T any] struct {
	it    T
	bytes int
}

func (s *store[T]) get(name string) (it T, ok bool) {
	k, ok := s.named[name]
	return k.it, ok
}

// put keeps a thing, in the place of another of its name.
func (s *store[T]) put(name string, it T, bytes int) {
	s.drop(name)
	if s.named == nil {
		s.named = map[string]kept[T]{}
	}
	s.named[name] = kept[T]{it, bytes}
	s.bytes += bytes
}

func (s *store[T]) drop(name string) {
	s.bytes -= s.named[name].bytes
	delete(s.named, name)
}

func (s *store[T]) clear() { *s = store[T]{} }

// forget lets go of a prepared statement. If a portal goes on holding its plan, that counts there.
func (se *session) forget(name string) {
	p := se.statements.named[name]
	se.statements.drop(name)
	se.bequeath(p.it, p.bytes)
}

// ends lets go of a portal. If it counted for its plan, another that holds the same does.
func (se *session) ends(name string) {
	po := se.portals.named[name]
	se.portals.drop(name)
	if po.it != nil {
		se.bequeath(po.it.plan, po.it.bytes)
	}
}

// bequeath has a portal count for a plan of so many bytes, if one holds it.
func (se *session) bequeath(p *plan, bytes int) {
	if bytes == 0 {
		return
	}
	for name, of := range se.portals.named {
		if of.it.plan == p {
			of.it.bytes += bytes
			of.bytes += bytes
			se.portals.named[name] = of
			se.portals.bytes += bytes
			return
		}
	}
}

// sizeOf bounds the memory in bytes of a list of values.
func sizeOf(list []value.Value) int {
	n := 0
	for _, v := range list {
		n += valueCost + len(v.Text)
	}
	return n
}
