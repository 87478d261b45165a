package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/resources"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/txn"
)

// operatorEnv carries who the operator is from root to the user that owns the
// transaction log.
const operatorEnv = "FDT_OPERATOR"

// serviceUser owns the log and the claims.
const serviceUser = "fdt"

const txnUsage = `Usage: fdtctl txn list [--json]
       fdtctl txn show [--json] GID
       fdtctl txn commit GID
       fdtctl txn rollback GID
       fdtctl txn forget GID
       fdtctl txn resolve --all [--commit | --rollback] [--json]

GID is the coordinator's name of the transaction, or fdt's own. resolve carries
out what is decided, and tells what stays open and why; with --commit or
--rollback it decides what is in doubt, too.
`

// txnCommand is one fdtctl txn at work.
type txnCommand struct {
	run, lib, etc string // directories
	asJSON        bool
	rest          txn.Decision // of resolve: what becomes of those in doubt
	stdout        io.Writer
	stderr        io.Writer
}

// errOpen: resolve has told what stays open.
var errOpen = errors.New("transactions stay open")

// txnVerbs are the subcommands of txn but for list. All but resolve take a gid.
var txnVerbs = map[string]func(*txnCommand, context.Context, *txn.Manager, txn.Principal, string) error{
	"show":     (*txnCommand).show,
	"commit":   (*txnCommand).commit,
	"rollback": (*txnCommand).rollback,
	"forget":   (*txnCommand).forget,
	"resolve":  (*txnCommand).resolve,
}

// runTxn lists, shows and settles transactions, whether the service runs or
// not. It exits 0 if done, 1 if refused or failed, 2 if called wrongly.
func runTxn(args []string, stdout, stderr io.Writer) int {
	c := &txnCommand{stdout: stdout, stderr: stderr}
	flags := flag.NewFlagSet("fdtctl txn", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(stderr, txnUsage) }
	flags.StringVar(&c.run, "run", "/run/fdt", "")
	flags.StringVar(&c.lib, "lib", "/var/lib/fdt", "")
	flags.StringVar(&c.etc, "etc", config.Dir, "")
	flags.BoolVar(&c.asJSON, "json", false, "")
	var all, commit, rollback bool
	if len(args) > 0 && args[0] == "resolve" {
		flags.BoolVar(&all, "all", false, "")
		flags.BoolVar(&commit, "commit", false, "")
		flags.BoolVar(&rollback, "rollback", false, "")
	}
	given := args
	if len(args) > 0 && (args[0] == "help" || strings.HasPrefix(args[0], "-h") || args[0] == "--help") {
		fmt.Fprint(stdout, txnUsage)
		return 0
	}
	if len(args) == 0 {
		flags.Usage()
		return 2
	}
	wants := 1
	if args[0] == "list" || args[0] == "resolve" {
		wants = 0
	} else if txnVerbs[args[0]] == nil {
		fmt.Fprintf(stderr, "fdtctl txn: unknown subcommand %q\n%s", args[0], txnUsage)
		return 2
	}
	rest, code, done := parse(flags, args[1:], wants, stderr)
	if done {
		return code
	}
	switch {
	case args[0] == "resolve" && (!all || commit && rollback):
		fmt.Fprintf(stderr, "fdtctl txn resolve: give --all, and at most one of --commit and --rollback\n")
		return 2
	case commit:
		c.rest = txn.Commit
	case rollback:
		c.rest = txn.Abort
	}
	if os.Geteuid() == 0 {
		code, err := asServiceUser(given, stdout, stderr)
		if err != nil {
			return fail(stderr, "txn", err)
		}
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := c.do(ctx, args[0], rest); err != nil {
		return fail(stderr, "txn "+args[0], err)
	}
	return 0
}

// asServiceUser runs the same command as the user that owns the log, so that
// every file it makes is owned as the workers' are, and waits for it.
func asServiceUser(args []string, stdout, stderr io.Writer) (int, error) {
	u, err := user.Lookup(serviceUser)
	if err != nil {
		return 0, fmt.Errorf("the package's user is missing: %w", err)
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32) // a number, or it were not found
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	cmd := exec.Command("/proc/self/exe", append([]string{"txn"}, args...)...)
	cmd.Env = append(os.Environ(), operatorEnv+"="+operator())
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: []uint32{uint32(gid)}},
	}
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// operator names the person behind root, where that is known: who logged in
// (audit's login uid), or who called sudo.
func operator() string {
	if raw, err := os.ReadFile("/proc/self/loginuid"); err == nil {
		if u, err := user.LookupId(strings.TrimSpace(string(raw))); err == nil && u.Uid != "0" {
			return u.Username
		}
	}
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	return "root"
}

