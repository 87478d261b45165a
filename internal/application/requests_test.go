package application

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/testwait"
)

// TestCallsOf: which calls are told is what the configuration says.
func TestCallsOf(t *testing.T) {
	for calls, want := range map[string]string{config.LogOff: "0s 0 true", config.LogSlow: "1s 0 false", config.LogAll: "1s 7 false"} {
		c := &config.Log{Calls: calls, Slow: time.Second, Rate: 7}
		if got := fmt.Sprint(slowCall(c), callRate(c), newRequests(c, slog.New(slog.DiscardHandler), "", nil) == nil); got != want {
			t.Errorf("%s: %s, want %s", calls, got, want)
		}
	}
}

// TestRequestsLogged tells of each request of HTTP and of a stream, and of HTTP the route and the status, but nothing that is in its path.
func TestRequestsLogged(t *testing.T) {
	t.Run("all", func(t *testing.T) { requestsLogged(t, "{calls: all, rate: 1000}", "a call has ended") })
	t.Run("slow", func(t *testing.T) { requestsLogged(t, "{slow: 1ns}", "a call was slow") })
}

func requestsLogged(t *testing.T, calls, message string) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /account/{secret}", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusTeapot)
	})
	mux.HandleFunc("/fine", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "x")
		w.(http.Flusher).Flush()
		if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); err != nil {
			t.Error(err)
		}
	})
	mux.HandleFunc("/panics", func(http.ResponseWriter, *http.Request) { panic("here") })
	mux.HandleFunc("/other", func(w http.ResponseWriter, _ *http.Request) {
		c, b, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = b.WriteString("HTTP/1.1 101 Switching Protocols\r\n\r\n")
		_ = b.Flush()
		_ = c.Close()
	})
	dir, err := os.MkdirTemp("", "fdt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	listeners := map[string]net.Listener{}
	open := func() string {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[l.Addr().String()] = l
		return l.Addr().String()
	}
	web, line := open(), open()
	app := &Application{}
	app.Handle("web", "here", Handler{HTTP: mux})
	app.Handle("line", "here", Handler{Stream: func(_ context.Context, c *Conn) error {
		for {
			if err := c.Next(); err != nil {
				return err
			}
			if text, err := c.Reader.ReadString('\n'); err != nil || text == "last\n" {
				return err
			}
		}
	}})
	var log testwait.Output
	trial := &Trial{Dir: dir, Listeners: listeners, Log: slog.New(slog.NewTextHandler(&log, nil))}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer func() {
		trial.Hurry()
		cancel()
		if err := testwait.For(t, "the application ends", ended); err != nil {
			t.Error(err)
		}
	}()
	go func() {
		ended <- trial.Run(ctx, app, fmt.Sprintf("listen: {web: {address: %q, serve: web}, line: {address: %q, serve: line}}\nlog: %s\n"+
			"resources: {outbox: {type: spool, directory: %s}}", web, line, calls, t.TempDir()))
	}()
	if err := trial.Started(t.Context(), ended); err != nil {
		t.Fatal(err)
	}

	for _, line := range []string{"GET /account/hidden?word=hidden", "GET /fine", "GET /panics", "GET /other", "GET /hidden", "HIDDEN /hidden"} {
		c, err := net.Dial("tcp4", web)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", line); err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(bufio.NewReader(c)) // until it is closed
		c.Close()
	}
	c, err := net.Dial("tcp4", line)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "hidden\nhidden\nlast\n"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(c)
	c.Close()

	want := []string{"web GET /account/{secret} 418", "web GET /fine 200", "web GET /panics 500", "web GET /other 200", "web GET  404", "web _OTHER  404", "line", "line", "line"}
	pattern := regexp.MustCompile(`msg="` + message + `" handler=(\S+)(?: method=(\S+) route=(\S+) status=(\d+))? listener=\S+ remote=\S+ duration=\S+s message_id=`)
	var got []string
	testwait.Until(t, "all are told", func() bool {
		got = nil
		for _, m := range pattern.FindAllStringSubmatch(log.String(), -1) {
			got = append(got, strings.TrimRight(m[1]+" "+m[2]+" "+strings.Trim(m[3], `"`)+" "+m[4], " "))
		}
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) || strings.Contains(strings.ToLower(log.String()), "hidden") {
		t.Errorf("%q\nwant\n%q\n%s", got, want, log.String())
	}
}

// TestRequestsBounded leaves out what is more than so many lines a second, and says how many.
func TestRequestsBounded(t *testing.T) {
	var log testwait.Output
	r := newRequests(&config.Log{Calls: config.LogAll, Slow: time.Hour, Rate: 1}, slog.New(slog.NewTextHandler(&log, nil)), "", nil)
	testwait.Until(t, "a line says how many it stands for", func() bool {
		for range 1000 {
			r.begin("", "").ended()
		}
		return strings.Contains(log.String(), "left_out=")
	})
	newRequests(&config.Log{Calls: config.LogSlow, Slow: time.Hour}, slog.New(slog.NewTextHandler(&log, nil)), "", nil).begin("", "").ended("fast", true)
	if strings.Contains(log.String(), "fast") {
		t.Error("a fast call is told as a slow one")
	}
}

// TestPushed: what HTTP/2 offers is there for handlers, too.
func TestPushed(t *testing.T) {
	a := &answered{ResponseWriter: pushing{}}
	if _, ok := a.as().(http.Pusher); !ok {
		t.Error("no Pusher")
	}
	if _, ok := a.as().(http.Hijacker); ok {
		t.Error("a Hijacker that cannot hijack")
	}
}

// pushing is what of an HTTP/2 server's writer tells it apart.
type pushing struct {
	http.ResponseWriter
	http.Flusher
	http.Pusher
}
