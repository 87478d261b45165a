package settle

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/testwait"
)

// request is the input of a unit, with more to come until it is closed.
func request(t *testing.T, text string) (in, hold *os.File) {
	t.Helper()
	in, hold, err := os.Pipe()
	if err == nil {
		_, err = hold.WriteString(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = in.Close(), hold.Close() })
	return in, hold
}

// TestTxnUnit does in this process what the unit does, on what root's fdtctl says.
func TestTxnUnit(t *testing.T) {
	h := newHost(t)
	h.prepare(t, "x")
	line, err := json.Marshal(txnRequest{
		Args:     []string{"commit", "--run=" + h.run, "--lib=" + h.lib, "--etc=" + h.etc, "x"},
		Operator: `{"user":"bob","uid":"0"}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(operatorEnv, "")
	in, _ := request(t, string(line)+"\n") // whoever asked waits
	var stdout, stderr bytes.Buffer
	if code := answerTxn(Own{}, in, &stdout, &stderr); code != 0 || stdout.String() != "x: committed\n" {
		t.Errorf("%d %s%s", code, stdout.String(), stderr.String())
	}
	h.asJSON = true
	if out, err := h.says(t, "show", "x"); err != nil || !strings.Contains(out, `"bob"`) {
		t.Errorf("%s%v", out, err)
	}
}

// TestTxnUnitEnds: who asked has gone while the unit waits for the log; it gives up.
func TestTxnUnitEnds(t *testing.T) {
	h := newHost(t)
	h.prepare(t, "x")
	line, err := json.Marshal(txnRequest{Args: []string{"commit", "--run=" + h.run, "--lib=" + h.lib, "--etc=" + h.etc, "x"}})
	if err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(filepath.Join(h.lib, "txn", "lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	t.Setenv(operatorEnv, "")
	in, hold := request(t, string(line)+"\n")
	done := make(chan int, 1)
	var stdout, stderr bytes.Buffer
	go func() { done <- answerTxn(Own{}, in, &stdout, &stderr) }()
	if err := hold.Close(); err != nil {
		t.Fatal(err)
	}
	if code := testwait.For(t, "the unit's end", done); code != 1 || stdout.Len() > 0 {
		t.Errorf("%d %s%s", code, stdout.String(), stderr.String())
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := h.says(t, "show", "x"); err != nil || !strings.Contains(out, "in doubt") {
		t.Errorf("%s%v", out, err)
	}
}

func TestTxnUnitWithoutRequest(t *testing.T) {
	for _, text := range []string{"", "nonsense\n", `{"args":["list"],"operator":"a\u0000b"}` + "\n", `{"args":["dance"]}` + "\n"} {
		in, hold := request(t, text)
		if err := hold.Close(); err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		if code := answerTxn(Own{}, in, &stdout, &stderr); code == 0 || stderr.Len() == 0 {
			t.Errorf("%q: %d %s%s", text, code, stdout.String(), stderr.String())
		}
	}
}

// TestTxnUnitNotForRoot: what root's fdtctl says is done by the service's user only.
func TestTxnUnitNotForRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("this user is not root")
	}
	var stdout, stderr bytes.Buffer
	if code := Unit(Own{}, &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), "this is not for root") {
		t.Errorf("%d %s%s", code, stdout.String(), stderr.String())
	}
}

// TestUnitArguments: the unit gets what its resources need, and no more.
func TestUnitArguments(t *testing.T) {
	t.Setenv("TZ", "Asia/Tokyo")
	t.Setenv("SECRET", "hunter2")
	h := newHost(t)
	args := h.unitArguments("list", "/usr/bin/fdtctl", nil)
	for _, want := range []string{
		"--pipe", "--wait", "--property=User=fdt", "--setenv=TZ=Asia/Tokyo", `--property=ReadWritePaths="-` + h.root + `/lib/outbox"`,
		`--property=ReadWritePaths="-` + h.lib + `/txn"`, "--property=PrivateNetwork=yes", "--property=RestrictAddressFamilies=AF_UNIX",
	} {
		if !slices.Contains(args, want) {
			t.Errorf("no %s in %q", want, args)
		}
	}
	if strings.Contains(strings.Join(args, " "), "hunter2") || !slices.Equal(args[len(args)-3:], []string{"--", "/usr/bin/fdtctl", "txn-unit"}) {
		t.Errorf("%q", args)
	}
	text := "resources: {bank: {type: postgres, dsn: 'host=db.example dbname=a'}}\n"
	if err := os.WriteFile(filepath.Join(h.etc, "config.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args = h.unitArguments("list", "/usr/bin/fdtctl", nil)
	if slices.Contains(args, "--property=PrivateNetwork=yes") || !slices.Contains(args, "--property=RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6") {
		t.Errorf("%q", args)
	}
	if err := os.Remove(filepath.Join(h.etc, "config.yaml")); err != nil {
		t.Fatal(err)
	}
	if args := h.unitArguments("list", "/usr/bin/fdtctl", nil); !slices.Contains(args, "--property=PrivateNetwork=yes") || h.stderr.Len() > 0 {
		t.Errorf("%q, %s", args, h.stderr.String())
	}
}

// TestTxnWithoutManager: where systemd does not run, as in a chroot, root does nothing by itself.
func TestTxnWithoutManager(t *testing.T) {
	if _, err := os.Stat("/run/systemd/system"); !errors.Is(err, fs.ErrNotExist) {
		t.Skip("systemd runs here; what it does is seen in the bed")
	}
	var stdout, stderr bytes.Buffer
	if code := txnIn(t.Context(), nil, []string{"list"}, &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), errNoManager.Error()) {
		t.Errorf("%d %s%s", code, stdout.String(), stderr.String())
	}
}
