package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/fdtserver/fdt/test/ledger"
	"github.com/fdtserver/fdt/txn"
)

// bankSettle has everything up again, decides what is in doubt as its coordinator had or might have, and returns when nothing is open.
func (s *Stage) bankSettle(ctx context.Context, books *ledger.Ledger) error {
	for _, command := range []string{"psql bank -c 'SELECT 1'", "mariadb bank -e 'SELECT 1'", psql + " -c 'SELECT 1'"} {
		if out, err := s.quiet(ctx, patiently(command)); err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, out)
		}
	}
	// New workers look at once for what dead ones left.
	if _, err := s.must(ctx, patiently("fdtctl reload")); err != nil {
		return err
	}
	var open []txn.Transaction
	took, err := until(ctx, "nothing is open", func() (bool, error) {
		list, err := s.transactions(ctx)
		if err != nil {
			return false, err
		}
		open = nil
		for _, tx := range list {
			if tx.Hazard != "" {
				return false, fmt.Errorf("%s: hazard: %s", tx.Name(), tx.Hazard)
			}
			if tx.Phase == txn.Prepared {
				s.decide(ctx, books, tx.ClientGID)
			}
			if !tx.Phase.Terminal() {
				open = append(open, tx)
			}
		}
		prepared, err := s.prepared(ctx)
		return err == nil && len(open) == 0 && prepared == "", err
	})
	if err != nil {
		prepared, perr := s.prepared(ctx)
		return errors.Join(fmt.Errorf("%w: open: %+v, prepared: %s", err, open, prepared), perr)
	}
	s.check(true, "every transaction that was in doubt or decided ends", "after %d ms", took.Milliseconds())
	return nil
}

// transactions is fdtctl txn list.
func (s *Stage) transactions(ctx context.Context) (list []txn.Transaction, err error) {
	out, err := s.Bed.Run(ctx, "fdtctl", "txn", "list", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &list)
	}
	return list, err
}

// prepared lists what the databases themselves hold in doubt.
func (s *Stage) prepared(ctx context.Context) (string, error) {
	return s.Bed.Shell(ctx, `psql bank -XAtc "SELECT gid FROM pg_prepared_xacts"; mariadb -Ne "XA RECOVER"`)
}

// decide tells fdt a coordinator's decision, from yet another connection. What fails is tried again at the next look.
func (s *Stage) decide(ctx context.Context, books *ledger.Ledger, id string) {
	commit, decided := books.Decided(id)
	decision, outcome := "ROLLBACK", ledger.Failed
	if commit || !decided && rand.IntN(2) == 0 {
		decision, outcome = "COMMIT", ledger.Done
	}
	if _, err := s.quiet(ctx, fmt.Sprintf(`%s -c "%s PREPARED '%s'"`, psql, decision, id)); err == nil {
		books.Say(outcome, id)
	}
}

// bankAudit compares the books.
func (s *Stage) bankAudit(ctx context.Context, books *ledger.Ledger) error {
	ask := func(script string) []string {
		out, err := s.Bed.Shell(ctx, script)
		if err != nil {
			out = err.Error() // which is no number and no transfer
		}
		return strings.Fields(out)
	}
	messages, err := s.outbox(ctx)
	if err != nil {
		return err
	}
	places := map[string]map[string]int{}
	for name, ids := range map[string][]string{
		"PostgreSQL": ask(`psql bank -XAtc "SELECT id FROM ledger"`),
		"MariaDB":    ask(`mariadb bank -Ne "SELECT id FROM ledger"`),
		"the outbox": messages,
	} {
		places[name] = map[string]int{}
		for _, id := range ids {
			places[name][id]++
		}
	}
	complaints, committed := books.Audit(places)
	for _, c := range complaints {
		s.say("%s", c)
	}
	s.check(len(complaints) == 0, "every acknowledged commit is in both databases and once in the outbox, any other transfer everywhere or nowhere",
		"%d committed, %d complaints %.2000q; said %s", committed, len(complaints), complaints, books)
	sums := ask(`psql bank -XAtc "SELECT sum(balance) FROM account"; mariadb bank -Ne "SELECT sum(balance) FROM account"`)
	a, b := 0, 0
	_, err = fmt.Sscan(strings.Join(sums, " "), &a, &b)
	s.check(err == nil && a+b == 2*bankAccounts*bankBalance, "the sums add up", "%v of %d", sums, 2*bankAccounts*bankBalance)
	_, err = s.Bed.Shell(ctx, `
		psql bank -Xqv ON_ERROR_STOP=1 -c "SET lock_timeout = '1s'; UPDATE account SET balance = balance; LOCK TABLE ledger"
		mariadb bank -e "SET innodb_lock_wait_timeout = 1, lock_wait_timeout = 1; UPDATE account SET balance = balance + 1; DELETE FROM ledger"`)
	s.check(err == nil, "no lock is held in either database", "%v", err)
	var decisions []string
	_, err = until(ctx, "the decider keeps nothing", func() (bool, error) {
		decisions = ask(`psql bank -XAtc "SELECT count(*) FROM fdt_txn.decision"`)
		return slices.Equal(decisions, []string{"0"}), nil
	})
	s.check(err == nil, "no decision is left in the decider", "%q", decisions)
	used := ask(`psql bank -XAtc "SELECT pg_relation_size('fdt_txn.decision_pkey') > 8192"`)
	s.check(slices.Equal(used, []string{"t"}), "the decider has decided", "%q", used)
	var staged []string
	_, err = until(ctx, "nothing is staged", func() (bool, error) { // what was not prepared goes with the next scan
		staged = ask(`find /var/lib/fdt/outbox/tmp /var/lib/fdt/outbox/prepared -type f`)
		return len(staged) == 0, nil
	})
	s.check(err == nil, "no message is left staged", "%q", staged)
	return nil
}
