package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/unit"
)

// The log belongs to the workers' user, so what root does to it is done as that user. A process of that user is at the
// mercy of every other one, and workers talk to the network: what it shares with root, a worker that was taken over
// reaches. So it is a child of systemd and not of root's fdtctl, in a sandbox of its own (fdt-txn.conf), and the two share
// pipes: a request in, and text out, which is made printable like all that clients choose.

// txnRequest is one line on the unit's standard input. After it comes nothing, and the end when root's fdtctl has gone or
// was interrupted: then what is not decided is given up.
type txnRequest struct {
	Args     []string `json:"args"`     // of fdtctl txn
	Operator string   `json:"operator"` // as in operatorEnv
}

// errNoManager says why nothing is done where systemd does not run.
var errNoManager = errors.New("systemd does not run here, and what is done to the transaction log is done in a unit of its own")

// inUnit has the same command done as the user that owns the log, so that every file it makes is owned as the workers'
// are, and waits for it. It returns its exit code.
func (c *txnCommand) inUnit(ctx context.Context, verb string, args []string) (int, error) {
	if _, err := os.Stat("/run/systemd/system"); err != nil { // sd_booted(3)
		return 0, errNoManager
	}
	program, err := os.Executable()
	if err != nil {
		return 0, err
	}
	request, _ := json.Marshal(txnRequest{Args: args, Operator: operator()}) // texts: cannot fail
	code, err := runUnit(ctx, c.unitArguments(verb, program), append(request, '\n'), c.stdout, c.stderr)
	if err == nil && code > 2 {
		err = fmt.Errorf("the unit has failed, see journalctl: exit status %d", code)
	}
	return code, err
}

// runUnit runs systemd-run(1) with its arguments, and returns its exit code. What runs in the unit gets the request, and the end of its
// input when this process ends or ctx does.
func runUnit(ctx context.Context, args []string, request []byte, stdout, stderr io.Writer) (int, error) {
	in, hold, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer hold.Close()
	cmd := exec.Command("systemd-run", args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal, and an interrupt there is for this process alone
	err = cmd.Start()
	_ = in.Close() // the child's own
	if err != nil {
		return 0, fmt.Errorf("systemd-run: %w", err)
	}
	var sent sync.WaitGroup
	defer sent.Wait()
	sent.Go(func() { _, _ = hold.Write(request) }) // if that fails, the unit has not begun, or has ended, as its end tells
	stop := context.AfterFunc(ctx, func() { _ = hold.Close() })
	defer stop()
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() >= 0 {
		return exit.ExitCode(), nil
	}
	if err != nil {
		err = fmt.Errorf("the unit has failed, see journalctl: %w", err)
	}
	return 0, err
}

// unitArguments are those of systemd-run(1).
func (c *txnCommand) unitArguments(verb, program string) []string {
	quiet := *c
	quiet.stderr = io.Discard
	var needs unit.Needs
	if cfg, err := quiet.config(); err == nil { // else the unit says what is wrong with it
		needs = unit.NeedsOf(cfg)
	}
	needs.Writable = append(needs.Writable, filepath.Join(c.lib, "txn"), filepath.Join(c.run, "txn"))
	properties := needed(needs)
	if tz, ok := os.LookupEnv("TZ"); ok { // a time on the command line is the operator's
		properties = append(properties, "--setenv=TZ="+tz)
	}
	return asService("fdt-txn-"+strconv.Itoa(os.Getpid())+".service", "fdtctl txn "+verb, properties, program, "txn-unit")
}

// asService are the arguments with which systemd-run runs a command as the service's user, in the sandbox of fdt-txn.conf, which its
// name brings along.
func asService(name, description string, properties []string, command ...string) []string {
	args := append(inPipes(name, description), "--property=User="+serviceUser, "--property=Group="+serviceUser) // in fdt-txn.conf too; never without
	return slices.Concat(args, properties, []string{"--"}, command)
}

// inPipes are the arguments that have systemd-run wait for a unit, which shares pipes with this process and nothing else.
func inPipes(name, description string) []string {
	return []string{"--quiet", "--collect", "--wait", "--pipe", "--no-ask-password", "--service-type=exec", "--unit=" + name, "--description=" + description}
}

// needed are the properties that let a unit write and reach what resources need.
func needed(needs unit.Needs) (args []string) {
	for _, path := range needs.Writable {
		args = append(args, `--property=ReadWritePaths="-`+path+`"`)
	}
	network := []string{"PrivateNetwork=yes", "IPAddressDeny=any", "RestrictAddressFamilies=AF_UNIX"}
	if needs.Network {
		network = []string{"RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"}
	}
	for _, p := range network {
		args = append(args, "--property="+p)
	}
	return args
}

// runTxnUnit is what the unit runs.
func runTxnUnit(_ []string, stdout, stderr io.Writer) int {
	if os.Geteuid() == 0 {
		return fail(stderr, "txn-unit", errors.New("this is not for root, nor for people: use fdtctl txn"))
	}
	err := unix.SetNonblock(unix.Stdin, true) // so that reading it can be ended
	if err != nil {
		return fail(stderr, "txn-unit", err)
	}
	return answerTxn(os.NewFile(uintptr(unix.Stdin), "standard input"), stdout, stderr)
}

// answerTxn does what the request on in asks for, until in ends.
func answerTxn(in *os.File, stdout, stderr io.Writer) int {
	lines := bufio.NewReader(in)
	line, err := lines.ReadBytes('\n')
	var request txnRequest
	if err == nil {
		err = json.Unmarshal(line, &request)
	}
	if err == nil {
		err = os.Setenv(operatorEnv, request.Operator)
	}
	if err != nil {
		return fail(stderr, "txn", fmt.Errorf("no request: %w", err))
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var watch sync.WaitGroup
	watch.Go(func() {
		_, _ = lines.WriteTo(io.Discard)
		cancel(errors.New("interrupted"))
	})
	code := txnIn(ctx, true, request.Args, stdout, stderr)
	_ = in.SetReadDeadline(time.Unix(1, 0))
	watch.Wait()
	return code
}
