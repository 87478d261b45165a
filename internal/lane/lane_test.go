package lane_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/lane"
	"github.com/fdtserver/fdt/internal/testcover"
	"github.com/fdtserver/fdt/internal/testwait"
)

// pathVariable names the file of a child, which takes the seat and gives it up when its standard input ends.
const pathVariable = "FDT_TEST_LANE"

func TestMain(m *testing.M) {
	path, ok := os.LookupEnv(pathVariable)
	if !ok {
		os.Exit(m.Run())
	}
	l, err := lane.Open(path, 2)
	if err != nil || !l.Take(context.Background()) || !l.Held() {
		testcover.Exit(m, 1)
	}
	_, _ = os.Stdout.WriteString("held\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
	l.Rest()
	testcover.Exit(m, 0)
}

// open returns what another process has that shares the file: each open of it is another owner of locks.
func open(t *testing.T, path string, processors int) *lane.Lane {
	t.Helper()
	l, err := lane.Open(path, processors)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestSeats: there are as many seats as processors but one, and one at least; who waits for one ends with his context.
func TestSeats(t *testing.T) {
	for processors, seats := range map[int]int{1: 1, 2: 1, 3: 2, 5: 4} {
		path := filepath.Join(t.TempDir(), "lane")
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		var all []*lane.Lane
		for range seats {
			l := open(t, path, processors)
			if !l.Take(gone) || !l.Held() {
				t.Errorf("%d processors: no seat after %d", processors, len(all))
			}
			all = append(all, l)
		}
		last := open(t, path, processors)
		if last.Take(gone) || last.Held() {
			t.Errorf("%d processors: more than %d seats", processors, seats)
		}
		last.Rest() // there is nothing to give up
		all[len(all)-1].Rest()
		if !last.Take(gone) || !last.Held() {
			t.Errorf("%d processors: what was given up is not to be had", processors)
		}
	}
}

// TestEachInTurn: one who always wants a seat does not keep others out, and nobody has one beside another.
func TestEachInTurn(t *testing.T) {
	const turns = 50
	path := filepath.Join(t.TempDir(), "lane")
	var inside, most atomic.Int32
	var all sync.WaitGroup
	var ready atomic.Int32
	for range 2 {
		l := open(t, path, 2)
		all.Go(func() {
			ready.Add(1)
			for n := 0; n < turns || ready.Load() < 2; n++ {
				if !l.Take(t.Context()) {
					return
				}
				if l.Held() { // else the machine stood still for long
					most.Store(max(most.Load(), inside.Add(1)))
					for range 1000 {
						_ = l.Wanted()
					}
					inside.Add(-1)
				}
				l.Rest()
			}
		})
	}
	all.Wait()
	if n := most.Load(); n != 1 {
		t.Errorf("%d at once", n)
	}
}

// TestGivesWay: who gave a seat up while another process waits is behind that one.
func TestGivesWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lane")
	a, b := open(t, path, 2), open(t, path, 2)
	if !a.Take(t.Context()) {
		t.Fatal("no seat")
	}
	got := make(chan bool, 1)
	go func() { got <- b.Take(t.Context()) && b.Held() }()
	testwait.Until(t, "another waits", a.Wanted)
	for len(got) == 0 && t.Context().Err() == nil {
		a.Rest()
		a.Take(t.Context())
	}
	if !<-got {
		t.Error("the other has no seat")
	}
}

// TestWaitsOnce: a seat that nobody gives up is waited for once, and taken again when it is there.
func TestWaitsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "lane")
		holder, l := open(t, path, 2), open(t, path, 2)
		holder.Take(t.Context())
		begun := time.Now()
		if !l.Take(t.Context()) || l.Held() {
			t.Error("it did not go on without")
		}
		if waited := time.Since(begun); waited < lane.Patience || waited > 2*lane.Patience {
			t.Errorf("it waited for %s", waited)
		}
		l.Rest()
		begun = time.Now()
		if !l.Take(t.Context()) || l.Held() || time.Since(begun) != 0 {
			t.Errorf("it waited again, for %s", time.Since(begun))
		}
		holder.Rest()
		if !l.Take(t.Context()) || !l.Held() {
			t.Error("it does not take what is there again")
		}
	})
}

// holding starts a process that has the seat.
func holding(t *testing.T, path string) (c *exec.Cmd, rest io.Closer) {
	t.Helper()
	c = exec.CommandContext(t.Context(), os.Args[0])
	c.Env = append(os.Environ(), pathVariable+"="+path)
	rest, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err == nil {
		_, err = bufio.NewReader(out).ReadString('\n')
	}
	if err != nil {
		t.Fatal(err)
	}
	return c, rest
}

// TestKilledHolder: a process that is killed gives its seat back.
func TestKilledHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lane")
	c, _ := holding(t, path)
	l := open(t, path, 2)
	got := make(chan bool, 1)
	go func() { got <- l.Take(t.Context()) && l.Held() }()
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // tells that it was killed
	if !testwait.For(t, "the seat", got) {
		// It may have been waited for in vain before the process was killed.
		if !l.Take(t.Context()) || !l.Held() {
			t.Error("a dead process has the seat")
		}
	}
}

// TestFrozenHolder: one that stands still with its seat holds nobody up for good, and is waited for again when it goes on.
func TestFrozenHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lane")
	c, rest := holding(t, path)
	l := open(t, path, 2)
	if err := c.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if !l.Take(t.Context()) || l.Held() {
			t.Error("it did not go on without")
		}
		l.Rest()
	}
	if err := c.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := rest.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if !l.Take(t.Context()) || !l.Held() {
		t.Error("it does not take what is there again")
	}
}

// TestWithoutFile: where nothing can be locked, nobody waits.
func TestWithoutFile(t *testing.T) {
	if _, err := lane.Open(filepath.Join(t.TempDir(), "not", "there"), 2); err == nil {
		t.Error("a file in no directory")
	}
	l := open(t, filepath.Join(t.TempDir(), "lane"), 2)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if !l.Take(t.Context()) || l.Held() {
		t.Error("it did not go on without")
	}
}
