package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/cli"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/neighbour"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/transient"
	"github.com/fdtserver/fdt/internal/unit"
)

// checked is the outcome of fdtctl check, as JSON.
type checked struct {
	Directory string        `json:"directory"`
	Valid     bool          `json:"valid"`
	Faults    config.Faults `json:"faults,omitempty"`
	Warnings  config.Faults `json:"warnings,omitempty"`
	Unchecked string        `json:"unchecked,omitempty"` // what was not looked at, and why

	cfg *config.Config
}

// runCheck prints everything that is wrong with a configuration directory. It exits 0 if nothing is, 1 if something
// is, and 2 if it was called wrongly. With -schema it prints the JSON Schema for editors instead.
func runCheck(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fdtctl check", flag.ContinueOnError)
	schema := flags.Bool("schema", false, "print the JSON Schema of a configuration file")
	quiet := flags.Bool("quiet", false, "print nothing if there is no fault")
	live := flags.Bool("live", false, "have the workers' program try certificates, spools, databases and statements, as a reload does")
	asJSON := flags.Bool("json", false, "print what is found as JSON")
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: fdtctl check [--live] [--json] [--quiet] [DIR]\n       fdtctl check --schema\n\nChecks the configuration in DIR, %s by default.\n\n", own().Etc())
		flags.PrintDefaults()
	}
	rest, code, done := cli.Parse(flags, args, cli.AnyNumber, stderr)
	if done {
		return code
	}
	if len(rest) > 1 || *schema && (len(rest) > 0 || *live || *asJSON) {
		flags.Usage()
		return 2
	}
	if *schema {
		_, _ = stdout.Write(config.Schema()) // main tells if it is lost
		return 0
	}
	found := checked{Directory: own().Etc()}
	if len(rest) == 1 {
		found.Directory = rest[0]
		checkAs(rest[0])
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := found.look(ctx, *live); err != nil {
		return cli.Fail(stderr, "check", err)
	}
	found.Valid = len(found.Faults) == 0
	if *asJSON {
		if code := printJSON("check", found, stdout, stderr); code != 0 || found.Valid {
			return code
		}
		return 1
	}
	found.tell(*quiet, stdout, stderr)
	if !found.Valid {
		return 1
	}
	return 0
}

// checkAs has a directory that is the configuration of one of the host's services checked as that one's; any other is a draft.
func checkAs(dir string) {
	for _, s := range service.Known("/") {
		if s.Etc() == filepath.Clean(dir) {
			_ = os.Setenv(service.Env, s.Name()) // cannot fail: a name has no zero byte
		}
	}
}

// tell prints what was found for people.
func (c *checked) tell(quiet bool, stdout, stderr io.Writer) {
	if !quiet || len(c.Faults) > 0 {
		for _, w := range c.Warnings {
			fmt.Fprintf(stderr, "warning: %s\n", config.Faults{w}.Detail())
		}
		if c.Unchecked != "" {
			fmt.Fprintf(stderr, "not checked: %s\n", c.Unchecked)
		}
	}
	switch {
	case len(c.Faults) > 0:
		fmt.Fprintln(stderr, c.Faults.Detail())
		if len(c.Faults) > 1 {
			fmt.Fprintf(stderr, "%d faults in %s\n", len(c.Faults), c.Directory)
		}
	case !quiet:
		fmt.Fprintf(stdout, "%s is valid: listeners %d, workers %d, resources %d, procedures %d\n",
			c.Directory, len(c.cfg.Listen), c.cfg.Workers.Count, len(c.cfg.Resources), len(c.cfg.Procedures))
	}
}

// look fills in what is found. The error says why nothing could be.
func (c *checked) look(ctx context.Context, live bool) error {
	cfg, places, err := config.LoadPlaced(c.Directory)
	if err != nil {
		if !errors.As(err, &c.Faults) {
			return err
		}
		return nil
	}
	c.cfg, c.Warnings = cfg, places.Warnings(cfg)
	if c.Directory == own().Etc() {
		paused, _ := snapshot.Dir(own().Run()).Pauses() // what cannot be read is told by who ends a pause
		for _, name := range slices.Sorted(maps.Keys(paused)) {
			if _, ok := cfg.Resources[name]; ok {
				c.Warnings = append(c.Warnings, places.At("resources."+name, name+" is paused: a reload does not rehearse it", "fdtctl resume "+name+" does that"))
			}
		}
	}
	c.Faults = c.contested(ctx, places)
	_, booted := os.Stat("/run/systemd/system") // sd_booted(3)
	var box transient.Worker
	switch {
	case os.Geteuid() != 0:
		c.Unchecked = "what the service can read, which takes root"
	case booted != nil:
		c.Unchecked = "what the service can read, as systemd does not run here"
	default:
		box = transient.WorkerOf(ctx, own())
		var unreadable config.Faults
		unreadable, err = c.readable(ctx, box, places)
		if c.Faults = append(c.Faults, unreadable...); err != nil && !live {
			c.Unchecked = "what the service can read: " + err.Error()
			return nil
		}
	}
	switch {
	case err != nil || !live:
		return err
	case c.Unchecked != "":
		return errors.New("--live tries what workers do, as their user and in their unit: run it as root where systemd runs")
	case len(c.Faults) > 0:
		c.Unchecked = "what these faults keep from being tried"
		return nil
	}
	return c.try(ctx, box, places)
}

