package txn_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/txn"
)

// TestAnswerDecided: a commit is answered when it is decided. The next transaction of its session, and its end, wait until all know;
// recovery that comes by meanwhile leaves it to its session.
func TestAnswerDecided(t *testing.T) {
	for _, decider := range []bool{false, true} {
		p := newBankPlace(t)
		telling, goOn := make(chan struct{}), make(chan struct{})
		hooks := steps{"send commit prepared a": func() error {
			telling <- struct{}{}
			<-goOn
			return nil
		}, "send resolve a": func() error {
			t.Error("recovery tells it")
			return nil
		}}
		change := []func(*txn.Options){faultySpools(hooks.at), func(o *txn.Options) { o.AnswerDecided = true }}
		if decider {
			change = append(change, p.withBank(t, hooks.at))
		}
		m := p.place.open(t, change...)
		work := func(s *txn.Session) {
			t.Helper()
			begin(t, s)
			for _, name := range []string{"a", "b"} {
				b, err := s.Branch(t.Context(), name)
				wantErr(t, err, nil)
				wantErr(t, b.(faultyBranch).Branch.(putter).Put(t.Context(), []byte("message")), nil)
			}
			if decider {
				wantErr(t, pay(t.Context(), s, p.root), nil)
			}
		}
		s := m.NewSession(alice)
		work(s)
		wantErr(t, s.Commit(t.Context()), nil)
		testwait.For(t, "phase two", telling)
		wantErr(t, m.Scan(t.Context()), nil)
		txn.Retry(m, t.Context())
		p.wantMessages(t, 0, 1)
		next := make(chan struct{})
		go func() {
			defer close(next)
			work(s)
		}()
		select {
		case <-next:
			t.Error("the next transaction does not wait")
		default:
		}
		goOn <- struct{}{}
		testwait.For(t, "the next transaction", next)
		p.wantMessages(t, 1, 1)
		wantErr(t, s.Commit(t.Context()), nil)
		testwait.For(t, "phase two", telling)
		goOn <- struct{}{}
		wantErr(t, s.Close(t.Context()), nil)
		p.wantMessages(t, 2, 2)
		closeAll(t, m)
		p.wantLogs(t, 0)
	}
}

// TestAnswerDecidedUntold: what cannot be told after the answer is in the journal, and told later.
func TestAnswerDecidedUntold(t *testing.T) {
	p := newFastPlace(t)
	var log bytes.Buffer
	hooks := steps{"send commit prepared a": isDown}
	m := p.open(t, faultySpools(hooks.at), func(o *txn.Options) {
		o.AnswerDecided = true
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	s := m.NewSession(alice)
	begin(t, s)
	for _, name := range []string{"a", "b"} {
		b, err := s.Branch(t.Context(), name)
		wantErr(t, err, nil)
		wantErr(t, b.(faultyBranch).Branch.(putter).Put(t.Context(), []byte("message")), nil)
	}
	wantErr(t, s.Commit(t.Context()), nil)
	wantErr(t, s.Close(context.WithoutCancel(t.Context())), nil)
	if !strings.Contains(log.String(), "a resource is told later") {
		t.Errorf("the journal: %s", log.String())
	}
	txn.Rested(m)
	txn.Retry(m, t.Context())
	p.wantMessages(t, 1, 1)
	closeAll(t, m)
}
