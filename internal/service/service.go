// Package service has every name of one fdt on a host, of which there may be several: units, directories, the name on the bus.
// The names of the default one have never changed, as an upgrade finds its units and its files by them.
package service

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Env is the variable of the environment by which each program of a service knows which it is.
const Env = "FDT_SERVICE"

// Service is one fdt on a host. The zero value is the default one, fdt.service; a further one is fdt@NAME.service.
type Service struct{ name string }

// Default is the service without a name.
var Default Service

// names have neither dot nor dash, so that in /etc/fdt none meets a file of the default service (config.yaml, config.d, transaction-log),
// and a unit's name can be taken apart. They may be a part of a name on the bus.
var names = regexp.MustCompile(`^[a-z][a-z0-9_]{0,15}$`)

// Parse returns the service of a name; an empty one is the default service's.
func Parse(name string) (Service, error) {
	if name != "" && !names.MatchString(name) {
		return Service{}, fmt.Errorf("%q is not the name of a service: at most 16 of a-z, 0-9 and _, the first a letter", name)
	}
	return Service{name}, nil
}

// Own is the service that this process belongs to.
func Own() (Service, error) {
	s, err := Parse(os.Getenv(Env))
	if err != nil {
		err = fmt.Errorf("%s: %w", Env, err)
	}
	return s, err
}

// Known returns the services of the host with a root directory: the default one, then by name those that have a configuration, and
// those that have a state, which serve on where their configuration was taken away.
func Known(root string) []Service {
	found := map[string]bool{}
	for pattern, prefix := range map[string]string{
		filepath.Join(root, Default.Etc(), "*", "config.yaml"): "",
		filepath.Join(root, Default.Run()+"@*", "state.json"):  "fdt@",
	} {
		files, _ := filepath.Glob(pattern) // the pattern is sound, and what cannot be read has none
		for _, file := range files {
			if name, ok := strings.CutPrefix(filepath.Base(filepath.Dir(file)), prefix); ok && names.MatchString(name) {
				found[name] = true
			}
		}
	}
	all := []Service{Default}
	for name := range found {
		all = append(all, Service{name})
	}
	slices.SortFunc(all, func(a, b Service) int { return strings.Compare(a.name, b.name) })
	return all
}

// Name is the service's; empty for the default one.
func (s Service) Name() string { return s.name }

// String is how systemctl(1) calls the service: fdt, or fdt@NAME.
func (s Service) String() string { return "fdt" + s.at() }

// at is what an instance's units and directories have behind their common name.
func (s Service) at() string {
	if s.name == "" {
		return ""
	}
	return "@" + s.name
}

// dash is what a template of the service's own has behind its common name.
func (s Service) dash() string {
	if s.name == "" {
		return ""
	}
	return "-" + s.name
}

// Etc is the directory of the configuration, Run that of what lasts until the host goes down, Lib that of what lasts.
func (s Service) Etc() string { return filepath.Join("/etc/fdt", s.name) }

// Run is described at [Service.Etc].
func (s Service) Run() string { return "/run/fdt" + s.at() }

// Lib is described at [Service.Etc].
func (s Service) Lib() string { return "/var/lib/fdt" + s.at() }

// LastGood holds a copy of the last configuration that served, across boots.
func (s Service) LastGood() string { return filepath.Join(s.Lib(), "last-good") }

// Directories is the unit that makes Run, Lib and what is below them; empty for the default service, for which tmpfiles.d(5) does.
func (s Service) Directories() string {
	if s.name == "" {
		return ""
	}
	return "fdt-directories" + s.at() + suffixService
}

// MakeDirectories is the command by which an operator has them made again.
func (s Service) MakeDirectories() string {
	if s.name == "" {
		return "systemd-tmpfiles --create fdt.conf"
	}
	return "systemctl start fdt-directories" + s.at()
}

// BusName is the master's name on the system bus.
func (s Service) BusName() string {
	if s.name == "" {
		return "org.fdtserver.Master1"
	}
	return "org.fdtserver.Master1." + s.name
}

// Master is the unit of the master.
func (s Service) Master() string { return "fdt" + s.at() + suffixService }

// Stopper is the unit whose stop is the orderly stop.
func (s Service) Stopper() string { return "fdt-stop" + s.at() + suffixService }

// Sweep is the unit that closes what a stop has left.
func (s Service) Sweep() string { return "fdt-sweep" + s.at() + suffixService }

// Refresh is the unit that runs before listeners open from stopped.
func (s Service) Refresh() string { return "fdt-refresh" + s.at() + suffixService }

// Sockets is the target that wants every listener.
func (s Service) Sockets() string { return "fdt-sockets" + s.at() + ".target" }

// Slice has all of the service's units. That of a further service is beside the default one's and not in it: a dash would make it a
// part, systemd.slice(5), and limits of one would be the other's.
func (s Service) Slice() string {
	if s.name == "" {
		return "system-fdt.slice"
	}
	return `system-fdt\x2d` + s.name + ".slice"
}

const (
	suffixService = ".service"
	suffixSocket  = ".socket"
)

