package application

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/pgwire"
)

// Anybody can send a CancelRequest, and name any worker in it. So few of them are with another worker at a time that its
// control socket, which answers 16, is free for the master and the operator; and one that does not answer holds up only
// those that are for itself, and each not for long.
const (
	relays   = 2               // that this worker has under way to one other
	relayFor = 2 * time.Second // waiting for its turn and for the answer
)

// relay passes a CancelRequest on: to the worker in which the session with the number began, and if it is not there, to the others, as
// sessions move. own is this worker's socket.
func relay(dir, own string) func(ctx context.Context, pid uint32, secret []byte) {
	var turns sync.Map // of chan struct{}, by socket
	return func(ctx context.Context, pid uint32, secret []byte) {
		ctx, cancel := context.WithTimeout(ctx, relayFor)
		defer cancel()
		socks, _ := filepath.Glob(filepath.Join(dir, "*.sock")) // the pattern is sound
		for _, path := range originFirst(socks, pid) {
			if path == own {
				continue
			}
			made, _ := turns.LoadOrStore(path, make(chan struct{}, relays))
			turn, _ := made.(chan struct{}) // there is nothing else in it
			select {
			case turn <- struct{}{}:
				// A worker that has gone has no session to cancel.
				found := false
				_ = control.Call(ctx, path, control.OpCancel, control.Cancel{PID: pid, Secret: secret}, &found)
				<-turn
				if found {
					return
				}
			case <-ctx.Done():
			}
		}
	}
}

// originFirst returns the sockets of workers so that those come first in which a session with the number may have begun: numbers hold the
// low bits of the generation only.
func originFirst(socks []string, pid uint32) []string {
	var origin, others []string
	for _, path := range socks {
		gen, slot, ok := service.ParseInstance(strings.TrimSuffix(filepath.Base(path), ".sock"))
		switch {
		case ok && (pgwire.Origin{Generation: gen, Slot: slot}).Owns(pid):
			origin = append(origin, path)
		case ok:
			others = append(others, path)
		}
	}
	return append(origin, others...)
}

// Clients ask for the sessions of all workers as often as they like, so a worker asks the others one question at a time,
// and not again for a second: until then it tells what they said.
const (
	siblingFor = 250 * time.Millisecond // for one to answer; who does not is left out
	siblingAge = time.Second
)

// siblings lists the sessions of the other workers whose control sockets are in the directory; own is this worker's. It
// waits so long for an answer, and tells what it heard until that is of an age.
func siblings(dir, own string, wait, age time.Duration) func(ctx context.Context) []pgwire.Activity {
	turn := make(chan struct{}, 1)
	var said []pgwire.Activity
	var at time.Time
	return func(ctx context.Context) []pgwire.Activity {
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		defer func() { <-turn }()
		if at.IsZero() || time.Since(at) > age {
			said = question(context.WithoutCancel(ctx), dir, own, wait)
			at = time.Now()
		}
		return said
	}
}

// question asks all of them at once.
func question(ctx context.Context, dir, own string, wait time.Duration) []pgwire.Activity {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	socks, _ := filepath.Glob(filepath.Join(dir, "*.sock")) // the pattern is sound
	var mu sync.Mutex
	answers := map[string][]pgwire.Activity{}
	var all sync.WaitGroup
	for _, path := range socks {
		if path == own {
			continue
		}
		all.Go(func() {
			var list []pgwire.Activity
			if control.Call(ctx, path, control.OpSessions, control.Sessions{Within: (wait / 2).String()}, &list) == nil { // one that has gone has no sessions
				mu.Lock()
				defer mu.Unlock()
				answers[path] = list
			}
		})
	}
	all.Wait()
	var list []pgwire.Activity
	for _, path := range slices.Sorted(maps.Keys(answers)) {
		list = append(list, answers[path]...)
	}
	return list
}
