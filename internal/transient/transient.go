// Package transient runs commands in units of their own, as the service's user and
// in a sandbox: what root has done to the service's files, and to the databases
// that it knows. A command gets a request on its standard input, and its end when
// whoever asked has gone; it answers in text.
package transient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/unit"
)

// User is the service's, whose the log and the claims are.
const User = "fdt"

// Run runs systemd-run(1) with its arguments, and returns its exit code; one above most is an error. What runs in the unit gets the
// request, and the end of its input when this process ends or ctx does.
func Run(ctx context.Context, args []string, request []byte, most int, stdout, stderr io.Writer) (int, error) {
	in, hold, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer hold.Close()
	cmd := exec.Command("systemd-run", args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal, and an interrupt there is for this process alone
	err = cmd.Start()
	_ = in.Close() // the child's own
	if err != nil {
		return 0, fmt.Errorf("systemd-run: %w", err)
	}
	var sent sync.WaitGroup
	defer sent.Wait()
	sent.Go(func() { _, _ = hold.Write(request) }) // if that fails, the unit has not begun, or has ended, as its end tells
	stop := context.AfterFunc(ctx, func() { _ = hold.Close() })
	defer stop()
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() && exit.ExitCode() <= most {
		return exit.ExitCode(), nil
	}
	if err != nil {
		err = fmt.Errorf("the unit has failed, see journalctl: %w", err)
	}
	return 0, err
}

// AsService are the arguments with which systemd-run runs a command as the service's user, in the sandbox of fdt-txn.conf, which its
// name brings along.
func AsService(name, description string, properties []string, command ...string) []string {
	args := append(InPipes(name, description), "--property=User="+User, "--property=Group="+User) // in fdt-txn.conf too; never without
	return slices.Concat(args, properties, []string{"--"}, command)
}

// InPipes are the arguments that have systemd-run wait for a unit, which shares pipes with this process and nothing else.
func InPipes(name, description string) []string {
	args := []string{"--quiet", "--collect", "--wait", "--pipe", "--no-ask-password", "--service-type=exec", "--unit=" + name, "--description=" + description}
	if svc, _ := service.Own(); svc != service.Default { // the program has seen that its name is one
		args = append(args, "--setenv="+service.Env+"="+svc.Name(), "--property=Wants="+svc.Directories(), "--property=After="+svc.Directories())
	}
	return args
}

// Worker is what the workers' unit says, drop-ins included.
type Worker struct {
	config.Sandbox

	Program string   // that it runs
	As      []string // properties for another unit that is to see the same

	paths, network []string // properties for one that is to write and reach the same
}

var execPath = regexp.MustCompile(`path=(\S+) ;`)

// WorkerOf asks systemd; without an answer it is what the package installs.
func WorkerOf(ctx context.Context, svc service.Service) Worker {
	s := Worker{Sandbox: config.Sandbox{PrivateTmp: true, ProtectHome: true}, Program: "/usr/lib/fdt/fdt-worker"}
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--property=PrivateTmp,ProtectHome,SupplementaryGroups,ExecStart,"+
		"ReadWritePaths,LimitNOFILE,PrivateNetwork,RestrictAddressFamilies,IPAddressDeny,IPAddressAllow", svc.WorkerName(0, 0)).Output()
	if err != nil {
		return s
	}
	s.read(string(out))
	return s
}

// read takes in what systemctl(1) shows.
func (w *Worker) read(shown string) {
	for line := range strings.Lines(shown) {
		key, val, _ := strings.Cut(strings.TrimSpace(line), "=")
		property := "--property=" + key + "=" + val
		switch key {
		case "ExecStart":
			if m := execPath.FindStringSubmatch(val); m != nil {
				w.Program = m[1]
			}
			continue
		case "PrivateTmp":
			w.PrivateTmp = val != "no"
		case "ProtectHome":
			w.ProtectHome = val == "yes" || val == "tmpfs"
		}
		switch {
		case val == "":
		case key == "ReadWritePaths":
			w.paths = append(w.paths, property)
		case key == "PrivateNetwork", key == "RestrictAddressFamilies", strings.HasPrefix(key, "IPAddress"):
			w.network = append(w.network, property)
		default:
			w.As = append(w.As, property)
		}
	}
}

// Needed are the properties that let a unit write and reach what the resources of a configuration need, and write to more.
func Needed(cfg *config.Config, writable ...string) (args []string) {
	needs := unit.NeedsOf(cfg)
	for _, path := range slices.Concat(needs.Writable, writable) {
		args = append(args, `--property=ReadWritePaths="-`+path+`"`)
	}
	network := []string{"PrivateNetwork=yes", "IPAddressDeny=any", "RestrictAddressFamilies=AF_UNIX"}
	if needs.Network {
		network = []string{"RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"}
	}
	for _, p := range network {
		args = append(args, "--property="+p)
	}
	return args
}

// Needed is [Needed] for the workers' own program, which is also let do what the workers may: resources of types of its own need
// what nobody else knows.
func (w Worker) Needed(cfg *config.Config, writable ...string) []string {
	args := Needed(cfg, writable...)
	if !cfg.Foreign() {
		return args
	}
	if !unit.NeedsOf(cfg).Network && w.network != nil {
		args = slices.DeleteFunc(args, func(a string) bool { return !strings.HasPrefix(a, "--property=ReadWritePaths=") })
		args = append(args, w.network...)
	}
	return append(args, w.paths...)
}