func (s Service) worker() string  { return "fdt-worker" + s.dash() + "@" }
func (s Service) listen() string  { return "fdt-listen" + s.dash() + "@" }
func (s Service) metrics() string { return "fdt-metrics" + s.dash() + "@" }

// Owns reports whether a file below a directory of units is one that is written for the service: of a worker, a listener or the metrics.
func (s Service) Owns(name string) bool {
	return slices.ContainsFunc([]string{s.worker(), s.listen(), s.metrics()}, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// WorkerTemplate, ListenTemplate and MetricsTemplate are what the units of workers, of companions and of exporters are instances of.
func (s Service) WorkerTemplate() string { return s.worker() + suffixService }

// ListenTemplate is described at [Service.WorkerTemplate].
func (s Service) ListenTemplate() string { return s.listen() + suffixService }

// MetricsTemplate is described at [Service.WorkerTemplate].
func (s Service) MetricsTemplate() string { return s.metrics() + suffixService }

// DropIn is where the workers' generated settings belong, below a directory of units.
func (s Service) DropIn() string { return s.WorkerTemplate() + ".d/50-fdt.conf" }

// WorkerPattern matches the workers' units.
func (s Service) WorkerPattern() string { return s.worker() + "*" + suffixService }

// SocketPattern matches the listeners' sockets.
func (s Service) SocketPattern() string { return s.listen() + "*" + suffixSocket }

// CompanionPattern matches the services that sockets activate.
func (s Service) CompanionPattern() string { return s.listen() + "*" + suffixService }

// MetricsPattern matches the sockets of the metrics.
func (s Service) MetricsPattern() string { return s.metrics() + "*" + suffixSocket }

// Socket is the socket unit of an address, by its canonical name.
func (s Service) Socket(address string) string { return s.listen() + address + suffixSocket }

// Companion is the service that a first connection at the address starts.
func (s Service) Companion(address string) string { return s.listen() + address + suffixService }

// Metrics is the socket unit of the address at which metrics are served.
func (s Service) Metrics(address string) string { return s.metrics() + address + suffixSocket }

// IsMetrics reports whether a unit matches [Service.MetricsPattern].
func (s Service) IsMetrics(name string) bool { return strings.HasPrefix(name, s.metrics()) }

// IsSocket reports whether a unit is a listener's socket.
func (s Service) IsSocket(name string) bool {
	return strings.HasPrefix(name, s.listen()) && strings.HasSuffix(name, suffixSocket)
}

// SocketOf returns the socket unit of a companion.
func (s Service) SocketOf(companion string) (socket string, ok bool) {
	return s.other(companion, suffixService, suffixSocket)
}

// CompanionOf returns the companion of a socket unit.
func (s Service) CompanionOf(socket string) (companion string, ok bool) {
	return s.other(socket, suffixSocket, suffixService)
}

func (s Service) other(name, from, to string) (string, bool) {
	address, ok := strings.CutPrefix(name, s.listen())
	if !ok {
		return "", false
	}
	address, ok = strings.CutSuffix(address, from)
	if !ok {
		return "", false
	}
	return s.listen() + address + to, true
}

// WorkerName is the unit of the worker in a slot of a generation: fdt-worker@7-0.service.
func (s Service) WorkerName(gen, slot int) string {
	return s.worker() + Instance(gen, slot) + suffixService
}

// ParseWorker is the inverse of [Service.WorkerName]. It accepts nothing that WorkerName does not return for numbers that
// are not negative.
func (s Service) ParseWorker(name string) (gen, slot int, ok bool) {
	instance, found := strings.CutPrefix(name, s.worker())
	if !found {
		return 0, 0, false
	}
	if instance, found = strings.CutSuffix(instance, suffixService); !found {
		return 0, 0, false
	}
	return ParseInstance(instance)
}

// Instance is the part of [Service.WorkerName] after the @: GEN-SLOT.
func Instance(gen, slot int) string {
	return strconv.Itoa(gen) + "-" + strconv.Itoa(slot)
}

// ParseInstance is the inverse of [Instance], as strict as [Service.ParseWorker].
func ParseInstance(instance string) (gen, slot int, ok bool) {
	left, right, _ := strings.Cut(instance, "-")
	gen, errGen := strconv.Atoi(left)
	slot, errSlot := strconv.Atoi(right)
	if errGen != nil || errSlot != nil || gen < 0 || slot < 0 || Instance(gen, slot) != instance {
		return 0, 0, false
	}
	return gen, slot, true
}

// LogsBeside returns the directories of the transaction logs of all services whose directory of state is beside that one, a [Service.Lib],
// but for its own; and of each the service, with the command by which its transactions are settled.
func LogsBeside(lib string) map[string]string {
	logs := map[string]string{}
	found, _ := filepath.Glob(filepath.Join(filepath.Dir(lib), "fdt*", "txn")) // the pattern is sound
	for _, dir := range found {
		at := filepath.Base(filepath.Dir(dir))
		name, further := strings.CutPrefix(at, "fdt@")
		if filepath.Dir(dir) == lib || at != "fdt" && (!further || !names.MatchString(name)) {
			continue
		}
		logs[dir] = "fdt: fdtctl txn"
		if further {
			logs[dir] = at + ": fdtctl --service " + name + " txn"
		}
	}
	return logs
}
