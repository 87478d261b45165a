package txn_test

import (
	"context"
	"errors"
	"testing"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// eager is a spool whose branches can vote with their last message. They count how often they are asked to vote.
type eager struct {
	*spool.Spool

	fails bool // after the vote
	votes *int
}

func (e eager) Enlist(ctx context.Context, opt txn.BranchOptions) (txn.Branch, error) {
	b, err := e.Spool.Enlist(ctx, opt)
	return eagerBranch{b.(*spool.Branch), e}, err
}

type eagerBranch struct {
	*spool.Branch

	e eager
}

func (b eagerBranch) Prepare(ctx context.Context, gid txn.GID) (txn.Vote, error) {
	*b.e.votes++
	return b.Branch.Prepare(ctx, gid)
}

func (b eagerBranch) ExecLast(ctx context.Context, gid txn.GID, last txn.Statement) (txn.Outcome, bool, error) {
	err := b.Put(ctx, []byte(last.SQL))
	if err == nil {
		_, err = b.Prepare(ctx, gid)
	}
	if b.e.fails {
		err = errBroken
	}
	return txn.Outcome{Rows: 7}, err == nil, err
}

// begun is a transaction with a message in a.
func begun(t *testing.T, m *txn.Manager, opt txn.TxOptions) *txn.Session {
	t.Helper()
	s := m.NewSession(alice)
	wantErr(t, s.Begin(t.Context(), opt), nil)
	b, err := s.Branch(t.Context(), "a")
	wantErr(t, err, nil)
	if !opt.ReadOnly {
		wantErr(t, b.(*spool.Branch).Put(t.Context(), []byte("message")), nil)
	}
	return s
}

var lastMessage = txn.Statement{SQL: "last"}

// TestUnsolicited: a branch votes with its last statement, and is not asked again. Without a decision it is rolled back.
func TestUnsolicited(t *testing.T) {
	refused := errors.New("what it has brought was not expected")
	for name, test := range map[string]struct {
		fails bool
		end   func(s *txn.Session) error
		want  int
	}{
		"commit":         {end: func(s *txn.Session) error { return s.Commit(t.Context()) }, want: 1},
		"rollback":       {end: func(s *txn.Session) error { return s.Rollback(t.Context()) }},
		"client is gone": {end: func(s *txn.Session) error { return s.Close(t.Context()) }},
		"result is refused": {end: func(s *txn.Session) error {
			s.Fail(refused)
			return s.Rollback(t.Context())
		}},
		"answer is lost": {fails: true, end: func(s *txn.Session) error {
			s.Fail(errBroken)
			return s.Rollback(t.Context())
		}},
		"hook refuses": {end: func(s *txn.Session) error {
			wantErr(t, s.BeforeCompletion(func(context.Context) error { return refused }), nil)
			if err := s.Commit(t.Context()); !errors.Is(err, refused) {
				return err
			}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newFastPlace(t)
			votes := 0
			m := p.withB(t, func(s *spool.Spool) txn.Resource { return eager{s, test.fails, &votes} })
			s := begun(t, m, txn.TxOptions{})
			out, done, err := s.ExecLast(t.Context(), "b", lastMessage)
			if test.fails {
				wantErr(t, err, errBroken)
			} else if err != nil || !done || out.Rows != 7 {
				t.Fatalf("%+v, done %t, %v", out, done, err)
			}
			wantErr(t, test.end(s), nil)
			if votes != 1 {
				t.Errorf("b was asked %d times", votes)
			}
			p.wantMessages(t, test.want, test.want)
			wantErr(t, s.Close(t.Context()), nil)
			closeAll(t, m)
			m = p.open(t)
			p.recover(t, m)
			p.wantTidy(t)
			closeAll(t, m)
		})
	}
}

// TestUnsolicitedAlone: a branch that has voted is committed in two phases, also where no other took part after all.
func TestUnsolicitedAlone(t *testing.T) {
	p := newFastPlace(t)
	votes := 0
	m := p.withB(t, func(s *spool.Spool) txn.Resource { return eager{s, false, &votes} })
	defer closeAll(t, m)
	s := m.NewSession(alice)
	begin(t, s)
	_, done, err := s.ExecLast(t.Context(), "b", lastMessage)
	if err != nil || !done {
		t.Fatal(done, err)
	}
	wantErr(t, s.Commit(t.Context()), nil)
	p.wantMessages(t, 0, 1)
}

// TestUnsolicitedIsLast: nothing more is done on a branch that has voted.
func TestUnsolicitedIsLast(t *testing.T) {
	p := newFastPlace(t)
	votes := 0
	m := p.withB(t, func(s *spool.Spool) txn.Resource { return eager{s, false, &votes} })
	defer closeAll(t, m)
	for name, more := range map[string]func(s *txn.Session) error{
		"branch":    func(s *txn.Session) error { _, err := s.Branch(t.Context(), "b"); return err },
		"statement": func(s *txn.Session) error { _, _, err := s.ExecLast(t.Context(), "b", lastMessage); return err },
		"savepoint": func(s *txn.Session) error { return s.Savepoint(t.Context(), "s") },
		"prepare":   func(s *txn.Session) error { return s.Prepare(t.Context(), "x") },
	} {
		s := begun(t, m, txn.TxOptions{})
		if _, done, err := s.ExecLast(t.Context(), "b", lastMessage); err != nil || !done {
			t.Fatal(done, err)
		}
		if err := more(s); err == nil {
			t.Errorf("%s after the vote", name)
		}
		wantErr(t, s.Close(t.Context()), nil)
		p.wantMessages(t, 0, 0)
	}
}

// TestNotUnsolicited: where the vote may not come so early, nothing was done, and the transaction goes on.
func TestNotUnsolicited(t *testing.T) {
	for name, test := range map[string]struct {
		opt   txn.TxOptions
		first func(s *txn.Session) error
		on    string
	}{
		"it cannot":            {on: "a"},
		"it is read only":      {opt: txn.TxOptions{ReadOnly: true}},
		"its client may ask":   {first: func(s *txn.Session) error { _, err := s.XID(t.Context()); return err }},
		"a hook may write":     {first: func(s *txn.Session) error { return s.BeforeCompletion(func(context.Context) error { return nil }) }},
		"there is a savepoint": {first: func(s *txn.Session) error { return s.Savepoint(t.Context(), "s") }},
	} {
		t.Run(name, func(t *testing.T) {
			p := newFastPlace(t)
			votes := 0
			m := p.withB(t, func(s *spool.Spool) txn.Resource { return eager{s, false, &votes} })
			defer closeAll(t, m)
			if test.on == "" {
				test.on = "b"
			}
			s := begun(t, m, test.opt)
			if test.first != nil {
				wantErr(t, test.first(s), nil)
			}
			if out, done, err := s.ExecLast(t.Context(), test.on, lastMessage); done || err != nil || out.Rows != 0 || votes != 0 {
				t.Errorf("%+v, done %t, %v, %d votes", out, done, err, votes)
			}
			b, err := s.Branch(t.Context(), test.on)
			wantErr(t, err, nil)
			if !test.opt.ReadOnly {
				wantErr(t, b.(interface {
					Put(ctx context.Context, body []byte) error
				}).Put(t.Context(), []byte("more")), nil)
			}
			wantErr(t, s.Commit(t.Context()), nil)
		})
	}
	p := newFastPlace(t)
	m := p.open(t)
	defer closeAll(t, m)
	if _, done, err := m.NewSession(alice).ExecLast(t.Context(), "b", lastMessage); done || err == nil {
		t.Errorf("without a transaction: %t, %v", done, err)
	}
}
