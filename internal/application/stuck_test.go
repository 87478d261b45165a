package application

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
)

// TestStuck names at the drain's end what goes on though its context has ended: a procedure, a request of HTTP and one of a stream.
func TestStuck(t *testing.T) {
	dir, err := os.MkdirTemp("", "fdt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	listeners := map[string]net.Listener{}
	open := func(network, address string) string {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		listeners[l.Addr().String()] = l
		return l.Addr().String()
	}
	local, web, line := open("unix", filepath.Join(dir, ".s.PGSQL.7432")), open("tcp4", "127.0.0.1:0"), open("tcp4", "127.0.0.1:0")

	in, out := make(chan struct{}), make(chan struct{})
	hang := func() {
		in <- struct{}{}
		<-out
	}
	app := &Application{Procedures: []*procedure.Procedure{procedure.New(procedure.Spec{Name: "hang"},
		func(context.Context, *txn.Session, []value.Value, procedure.Emit) error {
			hang()
			return nil
		})}}
	app.Handle("web", "here", Handler{HTTP: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hang() })})
	app.Handle("line", "here", Handler{Stream: func(_ context.Context, c *Conn) error {
		err := c.Next()
		hang()
		return err
	}})
	var log testwait.Output
	trial := &Trial{Dir: dir, Listeners: listeners, Log: slog.New(slog.NewTextHandler(&log, nil))}
	text := fmt.Sprintf("listen: {local: {address: %s, auth: trust}, web: {address: %q, serve: web}, line: {address: %q, serve: line}}\n"+
		"resources: {outbox: {type: spool, directory: %s}}", local, web, line, t.TempDir())
	ended := make(chan error, 1)
	go func() { ended <- trial.Run(t.Context(), app, text) }()
	if err := trial.Started(t.Context(), ended); err != nil {
		t.Fatal(err)
	}

	c, err := pgconn.Connect(t.Context(), fmt.Sprintf("host=%s port=7432 user=u dbname=d", dir))
	if err != nil {
		t.Fatal(err)
	}
	called := make(chan struct{})
	go func() {
		defer close(called)
		_, _ = c.Exec(context.Background(), "CALL hang()").ReadAll() // it is cut
	}()
	testwait.For(t, "the procedure runs", in)
	for address, words := range map[string]string{web: "GET /slow?quickly HTTP/1.1\r\nHost: h\r\n\r\n", line: "x\n"} {
		conn, err := net.Dial("tcp4", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		say(t, conn, words)
		testwait.For(t, "the handler runs", in)
	}

	trial.Hurry()
	defer func() {
		if t.Failed() {
			t.Log(log.String())
		}
	}()
	const told = `level=ERROR msg="a handler goes on though its context has ended and its connection is closed" listener=%s remote=\S+ message_id=\S+ work=%s since=\S+ for=\d+s\n`
	for _, want := range []string{
		fmt.Sprintf(told, `unix\S+`, `"procedure hang"`),
		fmt.Sprintf(told, `\S+`, `"web GET /slow"`),
		fmt.Sprintf(told, `\S+`, `"line a request of a stream"`),
	} {
		testwait.Until(t, want, func() bool { return regexp.MustCompile(want).MatchString(log.String()) })
	}
	close(out)
	if err := testwait.For(t, "the worker's end", ended); err == nil || !regexp.MustCompile(drain.ErrStuck.Error()+": 3").MatchString(err.Error()) {
		t.Error(err)
	}
	testwait.For(t, "the client's end", called)
}