// readable returns what the master and the workers cannot read, as their users and in their sandboxes.
func (c *checked) readable(ctx context.Context, box transient.Worker, places config.Places) (config.Faults, error) {
	var faults config.Faults
	if c.Directory == own().Etc() { // no program reads a draft of it
		var err error
		if faults, err = c.readableByMaster(ctx); err != nil {
			return nil, err
		}
	}
	named := c.cfg.Named()
	for _, f := range named {
		if why := box.Hidden(f.Name); f.Socket && why != "" {
			faults = append(faults, places.At(f.Path, f.Name+": "+why, f.HintHidden()))
		}
	}
	named = slices.DeleteFunc(named, func(f config.Named) bool { return f.Socket }) // a database that is down is no fault
	refused, err := reading(ctx, transient.AsService(unitNamed("worker"), "fdtctl check", slices.Concat(box.As, transient.Needed(c.cfg))), named)
	if err != nil {
		return nil, err
	}
	for _, r := range refused {
		what, hint := "workers cannot read "+r.Name+": "+r.Why, "let the user or the group "+transient.User+" read it, and enter the directories above it"
		if r.Directory {
			what, hint = "workers cannot make files in "+r.Name+": "+r.Why, "install -d -o "+transient.User+" -g "+transient.User+" -m 2770 "+r.Name
		}
		if why := box.Hidden(r.Name); why != "" {
			what, hint = r.Name+": "+why, r.HintHidden()
		}
		faults = append(faults, places.At(r.Path, what, hint))
	}
	return faults, nil
}

// readableByMaster returns the files of the configuration that the master cannot read.
func (c *checked) readableByMaster(ctx context.Context) (config.Faults, error) {
	files, err := config.Files(c.Directory)
	if err != nil {
		return nil, err
	}
	var all []config.Named
	for _, name := range files {
		all = append(all, config.Named{Name: c.Directory + "/" + name})
	}
	refused, err := reading(ctx, append(transient.InPipes("fdt-check-"+strconv.Itoa(os.Getpid())+".service", "fdtctl check"),
		"--property=SupplementaryGroups="+transient.User, "--property=CapabilityBoundingSet=", "--property=NoNewPrivileges=yes",
		"--property=ProtectSystem=strict", "--property=ProtectHome=yes", "--property=PrivateTmp=yes", "--"), all)
	if err != nil {
		return nil, err
	}
	var faults config.Faults
	for _, r := range refused {
		faults = append(faults, config.Fault{File: r.Name, What: "the master cannot read it: " + r.Why,
			Hint: "chown root:" + transient.User + " and chmod 0640 let it, below directories that group " + transient.User + " may enter"})
	}
	return faults, nil
}

// unitNamed is a unit of this process in which a part of the check is done as a worker: its name brings fdt-txn.conf along.
func unitNamed(part string) string {
	return "fdt-txn-check-" + part + "-" + strconv.Itoa(os.Getpid()) + ".service"
}

// refused is a file that a part of the service cannot use.
type refused struct {
	config.Named

	Why string `json:"why"`
}

// reading has files opened in a unit, and returns those that cannot be.
func reading(ctx context.Context, args []string, files []config.Named) (out []refused, err error) {
	program, err := os.Executable()
	if err == nil {
		err = inUnit(ctx, append(args, program, "check-unit"), files, &out)
	}
	return out, err
}

// inUnit has a command read its input, and write its answer, as JSON.
func inUnit(ctx context.Context, args []string, request, answer any) error {
	text, _ := json.Marshal(request) // texts: cannot fail
	var out, said bytes.Buffer
	code, err := transient.Run(ctx, args, append(text, '\n'), math.MaxUint8, &out, &said)
	if err == nil && code != 0 {
		err = &unitFailed{code, strings.TrimSpace(said.String())}
	}
	if err == nil {
		err = json.Unmarshal(out.Bytes(), answer)
	}
	return err
}

