package main

import (
	"context"
	"sync"
	"time"
)

// request is one request of a load.
type request struct {
	client int
	at     time.Time // when its client began to wait for the answer
	took   time.Duration
	err    error
}

// asker is one client of a load. It may keep a connection between calls of ask; quit closes it.
type asker interface {
	ask(ctx context.Context) error
	quit()
}

// answerTimeout bounds one request: a server that hangs has failed it.
const answerTimeout = 10 * time.Second

// steady has clients send requests on a fixed timetable, each one every so often, until ctx ends. A client whose answer comes too
// late for its next request counts the wait from when that was due: a server does not look better for holding up its clients.
func steady(ctx context.Context, clients int, every time.Duration, client func(n int) asker) []request {
	var all sync.WaitGroup
	logs := make([][]request, clients)
	begun := time.Now()
	for n := range clients {
		all.Go(func() {
			c := client(n)
			defer c.quit()
			due := begun.Add(every * time.Duration(n) / time.Duration(clients))
			free := due
			for ; sleepUntil(ctx, due); due = due.Add(every) {
				r := request{client: n, at: time.Now()}
				if free.After(due) {
					r.at = due
				}
				within, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
				r.err = c.ask(within)
				cancel()
				free = time.Now()
				r.took = free.Sub(r.at)
				logs[n] = append(logs[n], r)
			}
		})
	}
	all.Wait()
	var whole []request
	for _, log := range logs {
		whole = append(whole, log...)
	}
	return whole
}

// sleepUntil tells whether the time came before the end of ctx.
func sleepUntil(ctx context.Context, at time.Time) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
