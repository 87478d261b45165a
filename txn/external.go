package txn

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// This file is what sessions, operators and recovery ask of a transaction that an outside coordinator decides. How it goes
// is said in flow.go, and done in drive.go.

// vote is phase one of PREPARE TRANSACTION client. It owns the transaction:
// whatever it returns, the session has none any more.
func (m *Manager) vote(ctx context.Context, t *transaction, client string) error {
	err := checkClientGID(client)
	if err == nil && t.outside() {
		err = m.errOutside()
	}
	if err == nil {
		_, err = m.ledger.Log(ctx)
	}
	if err != nil {
		return errors.Join(err, t.rollback(ctx))
	}
	gid := t.gid
	gid.Role = RoleExternal
	w := &errand{m: m, name: ledger.ClientName(client), who: t.who, t: t, given: client}
	return w.run(ctx, job{task: taskVote, gid: gid, named: t.named})
}

func checkClientGID(client string) error {
	switch {
	case client == "":
		return fmt.Errorf("%w: empty", ErrGIDInvalid)
	case len(client) > MaxClientGIDLen:
		return fmt.Errorf("%w: %d bytes, at most %d", ErrGIDInvalid, len(client), MaxClientGIDLen)
	case !utf8.ValidString(client) || strings.ContainsRune(client, 0):
		return fmt.Errorf("%w: not UTF-8 text", ErrGIDInvalid)
	}
	return nil
}

// settle decides a transaction that is in doubt. Of several deciders one wins,
// under the lock of the claim; the others are told what it decided.
func (m *Manager) settle(ctx context.Context, who Principal, name string, d Decision, operator bool) error {
	w := &errand{m: m, name: name, who: who}
	return w.run(ctx, job{task: taskDecide, wants: d, operator: operator})
}

// takeOver makes a dead incarnation's transaction ours, if there is something
// to do for it.
func (m *Manager) takeOver(ctx context.Context, c *ledger.Claim, gid GID, last ledger.DeadLog) error {
	w := &errand{m: m, name: ledger.ClaimName(&c.Transaction), c: c, last: last}
	return w.run(ctx, job{task: taskAdopt, gid: gid})
}

// forgetLocal drops an outcome that the session's client has acknowledged.
func (m *Manager) forgetLocal(gid GID) error {
	j, err := m.ledger.Log(context.Background())
	if err == nil {
		_, err = j.Note(ledger.Record{Kind: ledger.KindForget, GID: gid})
	}
	return err
}

// forget drops an outcome that its coordinator has acknowledged: from now on nobody is told of it, and its name is free
// again. One that somebody is at work on is ErrBusyGID.
func (m *Manager) forget(name string, operator bool) error {
	w := &errand{m: m, name: name}
	err := w.run(context.Background(), job{task: taskForget, operator: operator})
	if errors.Is(w.absent, ledger.ErrHeld) {
		return fmt.Errorf("%w: somebody is at work on it", ErrBusyGID)
	}
	return err
}
