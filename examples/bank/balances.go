package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/postgres"
)

// keepFor bounds how old a remembered balance may be: other workers change it, too, and recovery, where an outcome was unknown.
const keepFor = time.Second

// balances remembers what accounts hold.
type balances struct {
	keep time.Duration

	mu      sync.Mutex
	known   map[int64]balance
	changes uint64 // what was read before one is not remembered after it
}

type balance struct {
	amount int64
	until  time.Time
}

func newBalances(keep time.Duration) *balances {
	return &balances{keep: keep, known: map[int64]balance{}}
}

// get returns what an account in PostgreSQL holds, asking there if it has to.
func (b *balances) get(ctx context.Context, s *txn.Session, account int64) (int64, error) {
	b.mu.Lock()
	known, seen := b.known[account], b.changes
	b.mu.Unlock()
	if time.Now().Before(known.until) {
		return known.amount, nil
	}
	amount, err := read(ctx, s, account)
	if err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changes == seen {
		b.known[account] = balance{amount, time.Now().Add(b.keep)}
	}
	return amount, nil
}

// forget is for a change that has been committed, or may have been.
func (b *balances) forget(account int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changes++
	delete(b.known, account)
}

// read is a transaction that only reads.
func read(ctx context.Context, s *txn.Session, account int64) (amount int64, err error) {
	defer func() { err = errors.Join(err, s.Close(context.WithoutCancel(ctx))) }()
	if err := s.Begin(ctx, txn.TxOptions{ReadOnly: true}); err != nil {
		return 0, err
	}
	b, err := branch[*postgres.Branch](ctx, s, "bank_a")
	if err != nil {
		return 0, err
	}
	conn, err := b.Conn(ctx)
	if err != nil {
		return 0, err
	}
	err = conn.QueryRow(ctx, "SELECT balance FROM account WHERE id = $1", account).Scan(&amount)
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("%w: there is no account %d", errRefused, account)
	}
	return amount, err
}
