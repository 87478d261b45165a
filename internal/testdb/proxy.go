package testdb

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
)

// Fate is what a Proxy does with one request, which is what it reads from a client at once.
type Fate int

// The fates of a request.
const (
	Pass        Fate = iota // to the server
	LoseReply               // to the server; its answer is thrown away and the connection cut
	LoseRequest             // the connection is cut before the server sees it
	Linger                  // to the server; its answer is thrown away and the client's side cut; the session lives on until Release
	Late                    // the client's side is cut at once; the server gets the request at Release, on a connection that lived on
)

// Proxy stands between clients and a server's unix socket and lets requests and replies get lost.
type Proxy struct {
	target string
	dir    string // where it listens
	listen net.Listener
	wg     sync.WaitGroup

	mu      sync.Mutex
	rule    func(request []byte) Fate
	open    map[net.Conn]struct{}
	release chan struct{}
}

// NewProxy connects each client to the server's unix socket at target; Through tells clients the way. The caller calls Close.
func NewProxy(target string) (*Proxy, error) {
	dir, err := os.MkdirTemp("", "fdt-proxy-")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", filepath.Join(dir, filepath.Base(target)))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	p := &Proxy{target: target, dir: dir, listen: l, open: map[net.Conn]struct{}{}, release: make(chan struct{})}
	p.wg.Go(p.accept)
	return p, nil
}

// Through is the server's connection string, altered to lead through the proxy.
func (p *Proxy) Through(dsn string) string {
	return strings.Replace(dsn, filepath.Dir(p.target), p.dir, 1)
}

// Rule sets what becomes of the requests from now on; nil lets all pass.
func (p *Proxy) Rule(f func(request []byte) Fate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule = f
}

// Once is a rule: the first request that holds text has the fate.
func Once(text string, fate Fate) func([]byte) Fate {
	var done atomic.Bool
	return func(request []byte) Fate {
		if bytes.Contains(request, []byte(text)) && done.CompareAndSwap(false, true) {
			return fate
		}
		return Pass
	}
}

// Lose lets the reply to the request with that number be lost, from 1 and from now on; the function tells how many there were.
func (p *Proxy) Lose(at int) func() int {
	var seen atomic.Int64
	p.Rule(func([]byte) Fate {
		if seen.Add(1) == int64(at) {
			return LoseReply
		}
		return Pass
	})
	return func() int { return int(seen.Load()) }
}

// Release lets the late requests arrive, those to come at once.
func (p *Proxy) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.release:
	default:
		close(p.release)
	}
}

// Close cuts all connections and waits for what served them.
func (p *Proxy) Close() error {
	err := p.listen.Close()
	p.Release()
	p.mu.Lock()
	for c := range p.open {
		_ = c.Close() // already cut, perhaps
	}
	p.open = nil
	p.mu.Unlock()
	p.wg.Wait()
	return errors.Join(err, os.RemoveAll(p.dir))
}

func (p *Proxy) accept() {
	for {
		client, err := p.listen.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", p.target)
		if err != nil {
			_ = client.Close() // as the server would
			continue
		}
		p.mu.Lock()
		if p.open == nil {
			_, _ = client.Close(), server.Close()
		} else {
			p.open[client], p.open[server] = struct{}{}, struct{}{}
			lose := make(chan Fate, 1)
			p.wg.Go(func() { p.requests(client, server, lose) })
			p.wg.Go(func() { p.replies(client, server, lose) })
		}
		p.mu.Unlock()
	}
}

func (p *Proxy) cut(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // by the other direction already, perhaps
		delete(p.open, c)
	}
}

func (p *Proxy) fate(request []byte) Fate {
	p.mu.Lock()
	rule := p.rule
	p.mu.Unlock()
	if rule == nil {
		return Pass
	}
	return rule(request)
}

func (p *Proxy) requests(client, server net.Conn, lose chan<- Fate) {
	buf := make([]byte, 1<<16)
	for {
		n, err := client.Read(buf)
		if err != nil {
			p.cut(client, server)
			return
		}
		switch fate := p.fate(buf[:n]); fate {
		case Pass:
		case LoseReply, Linger:
			lose <- fate
			if _, err := server.Write(buf[:n]); err != nil {
				p.cut(client, server)
			}
			return
		case LoseRequest:
			p.cut(client, server)
			return
		case Late:
			lose <- fate
			p.cut(client)
			<-p.release
			_, _ = server.Write(buf[:n]) // the server may have ended the session, as it should
			return
		}
		if _, err := server.Write(buf[:n]); err != nil {
			p.cut(client, server)
			return
		}
	}
}

func (p *Proxy) replies(client, server net.Conn, lose <-chan Fate) {
	defer p.cut(client, server)
	buf := make([]byte, 1<<16)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		select {
		case fate := <-lose:
			if fate == Linger {
				p.cut(client)
				<-p.release
			}
			return
		default:
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}
