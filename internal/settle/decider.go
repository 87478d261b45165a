package settle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/resources"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/postgres"
)

const deciderUsage = `Usage: fdtctl decider init [--print] [--json] RESOURCE

init makes in the database of a postgres resource what keeps decisions, so that it
can be named as transaction.decider; run again it changes nothing. Where the role
of the resource may not do that, --print prints the SQL for an administrator.
`

// The verbs of txnIn behind fdtctl decider, with and without --print.
const (
	deciderInit  = "decider-init"
	deciderPrint = "decider-print"
)

// Decider prepares a database for decisions. It exits 0 if that is done, 1 if it is refused or failed, 2 if called wrongly.
func Decider(args []string, stdout, stderr io.Writer) int {
	return deciderIn(context.Background(), here(), args, stdout, stderr)
}

// deciderIn does it in this process with what own knows, else in a unit, as the user that the database knows.
func deciderIn(ctx context.Context, own *Own, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && (args[0] == "help" || strings.HasPrefix(args[0], "-h") || args[0] == "--help") {
		fmt.Fprint(stdout, deciderUsage)
		return 0
	}
	if len(args) == 0 || args[0] != "init" {
		fmt.Fprint(stderr, deciderUsage)
		return 2
	}
	verb, rest := deciderInit, []string(nil)
	for _, arg := range args[1:] {
		if arg == "--print" || arg == "-print" {
			verb = deciderPrint
		} else {
			rest = append(rest, arg)
		}
	}
	return txnIn(ctx, own, append([]string{verb}, rest...), stdout, stderr)
}

// decider is what fdtctl decider does with a resource of the configuration in /etc/fdt, which need not serve yet.
func (c *txnCommand) decider(ctx context.Context, verb, name string) (err error) {
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
	cfg.Resources, cfg.Transaction.Decider = map[string]config.Resource{name: of}, name
	list, err := resources.Open(cfg, "", nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, list[0].Close()) }()
	r, _ := list[0].(*postgres.Resource) // as its type says
	if verb == deciderPrint {
		if c.asJSON {
			return c.print(map[string]any{"resource": name, "sql": postgres.DeciderSQL(r.Role())})
		}
		fmt.Fprintf(c.stdout, "-- For an administrator, in the database of resource %s: psql --single-transaction --file=-\n", name)
		for _, text := range postgres.DeciderSQL(r.Role()) {
			fmt.Fprintf(c.stdout, "%s;\n", text)
		}
		return nil
	}
	if err = r.InitDecider(ctx); txn.SQLState(err) == "42501" {
		err = fmt.Errorf("%w\nHave an administrator of the database run what fdtctl decider init --print %s prints", err, name)
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
		fmt.Fprintf(c.stderr, "fdtctl decider: %s\n", text)
	}
	return c.done(txnDone{Resource: name, Outcome: "ready to keep decisions", Warnings: unsuited},
		fmt.Sprintf("%s: ready to keep decisions; transaction: {decider: %s} has it do so", name, name))
}
