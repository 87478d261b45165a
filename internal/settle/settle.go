// Package settle lists, shows and settles transactions for an operator: it is
// fdtctl txn and fdtctl decider. What needs resources is done in a unit of its
// own, by fdtctl itself or, if there are resources of types that only the workers'
// program knows, by that.
package settle

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/cli"
	"github.com/fdtserver/fdt/internal/journal"
	"github.com/fdtserver/fdt/internal/lastlog"
	"github.com/fdtserver/fdt/internal/resources"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/txn"
)

const txnUsage = `Usage: fdtctl txn list [--all] [--json]
       fdtctl txn show [--json] GID
       fdtctl txn commit [--json] GID
       fdtctl txn rollback [--json] GID
       fdtctl txn forget [--json] GID
       fdtctl txn forget [--json] --all --before TIME
       fdtctl txn resolve --all [--commit | --rollback] [--json]
       fdtctl txn adopt [--force] [--json] LOG
       fdtctl txn abandon [--json] LOG
       fdtctl txn rebind [--json] RESOURCE
       fdtctl txn give-up [--json] RESOURCE

GID is the coordinator's name of the transaction, or fdt's own. list --all shows
also what is over. TIME is a date, a time as in RFC 3339, or how long ago, as 24h.
resolve carries out what is decided, and tells what stays open and why; with
--commit or --rollback it decides what is in doubt, too. LOG is a transaction log
that was put aside, as list names it: see MOVING AND RESTORING in fdtctl(8).
rebind says that the database which RESOURCE is now carries on the one on which
open transactions have branches; give-up, that that one is lost.
`

// txnCommand is one fdtctl txn at work.
type txnCommand struct {
	own           *Own   // nil: it is done in a unit
	run, lib, etc string // directories
	asJSON        bool
	all           bool         // of list: what is over, too; of forget and resolve: not one gid
	force         bool         // of adopt
	fresh         bool         // of a preparation: the configuration is that of etc, though another serves
	source        string       // where the configuration was read
	before        time.Time    // of forget --all
	rest          txn.Decision // of resolve: what becomes of those in doubt
	stdout        io.Writer
	stderr        io.Writer
	journal       slog.Handler // keeps who decided what
}

// errOpen: resolve has told what stays open.
var errOpen = errors.New("transactions stay open")

// txnVerbs are the subcommands of txn but for list. All but resolve take a gid,
// or the name of a log or a resource.
var txnVerbs = map[string]func(*txnCommand, context.Context, *txn.Manager, txn.Principal, string) error{
	"show":     (*txnCommand).show,
	"commit":   (*txnCommand).commit,
	"rollback": (*txnCommand).rollback,
	"forget":   (*txnCommand).forget,
	"resolve":  (*txnCommand).resolve,
	"adopt":    (*txnCommand).adopt,
	"abandon":  (*txnCommand).abandon,
	"rebind":   (*txnCommand).rebind,
	"give-up":  (*txnCommand).giveUp,

	clusterStatus: (*txnCommand).clusterStatus,
}

// Txn lists, shows and settles transactions, whether the service runs or
// not. It exits 0 if done, 1 if refused or failed, 2 if called wrongly.
func Txn(args []string, stdout, stderr io.Writer) int {
	return txnIn(context.Background(), here(), args, stdout, stderr)
}

// here is what this process may do it with; nil if root is to have it done in a unit.
func here() *Own {
	if os.Geteuid() == 0 {
		return nil
	}
	return new(Own)
}

