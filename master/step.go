// Package master is the part of fdt that decides which workers run: rollout, adoption, stop.
// It touches no connection and runs no application code, so that its own death costs nobody anything: a new
// master reads the facts from systemd and /run/fdt and goes on where the dead one stopped.
//
// One goroutine, [Master.Run], owns everything. On every prompt it reads the facts, [plan] decides without
// side effects, and apply carries the decision out; a signal on the bus is only such a prompt.
package master

import (
	"fmt"
	"slices"

	"github.com/fdtserver/fdt/internal/snapshot"
)

// Step is how far the rollout of the pending generation has come. Steps are kept in /run/fdt/state.json by
// name, before they are acted upon; every action is safe to repeat.
type Step int

// The steps of a rollout, in order. Up to Settling nobody outside has noticed anything.
const (
	Idle       Step = iota // nothing is pending
	Opening                // the pending generation's sockets are being opened
	Starting               // its workers are being started
	Settling               // all started workers are READY and have to stay alive for reload.settle
	Telling                // old workers are told to go, and stop accepting
	Retiring               // sockets that the new generation does not have are closed
	TakingBack             // it failed: old capacity is restored, the new workers go
)

const steps = int(TakingBack) + 1

var stepNames = [steps]string{"idle", "opening", "starting", "settling", "telling", "retiring", "taking-back"}

// String is the name that the state file and fdtctl use.
func (s Step) String() string {
	if s < 0 || int(s) >= steps {
		return fmt.Sprintf("step(%d)", int(s))
	}
	return stepNames[s]
}

// Terminal reports whether no rollout is going on.
func (s Step) Terminal() bool { return s == Idle }

// ParseStep is the inverse of String; the empty string is Idle.
func ParseStep(name string) (Step, bool) {
	if name == "" {
		return Idle, true
	}
	for i, n := range stepNames {
		if n == name {
			return Step(i), true
		}
	}
	return Idle, false
}

// Event is what plan found to have happened to a rollout.
type Event int

// The events. None leaves the step as it is.
const (
	None      Event = iota
	Begun           // a snapshot was taken and made pending
	Opened          // every socket listens
	Ready           // every worker of this batch is READY
	Settled         // they lived through reload.settle
	Batch           // this batch's share of the old workers stopped accepting; more workers to come
	Told            // every old worker stopped accepting
	Retired         // removed sockets are closed, old workers may not be revived
	Failed          // a socket or a worker could not start, or died in its first moments
	TakenBack       // nothing of the failed generation accepts any more
	Stopped         // fdt is being stopped as a whole
)

const events = int(Stopped) + 1

var eventNames = [events]string{"none", "begun", "opened", "ready", "settled", "batch", "told", "retired", "failed", "taken-back", "stopped"}

// String is the event's name in the golden file and in logs.
func (e Event) String() string {
	if e < 0 || int(e) >= events {
		return fmt.Sprintf("event(%d)", int(e))
	}
	return eventNames[e]
}

// transitions is the whole life of a rollout. What is absent is refused by next.
var transitions = map[Step]map[Event]Step{
	Idle:       {Begun: Opening, Failed: TakingBack}, // Failed: a cold start finds nothing that it could serve
	Opening:    {Opened: Starting, Failed: TakingBack, Stopped: Idle},
	Starting:   {Ready: Settling, Failed: TakingBack, Stopped: Idle},
	Settling:   {Settled: Telling, Failed: TakingBack, Stopped: Idle},
	Telling:    {Batch: Starting, Told: Retiring, Stopped: Idle},
	Retiring:   {Retired: Idle, Stopped: Idle},
	TakingBack: {TakenBack: Idle, Stopped: Idle},
}

// next returns the step after event. It returns an error, and the step unchanged, for anything that the
// table does not have.
func next(s Step, e Event) (Step, error) {
	to, ok := transitions[s][e]
	if !ok {
		return s, fmt.Errorf("rollout: %s does not happen in %s", e, s)
	}
	return to, nil
}

// after is the state that is written for an event, before anything is done about the step that it leads to.
// cause is why, with Failed.
func after(s snapshot.State, from Step, e Event, cause error) (snapshot.State, Step, error) {
	to, err := next(from, e)
	if err != nil {
		return s, from, err
	}
	s.Draining = slices.Clone(s.Draining)
	switch {
	case e == Retired:
		if s.Applied != 0 {
			s.Draining = append(s.Draining, s.Applied)
			s.Previous = s.Applied
		}
		s.Applied, s.Pending = s.Pending, 0
		s.UnitHash, s.BinaryHash = s.PendingUnit, s.PendingBinary
		s.Rollouts.Applied++
	case to == Idle:
		if s.Pending != 0 {
			s.Draining = append(s.Draining, s.Pending)
		}
		s.Pending = 0
	}
	s.Step = to.String()
	if e == Failed {
		s.Rollouts.Failed++
		if s.Healing {
			s.Degraded = cause.Error() // no configuration was rejected
		} else {
			s.Rejected = cause.Error()
		}
	}
	s.Healing = s.Healing && to != Idle
	return s, to, nil
}
