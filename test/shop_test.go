package test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/bed"
	"github.com/fdtserver/fdt/internal/testwait"
)

// TestShop installs a program of another module in the place of fdt-worker, and
// exchanges its code under load through all its faces.
func TestShop(t *testing.T) {
	t.Parallel()
	m := installed(t, bed.Options{Release: "trixie"})
	m.must(`systemctl start postgresql && runuser -u postgres -- psql -qc "ALTER SYSTEM SET max_prepared_transactions = 50" && systemctl restart postgresql
		runuser -u postgres -- psql -qc "CREATE ROLE fdt LOGIN" -c "CREATE DATABASE shop OWNER fdt"
		runuser -u fdt -- psql -q -h /run/postgresql shop -c "CREATE TABLE item (name text PRIMARY KEY, left_over int NOT NULL)" -c "INSERT INTO item VALUES ('pen', 1000000)"`)
	s := shop{m, t.TempDir()}
	s.release("1", nil)
	m.must("systemctl reload fdt")
	for _, worker := range m.workers() {
		if got := m.must("readlink /proc/$(systemctl show -P MainPID " + worker + ")/exe"); got != "/usr/lib/shop/shop" {
			t.Errorf("%s runs %s", worker, got)
		}
	}
	for _, face := range s.faces() {
		if got, err := face.buy(); err != nil || got != "1" {
			t.Fatalf("%s: %q, %v", face.name, got, err)
		}
	}

	s.Run("Reload", shop.reload)
	s.Run("Replaced", shop.replaced)
	s.Run("Panics", shop.panics)
	s.Run("NotMigrated", shop.notMigrated)
	s.finish()
}

// shop is the machine with the application, and a directory for its packages.
type shop struct {
	machine
	dir string
}

// Run runs a subtest with the shop as its own.
func (s shop) Run(name string, f func(s shop)) bool {
	s.Helper()
	return s.machine.Run(name, func(m machine) { f(shop{m, s.dir}) })
}

// release builds and installs a version, with its source altered, without a
// reload.
func (s shop) release(version string, alter map[string]string) {
	s.Helper()
	raw, err := os.ReadFile("../examples/shop/main.go")
	if err != nil {
		s.Fatal(err)
	}
	text := strings.Replace(string(raw), `const version = "1"`, fmt.Sprintf("const version = %q", version), 1)
	for before, after := range alter {
		if !strings.Contains(text, before) {
			s.Fatalf("main.go has no %s", before)
		}
		text = strings.Replace(text, before, after, 1)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		s.Fatal(err)
	}
	deb := filepath.Join(s.dir, "shop_"+version+".deb")
	build := exec.Command("bash", "-ec", `cp -a "$1"/examples/shop/. . && cat >main.go && sed -i "s|=> \.\./\.\.|=> $1|" go.mod
		go build -trimpath -buildvcs=false -o shop . && go tool -modfile="$1"/tools/go.mod nfpm package -p deb -t "$2"`, "bash", root, deb)
	build.Dir = s.TempDir()
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "ARCH=amd64", "VERSION="+version)
	build.Stdin = strings.NewReader(text)
	if out, err := build.CombinedOutput(); err != nil {
		s.Fatalf("%v\n%s", err, out)
	}
	s.install(deb)
}

// face is one way to buy a pen, which returns the version that has sold it.
type face struct {
	name string
	buy  func() (string, error)
}

// faces are sessions by each protocol, which begin anew when they are told to go. Each may be used by a goroutine of its own.
func (s shop) faces() []face {
	client := &http.Client{Timeout: testwait.Patience, Transport: &http.Transport{DialContext: s.bed.Dial}}
	s.Cleanup(client.CloseIdleConnections)
	conn := s.connect()
	return []face{
		{"procedure", func() (string, error) {
			ctx, cancel := context.WithTimeout(s.Context(), testwait.Patience)
			defer cancel()
			if conn.IsClosed() {
				next, err := s.session()
				if err != nil {
					return "", err
				}
				conn = next
			}
			results, err := conn.Exec(ctx, "SELECT * FROM buy('pen')").ReadAll()
			if err != nil {
				if strings.Contains(err.Error(), "57P01") { // it was not run
					return "", errAgain
				}
				return "", err
			}
			return string(results[0].Rows[0][1]), nil
		}},
		{"HTTP", func() (string, error) {
			resp, err := client.Post("http://127.0.0.1:8080/pen?count=1", "text/plain", nil)
			if err != nil {
				return "", err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				return "", err
			}
			var receipt struct{ Version string }
			if err := json.Unmarshal(body, &receipt); err != nil || resp.StatusCode != http.StatusOK {
				return "", fmt.Errorf("%s: %s", resp.Status, body)
			}
			return receipt.Version, nil
		}},
		{"stream", func() (string, error) {
			c, err := s.bed.Dial(s.Context(), "tcp", "127.0.0.1:7777")
			if err != nil {
				return "", err
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(testwait.Patience)); err != nil {
				return "", err
			}
			in := bufio.NewReader(c)
			var version string
			for _, line := range []string{"pen\n", "paid\n"} {
				if _, err := io.WriteString(c, line); err != nil {
					return "", err
				}
				answer, err := in.ReadString('\n')
				if err != nil {
					return "", err
				}
				var ok bool
				if version, ok = strings.CutPrefix(strings.TrimSpace(answer), "ok "); !ok {
					return "", errors.New(answer)
				}
			}
			return version, nil
		}},
	}
}

