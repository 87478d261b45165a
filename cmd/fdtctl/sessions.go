package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/printable"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/pgwire"
	"github.com/fdtserver/fdt/txn"
)

// workerSockets is the directory of the workers' control sockets.
func workerSockets() string { return own().Run() + "/worker" }

// workersWithin bounds a question to all workers.
const workersWithin = control.Timeout

// databasesWithin bounds what of it is their questions to databases.
const databasesWithin = 2 * time.Second

// errWorkerSilent is a worker that lives and does not answer in time.
var errWorkerSilent = fmt.Errorf("no answer within %s", workersWithin)

// session is one client's session as fdtctl shows it.
type session struct {
	ID          uint32    `json:"id"` // as pg_backend_pid() has it
	Worker      string    `json:"worker"`
	User        string    `json:"user"`
	Principal   string    `json:"principal"`
	Database    string    `json:"database"`
	Application string    `json:"application,omitempty"`
	From        string    `json:"from"`
	Listener    string    `json:"listener"`
	State       string    `json:"state"` // one of stateWords
	Began       time.Time `json:"began"`
	Since       time.Time `json:"since"`                      // when State began
	Transaction time.Time `json:"transaction_since,omitzero"` // zero without one
	Procedure   string    `json:"procedure,omitempty"`        // that it called last
	Query       string    `json:"query,omitempty"`            // the last one's text
	GID         string    `json:"gid,omitempty"`              // of the open transaction

	Places []txn.Place `json:"places,omitempty"` // where that has branches
	Waits  []txn.Wait  `json:"waits,omitempty"`  // what its statement waits for
}

// stateWords are shorter than PostgreSQL's in pg_stat_activity, for a column.
var stateWords = map[string]string{
	"active": "active", "idle": "idle", "idle in transaction": "in transaction", "idle in transaction (aborted)": "aborted",
}

func sessionOf(worker string, a *pgwire.Activity) session {
	return session{
		ID: a.PID, Worker: worker, User: a.User, Principal: a.Principal, Database: a.Database, Application: a.Application, From: a.Peer, Listener: a.Listener,
		State: stateWords[a.State], Began: a.Began, Since: a.Changed, Transaction: a.Transaction, Procedure: a.Procedure, Query: a.Text, GID: a.GID,
		Places: a.Places, Waits: a.Waits,
	}
}

// sessionOrders are what a list of sessions can be sorted by; what is equal then goes by ID.
var sessionOrders = map[string]func(a, b session) int{
	"id":        func(a, b session) int { return 0 },
	"user":      func(a, b session) int { return cmp.Compare(a.User, b.User) },
	"from":      func(a, b session) int { return cmp.Compare(a.From, b.From) },
	"listener":  func(a, b session) int { return cmp.Compare(a.Listener, b.Listener) },
	"state":     func(a, b session) int { return cmp.Compare(a.State, b.State) },
	"since":     func(a, b session) int { return a.Since.Compare(b.Since) },
	"procedure": func(a, b session) int { return cmp.Compare(a.Procedure, b.Procedure) },
}

// runSessions lists the sessions of all workers. It exits 1 if one does not answer, after it has shown those of the others.
func runSessions(args []string, stdout, stderr io.Writer) int {
	return sessionsIn(workerSockets(), args, stdout, stderr)
}

func sessionsIn(dir string, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fdtctl sessions", flag.ContinueOnError)
	by := flags.String("sort", "id", "order of the list: "+strings.Join(slices.Sorted(maps.Keys(sessionOrders)), ", "))
	asJSON := flags.Bool("json", false, "print everything as JSON")
	if _, code, done := parse(flags, args, 0, stderr); done {
		return code
	}
	order, ok := sessionOrders[*by]
	if !ok {
		fmt.Fprintf(stderr, "fdtctl sessions: cannot sort by %q; by %s\n", *by, strings.Join(slices.Sorted(maps.Keys(sessionOrders)), ", "))
		return 2
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), workersWithin, errWorkerSilent)
	defer cancel()
	list, err := sessions(ctx, dir)
	slices.SortFunc(list, func(a, b session) int { return cmp.Or(order(a, b), cmp.Compare(a.ID, b.ID)) })
	code := 0
	switch {
	case *asJSON:
		code = printJSON("sessions", list, stdout, stderr)
	case len(list) > 0:
		_, columns := screenOf(stdout)
		_, _ = io.WriteString(stdout, sessionScreen(list, columns, time.Now())) // main tells if it is lost
	case err == nil:
		fmt.Fprintln(stdout, "No sessions.")
	}
	if err != nil {
		return fail(stderr, "sessions", err)
	}
	return code
}

