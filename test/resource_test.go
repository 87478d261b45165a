package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/bed"
	"github.com/fdtserver/fdt/internal/testwait"
)

// TestOwnType: a program of another module has a type of resource of its own, which nobody else knows. It takes part in
// everything: two-phase commit, recovery, fdtctl txn, reload, and the check of its configuration.
func TestOwnType(t *testing.T) {
	t.Parallel()
	m := installed(t, bed.Options{Release: "trixie"})
	m.write("/usr/lib/documents", string(documents(t)))
	m.dropIn("fdt-worker@.service", "[Service]\nExecStart=\nExecStart=/usr/lib/documents --instance=%i\nReadWritePaths=/srv/documents\n")
	m.configure("50-documents", "resources:\n  shelf: {type: documents, directory: /srv/documents}\n")
	m.must("chmod 0755 /usr/lib/documents && install -d -o fdt -g fdt -m 0770 /srv/documents && systemctl daemon-reload && fdtctl check --live && systemctl reload fdt")

	m.Run("Crash", machine.ownCrash)
	m.Run("Stopped", machine.ownStopped)
	m.Run("Fault", machine.ownFault)
	m.finish()
}

// documents builds examples/documents as a module of its own.
func documents(t *testing.T) []byte {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	build := exec.Command("bash", "-ec", `cp "$1"/examples/documents/*.go . && cp "$1"/examples/shop/go.sum .
		sed "s|=> \.\./\.\.|=> $1|; s|^module .*|module example.org/documents|" "$1"/examples/shop/go.mod >go.mod
		go build -trimpath -buildvcs=false -o documents .`, "bash", root)
	build.Dir = dir
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(filepath.Join(dir, "documents"))
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// holds demands that the shelf has a document with that text.
func (m machine) holds(name, text string) {
	m.Helper()
	if got := m.must("cat /srv/documents/now/" + name); got != text {
		m.Errorf("%s is %q, want %q", name, got, text)
	}
}

// inDoubt leaves a transaction on the shelf and in the outbox to its coordinator.
func (m machine) inDoubt(gid, name string) {
	m.Helper()
	if err := m.exec(m.connect(), "BEGIN; CALL publish('shelf', '"+name+"', 'of "+gid+"'); CALL enqueue('x'); PREPARE TRANSACTION '"+gid+"'"); err != nil {
		m.Fatal(err)
	}
}

// ownCrash: what is prepared survives the workers, and is committed by a coordinator or an operator; what is not is gone.
func (m machine) ownCrash() {
	if err := m.exec(m.connect(), "CALL publish('shelf', 'a', 'one')"); err != nil {
		m.Fatal(err)
	}
	m.holds("a", "one")
	m.inDoubt("first", "b")
	m.inDoubt("second", "c")
	if err := m.exec(m.connect(), "BEGIN; CALL publish('shelf', 'a', 'two')"); err != nil {
		m.Fatal(err)
	}
	m.must("systemctl kill --kill-whom=main --signal=KILL 'fdt-worker@*'")
	testwait.Until(m, "the workers are back", func() bool { return len(m.workers()) == 2 })
	m.eventually("test -z \"$(ls /srv/documents/open)\"")
	if err := m.exec(m.connect(), "COMMIT PREPARED 'first'"); err != nil {
		m.Error(err)
	}
	if got := m.must("fdtctl txn list"); !strings.Contains(got, "in doubt") || !strings.Contains(got, "shelf,outbox") {
		m.Errorf("list:\n%s", got)
	}
	if got := m.must("fdtctl txn commit second"); got != "second: committed" {
		m.Errorf("commit: %s", got)
	}
	m.holds("a", "one")
	m.holds("b", "of first")
	m.holds("c", "of second")
}

// ownStopped: also without workers the program settles what its resources hold.
func (m machine) ownStopped() {
	m.inDoubt("third", "a")
	m.must("systemctl stop fdt")
	if got := m.must("fdtctl txn resolve --all --rollback"); !strings.Contains(got, "third: ") {
		m.Errorf("resolve: %s", got)
	}
	m.must("test -z \"$(ls /srv/documents/prepared)\" && systemctl start fdt")
	m.holds("a", "one")
}

// ownFault: what is wrong with such a resource is told by the program, with its place, and the reload disturbs nobody.
func (m machine) ownFault() {
	before := m.workers()
	for text, want := range map[string]string{
		"{type: documents, directory: srv}":                     `50-documents.yaml:2:39: resources.shelf.directory: "srv" is not absolute; begin it with a slash`,
		"{type: documents, directory: /srv/documents, long: 1}": `50-documents.yaml:2:55: there is no key "long" in resources.shelf`,
		"{type: papers, directory: /srv/documents}":             `50-documents.yaml:2:17: resources.shelf.type: "papers" is not known; it is one of documents, mariadb, postgres, spool`,
	} {
		m.configure("50-documents", "resources:\n  shelf: "+text+"\n")
		if out, err := m.try("fdtctl check 2>&1"); err != nil {
			m.Errorf("%s: %s", text, out)
		}
		for command, place := range map[string]string{"fdtctl check --live": "/etc/fdt/config.d/", "fdtctl reload": "config.d/"} {
			if out, err := m.try(command + " 2>&1"); err == nil || !strings.Contains(out, place+want) {
				m.Errorf("%s, %s: %v: %s", text, command, err, out)
			}
		}
	}
	if now := m.workers(); strings.Join(now, " ") != strings.Join(before, " ") {
		m.Errorf("the workers were %v, and are %v", before, now)
	}
	m.must("rm /etc/fdt/config.d/50-documents.yaml && /usr/lib/documents -schema | grep -q 'Longest document, in bytes'")
}