var errAgain = errors.New("the session was told to go")

// reload brings version 2 in while all faces buy. No sale is lost, and none is
// made twice: the stock and the spool agree with what clients were told.
func (s shop) reload() {
	before := s.count("left_over")
	faces := s.faces()
	ctx, cancel := context.WithCancel(s.Context())
	var all sync.WaitGroup
	defer all.Wait() // however the test ends, what tells of it has ended before
	defer cancel()
	var sold, second [3]atomic.Int64 // by face; by the new code
	for i, face := range faces {
		all.Go(func() {
			for ctx.Err() == nil {
				version, err := face.buy()
				switch {
				case errors.Is(err, errAgain):
				case err != nil:
					s.Errorf("%s: %v", face.name, err)
					return
				default:
					sold[i].Add(1)
					if version == "2" {
						second[i].Add(1)
					}
				}
			}
		})
	}
	each := func(n *[3]atomic.Int64) func() bool {
		return func() bool { return s.Failed() || n[0].Load() > 20 && n[1].Load() > 20 && n[2].Load() > 20 }
	}
	testwait.Until(s, "each buys", each(&sold))
	s.release("2", nil)
	s.must("systemctl reload fdt")
	testwait.Until(s, "each buys from the new code", each(&second))
	cancel()
	all.Wait()
	told := sold[0].Load() + sold[1].Load() + sold[2].Load()
	if gone := before - s.count("left_over"); gone != told {
		s.Errorf("%d pens are gone, and %d were sold", gone, told)
	}
}

// replaced: new code that was installed waits for its reload. A worker that has
// crashed meanwhile comes back with that of its generation.
func (s shop) replaced() {
	s.release("3", nil)
	s.must("systemctl kill --kill-whom=main --signal=KILL 'fdt-worker@*'")
	testwait.Until(s, "the workers are back", func() bool { return len(s.workers()) == 2 })
	for range 8 { // by either of them
		for _, face := range s.faces() {
			if got, err := face.buy(); err != nil || got != "2" {
				s.Errorf("%s: %q, %v", face.name, got, err)
			}
		}
	}
	s.eventually("journalctl -u 'fdt-worker@*' | grep -q 'the program was replaced since the generation began'")
}

func (s shop) count(column string) (n int64) {
	s.Helper()
	text := s.must("runuser -u fdt -- psql -qtAX -h /run/postgresql shop -c 'SELECT " + column + " FROM item'")
	if _, err := fmt.Sscan(text, &n); err != nil {
		s.Fatal(err)
	}
	return n
}

// refused reloads, and demands that this fails with some words and disturbs
// nobody.
func (s shop) refused(words string) {
	s.Helper()
	before := s.workers()
	out, err := s.try("fdtctl reload 2>&1")
	if err == nil || !strings.Contains(out, words) {
		s.Errorf("%v: %s; want %s", err, out, words)
	}
	if now := s.workers(); strings.Join(now, " ") != strings.Join(before, " ") {
		s.Errorf("the workers were %v, and are %v", before, now)
	}
	for _, face := range s.faces() {
		if got, err := face.buy(); err != nil || got != "2" {
			s.Errorf("%s: %q, %v", face.name, got, err)
		}
	}
}

// panics: a version that panics at its start is taken back.
func (s shop) panics() {
	s.release("4", map[string]string{"func main() {\n": "func main() {\n\tpanic(\"the shop is closed\")\n"})
	s.refused("the shop is closed")
}

// notMigrated: a version for another table is taken back by its rehearsal.
func (s shop) notMigrated() {
	s.release("5", map[string]string{"SELECT name, left_over FROM item": "SELECT name, left_over, price FROM item"})
	s.refused(`main.go:31: resource stock: ERROR: column "price" does not exist`)
}
