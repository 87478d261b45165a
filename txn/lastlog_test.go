package txn_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/lastlog"
	"github.com/fdtserver/fdt/txn"
)

// TestMissingLog: where the log that served last is not found, as its volume is not mounted, nobody serves, so that what it has in
// doubt is not unknown. A log that has taken its place in order serves.
func TestMissingLog(t *testing.T) {
	const machine = "0123456789abcdef0123456789abcdef"
	last := filepath.Join(t.TempDir(), "transaction-log")
	of := func(o *txn.Options) { o.MachineID, o.LastLog = machine, last }
	refused := func(p place, why string) {
		t.Helper()
		opt := p.options(t)
		of(&opt)
		if m, err := txn.Open(t.Context(), opt); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v; want %q", err, why)
			if err == nil {
				closeAll(t, m)
			}
		}
	}
	write := func(log string) {
		t.Helper()
		if err := lastlog.Write(last, machine, log); err != nil {
			t.Fatal(err)
		}
	}
	p := newPlace(t)
	m := p.open(t, of)
	prepared(t, m, "x")
	log := m.Log()
	closeAll(t, m)
	write(log.String())

	empty := newPlace(t)
	refused(empty, "there is none in "+filepath.Join(empty.root, "log")+", where log "+log.String()+" was; is its volume mounted? To begin without it, and without what it has in doubt, remove "+last)
	other := newPlace(t)
	m = other.open(t)
	closeAll(t, m)
	refused(other, "has log "+m.Log().String()+", where log "+log.String()+" was; is the right volume mounted?")

	to := p.moved(t) // put aside, with what is in doubt
	m = to.open(t, of)
	also := to.open(t, of) // a sibling, before anybody has written down that another serves
	adopted := onlyAside(t, m).ID
	closeAll(t, m)
	closeAll(t, also)
	write(m.Log().String())
	m = to.open(t, of)
	if err := m.Adopt(t.Context(), txn.Principal{User: "root", Operator: true}, adopted, true); err != nil {
		t.Fatal(err)
	}
	closeAll(t, m)
	m = to.open(t, of) // in the place of the other one
	if m.Log() != adopted {
		t.Errorf("log %s serves, not %s", m.Log(), adopted)
	}
	closeAll(t, m)

	write(log.String())
	var said bytes.Buffer
	unreadable(t, last, func() {
		m = p.open(t, of, logged(&said))
		closeAll(t, m)
	})
	if os.Geteuid() != 0 && !strings.Contains(said.String(), "is not missed") {
		t.Errorf("said: %s", said.String())
	}
	write("no-log")
	refused(p, `"no-log" is no log`)
	if err := os.Remove(last); err != nil { // the operator's word
		t.Fatal(err)
	}
	m = empty.open(t, of)
	closeAll(t, m)
}

// unreadable runs a function while nobody but root may read the file.
func unreadable(t *testing.T, file string, f func()) {
	t.Helper()
	if err := os.Chmod(file, 0); err != nil {
		t.Fatal(err)
	}
	f()
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
}
