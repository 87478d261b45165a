package master

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// privateBus is where systemd itself serves root, without a bus daemon between: a restart of dbus blinds
// nobody, and at shutdown it is there to the end.
const privateBus = "unix:path=/run/systemd/private"

const (
	managerInterface = "org.freedesktop.systemd1.Manager"
	serviceInterface = "org.freedesktop.systemd1.Service"
	jobInterface     = "org.freedesktop.systemd1.Job"
	unitInterface    = "org.freedesktop.systemd1.Unit"
	managerPath      = dbus.ObjectPath("/org/freedesktop/systemd1")
)

// callTimeout bounds one call to systemd; a daemon-reload alone may take longer.
const (
	callTimeout   = 30 * time.Second
	reloadTimeout = 5 * time.Minute
)

// systemd is a connection to systemd's manager, org.freedesktop.systemd1(5). It reports facts and asks for
// jobs; it never waits for one.
type systemd struct {
	conn *dbus.Conn
}

// prompter turns every signal into a prompt that something may have changed; prompts that nobody has taken
// yet are one.
type prompter chan struct{}

// DeliverSignal implements dbus.SignalHandler.
func (p prompter) DeliverSignal(string, string, *dbus.Signal) { p.prompt() }

func (p prompter) prompt() {
	select {
	case p <- struct{}{}:
	default:
	}
}

// connect reaches systemd. Signals become prompts. The connection's Done is closed when it breaks, as it
// does at a daemon-reexec.
func connect(address string, prompts prompter) (*systemd, error) {
	conn, err := dbus.Dial(address, dbus.WithSignalHandler(prompts))
	if err != nil {
		return nil, fmt.Errorf("connect to systemd: %w", err)
	}
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("connect to systemd: %w", err)
	}
	s := &systemd{conn: conn}
	if err := s.greet(); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("connect to systemd: %w", err)
	}
	return s, nil
}

// greetAgain is how long the answer to a greeting may take before there is another.
const greetAgain = 100 * time.Millisecond

// greet makes sure that systemd listens. A first message that systemd reads in one go with the last line of the
// authentication lies in its buffer, unseen, until more comes (seen on 252 and 257): without this a call, such as the
// stop's, would be answered at its time-out.
func (s *systemd) greet() error {
	deadline := time.Now().Add(callTimeout)
	for {
		err := s.call(managerPath, greetAgain, nil, "org.freedesktop.DBus.Peer.Ping")
		if !errors.Is(err, context.DeadlineExceeded) || time.Now().After(deadline) {
			return err
		}
	}
}

// Done is closed when the connection is broken.
func (s *systemd) Done() <-chan struct{} { return s.conn.Context().Done() }

// Close ends the connection.
func (s *systemd) Close() error { return s.conn.Close() }

// found is one unit as ListUnitsByPatterns returns it, in its order.
type found struct {
	Name, Description, Load, Active, Sub, Following string
	Path                                            dbus.ObjectPath
	JobID                                           uint32
	JobType                                         string
	JobPath                                         dbus.ObjectPath
}

func (s *systemd) call(path dbus.ObjectPath, timeout time.Duration, out []any, method string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	call := s.conn.Object("org.freedesktop.systemd1", path).CallWithContext(ctx, method, 0, args...)
	if call.Err != nil || len(out) == 0 {
		return call.Err
	}
	return call.Store(out...)
}

// units lists the loaded units whose names match.
func (s *systemd) units(patterns ...string) ([]found, error) {
	var out []found
	err := s.call(managerPath, callTimeout, []any{&out}, managerInterface+".ListUnitsByPatterns", []string{}, patterns)
	if err != nil {
		return nil, fmt.Errorf("list units: %w", err)
	}
	return out, nil
}

// start asks for a job and returns its path. A mode other than "replace" is explained in systemctl(1).
func (s *systemd) start(unit, mode string) error {
	var job dbus.ObjectPath
	if err := s.call(managerPath, callTimeout, []any{&job}, managerInterface+".StartUnit", unit, mode); err != nil {
		return fmt.Errorf("start %s: %w", unit, err)
	}
	return nil
}

// stop asks for a job. A unit that is not loaded is no error: it is as stopped as can be.
func (s *systemd) stop(unit, mode string) error {
	var job dbus.ObjectPath
	err := s.call(managerPath, callTimeout, []any{&job}, managerInterface+".StopUnit", unit, mode)
	if err := unlessGone(err); err != nil {
		return fmt.Errorf("stop %s: %w", unit, err)
	}
	return nil
}

