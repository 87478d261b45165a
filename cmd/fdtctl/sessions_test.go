package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/testgolden"
	"github.com/fdtserver/fdt/pgwire"
	"github.com/fdtserver/fdt/txn"
)

// guests are sessions of two workers.
func guests() map[string][]pgwire.Activity {
	return map[string][]pgwire.Activity{
		"7-1": {
			{PID: 0x1c01<<16 | 1, Principal: "scram:alice", User: "alice", Database: "shop", Peer: "10.0.0.7:53412", Listener: "public", State: "active", Began: ago(time.Hour),
				Changed: ago(12 * time.Second), Transaction: ago(12 * time.Second), Query: ago(12 * time.Second), Text: "CALL transfer(1, 2, 50)", Procedure: "transfer",
				Places: []txn.Place{{Resource: "bank", Backend: 4711, Since: ago(12 * time.Second)}, {Resource: "shop", Backend: 4712, Since: ago(12 * time.Second)}},
				Waits: []txn.Wait{
					{Resource: "bank", For: txn.ForLock, Backend: 4711, Lock: "transactionid", Since: ago(11 * time.Second), Holders: []txn.Holder{{Backend: 77}, {GID: doubtful}}},
					{Resource: "ledger", For: txn.ForLock, Backend: 4713, Holders: []txn.Holder{{Backend: 78, User: "postgres", Database: "ledger", Application: "psql", Address: "10.0.0.9"}, {Prepared: "x\ny"}}},
					{Resource: "shop", For: txn.ForLock, Backend: 4712, Lock: "tuple", Holders: []txn.Holder{{OneOf: 3}}},
					{Resource: "stock", For: txn.ForLock, Backend: 4714, Lock: "relation"},
					{Resource: "store", For: txn.ForConnection, Since: ago(3 * time.Second), Why: "the service's pool of 8 is used up"},
					{Resource: "vault", For: txn.ForResume, Since: ago(2 * time.Minute)},
					{Resource: "till", For: txn.ForLock, Backend: 4715, Fault: "no answer within 2s"},
				}},
			{PID: 0x1c01<<16 | 2, Principal: "peer:a_long_name_of_a_batch_job", User: "a_long_name_of_a_batch_job", Database: "shop", Application: "psql", Peer: "unix:uid=1000,pid=4194304",
				Listener: "local", State: "idle in transaction", Places: []txn.Place{{Resource: "bank", Backend: 77, Since: ago(time.Minute)}}, Began: ago(3 * time.Hour), Changed: ago(4 * time.Minute), Transaction: ago(5 * time.Minute), Procedure: "move_goods_between_stores",
				GID: "fdt1-0123456789abcdef0123456789abcdef-12345-678901-L"},
		},
		"6-2": {
			{PID: 0x1802<<16 | 1, Principal: "scram:bob", User: "bob the builder", Database: "bob", Peer: "[fe80::dead:beef:dead:beef]:53412", Listener: "public", State: "idle", Began: ago(48 * time.Hour), Changed: ago(26 * time.Hour)},
			{PID: 0x1802<<16 | 2, Principal: "scram:carol", User: "carol", Database: "shop", Peer: "10.0.0.8:1024", Listener: "public", State: "idle in transaction (aborted)", Began: ago(time.Minute),
				Changed: ago(time.Second), Transaction: ago(time.Second), Procedure: "transfer", GID: "fdt1-0123456789abcdef0123456789abcdef-12346-1-L"},
			{PID: 0x1802<<16 | 3, Principal: "scram:dave", User: "dave", Database: "shop", Peer: "10.0.0.9:1025", Listener: "public", State: "active", Began: ago(8 * time.Second),
				Changed: ago(7 * time.Second), Query: ago(7 * time.Second), Waits: []txn.Wait{{For: pgwire.ForSlot, Since: ago(7 * time.Second)}}},
		},
	}
}

// doubtful is a transaction in doubt.
var doubtful = txn.GID{Log: txn.LogID{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}, Incarnation: 12340, Sequence: 678901, Role: txn.RoleExternal}

// sessionsOf are the sessions as fdtctl has them.
func sessionsOf(workers ...string) (list []session) {
	for _, worker := range workers {
		all := guests()[worker]
		pgwire.Join(all)
		for i := range all {
			list = append(list, sessionOf(worker, &all[i]))
		}
	}
	return list
}

