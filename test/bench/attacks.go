package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt/internal/scram"
)

// An attack's round: as many connections as attackers do their worst, or as many do something ordinary, while others work. Their p99
// in the one is compared with that in the other. The attackers have less of the processors than the server, so that it is not their own
// work that holds others up; so have those of the ordinary round. One moment in which a worker stands still is one in a hundred requests
// of a round already, as all wait then: so it is the p99 of the requests of all rounds that counts, and the rounds tell how sure it is.
const (
	attackers    = 64
	attackRounds = 6
	attackPeriod = 1500 * time.Millisecond

	keptSessions = 16 // of others, each of which asks every
	keptEvery    = 20 * time.Millisecond
	guests       = 8 // of others, each of whom logs in anew every
	guestsEvery  = 100 * time.Millisecond
)

// Where attackers come in by TCP: in the clear, and with TLS.
const (
	clearAddress  = "127.0.0.1:7434"
	secureAddress = "127.0.0.1:7435"
	certificate   = "/etc/fdt/bench.crt"
	privateKey    = "/etc/fdt/bench.key"
	password      = "a password"
)

// toll is what a round of an attack has cost.
type toll struct {
	kept, newcomers []time.Duration // what those waited
	failed          int             // requests of theirs
	attempts        int             // of the attackers
	cpu             time.Duration   // of all workers
	bytes           int64           // that the workers held more at their fullest, for each attacker
	lasted          time.Duration
	died            bool // a worker
}

// attacks are measures of what hostile clients cost: each attack is compared with what as many connections cost that are idle, or that
// do in a loop what such clients are meant to do. That is the honest peer of an attack that loops: nobody keeps more than their share off them.
func attacks() (all []measure) {
	for _, a := range assaults {
		all = append(all, measure{"attack: " + a.name, func(ctx context.Context, s *site) ([]row, error) { return s.attacked(ctx, a) }})
	}
	return all
}

func (s *site) attacked(ctx context.Context, a assault) ([]row, error) {
	if err := s.fortress(ctx); err != nil {
		return nil, err
	}
	pids, err := s.workers(ctx)
	if err != nil {
		return nil, err
	}
	fresh, err := resident(pids)
	if err != nil {
		return nil, err
	}
	var hit, quiet []toll
	round := func(name string, into *[]toll) side {
		return func(ctx context.Context) (float64, error) {
			t, err := s.assault(ctx, name, fresh)
			*into = append(*into, t)
			return 0, err
		}
	}
	_, err = interleave(ctx, attackRounds, round(a.name, &hit), round(a.peer, &quiet))
	return told(a, hit, quiet), err
}

// told are an attack's rows: its p99 for others, and its cost.
func told(a assault, hit, quiet []toll) (rows []row) {
	of := func(list []toll, figure func(toll) float64) (s series) {
		for _, t := range list {
			s = append(s, figure(t))
		}
		return s
	}
	p99 := func(who string, waits func(toll) []time.Duration) {
		each := func(t toll) float64 { return ms(quantile(waits(t), 0.99)) }
		whole := func(list []toll) float64 {
			var all []time.Duration
			for _, t := range list {
				all = append(all, waits(t)...)
			}
			return ms(quantile(all, 0.99))
		}
		h, q := whole(hit), whole(quiet)
		rows = append(rows, row{
			measure: fmt.Sprintf("%s: p99 of others' %s", a.name, who),
			fdt:     fmt.Sprintf("%.2f ms", h), peer: fmt.Sprintf("%d %s %.2f ms", attackers, a.peer, q),
			ratio: of(hit, each).over(of(quiet, each)), whole: h / q, aim: atMost(2),
		})
	}
	p99("sessions", func(t toll) []time.Duration { return t.kept })
	p99("logins", func(t toll) []time.Duration { return t.newcomers })
	var failed, died int
	for _, t := range hit {
		failed += t.failed
		if t.died {
			died++
		}
	}
	each := of(hit, func(t toll) float64 { return float64(t.cpu.Microseconds()) / math.Max(1, float64(t.attempts)) })
	cost := fmt.Sprintf("%.0f µs of CPU each, %.0f/s", each.median(),
		of(hit, func(t toll) float64 { return float64(t.attempts) / t.lasted.Seconds() }).median())
	bytes := of(hit, func(t toll) float64 { return float64(t.bytes) / 1024 })
	rows = append(rows, row{
		measure: a.name + ": its cost", fdt: cost, peer: fmt.Sprintf("others' errors %d, workers dead %d, KiB per attacker", failed, died),
		ratio: series{quantile(bytes, 1)}, aim: noAim("%.1f"),
	})
	return rows
}