// terminate sends SIGTERM to the unit's main process. One that has none any more is no error.
func (s *systemd) terminate(unit string) error {
	err := s.call(managerPath, callTimeout, nil, managerInterface+".KillUnit", unit, "main", int32(unix.SIGTERM))
	if err != nil && !isNotLoaded(err) && !isNoProcess(err) {
		return fmt.Errorf("terminate %s: %w", unit, err)
	}
	return nil
}

// kill sends SIGKILL to all of the unit's processes. A unit that has none any more is no error.
func (s *systemd) kill(unit string) error {
	err := s.call(managerPath, callTimeout, nil, managerInterface+".KillUnit", unit, "all", int32(unix.SIGKILL))
	if err != nil && !isNotLoaded(err) && !isNoProcess(err) {
		return fmt.Errorf("kill %s: %w", unit, err)
	}
	return nil
}

// cancel takes a job back. One that has ended is no error.
func (s *systemd) cancel(job uint32) error {
	err := s.call(managerPath, callTimeout, nil, managerInterface+".CancelJob", job)
	if err != nil && errorName(err) != "org.freedesktop.systemd1.NoSuchJob" {
		return fmt.Errorf("cancel job %d: %w", job, err)
	}
	return nil
}

// resetFailed forgets a unit's failure, and with it the count of its start limit.
func (s *systemd) resetFailed(unit string) error {
	err := s.call(managerPath, callTimeout, nil, managerInterface+".ResetFailedUnit", unit)
	if err := unlessGone(err); err != nil {
		return fmt.Errorf("reset %s: %w", unit, err)
	}
	return nil
}

// reload is systemctl daemon-reload; it returns when the generators have run and the units are loaded.
func (s *systemd) reload() error {
	if err := s.call(managerPath, reloadTimeout, nil, managerInterface+".Reload"); err != nil {
		return fmt.Errorf("daemon-reload: %w", err)
	}
	return nil
}

// running reports whether a job is being carried out. One that has ended is not.
func (s *systemd) running(job dbus.ObjectPath) (bool, error) {
	v, err := s.get(job, jobInterface, "State")
	if err != nil {
		if n := errorName(err); n == "org.freedesktop.DBus.Error.UnknownObject" || n == "org.freedesktop.systemd1.NoSuchJob" {
			return false, nil
		}
		return false, err
	}
	state, _ := v.Value().(string)
	return state == "running", nil
}

func (s *systemd) get(path dbus.ObjectPath, iface, property string) (dbus.Variant, error) {
	var v dbus.Variant
	err := s.call(path, callTimeout, []any{&v}, "org.freedesktop.DBus.Properties.Get", iface, property)
	if err != nil {
		return v, fmt.Errorf("read %s of %s: %w", property, path, err)
	}
	return v, nil
}

// moment reads a property that is a time.
func (s *systemd) moment(path dbus.ObjectPath, iface, property string) (moment, error) {
	v, err := s.get(path, iface, property)
	usec, _ := v.Value().(uint64)
	return moment(usec), err
}

// unitMoment reads a property of a unit that is a time.
func (s *systemd) unitMoment(unit, property string) (moment, error) {
	path, err := s.load(unit)
	if err != nil {
		return 0, err
	}
	return s.moment(path, unitInterface, property)
}

// all returns the properties of a unit, of all its interfaces.
func (s *systemd) all(path dbus.ObjectPath) (map[string]dbus.Variant, error) {
	var v map[string]dbus.Variant
	err := s.call(path, callTimeout, []any{&v}, "org.freedesktop.DBus.Properties.GetAll", "")
	if err != nil {
		return nil, fmt.Errorf("read properties of %s: %w", path, err)
	}
	return v, nil
}

// load makes systemd read a unit that is not in memory and returns its path.
func (s *systemd) load(unit string) (dbus.ObjectPath, error) {
	var path dbus.ObjectPath
	if err := s.call(managerPath, callTimeout, []any{&path}, managerInterface+".LoadUnit", unit); err != nil {
		return "", fmt.Errorf("load %s: %w", unit, err)
	}
	return path, nil
}

// goingDown reports whether the host is being shut down or rebooted.
func (s *systemd) goingDown() (bool, error) {
	v, err := s.get(managerPath, managerInterface, "SystemState")
	if err != nil {
		return false, err
	}
	state, _ := v.Value().(string)
	return state == "stopping", nil
}
