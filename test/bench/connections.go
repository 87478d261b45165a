package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The listeners of both echo servers, in the form that dialLoop takes.
const (
	echoAddress = "127.0.0.1:7777"
	bareAddress = "127.0.0.1:7778"
)

// connectionRounds are many: which of several processes on one processor runs next, and so how many of them wake up for a connection in
// vain, is the scheduler's choice and differs from round to round.
const connectionRounds = 9

// tcpConfig is for workers that are other programs, on an address and so many. On TCP somebody has to be let in; those programs do not ask.
const tcpConfig = `
listen: {bench: {address: %q, auth: scram}}
users:
  nobody: "SCRAM-SHA-256$4096:c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
workers: {count: %d}
reload: {settle: 0s}
`

// onOneCPU is a unit's setting. The servers have one processor and the clients the others: then a server's own cost is what bounds
// the figure, and not that of the clients.
func onOneCPU() string {
	if runtime.NumCPU() == 1 {
		return ""
	}
	return "CPUAffinity=0\n"
}

// connections compares new connections per second: connect, send a line, read it back, close. fdt is examples/echo without its
// pretended work; the peer is an accept loop that starts a goroutine per connection and does the same in it, from the same kind of
// unit with the same number of processes on one inherited socket.
func connections(ctx context.Context, s *site) (rows []row, _ error) {
	for _, workers := range []int{1, 4} {
		config := fmt.Sprintf(tcpConfig, echoAddress, workers)
		if err := s.serve(ctx, config, program("echo -work 0s")+onOneCPU()); err != nil {
			return rows, err
		}
		if err := s.bareUnits(ctx, workers); err != nil {
			return rows, err
		}
		figures, err := interleave(ctx, connectionRounds, s.dialer(echoAddress), s.dialer(bareAddress))
		if err != nil {
			return rows, err
		}
		fdt, bare := figures[0], figures[1]
		if _, err := s.shell(ctx, "systemctl stop 'bench-bare@*' bench-bare.socket bench-bare.service"); err != nil {
			return rows, err
		}
		processes := "1 process"
		if workers > 1 {
			processes = fmt.Sprintf("%d processes", workers)
		}
		rows = append(rows, row{
			measure: "new connections, " + processes,
			fdt:     fmt.Sprintf("%.0f/s", fdt.median()), peer: fmt.Sprintf("bare accept loop %.0f/s", bare.median()),
			ratio: fdt.over(bare), aim: atLeast(0.9),
		})
	}
	return rows, nil
}

// bareUnits installs and starts the peer: the installed worker unit with another program, socket and companion.
func (s *site) bareUnits(ctx context.Context, workers int) error {
	unit, err := os.ReadFile("/usr/lib/systemd/system/fdt-worker@.service")
	if err != nil {
		return err
	}
	var service strings.Builder
	for line := range strings.Lines(string(unit)) {
		switch {
		case strings.HasPrefix(line, "ExecStart="):
			line = "ExecStart=" + inside + "/bench bare\nSockets=bench-bare.socket\n" + onOneCPU()
		case strings.HasPrefix(line, "WatchdogSec="):
			continue
		}
		service.WriteString(line)
	}
	err = errors.Join(
		write("/run/systemd/system/bench-bare@.service", service.String()),
		write("/run/systemd/system/bench-bare.socket", "[Socket]\nListenStream="+bareAddress+"\nTriggerLimitIntervalSec=0\n"),
		write("/run/systemd/system/bench-bare.service",
			"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\nNonBlocking=yes\n"))
	if err != nil {
		return err
	}
	_, err = s.shell(ctx, fmt.Sprintf(`systemctl daemon-reload
		systemctl start bench-bare.socket bench-bare.service
		for i in {1..%d}; do systemctl start bench-bare@$i; done`, workers))
	return err
}

// dialer is a side that has clients connect for a second, and returns how many they served in a second.
func (s *site) dialer(address string) side {
	return func(ctx context.Context) (float64, error) {
		command := fmt.Sprintf("%s/bench dial %s 32 1s", inside, address)
		if n := runtime.NumCPU(); n > 1 {
			command = fmt.Sprintf("taskset -c 1-%d ", n-1) + command
		}
		out, err := s.shell(ctx, command)
		if err != nil {
			return 0, err
		}
		return strconv.ParseFloat(strings.TrimSpace(out), 64)
	}
}

// dialLoop prints how many connections per second so many clients got served: dial ADDRESS CLIENTS DURATION. It makes bare system
// calls, to be as little of a load itself as can be.
func dialLoop(_ context.Context, args []string) error {
	_, port, _ := strings.Cut(args[0], ":")
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	clients, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	period, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	var served atomic.Int64
	var all sync.WaitGroup
	errs := make([]error, clients)
	begun := time.Now()
	for n := range clients {
		all.Go(func() {
			for time.Since(begun) < period && errs[n] == nil {
				errs[n] = dialOnce(byte(n+2), number)
				served.Add(1)
			}
		})
	}
	all.Wait()
	fmt.Println(float64(served.Load()) / time.Since(begun).Seconds())
	return errors.Join(errs...)
}

// dialOnce is one client's one connection. Each client comes from an address of its own, or ports in TIME_WAIT would run out.
func dialOnce(client byte, port int) (err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 1, client}}))
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	line := []byte("a line to echo\n")
	if _, err := unix.Write(fd, line); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	answer := make([]byte, 64)
	if n, err := unix.Read(fd, answer); err != nil || string(answer[:n]) != string(line) {
		return fmt.Errorf("received %q: %w", answer[:max(n, 0)], err)
	}
	return nil
}

// execStamped tells the notify socket when it is about to become another program, for which systemd's environment is prepared.
func execStamped(_ context.Context, args []string) error {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	env := append(os.Environ(), "LISTEN_PID="+strconv.Itoa(os.Getpid()))
	if err := tell("EXEC=1"); err != nil {
		return err
	}
	return unix.Exec(path, args, env)
}