// fortress has fdt serve with listeners of all kinds, and a user for each side.
func (s *site) fortress(ctx context.Context) error {
	if _, err := s.shell(ctx, fmt.Sprintf(`
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=bench -keyout %[1]s -out %[2]s
		chgrp fdt %[1]s; chmod 640 %[1]s`, privateKey, certificate)); err != nil {
		return err
	}
	verifier := scram.New(password)
	return s.serve(ctx, fmt.Sprintf(`
listen:
  clear: {address: %q, auth: scram}
  secure: {address: %q, auth: scram, tls: {certificate: %s, key: %s}}
users: {mallory: %q, guest: %q}
workers: {count: 2, threads: 256}
reload: {settle: 0s}
transaction: {prepared_per_user: 500}
`, clearAddress, secureAddress, certificate, privateKey, verifier, verifier), "")
}

// assault is one round. Workers had fresh bytes when they were new.
func (s *site) assault(ctx context.Context, name string, fresh int64) (t toll, err error) {
	pids, err := s.workers(ctx)
	if err != nil {
		return t, err
	}
	if err := forgetFullest(pids); err != nil {
		return t, err
	}
	// A session of its own, for the kernel weighs those against each other, where it does that, and nice within one alone: sched(7), autogroup.
	c := exec.CommandContext(ctx, "setsid", "--wait", "sh", "-c", `echo 5 >/proc/self/autogroup || true; exec nice -n 5 "$0" "$@"`,
		filepath.Join(inside, "bench"), "attack", name, strconv.Itoa(attackers))
	c.Stderr = os.Stderr
	hand, err := c.StdinPipe()
	if err != nil {
		return t, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return t, err
	}
	if err := c.Start(); err != nil {
		return t, err
	}
	in := bufio.NewReader(out)
	if _, err := in.ReadString('\n'); err != nil { // that all have begun
		return t, errors.Join(err, c.Wait())
	}
	used := processorTime(pids)
	begun := time.Now()
	log := others(ctx)
	t.lasted = time.Since(begun)
	t.cpu = processorTime(pids) - used
	after, err := resident(pids)
	t.bytes, t.died = max(0, after-fresh)/attackers, err != nil
	_ = hand.Close() // the end
	var report attackReport
	err = json.NewDecoder(in).Decode(&report)
	t.attempts = report.Attempts
	if err := errors.Join(err, c.Wait()); err != nil {
		return t, err
	}
	for _, r := range log {
		switch {
		case r.err != nil:
			t.failed++
			fmt.Printf("   %s: %v\n", name, kind(r.err))
		case r.client < keptSessions:
			t.kept = append(t.kept, r.took)
		default:
			t.newcomers = append(t.newcomers, r.took)
		}
	}
	return t, s.repair(ctx, t.died)
}

// repair waits for the workers of a round in which one died.
func (s *site) repair(ctx context.Context, died bool) error {
	if !died {
		return nil
	}
	_, err := s.shell(ctx, "sleep 1; systemctl start fdt; fdtctl reload")
	return errors.Join(err, s.settled(ctx))
}

// others work for a while, and what they saw is returned.
func others(ctx context.Context) []request {
	ctx, cancel := context.WithTimeout(ctx, attackPeriod)
	defer cancel()
	var all sync.WaitGroup
	var kept, come []request
	all.Go(func() {
		kept = steady(ctx, keptSessions, keptEvery, func(int) asker { return &session{statement: "SELECT 1"} })
	})
	all.Go(func() { come = steady(ctx, guests, guestsEvery, func(int) asker { return guest{} }) })
	all.Wait()
	for i := range come {
		come[i].client += keptSessions
	}
	return append(kept, come...)
}

// guest logs in over TLS, asks once and goes.
type guest struct{}

func (guest) quit() {}

func (guest) ask(ctx context.Context) error { return visit(ctx, secureAddress, "guest") }

// visit logs in, asks once and goes.
func visit(ctx context.Context, address, user string) error {
	conn, err := login(ctx, address, user)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "SELECT 1").ReadAll()
	return errors.Join(err, conn.Close(ctx))
}

// login opens a session by password.
func login(ctx context.Context, address, user string) (*pgconn.PgConn, error) {
	host, port, _ := strings.Cut(address, ":")
	mode := "disable"
	if address == secureAddress {
		mode = "require"
	}
	return pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%s user=%s password='%s' dbname=bench sslmode=%s", host, port, user, password, mode))
}

// resident is how much memory the processes had at their fullest since forgetFullest, in bytes.
func resident(pids []int) (sum int64, err error) {
	for _, pid := range pids {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, err
		}
		_, rest, _ := strings.Cut(string(status), "VmHWM:")
		kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += kib << 10
	}
	return sum, nil
}

// forgetFullest makes what the processes have now their fullest; see proc_pid_clear_refs(5).
func forgetFullest(pids []int) error {
	for _, pid := range pids {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
			return err
		}
	}
	return nil
}

// tick is the unit of proc_pid_stat(5), USER_HZ.
const tick = 10 * time.Millisecond

// processorTime is what processes have used; of one that has ended nothing counts.
func processorTime(pids []int) (sum time.Duration) {
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		for _, field := range fields[11:13] { // utime and stime
			n, _ := strconv.Atoi(field)
			sum += time.Duration(n) * tick
		}
	}
	return sum
}
