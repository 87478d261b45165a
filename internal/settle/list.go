package settle

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fdtserver/fdt/internal/cli"
	"github.com/fdtserver/fdt/internal/printable"
	"github.com/fdtserver/fdt/txn"
)

// list prints what can be read also where that is not all, which the error tells.
func (c *txnCommand) list(ctx context.Context, m *txn.Manager) error {
	all, err := m.List(ctx)
	if len(all) == 0 && err != nil {
		return err
	}
	shown := slices.DeleteFunc(slices.Clone(all), func(t txn.Transaction) bool { return !c.all && settled(&t) })
	slices.SortStableFunc(shown, func(a, b txn.Transaction) int { return cmp.Compare(urgency(&a), urgency(&b)) })
	err = errors.Join(c.table(shown), err)
	if kept := len(all) - len(shown); kept > 0 && !c.asJSON {
		fmt.Fprintf(c.stdout, "Outcomes that are kept for whoever asks again: %d. --all shows them.\n", kept)
	}
	asides, aerr := m.Asides()
	for _, a := range asides {
		if a.Waits() {
			fmt.Fprintf(c.stderr, "The transaction log %s was put aside with %d open transactions%s: fdtctl txn adopt, or abandon; see fdtctl(8).\n",
				a.ID, a.Open, prefixed(", and is damaged: ", a.Damage))
		}
	}
	odd, oerr := m.Unexplained()
	for _, u := range odd {
		if u.Service != "" {
			fmt.Fprintf(c.stderr, "Resource %s holds a branch of %s for %s: %s\n", u.Resource, u.GID, age(u.Since), printable.Line(u.Why))
			continue
		}
		fmt.Fprintf(c.stderr, "Resource %s holds a branch of %s for %s, which nothing explains: %s\n", u.Resource, u.GID, age(u.Since), printable.Line(u.Why))
	}
	return errors.Join(err, aerr, oerr)
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// settled tells whether nobody has to do anything about the transaction.
func settled(t *txn.Transaction) bool {
	return t.Phase.Terminal() && t.Hazard == "" && t.HandsOff == ""
}

// urgency orders what is listed: what waits for somebody comes first.
func urgency(t *txn.Transaction) int {
	switch {
	case t.Phase == txn.Prepared:
		return 0
	case !t.Phase.Terminal():
		return 1
	case !settled(t):
		return 2
	}
	return 3
}

func (c *txnCommand) table(all []txn.Transaction) error {
	if c.asJSON {
		list := make([]aged, len(all))
		for i, t := range all {
			list[i] = withAge(t)
		}
		return c.print(list)
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(c.stdout, "No transaction waits for a decision or for a resource.")
		return err
	}
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "GID\tSTATE\tAGE\tOWNER\tCLIENT\tRESOURCES")
	for _, t := range all {
		var names []string
		for _, b := range t.Branches {
			names = append(names, b.Resource)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", cli.Plain(t.Name()), state(t), age(t.Since), cli.Plain(t.Owner), cli.Plain(cli.Dash(t.Addr)), cli.Dash(strings.Join(names, ",")))
	}
	return w.Flush()
}

// aged is a transaction as JSON.
type aged struct {
	txn.Transaction
	Age float64 `json:"age"` // seconds since Since
}

func withAge(t txn.Transaction) aged { return aged{t, time.Since(t.Since).Seconds()} }

func (c *txnCommand) print(v any) error {
	out := json.NewEncoder(c.stdout)
	out.SetIndent("", "  ")
	return out.Encode(v)
}

func (c *txnCommand) show(ctx context.Context, m *txn.Manager, _ txn.Principal, gid string) error {
	t, err := m.Show(ctx, gid)
	if err != nil {
		return err
	}
	if c.asJSON {
		return c.print(withAge(t))
	}
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	for _, line := range [][2]string{
		{"gid", cli.Plain(t.ClientGID)}, {"fdt's gid", t.GID.String()}, {"state", state(t)}, {"since", t.Since.Format(time.RFC3339) + " (" + age(t.Since) + ")"},
		{"owner", cli.Plain(t.Owner)}, {"client", cli.Plain(t.Addr)}, {"database", cli.Plain(t.Database)}, {"decided by", decider(t)}, {"hazard", printable.Line(t.Hazard)}, {"left alone", printable.Line(t.HandsOff)},
	} {
		if line[1] != "" {
			fmt.Fprintf(w, "%s:\t%s\n", line[0], line[1])
		}
	}
	for _, b := range t.Branches {
		fmt.Fprintf(w, "branch %s:\t%s (%s)\n", b.Resource, printable.Line(b.State), b.Identity)
	}
	return w.Flush()
}

// decider is who decided, with what is known of the person behind an operator.
func decider(t txn.Transaction) string {
	s := cli.Plain(t.Decider)
	for _, of := range [][2]string{{", uid ", t.DecidedBy.UID}, {", login uid ", t.DecidedBy.LoginUID}, {", terminal ", cli.Plain(t.DecidedBy.Terminal)}} {
		s += prefixed(of[0], of[1])
	}
	return s
}

// state is the phase in an operator's words.
func state(t txn.Transaction) string {
	s := t.Phase.String()
	if t.Phase == txn.Prepared {
		s = "in doubt"
	}
	if len(t.Waits) > 0 {
		s += ", waits for " + strings.Join(t.Waits, ", ")
		if !t.Decided.IsZero() {
			s += " since " + age(t.Decided)
		}
	}
	if t.Heuristic {
		s += " (operator)"
	}
	if t.Hazard != "" {
		s += " (hazard)"
	}
	return s
}

// age is the time since then, as span has it.
func age(since time.Time) string { return cli.Span(time.Since(since)) }
