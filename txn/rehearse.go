package txn

import (
	"context"
	"sync"
)

// Rehearse has a transaction of its own prepared on every resource and rolled
// back, in parallel, to tell whether transactions will get through; try, if not
// nil, is called with each branch before it is prepared, and must change
// nothing. It returns why not, by resource, and leaves nothing in doubt:
// recovery rolls back what it could not, even after this process's death. A
// resource that is paused is left out.
func (m *Manager) Rehearse(ctx context.Context, try func(ctx context.Context, resource string, b Branch) error) map[string]error {
	faults := map[string]error{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for name := range m.resources {
		if m.paused(name) {
			continue
		}
		all.Go(func() {
			if err := m.rehearse(ctx, name, try); err != nil {
				mu.Lock()
				defer mu.Unlock()
				faults[name] = err
			}
		})
	}
	all.Wait()
	return faults
}

func (m *Manager) rehearse(ctx context.Context, resource string, try func(context.Context, string, Branch) error) (err error) {
	s := m.NewSession(Principal{User: "fdt", Addr: "self-check"})
	defer func() {
		if cerr := s.Close(ctx); err == nil {
			err = cerr
		}
	}()
	var b Branch
	if err = s.Begin(ctx, TxOptions{}); err == nil {
		s.tx.rehearsal = true
		b, err = s.Branch(ctx, resource)
	}
	if err == nil && try != nil {
		err = try(ctx, resource, b)
	}
	// A spool without a message has nothing to prepare.
	if p, ok := b.(interface {
		Put(ctx context.Context, body []byte) error
	}); ok && err == nil {
		err = p.Put(ctx, nil)
	}
	if err != nil {
		return err
	}
	t := s.tx
	if d, ok := m.resources[resource].(Decider); ok && resource == m.opt.Decider {
		return d.CanDecide(ctx) // it prepares nothing of what it decides
	}
	_ = s.leash.letGo()
	w := &errand{m: m, t: t, who: t.who}
	return w.run(ctx, job{task: taskRehearse, gid: t.gid})
}