func (c *txnCommand) do(ctx context.Context, verb string, args []string) (err error) {
	var rms []txn.Resource
	if verb != "list" { // the list needs no resource, and must work when one is down
		cfg, err := c.config()
		if err != nil {
			return err
		}
		if rms, err = resources.Open(cfg, ""); err != nil {
			return err
		}
	}
	defer func() {
		for _, r := range rms {
			err = errors.Join(err, r.Close())
		}
	}()
	m, err := txn.Open(ctx, txn.Options{
		LogDir: filepath.Join(c.lib, "txn"), ClaimDir: filepath.Join(c.run, "txn"), Resources: rms, Program: "fdtctl",
		Logger: slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close(context.WithoutCancel(ctx))) }()
	who := txn.Principal{User: os.Getenv(operatorEnv), Operator: true}
	if who.User == "" {
		who.User = serviceUser
	}
	if verb == "list" {
		return c.list(ctx, m)
	}
	return txnVerbs[verb](c, ctx, m, who, strings.Join(args, ""))
}

// config is the configuration that serves; with the service stopped, the one
// that would, or did last.
func (c *txnCommand) config() (*config.Config, error) {
	dir := snapshot.Dir(c.run)
	if st, err := dir.ReadState(); err == nil && st.Applied != 0 {
		return dir.Load(st.Applied)
	}
	cfg, err := config.Load(c.etc)
	if err == nil {
		return cfg, nil
	}
	if good, lerr := config.Load(filepath.Join(c.lib, "last-good")); lerr == nil {
		fmt.Fprintf(c.stderr, "fdtctl txn: %s has faults; using the resources of the configuration that served last\n", c.etc)
		return good, nil
	}
	return nil, err
}

// list prints what can be read also where that is not all, which the error tells.
func (c *txnCommand) list(ctx context.Context, m *txn.Manager) error {
	all, err := m.List(ctx)
	if len(all) == 0 && err != nil {
		return err
	}
	return errors.Join(c.table(all), err)
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
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", plain(t.Name()), state(t), age(t.Since), plain(t.Owner), plain(dash(t.Addr)), dash(strings.Join(names, ",")))
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
		{"gid", t.ClientGID}, {"fdt's gid", t.GID.String()}, {"state", state(t)}, {"since", t.Since.Format(time.RFC3339) + " (" + age(t.Since) + ")"},
		{"owner", t.Owner}, {"client", t.Addr}, {"database", t.Database}, {"decided by", t.Decider}, {"hazard", t.Hazard}, {"left alone", t.HandsOff},
	} {
		if line[1] != "" {
			fmt.Fprintf(w, "%s:\t%s\n", line[0], plain(line[1]))
		}
	}
	for _, b := range t.Branches {
		fmt.Fprintf(w, "branch %s:\t%s (%s)\n", b.Resource, b.State, b.Identity)
	}
	return w.Flush()
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
		return fmt.Errorf("%q: %w", gid, err)
	}
	_, err = fmt.Fprintf(c.stdout, "%s: %s\n", plain(gid), done)
	return err
}

func (c *txnCommand) forget(ctx context.Context, m *txn.Manager, who txn.Principal, gid string) error {
	if err := m.Forget(ctx, who, gid); err != nil {
		return fmt.Errorf("%q: %w", gid, err)
	}
	_, err := fmt.Fprintf(c.stdout, "%s: forgotten\n", plain(gid))
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
		fmt.Fprintf(c.stdout, "%s: %s%s\n", plain(t.Name()), state(t.Transaction), reason(t))
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

// state is the phase in an operator's words.
func state(t txn.Transaction) string {
	s := t.Phase.String()
	if t.Phase == txn.Prepared {
		s = "in doubt"
	}
	if t.Heuristic {
		s += " (operator)"
	}
	if t.Hazard != "" {
		s += " (hazard)"
	}
	return s
}

// age is the time since then, to the second, or minute, or hour.
func age(since time.Time) string {
	d := time.Since(since)
	switch {
	case d < 2*time.Minute:
		return d.Truncate(time.Second).String()
	case d < 2*time.Hour:
		return strings.TrimSuffix(d.Truncate(time.Minute).String(), "0s")
	}
	return strings.TrimSuffix(d.Truncate(time.Hour).String(), "0m0s")
}

// plain quotes what a client chose if it could disturb a terminal or a column.
func plain(s string) string {
	if q := strconv.Quote(s); strings.ContainsAny(s, " \t") || q[1:len(q)-1] != s {
		return q
	}
	return s
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
