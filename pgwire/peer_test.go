package pgwire

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/testwait"
)

// TestPeersLookUps: a directory of users that does not answer for one user keeps nobody else waiting.
func TestPeersLookUps(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\n[ $2 = 61234 ] && { : >" + dir + "/asked; read -r line <" + dir + "/answer; }\necho \"u$2:x:$2:\"\n"
	if err := os.WriteFile(filepath.Join(dir, "getent"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(dir+"/answer", 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	p := &Peer{}
	now := time.Now()
	slow := make(chan string, 2)
	for range cap(slow) {
		go func() {
			name, _ := p.lookup(61234, now)
			slow <- name
		}()
	}
	testwait.Until(t, "the question", func() bool {
		_, err := os.Stat(dir + "/asked")
		return err == nil || len(slow) > 0 // or it was killed before it came to that
	})
	if name, err := p.lookup(61235, now); name != "u61235" || err != nil {
		t.Errorf("%q, %v", name, err)
	}
	go func() { _ = os.WriteFile(dir+"/answer", []byte("go\n"), 0o600) }()
	for range cap(slow) {
		testwait.For(t, "the answer", slow)
	}
}

// TestPeersLookUpEnds: what the directory of users has started, and left with its output, keeps nobody waiting.
func TestPeersLookUpEnds(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "getent"), []byte("#!/bin/sh\nsleep 3600 &\necho $! >"+dir+"/left\nexit 2\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	done := make(chan error, 1)
	go func() {
		_, err := (&Peer{}).lookup(61236, time.Now())
		done <- err
	}()
	if err := testwait.For(t, "an answer", done); err == nil {
		t.Error("a user that is not there has a name")
	}
	raw, err := os.ReadFile(dir + "/left")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || syscall.Kill(pid, syscall.SIGKILL) != nil {
		t.Errorf("cannot end what was left: %s", raw)
	}
}
