package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"
	"time"
)

// Those who wait for a census share it, and wait no longer than they may.
func TestCensus(t *testing.T) {
	r := open(t, Options{})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	r.census.turn <- struct{}{}
	if err := r.settled(ended); !errors.Is(err, errBusy) {
		t.Errorf("settled in vain: %v", err)
	}
	if err := poll(ended, func() (bool, error) { return false, nil }); !errors.Is(err, errBusy) {
		t.Errorf("poll in vain: %v", err)
	}
	var all sync.WaitGroup
	began := time.Now()
	for range 100 {
		all.Go(func() {
			if err := r.settled(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	<-r.census.turn
	all.Wait()
	if !r.census.began.After(began) {
		t.Error("nobody looked")
	}
}

// INNODB_TRX shows the past as long as somebody else reads it all the time: then, time must do.
func TestCensusAmongReaders(t *testing.T) {
	r := open(t, Options{})
	db, err := sql.Open("mysql", server.DSN("root", "a"))
	must(t, err)
	defer func() { _ = db.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	reading, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for n := 0; ; n++ {
			if _, err := db.ExecContext(ctx, "SELECT * FROM information_schema.INNODB_TRX"); err != nil {
				return
			}
			if n == 0 {
				close(reading)
			}
		}
	}()
	select {
	case <-reading:
	case <-over:
		t.Fatal("the reader failed")
	}
	must(t, r.settled(t.Context()))
	cancel()
	<-over
}