// txnIn does it in this process with what own knows, else in a unit.
func txnIn(ctx context.Context, own *Own, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && (args[0] == "help" || strings.HasPrefix(args[0], "-h") || args[0] == "--help") {
		fmt.Fprint(stdout, txnUsage)
		return 0
	}
	if len(args) == 0 {
		fmt.Fprint(stderr, txnUsage)
		return 2
	}
	if args[0] != "list" && preparations[args[0]].of == "" && txnVerbs[args[0]] == nil {
		fmt.Fprintf(stderr, "fdtctl txn: unknown subcommand %q\n%s", args[0], txnUsage)
		return 2
	}
	c := &txnCommand{own: own, stdout: stdout, stderr: stderr, journal: journal.Direct(os.Stderr, slog.LevelInfo)}
	defer journal.Flush(c.journal, time.Second)
	rest, code, done := c.parse(args[0], args[1:])
	if done {
		return code
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if own == nil {
		code, err := c.inUnit(ctx, args[0], args)
		if err != nil {
			return cli.Fail(stderr, "txn", err)
		}
		return code
	}
	if _, err := os.ReadDir(filepath.Join(c.lib, "txn")); errors.Is(err, fs.ErrPermission) {
		return cli.Fail(stderr, c.name(args[0]), fmt.Errorf("this is for root: %w", err))
	}
	if err := c.do(ctx, args[0], rest); err != nil {
		return cli.Fail(stderr, c.name(args[0]), err)
	}
	return 0
}

// parse reads the command line of a subcommand. done tells that it was wrong, or
// asked for help, and code is the exit status then.
func (c *txnCommand) parse(verb string, args []string) (rest []string, code int, done bool) {
	flags := flag.NewFlagSet("fdtctl txn", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(c.stderr, txnUsage) }
	flags.StringVar(&c.run, "run", c.service().Run(), "")
	flags.StringVar(&c.lib, "lib", c.service().Lib(), "")
	flags.StringVar(&c.etc, "etc", c.service().Etc(), "")
	flags.BoolVar(&c.asJSON, "json", false, "")
	var commit, rollback bool
	var before string
	switch verb {
	case "list":
		flags.BoolVar(&c.all, "all", false, "")
	case "resolve":
		flags.BoolVar(&c.all, "all", false, "")
		flags.BoolVar(&commit, "commit", false, "")
		flags.BoolVar(&rollback, "rollback", false, "")
	case "forget":
		flags.BoolVar(&c.all, "all", false, "")
		flags.StringVar(&before, "before", "", "")
	case "adopt":
		flags.BoolVar(&c.force, "force", false, "")
	}
	c.fresh = preparations[verb].of != ""
	if rest, code, done = cli.Parse(flags, args, cli.AnyNumber, c.stderr); done {
		return nil, code, true
	}
	if commit {
		c.rest = txn.Commit
	}
	if rollback {
		c.rest = txn.Abort
	}
	if fault := c.wrong(verb, rest, commit && rollback, before); fault != "" {
		fmt.Fprintf(c.stderr, "fdtctl %s: %s\n", c.name(verb), fault)
		return nil, 2, true
	}
	return rest, 0, false
}

// name is how a person calls the subcommand.
func (c *txnCommand) name(verb string) string {
	if c.fresh {
		return preparations[verb].of
	}
	if verb == clusterStatus {
		return "cluster status"
	}
	return "txn " + verb
}

// wants is what each subcommand takes; one without a name takes nothing.
var wants = map[string]string{
	"show": "a GID", "commit": "a GID", "rollback": "a GID", "forget": "a GID, or --all and --before", "adopt": "a LOG", "abandon": "a LOG",
	"rebind": "a RESOURCE", "give-up": "a RESOURCE", deciderInit: "a RESOURCE", deciderPrint: "a RESOURCE", clusterInit: "a RESOURCE", clusterPrint: "a RESOURCE",
}

// wrong tells what is wrong with flags and arguments together; empty if nothing is.
func (c *txnCommand) wrong(verb string, args []string, both bool, before string) string {
	name := wants[verb]
	switch {
	case verb == "resolve" && (!c.all || both):
		return "give --all, and at most one of --commit and --rollback"
	case verb == "forget" && before != "" && !c.all:
		return "--before is for many outcomes at once: give --all with it, or a GID alone"
	case verb == "forget" && c.all && (before == "" || len(args) > 0):
		return "--all takes --before and a time, and no GID"
	case (name == "" || c.all) && len(args) > 0:
		return fmt.Sprintf("it takes no argument, and got %q", args)
	case name != "" && !c.all && len(args) != 1:
		return fmt.Sprintf("give %s: %d arguments given", name, len(args))
	case before != "":
		var err error
		if c.before, err = parseTime(before, time.Now()); err != nil {
			return err.Error()
		}
	}
	return ""
}

// parseTime reads a date, a time as in RFC 3339, or how long before now.
func parseTime(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("--before %q is no date, no time as 2026-11-30T12:00:00Z, and no time ago as 24h", text)
}

func (c *txnCommand) do(ctx context.Context, verb string, args []string) (err error) {
	if c.fresh {
		return c.prepare(ctx, preparations[verb], strings.Join(args, ""))
	}
	var rms []txn.Resource
	var limits txn.Limits
	var cluster string
	cfg, err := c.config()
	switch {
	case verb == "list" && (err != nil || cfg.Cluster.Decider == ""):
		err = nil // the list needs no resource, and must work when one is down
	case err != nil:
		return err
	default:
		limits.Retain, cluster = cfg.Transaction.Retain, cfg.Cluster.Decider
		if rms, err = resources.Open(cfg, "", c.own.Openers); err != nil {
			return err
		}
	}
	defer func() {
		for _, r := range rms {
			err = errors.Join(err, r.Close())
		}
	}()
	m, err := txn.Open(ctx, txn.Options{
		Decider: cluster, Cluster: cluster != "",
		LogDir: filepath.Join(c.lib, "txn"), ClaimDir: filepath.Join(c.run, "txn"), LastLog: filepath.Join(c.etc, filepath.Base(lastlog.File)), Resources: rms, Limits: limits, Program: "fdtctl", Operator: true,
		Neighbours: func() map[string]string { return service.LogsBeside(c.lib) },
		Logger:     slog.New(slog.NewMultiHandler(c.journal, notes{out: c.stderr})),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close(context.WithoutCancel(ctx))) }()
	who := asked(os.Getenv(operatorEnv))
	if verb == "list" {
		return c.list(ctx, m)
	}
	return txnVerbs[verb](c, ctx, m, who, strings.Join(args, ""))
}

// config is the configuration that serves; with the service stopped, the one
// that would, or did last.
func (c *txnCommand) config() (*config.Config, error) {
	load := config.Load
	if c.own != nil {
		load = c.own.load
	}
	if c.fresh {
		return load(c.etc)
	}
	dir := snapshot.Dir(c.run)
	if st, err := dir.ReadState(); err == nil && st.Applied != 0 {
		c.source = fmt.Sprintf("generation %d, which serves", st.Applied)
		return load(dir.Path(st.Applied))
	}
	c.source = c.etc
	cfg, err := load(c.etc)
	if err == nil {
		return cfg, nil
	}
	if good, lerr := load(filepath.Join(c.lib, "last-good")); lerr == nil {
		c.source = "the configuration that served last"
		fmt.Fprintf(c.stderr, "fdtctl txn: %s has faults; using the resources of the configuration that served last\n", c.etc)
		return good, nil
	}
	return nil, err
}

func (c *txnCommand) commit(ctx context.Context, m *txn.Manager, who txn.Principal, gid string) error {
	return c.decide(ctx, m, who, gid, txn.Commit, "committed")
}

func (c *txnCommand) rollback(ctx context.Context, m *txn.Manager, who txn.Principal, gid string) error {
	return c.decide(ctx, m, who, gid, txn.Abort, "rolled back")
}

func (c *txnCommand) decide(ctx context.Context, m *txn.Manager, who txn.Principal, gid string, d txn.Decision, done string) error {
	err := m.Decide(ctx, who, gid, d)
	if errors.Is(err, txn.ErrUnreachable) {
		return fmt.Errorf("%q: the decision is recorded and a worker carries it out as soon as it can: %w", gid, err)
	}
	if err != nil {
		return about(gid, err)
	}
	return c.done(txnDone{GID: gid, Outcome: done}, cli.Plain(gid)+": "+done)
}

func (c *txnCommand) forget(ctx context.Context, m *txn.Manager, who txn.Principal, gid string) error {
	if c.all {
		n, err := m.ForgetAll(ctx, who, c.before)
		return errors.Join(c.done(txnDone{Outcome: "forgotten", Count: &n}, fmt.Sprintf("outcomes forgotten: %d", n)), err)
	}
	if err := m.Forget(ctx, who, gid); err != nil {
		return about(gid, err)
	}
	return c.done(txnDone{GID: gid, Outcome: "forgotten"}, cli.Plain(gid)+": forgotten")
}

// about names the transaction that an error is about, unless it does so itself.
func about(gid string, err error) error {
	if errors.Is(err, txn.ErrUnknownGID) {
		return err
	}
	return fmt.Errorf("%q: %w", gid, err)
}

// adopt makes a log that was put aside the one that serves.
func (c *txnCommand) adopt(ctx context.Context, m *txn.Manager, who txn.Principal, name string) error {
	var id txn.LogID
	if err := id.UnmarshalText([]byte(name)); err != nil {
		return err
	}
	err := m.Adopt(ctx, who, id, c.force)
	switch {
	case errors.Is(err, txn.ErrNotAdopted) && !errors.Is(err, txn.ErrInPlace) && !c.force:
		return fmt.Errorf("%w\nBe sure that no other copy of this log is in use; then settle what is named, or give --force", err)
	case err != nil:
		return err
	}
	return c.done(txnDone{Log: id.String(), Outcome: "adopted"}, id.String()+": adopted; systemctl start "+c.service().String())
}

// abandon gives up a log that was put aside.
func (c *txnCommand) abandon(ctx context.Context, m *txn.Manager, who txn.Principal, name string) error {
	var id txn.LogID
	if err := id.UnmarshalText([]byte(name)); err != nil {
		return err
	}
	left, err := m.Abandon(ctx, who, id)
	if err != nil {
		return err
	}
	lines := []string{id.String() + ": abandoned"}
	for _, resource := range slices.Sorted(maps.Keys(left)) {
		lines = append(lines, resource+" "+left[resource])
	}
	return c.done(txnDone{Log: id.String(), Outcome: "abandoned", Left: left}, lines...)
}

// rebind has the present store of a resource carry on one that is not found.
func (c *txnCommand) rebind(ctx context.Context, m *txn.Manager, who txn.Principal, resource string) error {
	stores, err := m.Rebind(ctx, who, resource)
	return c.stores(resource, "carries on", stores, err)
}

// giveUp ends transactions without a store that is not found.
func (c *txnCommand) giveUp(ctx context.Context, m *txn.Manager, who txn.Principal, resource string) error {
	stores, err := m.GiveUp(ctx, who, resource)
	return c.stores(resource, "gave up", stores, err)
}

// stores prints what was said of them.
func (c *txnCommand) stores(resource, said string, stores []string, err error) error {
	if errors.Is(err, txn.ErrNoResource) {
		return fmt.Errorf("%w in %s", err, c.source)
	}
	if err != nil {
		return err
	}
	var lines []string
	for _, was := range stores {
		lines = append(lines, cli.Plain(resource)+" "+said+" "+cli.Plain(was))
	}
	lines = append(lines, "What is decided there is carried out soon; at once by fdtctl txn resolve --all.")
	return c.done(txnDone{Resource: resource, Outcome: said, Stores: stores}, lines...)
}

// txnDone is what a subcommand has done, as JSON, in the words of its text.
type txnDone struct {
	GID      string            `json:"gid,omitempty"`
	Log      string            `json:"log,omitempty"`
	Resource string            `json:"resource,omitempty"`
	Outcome  string            `json:"outcome"`
	Count    *int              `json:"count,omitempty"`    // of outcomes
	Left     map[string]string `json:"left,omitempty"`     // what resources still hold of a log
	Stores   []string          `json:"stores,omitempty"`   // that the resource carries on, or gave up
	Warnings []string          `json:"warnings,omitempty"` // what does not suit
}

// done prints what was done, for programs or in lines for people.
func (c *txnCommand) done(what txnDone, lines ...string) error {
	if c.asJSON {
		return c.print(what)
	}
	_, err := fmt.Fprintln(c.stdout, strings.Join(lines, "\n"))
	return err
}

// resolve prints a line for each transaction that was open. Those that stay so
// make it fail, after all was told.
func (c *txnCommand) resolve(ctx context.Context, m *txn.Manager, who txn.Principal, _ string) error {
	all, err := m.ResolveAll(ctx, who, c.rest)
	if len(all) == 0 && err == nil && !c.asJSON {
		_, err := fmt.Fprintln(c.stdout, "Nothing waits for a decision or for a resource.")
		return err
	}
	open := 0
	for _, t := range all {
		if t.Left != "" {
			open++
		}
		if c.asJSON {
			continue
		}
		fmt.Fprintf(c.stdout, "%s: %s%s\n", cli.Plain(t.Name()), state(t.Transaction), reason(t))
	}
	if c.asJSON {
		err = errors.Join(err, c.print(all))
	}
	if open > 0 {
		err = errors.Join(err, fmt.Errorf("%w: %d of %d", errOpen, open, len(all)))
	}
	return err
}

// reason is why a transaction stays open, or what is wrong with its end.
func reason(t txn.Settled) string {
	if why := t.Left + t.Hazard; why != "" {
		return ": " + strings.ReplaceAll(why, "\n", "; ")
	}
	return ""
}
