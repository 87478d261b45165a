package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A reload's round: the load runs for a while, the reload is ordered, and the load goes on for a while after it is done.
const (
	reloadRounds  = 5
	reloadBefore  = 600 * time.Millisecond
	reloadAfter   = 500 * time.Millisecond // the time that counts as after the reload
	reloadOutside = 600 * time.Millisecond
	reloadClients = 32
	reloadEvery   = 40 * time.Millisecond // each client; together 800 requests a second
	reloadWorkers = 4                     // processes, or threads, of each server
)

// contender is a server under load that is reloaded.
type contender struct {
	name   string
	unit   string
	client func() asker

	errors, requests int
	kinds            map[string]int
	after, during    series // p99 over that of the time outside, by round
	outside          series // p99 outside, ms
	sync             sync.Mutex
}

// round loads the server, reloads it meanwhile, and keeps the books.
func (c *contender) round(ctx context.Context) (float64, error) {
	loaded, stop := context.WithCancel(ctx)
	defer stop()
	var log []request
	var all sync.WaitGroup
	all.Go(func() { log = steady(loaded, reloadClients, reloadEvery, c.client) })
	defer all.Wait()
	time.Sleep(reloadBefore)
	ordered := time.Now()
	_, err := (&site{}).shell(ctx, "systemctl reload "+c.unit)
	done := time.Now()
	if err != nil {
		stop()
		return 0, err
	}
	time.Sleep(reloadAfter + reloadOutside)
	stop()
	all.Wait()

	var outside, during, after []time.Duration
	for _, r := range log {
		c.requests++
		if r.err != nil {
			c.errors++
			c.kinds[kind(r.err)]++
			continue
		}
		switch {
		case r.at.Before(ordered), r.at.After(done.Add(reloadAfter)):
			outside = append(outside, r.took)
		case r.at.After(done):
			after = append(after, r.took)
		default:
			during = append(during, r.took)
		}
	}
	usual := quantile(outside, 0.99)
	c.outside = append(c.outside, ms(usual))
	c.after = append(c.after, float64(quantile(after, 0.99))/float64(usual))
	if len(during) > 0 {
		c.during = append(c.during, float64(quantile(during, 0.99))/float64(usual))
	}
	return 0, nil
}