// TestSessionScreens holds fdtctl sessions against golden texts.
func TestSessionScreens(t *testing.T) {
	for _, width := range []int{0, 20, 80, 120} {
		got := sessionScreen(sessionsOf("7-1", "6-2"), width, noon)
		for line := range strings.Lines(got) {
			if n := utf8.RuneCountInString(line) - 1; width >= 80 && n > width {
				t.Errorf("on %d columns: a line of %d: %s", width, n, line)
			}
		}
		testgolden.Compare(t, filepath.Join("testdata", "screen", fmt.Sprintf("sessions-%d.txt", width)), got)
	}
}

// workers serves control sockets in a directory, as workers do.
func workers(t *testing.T, all map[string]control.Handlers) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fdt") // short, as sun_path is
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for worker, handlers := range all {
		l, err := control.Listen(filepath.Join(dir, worker+".sock"))
		if err != nil {
			t.Fatal(err)
		}
		s := &control.Server{Handlers: handlers}
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return dir
}

// telling answers for a worker's sessions.
func telling(list []pgwire.Activity) control.Handlers {
	return control.Handlers{control.OpSessions: func(context.Context, json.RawMessage) (any, error) { return list, nil }}
}

func TestSessions(t *testing.T) {
	all := guests()
	dir := workers(t, map[string]control.Handlers{"7-1": telling(all["7-1"]), "6-2": telling(all["6-2"]), "other": telling(all["7-1"])})
	l, err := net.Listen("unix", filepath.Join(dir, "5-1.sock")) // of a worker that has died
	if err != nil {
		t.Fatal(err)
	}
	unixListener, _ := l.(*net.UnixListener)
	unixListener.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	orders := map[string]string{
		"id": "bob carol dave alice a_long", "user": "a_long alice bob carol dave", "from": "alice carol dave bob a_long", "listener": "a_long bob carol dave alice",
		"state": "carol dave alice bob a_long", "since": "bob a_long alice dave carol", "procedure": "bob dave a_long carol alice",
	}
	for by, want := range orders {
		var out bytes.Buffer
		var got []session
		code := sessionsIn(dir, []string{"--json", "--sort", by}, &out, &out)
		if err := json.Unmarshal(out.Bytes(), &got); code != 0 || err != nil || len(got) != 5 {
			t.Fatalf("exit %d, %v: %s", code, err, out.String())
		}
		for i, first := range strings.Fields(want) {
			if !strings.HasPrefix(got[i].User, first) {
				t.Errorf("by %s: %d is %s, not %s", by, i, got[i].User, first)
			}
		}
	}
	var out bytes.Buffer
	if code := sessionsIn(dir, nil, &out, &out); code != 0 || !strings.HasPrefix(out.String(), "ID ") || strings.Count(out.String(), "\n") != 16 {
		t.Errorf("exit %d: %s", code, out.String())
	}
	if len(orders) != len(sessionOrders) {
		t.Error("an order is not tried")
	}
}

// TestSessionsAmiss: what is known is shown, and what is not is said.
func TestSessionsAmiss(t *testing.T) {
	dir := workers(t, map[string]control.Handlers{"7-1": telling(guests()["7-1"]), "6-2": nil})
	none := workers(t, map[string]control.Handlers{"7-1": telling(nil)})
	for _, c := range []struct {
		dir, args, out, says string
		code                 int
	}{
		{dir, "", "alice", "fdtctl sessions: worker 6-2: control: 6-2.sock sessions: unknown operation\n", 1},
		{none, "", "No sessions.\n", "", 0},
		{none, "--json", "[]\n", "", 0},
		{filepath.Join(dir, "none"), "", "", "no such file or directory: systemd-tmpfiles --create fdt.conf", 1},
		{filepath.Join(dir, "7-1.sock"), "", "", "not a directory", 1},
		{dir, "--sort age", "", `cannot sort by "age"; by from, id, listener, procedure, since, state, user`, 2},
		{dir, "now", "", "0 wanted", 2},
	} {
		var out, said bytes.Buffer
		code := sessionsIn(c.dir, strings.Fields(c.args), &out, &said)
		if code != c.code || !strings.Contains(out.String(), c.out) || !strings.Contains(said.String(), c.says) || c.says == "" && said.Len() > 0 {
			t.Errorf("%q: exit %d: %s%s", c.args, code, out.String(), said.String())
		}
	}
}

