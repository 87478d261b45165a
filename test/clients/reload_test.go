package clients

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// pool is a program that transacts through a pool of connections until its input ends, and then prints how many
// transactions it made and how often it tried again. An error that the pool's users are not to see ends it badly.
type pool struct {
	name, way string
	args      []string
	retries   bool // its users try again on 57P01, as their documentation tells them to
}

var pools = []pool{
	{"psycopg_pool checks", "peer", []string{"python3", "/clients/pool.py", "check"}, false},
	{"psycopg_pool retries", "peer", []string{"python3", "/clients/pool.py", "retry"}, true},
	{"pgxpool checks", "scram", []string{"/clients/bin/pool", "pgx", "check"}, false},
	{"pgxpool retries", "peer", []string{"/clients/bin/pool", "pgx", "retry"}, true},
	{"lib/pq retries", "peer", []string{"/clients/bin/pool", "pq", "retry"}, true},
	{"HikariCP checks", "scram", []string{"java", "-XX:TieredStopAtLevel=1", "-cp", jars, "/clients/Pool.java"}, false},
	{"node-postgres retries", "peer", []string{"node", "/clients/node/pool.js"}, true},
	{"PgBouncer checks", "transaction", []string{"/clients/bin/pool", "pgx", "bouncer"}, false},
}

// reloads reloads 20 times while all pools are at work. Each transaction that a program counts was made exactly once.
func (m *machine) reloads(t *testing.T) {
	running := make([]*program, len(pools))
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	for i, p := range pools {
		running[i] = m.start(ctx, t, p)
	}
	for _, p := range running {
		p.say(t, "ready")
	}
	for range 20 {
		m.run(t, "fdtctl reload")
	}
	for _, p := range running {
		t.Run(p.name, func(t *testing.T) { m.finish(t, p) })
	}
}

// paused reloads while PgBouncer, which is told to pause and to go on, holds clients that never rest: they notice nothing, as fdt-worker(8)
// promises. It does not ask its connections here whether they live.
func (m *machine) paused(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	p := m.start(ctx, t, pool{"PgBouncer pauses", "hot", []string{"/clients/bin/pool", "pgx", "hot"}, false})
	p.say(t, "ready")
	for range 5 {
		m.run(t, "console() { runuser -u clerk -- psql -qX -h /run/pgbouncer -p 6433 pgbouncer -c $1; }; console PAUSE && fdtctl reload && console RESUME")
	}
	m.finish(t, p)
}

// program is a pool's program at work.
type program struct {
	pool
	account    int64
	cmd        *exec.Cmd
	in         io.Closer
	out        *bufio.Reader
	complaints bytes.Buffer
}

func (m *machine) start(ctx context.Context, t *testing.T, of pool) *program {
	t.Helper()
	p := &program{pool: of, account: m.account()}
	p.cmd = m.command(ctx, p.way, p.account, p.args...)
	p.cmd.Stderr = &p.complaints
	var err error
	p.in, err = p.cmd.StdinPipe()
	must(t, err)
	out, err := p.cmd.StdoutPipe()
	must(t, err)
	p.out = bufio.NewReader(out)
	must(t, p.cmd.Start())
	return p
}

// say reads a line that the program has to print; with none given, any.
func (p *program) say(t *testing.T, want string) string {
	t.Helper()
	line, err := p.out.ReadString('\n')
	if line = strings.TrimSuffix(line, "\n"); err != nil || want != "" && line != want {
		exit := p.cmd.Wait() // then all complaints are there
		t.Fatalf("%s says %q (%v), ends with %v:\n%s", p.name, line, err, exit, p.complaints.String())
	}
	return line
}

// finish ends a program and compares what it counted with the bank's books.
func (m *machine) finish(t *testing.T, p *program) {
	must(t, p.in.Close())
	line := p.say(t, "")
	var made, retried int
	_, err := fmt.Sscan(line, &made, &retried)
	if exit := p.cmd.Wait(); exit != nil || err != nil || made == 0 || !p.retries && retried > 0 {
		t.Errorf("it says %q, ends with %v:\n%s", line, exit, p.complaints.String())
	}
	t.Logf("%d transactions, %d tried again", made, retried)
	books := m.balance(t, p.account) + " " + m.balance(t, p.account+1)
	if want := fmt.Sprintf("%d %d", made, -made); books != want {
		t.Errorf("balances %s, want %s", books, want)
	}
}
