package load

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Requests starts n HTTP clients, each of which again and again connects, asks for one path of its own and reads the
// answer, which must name it. It ends with ctx or Stop.
func Requests(ctx context.Context, target Target, n int, pace time.Duration) *Load {
	return start(ctx, target, n, pace, (*Load).requesting)
}

func (l *Load) requesting(ctx context.Context) {
	for {
		c := newCall()
		c.Err = l.target.Get(context.WithoutCancel(ctx), "/"+c.Body)
		c.End = time.Now()
		l.count(&l.books.Sessions)
		l.record(c)
		if !l.wait(ctx) {
			return
		}
	}
}

// Get makes one HTTP request on a connection of its own.
func (t Target) Get(ctx context.Context, path string) error {
	dial := t.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, t.Network, t.Address)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: fdt\r\nConnection: close\r\n\r\n", path); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	if answer.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), path+" ") {
		return fmt.Errorf("answer: %s: %q", answer.Status, body)
	}
	return nil
}