// TestSession tells all workers, to one of which the session may have moved, what an operator wants.
func TestSession(t *testing.T) {
	var mu sync.Mutex
	asked := map[control.Interrupt]int{}
	all := guests()
	looks := 0
	handlers := func(list []pgwire.Activity) control.Handlers {
		return control.Handlers{control.OpSessions: func(context.Context, json.RawMessage) (any, error) {
			mu.Lock()
			defer mu.Unlock()
			if looks++; looks < 3 { // it takes its time
				return list, nil
			}
			return slices.DeleteFunc(slices.Clone(list), func(a pgwire.Activity) bool { return !a.Transaction.IsZero() }), nil
		}, control.OpInterrupt: func(_ context.Context, args json.RawMessage) (any, error) {
			var i control.Interrupt
			if err := json.Unmarshal(args, &i); err != nil {
				return nil, err
			}
			mu.Lock()
			asked[i]++
			mu.Unlock()
			for _, a := range list {
				if a.PID == i.PID {
					return a, nil
				}
			}
			return nil, nil
		}}
	}
	dir := workers(t, map[string]control.Handlers{"7-1": handlers(all["7-1"]), "6-2": handlers(all["6-2"]), "5-1": nil})
	for _, c := range []struct {
		args, says string
		code       int
	}{
		{"cancel 469827585", "session 469827585 of alice was told to cancel its statement\n", 0},
		{"kill 402784257", "session 402784257 of \"bob the builder\" was told to end; what it has not prepared is rolled back\n", 0},
		{"kill --json 402784258", `"ended": true`, 0},
		{"cancel 402784257", "fdtctl session cancel: the session is idle: there is no statement to cancel\n", 1},
		{"cancel 402784299", "fdtctl session cancel: there is no such session: see fdtctl sessions\n", 1},
		{fmt.Sprint("kill ", 0x1401<<16|1), "fdtctl session kill: worker 5-1: control: 5-1.sock interrupt: unknown operation\n", 1},
		{"kill alice", `"alice" is not the number of a session`, 2},
		{"end 1", "Usage: fdtctl session cancel", 2},
		{"--help", "Usage: fdtctl session cancel", 0},
	} {
		var out bytes.Buffer
		if code := sessionIn(dir, strings.Fields(c.args), &out, &out); code != c.code || !strings.Contains(out.String(), c.says) {
			t.Errorf("%q: exit %d: %s", c.args, code, out.String())
		}
	}
	if len(asked) != 6 {
		t.Errorf("%+v", asked)
	}
	for i, n := range asked {
		if n != 2 || i.By == "" {
			t.Errorf("%+v was asked of %d workers", i, n)
		}
	}
}

// TestSessionGoesOn says what becomes of a session that was told to end while code is at it.
func TestSessionGoesOn(t *testing.T) {
	cut := func(a *pgwire.Activity) {
		for i := range a.Places {
			a.Places[i].Cut = noon
		}
	}
	for name, c := range map[string]struct {
		args  string
		after func(*pgwire.Activity)             // a look, of what the next one shows
		look  func(context.Context) (any, error) // nil: it works
		says  string
		code  int
	}{
		"cut off":      {"kill 469827585", cut, nil, "session 469827585 of alice was told to end; the code of procedure transfer goes on, but without bank, shop, which rolls back what it did there\n", 0},
		"cut off json": {"kill --json 469827585", cut, nil, `"ended": false`, 0},
		"a statement":  {"kill 469827585", func(a *pgwire.Activity) { a.Procedure = ""; cut(a) }, nil, "the code of its last statement goes on", 0},
		"goes on": {"kill 469827585", func(*pgwire.Activity) {}, nil,
			"fdtctl session kill: session 469827585 of alice was told to end, and has not within 8s: procedure transfer goes on, as a commit does; see fdtctl sessions\n", 1},
		"goes on json": {"kill --json 469827585", func(*pgwire.Activity) {}, nil, `"ended": false`, 1},
		"refused": {"kill 469827585", nil, func(context.Context) (any, error) { return nil, errors.New("no") },
			"session 469827585 of alice was told to end, and whether it has nobody says: control: 7-1.sock sessions: no\n", 1},
		"silent": {"kill 469827585", nil, func(ctx context.Context) (any, error) { <-ctx.Done(); return nil, ctx.Err() }, "has not within 8s", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := guests()["7-1"][0]
			var mu sync.Mutex
			dir := workers(t, map[string]control.Handlers{"7-1": {
				control.OpInterrupt: func(context.Context, json.RawMessage) (any, error) { return a, nil },
				control.OpSessions: func(ctx context.Context, _ json.RawMessage) (any, error) {
					if c.look != nil {
						return c.look(ctx)
					}
					mu.Lock()
					defer mu.Unlock()
					shown, err := json.Marshal([]pgwire.Activity{a})
					c.after(&a)
					return json.RawMessage(shown), err
				},
			}})
			var out bytes.Buffer
			if code := sessionIn(dir, strings.Fields(c.args), &out, &out); code != c.code || !strings.Contains(out.String(), c.says) {
				t.Errorf("exit %d: %s", code, out.String())
			}
		})
	}
}
