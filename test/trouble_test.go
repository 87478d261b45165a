package test

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/bed"
)

// onBoth runs a test in a container of its own on each supported Debian, with fdt installed.
func onBoth(t *testing.T, f func(m machine)) {
	t.Parallel()
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			f(installed(t, bed.Options{Release: release}))
		})
	}
}

// journald is the main process of the container's journal.
func (m machine) journald() string {
	m.Helper()
	return m.must("systemctl show -P MainPID systemd-journald")
}

// refusedAs has a client come as a user that it is not, and returns when it was refused.
func (m machine) refusedAs(user string) {
	m.Helper()
	c, err := m.dial()
	if err != nil {
		m.Fatal(err)
	}
	defer c.Close()
	body := "\x00\x03\x00\x00user\x00" + user + "\x00\x00"
	packet := append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...)
	if _, err := c.Write(packet); err != nil {
		m.Fatal(err)
	}
	if said, err := io.ReadAll(c); err != nil || len(said) == 0 || said[0] != 'E' {
		m.Fatalf("%q, %v", said, err)
	}
}

// call calls a procedure once in a new session.
func (m machine) call(body string) {
	m.Helper()
	if err := m.exec(m.connect(), "CALL enqueue('"+body+"')"); err != nil {
		m.Fatal(err)
	}
}

// A journald that stands still holds nobody up: not clients, not a reload, not a stop. What is kept for it, and that
// what was not is counted, package journal's tests hold.
func TestJournalHangs(t *testing.T) {
	onBoth(t, func(m machine) {
		journald := m.journald()
		m.stand("systemd-journald")
		const strangers = 3000 // as long as they wait for an answer, none of them may be held up
		for i := range strangers {
			m.refusedAs(fmt.Sprintf("stranger-%d-%s", i, strings.Repeat("x", 400)))
		}
		m.call("served")
		m.must("kill -CONT " + journald)

		m.stand("systemd-journald")
		for _, command := range []string{"fdtctl status", "systemctl reload fdt", "fdtctl reload", "systemctl restart fdt", "fdtctl status", "systemctl stop fdt"} {
			m.must("time timeout 60 " + command)
		}
		if left := m.workers(); len(left) > 0 {
			m.Errorf("after the stop there are %v", left)
		}
		m.must("kill -CONT " + journald + "; systemctl start fdt")
		m.call("served again")
		m.finish()
	})
}

// A journald that goes takes nobody along, and every program finds the next one, also one that began without any.
func TestJournalRestarts(t *testing.T) {
	onBoth(t, func(m machine) {
		pid := m.must("systemctl show -P MainPID fdt")
		m.must("systemctl restart systemd-journald && systemctl reload fdt")
		sockets := "systemd-journald.socket systemd-journald-dev-log.socket systemd-journald-audit.socket"
		m.must("systemctl stop systemd-journald.service " + sockets)
		m.must("timeout 60 systemctl reload fdt")
		if now := m.must("systemctl show -P MainPID fdt"); now != pid {
			m.Errorf("the master was process %s and is %s", pid, now)
		}
		m.call("unheard")
		m.must("kill -9 " + pid)
		m.eventually("fdtctl status")
		m.must("systemctl start systemd-journald.socket systemd-journald.service && systemctl reload fdt && journalctl --sync")
		for _, who := range []string{"fdt-master", "fdt-worker"} {
			if said := m.must("journalctl -q -o cat -b _COMM=" + who + " | tail -n 40"); !strings.Contains(said, "serves") && !strings.Contains(said, "serving") {
				m.Errorf("%s is mute: %q", who, said)
			}
		}
		pids := m.must("systemctl show -P MainPID fdt " + strings.Join(m.workers(), " "))
		for pid := range strings.FieldsSeq(pids) {
			if said := m.must("journalctl -q -o cat -b _PID=" + pid); said == "" {
				m.Errorf("process %s is mute", pid)
			}
		}
		m.finish()
	})
}

// What strangers call themselves reaches the journal printable.
func TestJournalIsPrintable(t *testing.T) {
	onBoth(t, func(m machine) {
		m.refusedAs("mal\x1b]0;owned\x07\x1b[2Jlory\r")
		m.refusedAs(strings.Repeat("n", 9900))
		m.must("journalctl --sync")
		shown := m.must("journalctl -b -o short _COMM=fdt-worker")
		if !strings.Contains(shown, `mal\x1b]0;owned\a\x1b[2Jlory\r`) || strings.Contains(shown, "blob data") || strings.ContainsAny(shown, "\x1b\x07\r") {
			m.Errorf("the journal shows %q", shown)
		}
		for line := range strings.Lines(shown) {
			if len(line) > 2000 {
				m.Errorf("a line of %d bytes", len(line))
			}
		}
		m.finish()
	})
}

// Workers that could run out of descriptors do not serve, and say why; with enough of them idle clients cost nobody a call.
func TestDescriptors(t *testing.T) {
	onBoth(t, func(m machine) {
		m.dropIn("fdt-worker@.service", "[Service]\nLimitNOFILE=64\n")
		m.must("systemctl daemon-reload")
		out, err := m.try("fdtctl reload 2>&1")
		if said := fmt.Sprint(out, err); err == nil || !strings.Contains(said, "too few file descriptors: the limit is 64, and it may need ") || !strings.Contains(said, "LimitNOFILE=") {
			m.Errorf("fdtctl reload: %s, %v", out, err)
		}
		m.call("served by those that served")

		m.dropIn("fdt-worker@.service", "[Service]\nLimitNOFILE=64:600\n")
		m.configure("20-few", "workers: {count: 1, threads: 70}\n")
		m.configure("10-quick", strings.Replace(quick, "workers: {count: 2}\n", "", 1))
		m.must("systemctl daemon-reload && fdtctl reload")
		early := m.connect()
		for range 69 {
			m.connect()
		}
		for i := range 25 { // in the queue, or on the reserve
			c, err := m.dial()
			if err != nil {
				m.Fatal(i, err)
			}
			defer c.Close()
		}
		if err := m.exec(early, "CALL enqueue('among many')"); err != nil {
			m.Error(err)
		}
		m.must(`for i in {1..5}; do [ $(fdtctl status --json | grep -c '"state": "serving"') -ge 1 ]; done`)
		m.finish()
	})
}
