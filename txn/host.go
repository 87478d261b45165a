package txn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fdtserver/fdt/txn/internal/ledger"
)

// A host that takes part in a cluster has a log of its own all the same: with what it had open when it joined, and with nothing else but
// the numbers of transactions that are committed in one phase while the cluster's ledger is not there. That is a Manager of its own, host,
// beside the one that has the sessions. Its transactions are shown and decided as those of the cluster are, on this host alone.

// memoryName is the file, beside the host's log, in which the host remembers the cluster.
const memoryName = "cluster"

// join has m be of the cluster whose ledger its decider keeps, and what it was before be its host.
func (m *Manager) join(ctx context.Context) (*Manager, error) {
	keeper, ok := m.decider.(ledger.Opener)
	if !ok {
		return nil, fmt.Errorf("no resource %q that can keep the ledger of several hosts", m.opt.Decider)
	}
	all := m.fresh()
	name := m.opt.Host
	if name == "" {
		name, _ = os.Hostname() // for the record only
	}
	var err error
	all.ledger, err = keeper.OpenLedger(ctx, ledger.SharedOptions{
		Host: name, Program: m.opt.Program, Memory: filepath.Join(m.opt.LogDir, memoryName), Retain: m.opt.Limits.Retain,
		Silent: m.opt.frozen, Forces: &all.meters.forces, Events: (*told)(all),
	})
	if err != nil {
		return nil, fmt.Errorf("open the ledger of the cluster: %w", err)
	}
	all.files, all.host = m.files, m
	all.kin, m.kin = m.ledger.ID(), all.ledger.ID()
	return all, nil
}

// outside tells of a transaction that its log is not that of the cluster, so that it can be committed in one phase only.
func (t *transaction) outside() bool { return !t.gid.IsZero() && t.gid.Log != t.m.ledger.ID() }

// errOutside says why such a transaction cannot be committed otherwise.
func (m *Manager) errOutside() error {
	return fmt.Errorf("%w: the ledger of the cluster, in resource %s, was not there when the transaction began, so it could be committed on one resource only",
		ErrUnreachable, m.opt.Decider)
}

// logOf is the log in which a session's transaction is to be numbered: the cluster's, or this host's while that is not there.
func (m *Manager) logOf(ctx context.Context) (ledger.Log, error) {
	j, err := m.ledger.Log(ctx)
	if err != nil && m.host != nil && errors.Is(err, ErrUnreachable) {
		return m.host.ledger.Log(ctx)
	}
	return j, err
}

// settleAll is settle of a transaction of the cluster, or of what the host had open before.
func (m *Manager) settleAll(ctx context.Context, who Principal, name string, d Decision, operator bool) error {
	err := m.settle(ctx, who, name, d, operator)
	if m.host != nil && errors.Is(err, ErrUnknownGID) {
		if own := m.host.settle(ctx, who, name, d, operator); !errors.Is(own, ErrUnknownGID) {
			return own
		}
	}
	return err
}

// forgetAll is forget likewise.
func (m *Manager) forgetAll(name string, operator bool) error {
	err := m.forget(name, operator)
	if m.host != nil {
		err = errors.Join(err, m.host.forget(name, operator))
	}
	return err
}

// open tells whether there is a transaction of that name that has not ended.
func (m *Manager) open(ctx context.Context, name string) (bool, error) {
	st, err := m.known(ctx, name)
	return err == nil && !st.Phase.Terminal(), ignoreNotExist(err)
}

// Cluster names the cluster, whose name is in the gids of its transactions; zero if there is none.
func (m *Manager) Cluster() LogID {
	if m.host == nil {
		return LogID{}
	}
	return m.ledger.ID()
}

// Member is one process of a cluster.
type Member = ledger.Member

// Members lists the processes of all hosts of the cluster. An error says that there is none, or that its ledger cannot be asked.
func (m *Manager) Members(ctx context.Context) ([]Member, error) {
	all, ok := m.ledger.(ledger.Membership)
	if !ok {
		return nil, errors.New("this host is in no cluster: see cluster.decider in the configuration")
	}
	return all.Members(ctx)
}

// help goes on with what a living process of another host has decided and cannot tell: where a resource is cut off from that host and not
// from this one, or is this host's alone, as a spool.
func (r *recovery) help(ctx context.Context, own uint64) {
	if r.m.host == nil {
		return
	}
	var list []ledger.State
	for _, st := range r.held {
		if st.Decision != 0 && st.Claimant != own && !r.m.pending.Has(st.GID) && time.Since(st.Decided) > r.m.opt.Limits.Tell && r.reaches(ctx, &st) {
			list = append(list, st)
		}
	}
	severally(len(list), func(i int) {
		st := &list[i]
		w := &errand{m: r.m, name: ledger.ClaimName(&st.Transaction), who: Principal{Operator: true}}
		err := w.run(ctx, job{task: taskDecide, gid: st.GID, wants: st.Decision})
		if err != nil && !InDoubt(err) && !errors.Is(err, ErrUnknownGID) && !errors.Is(err, ErrNotOwner) { // it is over, or another has its name
			r.add(fmt.Errorf("go on with %s for another host: %w", st.GID, err))
		}
	})
}

// reaches tells whether a branch that is yet to be told is held by a resource that this process can ask.
func (r *recovery) reaches(ctx context.Context, st *ledger.State) bool {
	ctx, cancel := r.m.asking(ctx)
	defer cancel()
	return slices.ContainsFunc(st.Untold(), func(b BranchID) bool {
		_, err := r.m.resource(ctx, b)
		return err == nil && !r.m.pending.Paused(b.Resource, time.Now())
	})
}

// decidedTogether has the decider of a cluster asked about whatever dead incarnations have prepared. One that has lost its session may
// live, and decide there for the first time after its log was found empty and dropped: a row that says to roll back keeps it out.
func (r *recovery) decidedTogether(own uint64) {
	if r.m.host == nil {
		return
	}
	for _, list := range r.found {
		for _, b := range list {
			n := b.GID.Incarnation
			if n == own || !r.s.Given(n) || r.s.Has(n) && !r.dead[n] {
				continue
			}
			r.dead[n] = true
			if r.s.Deciders[n] == nil {
				r.s.Deciders[n] = []BranchID{{Resource: r.m.opt.Decider}}
			}
		}
	}
}
