package main

import (
	"context"

	"github.com/fdtserver/fdt/txn"
)

// null is a resource manager that costs nothing: what is left is the coordinator and its log.
type null struct{ name string }

func (n *null) Name() string                                   { return n.name }
func (n *null) Identity(context.Context) (string, error)       { return "null:" + n.name, nil }
func (n *null) Fence(context.Context, txn.LogID, uint64) error { return nil }
func (n *null) Close() error                                   { return nil }
func (n *null) Enlist(context.Context, txn.BranchOptions) (txn.Branch, error) {
	return nullBranch{n}, nil
}

func (n *null) Resolve(context.Context, txn.GID, txn.Decision, txn.Proof) (txn.Resolution, error) {
	return txn.ResolvedDone, nil
}

func (n *null) InDoubt(context.Context, txn.LogID) ([]txn.PreparedBranch, error) { return nil, nil }

type nullBranch struct{ of *null }

func (b nullBranch) Identity() string                                 { return "null:" + b.of.name }
func (nullBranch) Proof() txn.Proof                                   { return "" }
func (nullBranch) Commit(context.Context) error                       { return nil }
func (nullBranch) Rollback(context.Context) error                     { return nil }
func (nullBranch) CommitPrepared(context.Context, txn.GID) error      { return nil }
func (nullBranch) RollbackPrepared(context.Context, txn.GID) error    { return nil }
func (nullBranch) Savepoint(context.Context, string) error            { return nil }
func (nullBranch) RollbackTo(context.Context, string) error           { return nil }
func (nullBranch) Release(context.Context, string) error              { return nil }
func (nullBranch) Prepare(context.Context, txn.GID) (txn.Vote, error) { return txn.VotePrepared, nil }
