package master

import (
	"errors"
	"strings"

	"github.com/godbus/dbus/v5"
)

// errorName is the D-Bus name of an error that a peer returned; empty for any other.
func errorName(err error) string {
	if e, ok := errors.AsType[dbus.Error](err); ok {
		return e.Name
	}
	if e, ok := errors.AsType[*dbus.Error](err); ok {
		return e.Name
	}
	return ""
}

func isNotLoaded(err error) bool {
	name := errorName(err)
	return name == "org.freedesktop.systemd1.NoSuchUnit" || name == "org.freedesktop.DBus.Error.UnknownObject"
}

// unlessGone drops the error of a look at a unit that systemd has forgotten meanwhile.
func unlessGone(err error) error {
	if isNotLoaded(err) {
		return nil
	}
	return err
}

// isNoProcess recognises KillUnit on a unit whose process is gone: systemd has sent ESRCH both ways.
func isNoProcess(err error) bool {
	name := errorName(err)
	return name == "org.freedesktop.systemd1.NoSuchProcess" || name == "org.freedesktop.DBus.Error.UnixProcessIdUnknown" ||
		strings.HasSuffix(name, "System.Error.ESRCH")
}

// isContrary recognises a job in the mode "fail" that would take back another, which somebody asked for.
func isContrary(err error) bool {
	return errorName(err) == "org.freedesktop.systemd1.TransactionIsDestructive"
}
