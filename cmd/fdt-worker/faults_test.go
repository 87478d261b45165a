package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt/internal/testwait"
)

// life is what happens to one transaction. In a statement, # is the number of
// the worker.
type life struct {
	name       string
	spools     []string
	statements []string
	promise    int // after so many of them it must be carried out
}

var lives = []life{
	{"one phase", []string{"a"}, []string{"CALL one()"}, 1},
	{"local", []string{"a", "b"}, []string{"BEGIN", "CALL pair()", "COMMIT"}, 3},
	{"external", []string{"a", "b"}, []string{"BEGIN", "CALL pair()", "PREPARE TRANSACTION 'x#'", "COMMIT PREPARED 'x#'"}, 3},
}

// spot is one system call of a life: the n-th of that name on that file which a
// statement makes.
type spot struct {
	statement  int
	name, path string
	n          int
}

// TestFaultsSeen has strace(1) fail each system call in turn by which the
// shipped program keeps what it must not lose. The worker that starts next, with
// no faults, carries out all of the transaction or nothing: all if that was
// promised, nothing if it was refused. Of the two spools, which are alike, the
// calls of one fail.
func TestFaultsSeen(t *testing.T) {
	for _, l := range lives {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			f := &faults{host: newShipped(t), life: l}
			f.begin()
			spots, reached := f.rehearse(), 0
			for range 2 { // what comes by when it likes, as the calls of a scan, is not there each time
				again := f.rehearse()
				spots = slices.DeleteFunc(spots, func(s spot) bool { return !slices.Contains(again, s) })
			}
			for _, s := range spots {
				for _, errno := range []string{"EIO", "ENOSPC"} {
					hit := f.fail(s, errno)
					for try := 1; !hit && s.n > 1 && try < 8; try++ { // strace counts by thread, and calls may change theirs
						hit = f.fail(s, errno)
					}
					if hit {
						reached++
					} else if t.Logf("not reached: %+v", s); s.n == 1 {
						t.Fail()
					}
				}
			}
			t.Logf("%d of %d faults reached, by %d workers", reached, 2*len(spots), f.number)
		})
	}
}

// faults is a host with one worker after another. Their numbers are those of
// their logs, from 1.
type faults struct {
	*host

	life   life
	number int
	worker *exec.Cmd
}

// begin starts the next worker. When its first transaction is done, its log has
// been made; the life is its second.
func (f *faults) begin() {
	f.t.Helper()
	f.number++
	f.worker, _ = f.start("1-0", f.name())
	c := f.connect()
	if _, err := c.Exec(f.t.Context(), "CALL one()"); err != nil {
		f.t.Fatal(err)
	}
	_ = c.Close(f.t.Context())
}

// own has this worker's names in a path for its number, #, and back.
func (f *faults) own() (general, special *strings.Replacer) {
	claim := sha256.Sum256([]byte("x" + strconv.Itoa(f.number)))
	pairs := []string{
		fmt.Sprintf("%010d.log", f.number), "#.log",
		fmt.Sprintf("-%d-2-", f.number), "-#-2-",
		fmt.Sprintf("/x-%x", claim[:16]), "/x-#",
	}
	general = strings.NewReplacer(pairs...)
	slices.Reverse(pairs)
	return general, strings.NewReplacer(pairs...)
}

// live plays the life, with strace where it is given options, as far as no
// statement fails. Then the worker is killed, and the next one recovers.
func (f *faults) live(options func(statement int) []string) (calls [][]call) {
	f.t.Helper()
	c, number := f.connect(), strconv.Itoa(f.number)
	var err error
	for i, s := range f.life.statements {
		stop := func() []call { return nil }
		if o := options(i); o != nil {
			stop = f.traced([]*exec.Cmd{f.worker}, o...)
		}
		_, err = c.Exec(f.t.Context(), strings.ReplaceAll(s, "#", number))
		calls = append(calls, stop())
		if err != nil {
			break
		}
	}
	_ = c.Close(f.t.Context())
	_ = f.worker.Process.Kill()
	_ = f.worker.Wait()
	f.begin()
	f.judge(number, len(calls), err)
	return calls
}

// judge waits until nothing of the transaction is open, and compares with what
// was said of it: the last of so many statements ended with err.
func (f *faults) judge(number string, statements int, err error) {
	f.t.Helper()
	acknowledged := statements
	if err != nil {
		acknowledged--
	}
	refusal, ok := errors.AsType[*pgconn.PgError](err)
	refused := ok && refusal.Code != "08007" && acknowledged < f.life.promise
	c := f.connect()
	defer func() { _ = c.Close(f.t.Context()) }()
	testwait.Until(f.t, "nothing of the transaction is open", func() bool {
		if f.life.name == "external" && !refused { // its coordinator asks until all is done
			_, _ = c.Exec(f.t.Context(), "COMMIT PREPARED 'x"+number+"'")
		}
		return f.count("[ab]/tmp/*-"+number+"-2-*")+f.count("[ab]/prepared/*-"+number+"-2-?+?")+f.count("[ab]/prepared/*-"+number+"-2-*/*") == 0
	})
	done := 0
	for _, s := range f.life.spools {
		done += f.count(s + "/new/*-" + number + "-2-*")
	}
	switch {
	case done != 0 && done != len(f.life.spools):
		f.t.Errorf("worker %s: %d of %d messages, after %d statements and %v", number, done, len(f.life.spools), acknowledged, err)
	case done == 0 && acknowledged >= f.life.promise:
		f.t.Errorf("worker %s: a promise was broken, after %d statements and %v", number, acknowledged, err)
	case done != 0 && refused:
		f.t.Errorf("worker %s: carried out after %v", number, err)
	}
}

// count is how many files there are with such a path.
func (h *host) count(pattern string) int {
	found, _ := filepath.Glob(filepath.Join(h.dir, pattern)) // the pattern is sound
	return len(found)
}

const keeping = "fsync,fdatasync,pwrite64,write,renameat,linkat"

// rehearse plays the life without faults and returns its calls.
func (f *faults) rehearse() (spots []spot) {
	f.t.Helper()
	general, _ := f.own()
	for statement, calls := range f.live(func(int) []string { return []string{"-e", "trace=" + keeping} }) {
		seen := map[spot]int{}
		for _, c := range calls {
			s := spot{statement: statement, name: c.name, path: general.Replace(c.paths[len(c.paths)-1])}
			if strings.HasPrefix(s.path, "socket:") || strings.HasPrefix(s.path, "b/") || strings.HasPrefix(s.path, "run/txn/new-") {
				continue // a socket, the other spool, and a name that is new each time
			}
			if s.path == "lib/txn/recovery" || s.path == "lib/txn/seal" || strings.HasPrefix(s.path, "run/txn/counted") {
				continue // a scan's, which comes by when it likes, and not the transaction's
			}
			seen[s]++
			s.n = seen[spot{statement: statement, name: s.name, path: s.path}]
			spots = append(spots, s)
		}
	}
	return spots
}

// fail plays the life with one call failing, and tells whether it came to that.
func (f *faults) fail(s spot, errno string) (hit bool) {
	f.t.Helper()
	_, special := f.own()
	path := filepath.Join(f.dir, special.Replace(s.path))
	for _, calls := range f.live(func(statement int) []string {
		if statement != s.statement {
			return nil
		}
		return []string{"-P", path, "-e", "trace=" + s.name, "-e", fmt.Sprintf("inject=%s:error=%s:when=%d", s.name, errno, s.n)}
	}) {
		for _, c := range calls {
			hit = hit || c.injected
		}
	}
	return hit
}
