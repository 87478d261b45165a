package settle

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/cli"
	"github.com/fdtserver/fdt/internal/resources"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/transient"
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
	program, _ := os.Executable()                                            // cannot fail: /proc is there where systemd runs
	request, _ := json.Marshal(txnRequest{Args: args, Operator: operator()}) // texts: cannot fail
	arguments := c.unitArguments(verb, program, func() transient.Worker { return transient.WorkerOf(ctx, c.service()) })
	return transient.Run(ctx, arguments, append(request, '\n'), 2, c.stdout, c.stderr)
}

// service is the one whose transactions are settled.
func (c *txnCommand) service() service.Service {
	s, _ := service.Own() // the program has seen that its name is one
	return s
}

// unitArguments are those of systemd-run(1). Resources of types that only the workers' program knows are settled by that.
func (c *txnCommand) unitArguments(verb, program string, worker func() transient.Worker) []string {
	quiet := *c
	quiet.stderr = io.Discard
	cfg, err := quiet.config()
	if err != nil { // the unit says what is wrong with it
		cfg = new(config.Config)
	}
	command := []string{program, "txn-unit"}
	var w transient.Worker
	if verb != "list" && cfg.Foreign() {
		w = worker()
		command = []string{w.Program, "-txn"}
	}
	properties := append(w.As, w.Needed(cfg, filepath.Join(c.lib, "txn"), filepath.Join(c.run, "txn"))...)
	if tz, ok := os.LookupEnv("TZ"); ok { // a time on the command line is the operator's
		properties = append(properties, "--setenv=TZ="+tz)
	}
	return transient.AsService("fdt-txn-"+strconv.Itoa(os.Getpid())+".service", "fdtctl txn "+verb, properties, command...)
}

// Own is what a program knows beside fdt's own types of resource.
type Own struct {
	Program *config.Program // nil: nothing
	Openers map[string]resources.Opener
}

// load reads a configuration.
func (o Own) load(dir string) (*config.Config, error) {
	if o.Program == nil {
		return config.Load(dir)
	}
	texts, err := config.Texts(dir)
	if err != nil {
		return nil, err
	}
	return o.Program.Parse(texts)
}

// Unit is what the unit runs: one request on standard input is answered, until that ends. It returns an exit status as
// Txn does.
func Unit(own Own, stdout, stderr io.Writer) int {
	if os.Geteuid() == 0 {
		return cli.Fail(stderr, "txn", errors.New("this is not for root, nor for people: use fdtctl txn"))
	}
	_ = unix.SetNonblock(unix.Stdin, true) // so that reading it can be ended; fails where it cannot be read either
	return answerTxn(own, os.NewFile(uintptr(unix.Stdin), "standard input"), stdout, stderr)
}

// answerTxn does what the request on in asks for, until in ends.
func answerTxn(own Own, in *os.File, stdout, stderr io.Writer) int {
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
		return cli.Fail(stderr, "txn", fmt.Errorf("no request: %w", err))
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var watch sync.WaitGroup
	watch.Go(func() {
		_, _ = lines.WriteTo(io.Discard)
		cancel(errors.New("interrupted"))
	})
	code := txnIn(ctx, &own, request.Args, stdout, stderr)
	_ = in.SetReadDeadline(time.Unix(1, 0))
	watch.Wait()
	return code
}
