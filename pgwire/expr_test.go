package pgwire

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"github.com/fdtserver/fdt/pgwire/statement"
	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
)

// TestEvaluationEnds shows that a statement that was cancelled, or has no room left, ends at its next value.
func TestEvaluationEnds(t *testing.T) {
	se := &session{server: &Server{MaxMemory: 1 << 10}}
	ctx, cancel := context.WithCancelCause(t.Context())
	se.server.Procedures = &procedure.Set{}
	se.server.init()
	se.server.MaxMemory = 8 << 10
	run := func(text string) error {
		list, err := statement.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		p, err := simple(se.planner(text, func(int) error { return nil }), list[0])
		if err != nil {
			t.Fatal(err)
		}
		_, err = se.query(ctx, p, nil)
		return err
	}
	if err := run("SELECT ARRAY[repeat('x', 9000)]"); err == nil || txn.SQLState(err) != "53200" {
		t.Errorf("too much: %v", err)
	}
	se.spent = 0
	cancel(errCanceled)
	if err := run("SELECT 1 + 1"); !errors.Is(err, errCanceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := se.meter(ctx)(0); !errors.Is(err, errCanceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// waited is a database's error that a wait for a lock took too long.
type waited struct{ error }

func (waited) LockWait() bool { return true }

// TestSharedFailures: what one session is told changes nothing of what another is told, though they are told the same, and keeps
// its own reason.
func TestSharedFailures(t *testing.T) {
	m, err := txn.Open(t.Context(), txn.Options{LogDir: t.TempDir(), ClaimDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close(context.Background())
	se := &session{txn: m.NewSession(txn.Principal{})}
	for _, shared := range []*Failure{errGoodbye, errIdleTooLong, errIdleSession, errNoSlot, errCrowded, errParted, errTooLong, errCanceled, errTimedOut} {
		was := *shared
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(shared)
		if f := se.lockWait(waited{errors.New("x")}, explain(ctx, waited{errors.New("x")})); *f != was {
			t.Errorf("after a wait for a lock %+v", f)
		}
		if f := ofParameter(0, explain(ctx, errors.New("x"))); *f != was {
			t.Errorf("of a parameter %+v", f)
		}
		if f := explain(ctx, errors.New("x")).with(func(f *Failure) { f.Fatal, f.Code = true, "" }); !f.Fatal || f.Message != was.Message {
			t.Errorf("at the start %+v", f)
		}
		if *shared != was {
			t.Errorf("is %+v, was %+v", shared, was)
		}
	}
	if f := se.lockWait(waited{errors.New("x")}, errorf("57000", "x")); f.Code != "40P01" {
		t.Errorf("%+v", f)
	}
	if f := ofParameter(1, errorf("22P02", "x")); f.Detail != "This is the value of $2." {
		t.Errorf("%+v", f)
	}
}

// TestReticent is a table of what a client is told of an error.
func TestReticent(t *testing.T) {
	path := &fs.PathError{Op: "open", Path: "/var/lib/fdt/outbox", Err: syscall.EMFILE}
	secret := errors.New("dial 10.0.0.1")
	for want, err := range map[string]error{
		"savepoint does not exist: \"x\"":                                     fmt.Errorf("%w: %q", txn.ErrNoSavepoint, "x"),
		"internal error":                                                      secret,
		"too many open files":                                                 path,
		"resource outbox: too many open files":                                fmt.Errorf("resource outbox: stage: %w", path),
		"resource bank: the resource has no free connection":                  fmt.Errorf("resource bank: %w (%w)", txn.ErrExhausted, secret),
		"resource a, b: a resource cannot be reached, the outcome is pending": fmt.Errorf("%w: %w", txn.ErrUnreachable, errors.Join(fmt.Errorf("resource a: %w", secret), fmt.Errorf("resource b: resource b: %w", secret))),
		"the transaction log cannot grow: disk full":                          fmt.Errorf("%w: %w", txn.ErrLogFull, path),
	} {
		got, less := reticent(err)
		if got != want || less != (got != err.Error()) {
			t.Errorf("%v: %q, %t; want %q", err, got, less, want)
		}
	}
}
