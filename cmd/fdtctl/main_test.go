package main

import (
	"bytes"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/printable"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/master"
)

// TestCommandLine holds exit codes: 0 for help, 2 for a wrong command line, before anything is asked of anybody.
func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"", 2, "Usage: fdtctl [--service NAME] COMMAND"},
		{"help", 0, "rollback [--wait-drained]"},
		{"version --json", 0, `"version": "devel"`},
		{"--help", 0, "Usage"},
		{"--version", 0, "fdtctl devel"},
		{"version", 0, "fdtctl devel"},
		{"version 2", 2, "0 wanted"},
		{"relaod", 2, `unknown command "relaod"`},
		{"sessions --yaml", 2, "not defined"},
		{"session", 2, "Usage: fdtctl session"},
		{"ready now", 2, "1 arguments given, 0 wanted"},
		{"reload now", 2, "1 arguments given, 0 wanted"},
		{"reload --timeout x", 2, "invalid value"},
		{"status --help", 0, "-json"},
		{"status --yaml", 2, "not defined"},
		{"drain", 2, "0 arguments given, 1 wanted"},
		{"drain 1 --within -3s", 2, "a time from now"},
		{"drain 1 --now --within 3s", 2, "give --now, or --within"},
		{"reload --timeout -3s", 2, "--timeout is a time from now"},
		{"drain seven --now", 2, `"seven" is not a generation`},
		{"stop-hook now", 2, "0 wanted"},
		{"--service shop version", 0, "fdtctl devel"},
		{"-service=shop check --help", 0, "/etc/fdt/shop by default"},
		{"--service", 2, "--service takes the name of a service"},
		{"--service shop", 2, "Usage: fdtctl [--service NAME] COMMAND"},
		{"--service Shop version", 2, `"Shop" is not the name of a service`},
		{"--serve shop version", 2, `unknown command "--serve"`},
		{"-V", 0, "fdtctl devel"},
	} {
		var out bytes.Buffer
		t.Setenv(service.Env, "")
		if code := run(strings.Fields(c.args), &out, &out); code != c.code || !strings.Contains(out.String(), c.says) {
			t.Errorf("fdtctl %s: exit %d, want %d: %s", c.args, code, c.code, out.String())
		}
	}
	var help bytes.Buffer
	usage(&help)
	if strings.Contains(help.String(), "stop-hook") {
		t.Error("the help shows what is only for units")
	}
}

// TestOutputLost: a full disk, or a closed standard output, is no success.
func TestOutputLost(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	var said bytes.Buffer
	for _, args := range []string{"version", "help", "check -schema"} {
		said.Reset()
		stdout := printable.NewWriter(full)
		if code := written(run(strings.Fields(args), stdout, &said), stdout.Err(), &said); code != 1 || !strings.Contains(said.String(), "no space left on device") {
			t.Errorf("fdtctl %s: exit %d: %s", args, code, said.String())
		}
	}
	if code := written(2, os.ErrClosed, &said); code != 2 {
		t.Error(code)
	}
}

// TestNoBus: there is no system bus to ask on.
func TestNoBus(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+t.TempDir()+"/none")
	for _, args := range []string{"status", "reload", "rollback", "drain 1"} {
		var out, said bytes.Buffer
		want := "fdtctl " + strings.Fields(args)[0] + ": the system bus: "
		if code := run(strings.Fields(args), &out, &said); code != 1 || !strings.HasPrefix(said.String(), want) || out.Len() != 0 {
			t.Errorf("fdtctl %s: exit %d: %s%s", args, code, out.String(), said.String())
		}
	}
}

// TestAway: what is waited for ends when nobody comes back.
func TestAway(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+t.TempDir()+"/none")
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := drained(t.Context())
		if _, lost := outcome(t.Context(), master.Status{}, errMasterLost); err == nil || lost == nil || !strings.HasPrefix(err.Error(), "the system bus: ") {
			t.Error(err, lost)
		}
		if took := time.Since(began); took <= 2*returnPatience || took > 2*returnPatience+3*lookEvery {
			t.Error(took)
		}
	})
}

// TestForRoot: only what another user was denied is said to be for root.
func TestForRoot(t *testing.T) {
	for _, c := range []struct {
		err  error
		uid  int
		want string
	}{
		{fs.ErrPermission, 65534, "this is for root: permission denied"},
		{control.ErrDenied, 65534, "this is for root: " + control.ErrDenied.Error()},
		{fs.ErrPermission, 0, "permission denied"},
		{fs.ErrNotExist, 65534, "file does not exist"},
	} {
		if got := forRoot(c.err, c.uid).Error(); got != c.want {
			t.Errorf("%s, not %s", got, c.want)
		}
	}
}
