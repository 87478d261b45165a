package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// A reload's round: the load runs for a while, the reload is ordered, and the load goes on for a while after it is done. The p99 after
// it is the fourth highest of 400 requests, so that five milliseconds in which both processors are taken decide it; that outside is the
// tenth highest of 960.
const (
	reloadRounds  = 7
	reloadBefore  = 600 * time.Millisecond
	reloadAfter   = 500 * time.Millisecond // the time that counts as after the reload
	reloadOutside = 600 * time.Millisecond
	reloadClients = 32
	reloadEvery   = 40 * time.Millisecond // each client; together 800 requests a second
	reloadWorkers = 4                     // processes, or threads, of each server
)

// contender is a server under load that is reloaded. Every other client connects for each request, the others keep their connection.
type contender struct {
	name            string
	unit            string
	connects, keeps func() asker

	requests, failed [2]int         // of those that connect, those that keep
	kinds            map[string]int // of failures
	outside          series         // p99, ms, by round
	after, during    series         // p99 over that of outside
}

// round loads the server, reloads it meanwhile, and keeps the books.
func (c *contender) round(ctx context.Context) (float64, error) {
	loaded, stop := context.WithCancel(ctx)
	defer stop()
	var log []request
	var all sync.WaitGroup
	all.Go(func() {
		log = steady(loaded, reloadClients, reloadEvery, func(n int) asker { return []func() asker{c.connects, c.keeps}[n%2]() })
	})
	defer all.Wait()
	time.Sleep(reloadBefore)
	ordered := time.Now()
	_, err := (&site{}).shell(ctx, "exec systemctl reload "+c.unit)
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
		c.requests[r.client%2]++
		if r.err != nil {
			c.failed[r.client%2]++
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
	if len(during) > 10 {
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
		if len(c.kinds) > 0 {
			fmt.Printf("   %s: %v\n", c.name, c.kinds)
		}
	}
	return err
}

// compared are the rows for one load: fdt beside all the others.
func compared(load string, fdt *contender, peers ...*contender) []row {
	among := func(figure func(*contender) string) string {
		var texts []string
		for _, p := range peers {
			texts = append(texts, p.name+" "+figure(p))
		}
		return strings.Join(texts, ", ")
	}
	lost := func(i int) func(*contender) string {
		return func(c *contender) string { return fmt.Sprintf("%d of %d", c.failed[i], c.requests[i]) }
	}
	times := func(of func(*contender) series) func(*contender) string {
		return func(c *contender) string {
			if len(of(c)) == 0 {
				return "none" // its reload returns at once
			}
			return fmt.Sprintf("%.2f × %.2f ms", of(c).median(), c.outside.median())
		}
	}
	after := func(c *contender) series { return c.after }
	during := func(c *contender) series { return c.during }
	return []row{{
		measure: load + ": errors, new connections", fdt: lost(0)(fdt), peer: among(lost(0)),
		ratio: series{float64(fdt.failed[0])}, aim: below(0, "%.0f"),
	}, {
		measure: load + ": errors, kept connections", fdt: lost(1)(fdt), peer: among(lost(1)),
		ratio: series{float64(fdt.failed[1])}, aim: below(0, "%.0f"),
	}, {
		measure: load + ": p99, half a second after over outside", fdt: times(after)(fdt), peer: among(times(after)),
		ratio: fdt.after, aim: atMost(1.5),
	}, {
		measure: load + ": p99, from order to end over outside", fdt: times(during)(fdt), peer: among(times(during)),
		ratio: fdt.during, aim: noAim("%.2f"),
	}}
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

// reloadsHTTP reloads each server under the same load. fdt's worker is examples/http, an *http.Server; the peers are written in C and
// answer from memory, so the absolute times are theirs to win.
func reloadsHTTP(ctx context.Context, s *site) (rows []row, err error) {
	if err := s.peers(ctx); err != nil {
		return nil, err
	}
	defer s.stopPeers(ctx, &err)
	if err := s.serve(ctx, fmt.Sprintf(tcpConfig, httpAddress, reloadWorkers), program("http")); err != nil {
		return nil, err
	}
	contend := func(name, unit, address string) *contender {
		return &contender{name: name, unit: unit,
			connects: func() asker { return &connecting{address} },
			keeps:    func() asker { return &keeping{address: address} }}
	}
	fdt := contend("fdt", "fdt", httpAddress)
	nginx, haproxy := contend("nginx", "nginx", nginxAddress), contend("HAProxy", "haproxy", haproxyAddress)
	if err := race(ctx, fdt, nginx, haproxy); err != nil {
		return nil, err
	}
	return compared("reload under HTTP", fdt, nginx, haproxy), nil
}

// reloadsCall reloads fdt's default worker under sessions that CALL a procedure on a spool, which is in memory, or the disk would be
// what is measured.
func reloadsCall(ctx context.Context, s *site) (rows []row, err error) {
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
	const statement = "CALL remember('a message')"
	fdt := &contender{name: "fdt", unit: "fdt",
		connects: func() asker { return &visitor{statement} },
		keeps:    func() asker { return &session{statement: statement} }}
	if err := race(ctx, fdt); err != nil {
		return nil, err
	}
	return compared("reload under CALL", fdt), nil
}

func (s *site) stopPeers(ctx context.Context, err *error) {
	_, down := s.shell(context.WithoutCancel(ctx), "systemctl stop nginx haproxy")
	*err = errors.Join(*err, down)
}
