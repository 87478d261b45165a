package settle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/printable"
	"github.com/fdtserver/fdt/internal/resources"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/postgres"
)

const deciderUsage = `Usage: fdtctl decider init [--print] [--json] RESOURCE

init makes in the database of a postgres resource what keeps decisions, so that it
can be named as transaction.decider; run again it changes nothing. Where the role
of the resource may not do that, --print prints the SQL for an administrator.
`

const clusterUsage = `Usage: fdtctl cluster init [--print] [--json] RESOURCE
       fdtctl cluster status [--json]

init makes in the database of a postgres resource what keeps the ledger of several
hosts, so that each of them can name it as cluster.decider; run again it changes
nothing. Where the role of the resource may not do that, --print prints the SQL for
an administrator. status lists the processes of all hosts.
`

// The verbs of txnIn behind fdtctl decider and fdtctl cluster.
const (
	deciderInit   = "decider-init"
	deciderPrint  = "decider-print"
	clusterInit   = "cluster-init"
	clusterPrint  = "cluster-print"
	clusterStatus = "cluster-status"
)

// preparation is what makes a database ready for what a resource is to keep.
type preparation struct {
	of    string // the command that it is of
	print bool   // the SQL is printed, and nothing done
	sql   func(role string) []string
	init  func(*postgres.Resource, context.Context) error
	to    string // what it is ready for then
	key   string // what has it do so
}

var preparations = map[string]preparation{
	deciderInit:  {of: "decider", sql: postgres.DeciderSQL, init: (*postgres.Resource).InitDecider, to: "keep decisions", key: "transaction"},
	deciderPrint: {of: "decider", sql: postgres.DeciderSQL, print: true},
	clusterInit:  {of: "cluster", sql: postgres.ClusterSQL, init: (*postgres.Resource).InitCluster, to: "keep the ledger of several hosts", key: "cluster"},
	clusterPrint: {of: "cluster", sql: postgres.ClusterSQL, print: true},
}

// Decider prepares a database for decisions. It exits 0 if that is done, 1 if it is refused or failed, 2 if called wrongly.
func Decider(args []string, stdout, stderr io.Writer) int {
	return deciderIn(context.Background(), here(), args, stdout, stderr)
}

// Cluster prepares a database for the ledger of several hosts, or tells who they are. It exits as Decider does.
func Cluster(args []string, stdout, stderr io.Writer) int {
	return clusterIn(context.Background(), here(), args, stdout, stderr)
}

// deciderIn does it in this process with what own knows, else in a unit, as the user that the database knows.
func deciderIn(ctx context.Context, own *Own, args []string, stdout, stderr io.Writer) int {
	return verbIn(ctx, own, args, deciderUsage, map[string]string{"init": deciderInit, "init --print": deciderPrint}, stdout, stderr)
}

func clusterIn(ctx context.Context, own *Own, args []string, stdout, stderr io.Writer) int {
	return verbIn(ctx, own, args, clusterUsage, map[string]string{"init": clusterInit, "init --print": clusterPrint, "status": clusterStatus}, stdout, stderr)
}

// verbIn finds the verb of txnIn behind the subcommand in args.
func verbIn(ctx context.Context, own *Own, args []string, usage string, verbs map[string]string, stdout, stderr io.Writer) int {
	if len(args) > 0 && (args[0] == "help" || strings.HasPrefix(args[0], "-h") || args[0] == "--help") {
		fmt.Fprint(stdout, usage)
		return 0
	}
	if len(args) == 0 || verbs[args[0]] == "" {
		fmt.Fprint(stderr, usage)
		return 2
	}
	verb, rest := verbs[args[0]], []string(nil)
	for _, arg := range args[1:] {
		if as := verbs[args[0]+" --print"]; as != "" && (arg == "--print" || arg == "-print") {
			verb = as
		} else {
			rest = append(rest, arg)
		}
	}
	return txnIn(ctx, own, append([]string{verb}, rest...), stdout, stderr)
}

// prepare prepares a resource of the configuration in /etc/fdt, which need not serve yet.
func (c *txnCommand) prepare(ctx context.Context, p preparation, name string) (err error) {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	of, ok := cfg.Resources[name]
	switch {
	case !ok:
		return fmt.Errorf("%s has no resource %q", c.etc, name)
	case of.Type != config.TypePostgres:
		return fmt.Errorf("resource %s is a %s; only a postgres can keep decisions", name, of.Type)
	}
	cfg.Resources, cfg.Transaction.Decider, cfg.Cluster.Decider = map[string]config.Resource{name: of}, name, ""
	list, err := resources.Open(cfg, "", nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, list[0].Close()) }()
	r, _ := list[0].(*postgres.Resource) // as its type says
	if p.print {
		if c.asJSON {
			return c.print(map[string]any{"resource": name, "sql": p.sql(r.Role())})
		}
		fmt.Fprintf(c.stdout, "-- For an administrator, in the database of resource %s: psql --single-transaction --file=-\n", name)
		for _, text := range p.sql(r.Role()) {
			fmt.Fprintf(c.stdout, "%s;\n", text)
		}
		return nil
	}
	if err = p.init(r, ctx); txn.SQLState(err) == "42501" {
		err = fmt.Errorf("%w\nHave an administrator of the database run what fdtctl %s init --print %s prints", err, p.of, name)
	}
	if err == nil {
		err = r.CanDecide(ctx)
	}
	if err != nil {
		return err
	}
	unsuited, faults := resources.Check(ctx, list)
	for _, err := range faults {
		unsuited = append(unsuited, err.Error())
	}
	for _, text := range unsuited {
		fmt.Fprintf(c.stderr, "fdtctl %s: %s\n", p.of, text)
	}
	return c.done(txnDone{Resource: name, Outcome: "ready to " + p.to, Warnings: unsuited},
		fmt.Sprintf("%s: ready to %s; %s: {decider: %s} has it do so", name, p.to, p.key, name))
}

// clusterStatus lists the processes of all hosts.
func (c *txnCommand) clusterStatus(ctx context.Context, m *txn.Manager, _ txn.Principal, _ string) error {
	list, err := m.Members(ctx)
	if err != nil {
		return err
	}
	if c.asJSON {
		return c.print(map[string]any{"cluster": m.Cluster(), "members": list})
	}
	fmt.Fprintf(c.stdout, "cluster %s\n\n", m.Cluster())
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "HOST\tPROCESS\tINCARNATION\tSTATE\tSINCE\tOPEN\t")
	for _, is := range list {
		state := "alive"
		switch {
		case is.Recovers:
			state = "alive, recovers"
		case !is.Alive:
			state = "gone"
		case is.Silent:
			state = "silent"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%d\t\n", printable.Line(is.Host), printable.Line(is.Program), is.Incarnation, state, is.Began.Local().Format(time.DateTime), is.Open)
	}
	return w.Flush()
}