// eachWorker asks every worker whose control socket is in a directory at once, and waits for all. Who has gone is none; the error names
// those that fail.
func eachWorker(dir string, ask func(worker, socket string) error) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s makes it, see fdtctl status", err, own().MakeDirectories())
	}
	if err != nil {
		return err
	}
	errs := make([]error, len(entries))
	var all sync.WaitGroup
	for i, entry := range entries {
		worker, ok := strings.CutSuffix(entry.Name(), ".sock")
		if _, _, whole := service.ParseInstance(worker); !ok || !whole {
			continue
		}
		all.Go(func() {
			err := ask(worker, filepath.Join(dir, entry.Name()))
			if err != nil && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOENT) {
				errs[i] = fmt.Errorf("worker %s: %w", worker, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// sessions lists those of all workers, as far as they answer; the error is why others do not.
func sessions(ctx context.Context, dir string) ([]session, error) {
	var all []pgwire.Activity
	var at []string
	var mu sync.Mutex
	err := eachWorker(dir, func(worker, socket string) error {
		var told []pgwire.Activity
		err := control.Call(ctx, socket, control.OpSessions, control.Sessions{Within: databasesWithin.String()}, &told)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, told...)
		at = append(at, slices.Repeat([]string{worker}, len(told))...)
		return err
	})
	pgwire.Join(all)
	list := make([]session, len(all))
	for i := range all {
		list[i] = sessionOf(at[i], &all[i])
	}
	return list, err
}

// sessionScreen is a list of sessions for people. The name of a transaction is whole and has a line of its own, since it is there to be
// given to fdtctl txn.
func sessionScreen(list []session, width int, now time.Time) string {
	rows := [][]string{{"ID", "USER", "FROM", "LISTENER", "STATE", "FOR", "PROCEDURE"}}
	for _, s := range list {
		rows = append(rows, []string{
			strconv.FormatUint(uint64(s.ID), 10), plain(s.User), s.From, s.Listener, s.State, sinceThen(s.Since, now), dash(plain(s.Procedure)),
		})
	}
	fit := width
	if width == 0 {
		fit = plainWidth
	}
	lines := strings.SplitAfter(tableOf(rows, max(fit, leastWidth), 1, 2, 3, 6), "\n")
	var b strings.Builder
	for i, line := range lines {
		b.WriteString(line)
		if i > 0 && i <= len(list) && list[i-1].GID != "" {
			fmt.Fprintf(&b, "  %s for %s\n", list[i-1].GID, sinceThen(list[i-1].Transaction, now))
		}
		if i > 0 && i <= len(list) {
			for n := range list[i-1].Waits {
				b.WriteString(wrapped(waitLine(&list[i-1].Waits[n], now), width, "    "))
			}
		}
	}
	return b.String()
}

// waitLine says since when, where and for what a session waits.
func waitLine(w *txn.Wait, now time.Time) string {
	if w.Fault != "" {
		return "  may wait on " + w.Resource + ": " + printable.Line(w.Fault)
	}
	line := "  waits "
	if !w.Since.IsZero() {
		line += sinceThen(w.Since, now) + " "
	}
	if w.Resource == "" {
		return line + "for " + pgwire.WaitText(w, true)
	}
	if w.For == txn.ForLock && len(w.Holders) == 0 {
		return line + "on " + w.Resource + ", which does not tell for whose lock"
	}
	return line + "on " + w.Resource + " for " + printable.Line(pgwire.WaitText(w, true))
}
