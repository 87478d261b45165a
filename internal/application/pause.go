package application

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/journal"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/txn"
)

// pauses has this worker's resources paused as an operator has asked for: see snapshot.Dir.Pauses.
type pauses struct {
	dir     snapshot.Dir
	manager *txn.Manager
	log     *slog.Logger

	mu    sync.Mutex
	of    map[string]snapshot.Pause // as the Manager has them
	fault string                    // that was told last
}

// look does what is asked for now. While something of that cannot be read, no pause ends.
func (p *pauses) look(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, err := p.dir.Pauses()
	if err == nil {
		p.fault = ""
	} else if p.fault != err.Error() {
		p.fault = err.Error()
		p.log.WarnContext(ctx, "what an operator has paused cannot be read: no pause ends", "error", err)
	}
	for name, was := range p.of {
		if err != nil {
			break
		}
		if is, still := now[name]; !still || !is.Since.Equal(was.Since) {
			p.manager.Resume(ctx, name)
			delete(p.of, name)
			p.log.InfoContext(ctx, "a resource is used again", "resource", name, "paused_for", time.Since(was.Since).Round(time.Millisecond),
				"message_id", journal.ResourceResumed)
		}
	}
	for name, is := range now {
		was, known := p.of[name]
		if !p.manager.Pause(name, is.Detached) || known && was.Detached == is.Detached {
			continue
		}
		p.of[name] = is
		paused := p.log.With("resource", name, "by", is.By, "message_id", journal.ResourcePaused)
		if is.Detached {
			paused.InfoContext(ctx, "a resource is paused, and fdt has no connection to it: who needs it waits")
		} else {
			paused.InfoContext(ctx, "a resource is paused: who needs it waits")
		}
	}
	return err
}

// known is what is paused.
func (p *pauses) known() map[string]snapshot.Pause {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.of)
}

// stateOf is the state of a paused resource.
func stateOf(p snapshot.Pause) string {
	if p.Detached {
		return control.ResourcePaused
	}
	return control.ResourcePausing
}

// uses is what holds each resource that can be paused.
func (p *pauses) uses(resources []string) map[string]control.Use {
	known, all := p.known(), map[string]control.Use{}
	for _, name := range resources {
		u, ok := p.manager.Use(name)
		if !ok {
			continue
		}
		of := control.Use{Branches: u.Branches, Untold: u.Untold, Connections: u.Connections, Waiting: u.Waiting}
		if is, ok := known[name]; ok {
			of.State = stateOf(is)
		}
		all[name] = of
	}
	return all
}