// unitFailed is what became of a command in a unit that has no answer.
type unitFailed struct {
	code int
	said string
}

func (e *unitFailed) Error() string {
	return fmt.Sprintf("what runs in the unit ended with exit status %d: %s", e.code, e.said)
}

// runCheckUnit is what that unit runs.
func runCheckUnit(_ []string, stdout, stderr io.Writer) int {
	return answerCheck(os.Stdin, stdout, stderr)
}

func answerCheck(in io.Reader, stdout, stderr io.Writer) int {
	var files []config.Named
	if err := json.NewDecoder(in).Decode(&files); err != nil {
		return cli.Fail(stderr, "check-unit", fmt.Errorf("this is not for people, use fdtctl check; no request: %w", err))
	}
	out := []refused{}
	for _, f := range files {
		if err := usable(f); err != nil {
			out = append(out, refused{f, err.Error()})
		}
	}
	return printJSON("check-unit", out, stdout, stderr)
}

// usable opens a file, or asks whether one may be made in a directory, without making any.
func usable(f config.Named) error {
	if f.Directory {
		err := unix.Access(f.Name, unix.R_OK|unix.W_OK|unix.X_OK)
		if st, serr := os.Stat(f.Name); err == nil && serr == nil && !st.IsDir() {
			err = syscall.ENOTDIR
		}
		return err
	}
	file, err := os.OpenFile(f.Name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err
	}
	if err == nil {
		_ = file.Close()
	}
	return err
}

// try has the workers' program try the configuration, and says where in the files what it finds belongs.
func (c *checked) try(ctx context.Context, box transient.Worker, places config.Places) error {
	texts, err := config.Texts(c.Directory)
	if err != nil {
		return err
	}
	needed := box.Needed(c.cfg, own().Lib()+"/txn", own().Run()+"/txn") // for the transactions that it tries
	var found control.Examination
	err = inUnit(ctx, transient.AsService(unitNamed("live"), "fdtctl check --live", slices.Concat(box.As, needed), box.Program, "-check"), texts, &found)
	if e, ok := errors.AsType[*unitFailed](err); ok && e.code == 2 {
		return fmt.Errorf("%s does not know -check, as programs of fdt do: %s", box.Program, e.said)
	}
	if err != nil {
		return err
	}
	for _, f := range found.Faults {
		c.Faults = append(c.Faults, c.placed(places, f))
	}
	c.Faults = append(c.Faults, c.occupied(ctx, places)...)
	for _, f := range found.Warnings {
		c.Warnings = append(c.Warnings, c.placed(places, f))
	}
	return nil
}

// contested are what another service of the host has. What systemd has open for this one is its own.
func (c *checked) contested(ctx context.Context, places config.Places) (faults config.Faults) {
	for _, w := range neighbour.Lost("/", own(), c.cfg) {
		if !opened(ctx, w.Address) {
			faults = append(faults, places.At(w.Path, w.What, w.Hint))
		}
	}
	for _, w := range neighbour.Won("/", own(), c.cfg) {
		c.Warnings = append(c.Warnings, places.At(w.Path, w.What, w.Hint))
	}
	return faults
}

// opened reports whether systemd has an address open for the service.
func opened(ctx context.Context, a config.Address) bool {
	return exec.CommandContext(ctx, "systemctl", "--quiet", "is-active", unit.SocketName(own(), a), unit.MetricsName(own(), a)).Run() == nil
}

// occupied are the paths at which no listener could be opened, as something else is there. What systemd has open for fdt is fdt's own.
func (c *checked) occupied(ctx context.Context, places config.Places) (faults config.Faults) {
	for _, l := range unit.Listeners(c.cfg) {
		if l.Address.Network != "unix" || opened(ctx, l.Address) {
			continue
		}
		if err := unit.Free(l.Address.Address); err != nil {
			faults = append(faults, places.At("listen."+l.Listener.Name+".address", err.Error(), ""))
		}
	}
	return faults
}

func (c *checked) placed(places config.Places, f control.Finding) config.Fault {
	if f.File != "" {
		return config.Fault{File: f.File, Line: f.Line, Column: f.Column, What: f.What, Hint: f.Hint}
	}
	if f.Path == "" {
		return config.Fault{File: c.Directory, What: f.What}
	}
	return places.At(f.Path, f.What, "")
}