// kind is the innermost text of an error.
func kind(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// race has the contenders take turns.
func race(ctx context.Context, contenders ...*contender) error {
	var sides []side
	for _, c := range contenders {
		c.kinds = map[string]int{}
		sides = append(sides, c.round)
	}
	_, err := interleave(ctx, reloadRounds, sides...)
	for _, c := range contenders {
		if c.errors > 0 {
			fmt.Printf("   %s: %v\n", c.name, c.kinds)
		}
	}
	return err
}

// compared are the rows for one load: fdt against each of the others.
func compared(load string, fdt *contender, peers ...*contender) (rows []row) {
	for _, p := range peers {
		rows = append(rows, row{
			measure: fmt.Sprintf("reload, %s: errors", load),
			fdt:     fmt.Sprintf("%d of %d", fdt.errors, fdt.requests), peer: fmt.Sprintf("%s %d of %d", p.name, p.errors, p.requests),
			ratio: float64(fdt.errors), aim: below(0, "%.0f"),
		}, row{
			measure: fmt.Sprintf("reload, %s: p99 in the half second after, over p99 outside", load),
			fdt:     fmt.Sprintf("outside %.2f ms", fdt.outside.median()),
			peer:    fmt.Sprintf("%s %.2f times %.2f ms", p.name, p.after.median(), p.outside.median()),
			ratio:   fdt.after.median(), aim: atMost(1.5),
		}, row{
			measure: fmt.Sprintf("reload, %s: p99 while it runs, over p99 outside", load),
			peer:    fmt.Sprintf("%s %s", p.name, times(p.during)),
			ratio:   fdt.during.median(), aim: noAim("%.2f"),
		})
	}
	return rows
}

func times(s series) string {
	if len(s) == 0 {
		return "returns at once"
	}
	return fmt.Sprintf("%.2f", s.median())
}

// The peers' addresses and fdt's for HTTP.
const (
	httpAddress    = "127.0.0.1:8080"
	nginxAddress   = "127.0.0.1:8081"
	haproxyAddress = "127.0.0.1:8082"
)

// peers starts nginx and HAProxy as Debian has them, with a short fixed answer, as many processes or threads as fdt has workers, and
// no log: an access log costs them more than the answer does, and fdt's worker writes none.
func (s *site) peers(ctx context.Context) error {
	err := errors.Join(
		write("/etc/nginx/nginx.conf", fmt.Sprintf(`
user www-data;
worker_processes %d;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log;
events { worker_connections 4096; }
http {
	access_log off;
	server { listen %s backlog=4096; location / { return 200 "a short fixed answer\n"; } }
}
`, reloadWorkers, nginxAddress)),
		write("/etc/haproxy/haproxy.cfg", fmt.Sprintf(`
global
	chroot /var/lib/haproxy
	user haproxy
	group haproxy
	nbthread %d
	stats socket /run/haproxy/admin.sock mode 660 level admin expose-fd listeners
defaults
	mode http
	timeout connect 5s
	timeout client 50s
	timeout server 50s
frontend bench
	bind %s backlog 4096
	http-request return status 200 content-type text/plain string "a short fixed answer\n"
`, reloadWorkers, haproxyAddress)))
	if err != nil {
		return err
	}
	_, err = s.shell(ctx, "systemctl restart nginx haproxy")
	return err
}

// reloadsHTTP loads each server with clients that connect for each request: what a reload does to new connections. fdt's worker is
// examples/http, an *http.Server; the peers are written in C and answer from memory, so the absolute times are theirs to win.
func reloadsHTTP(ctx context.Context, s *site) (rows []row, err error) {
	if err := s.peers(ctx); err != nil {
		return nil, err
	}
	defer s.stopPeers(ctx, &err)
	if err := s.serve(ctx, fmt.Sprintf(tcpConfig, httpAddress, reloadWorkers), program("http")); err != nil {
		return nil, err
	}
	fdt := &contender{name: "fdt", unit: "fdt", client: func() asker { return &connecting{address: httpAddress} }}
	nginx := &contender{name: "nginx", unit: "nginx", client: func() asker { return &connecting{address: nginxAddress} }}
	haproxy := &contender{name: "HAProxy", unit: "haproxy", client: func() asker { return &connecting{address: haproxyAddress} }}
	if err := race(ctx, fdt, nginx, haproxy); err != nil {
		return nil, err
	}
	return compared("connection per request", fdt, nginx, haproxy), nil
}

// reloadsKept loads each server with clients that keep their connection. fdt is its default worker with sessions that CALL a
// procedure on a spool in memory, because that protocol has a goodbye, which HTTP/1.1 has not: a server of HTTP that closes an idle
// connection cannot know whether a request is already on its way.
func reloadsKept(ctx context.Context, s *site) (rows []row, err error) {
	if err := s.peers(ctx); err != nil {
		return nil, err
	}
	defer s.stopPeers(ctx, &err)
	if _, err := s.shell(ctx, "install -d -o fdt -g fdt -m 2770 /run/bench-spool"); err != nil {
		return nil, err
	}
	config := fmt.Sprintf(`
workers: {count: %d}
reload: {settle: 0s}
resources: {memory: {type: spool, directory: /run/bench-spool}}
procedures: {remember: {parameters: {body: text}, steps: [{on: memory, put: ":body"}]}}
`, reloadWorkers)
	if err := s.serve(ctx, config, ""); err != nil {
		return nil, err
	}
	fdt := &contender{name: "fdt", unit: "fdt", client: func() asker { return &session{statement: "CALL remember('a message')"} }}
	nginx := &contender{name: "nginx", unit: "nginx", client: func() asker { return &keeping{address: nginxAddress} }}
	haproxy := &contender{name: "HAProxy", unit: "haproxy", client: func() asker { return &keeping{address: haproxyAddress} }}
	if err := race(ctx, fdt, nginx, haproxy); err != nil {
		return nil, err
	}
	return compared("kept connection", fdt, nginx, haproxy), nil
}

func (s *site) stopPeers(ctx context.Context, err *error) {
	_, down := s.shell(context.WithoutCancel(ctx), "systemctl stop nginx haproxy; rm -rf /run/bench-spool/new/*")
	*err = errors.Join(*err, down)
}
