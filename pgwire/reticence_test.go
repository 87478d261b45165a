package pgwire_test

import (
	"bytes"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/pgwire"
)

// logbook keeps what is logged.
type logbook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *logbook) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(b)
}

// wait returns the first line with the word.
func (j *logbook) wait(t *testing.T, word string) (line string) {
	t.Helper()
	testwait.Until(t, word+" in the log", func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		for l := range strings.Lines(j.b.String()) {
			if strings.Contains(l, word) {
				line = l
			}
		}
		return line != ""
	})
	return line
}

func logged(j *logbook) tune {
	return func(f *fdt, _ *config.Config) {
		f.wire.Logger = slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
}

// TestUnreachable shows that a client is told which resource cannot be reached, and of nothing else that the log has.
func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts on a port that was just closed
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().String()[len("127.0.0.1:"):]
	_ = l.Close()
	for name, b := range map[string]bank{
		"PostgreSQL":     {"postgres", "host=127.0.0.1 port=" + port + " user=clerk dbname=vault sslmode=disable", bankProcedures},
		"its socket":     {"postgres", "host=/nonexistent/pg port=" + port + " user=clerk dbname=vault", bankProcedures},
		"MariaDB":        {"mariadb", "clerk@tcp(127.0.0.1:" + port + ")/vault", "\n  sleep:\n    parameters: {seconds: double precision}\n    steps: [{on: bank, sql: \"SELECT SLEEP(:seconds)\"}]\n"},
		"MariaDB socket": {"mariadb", "clerk@unix(/nonexistent/my.sock)/vault", "\n  sleep:\n    parameters: {seconds: double precision}\n    steps: [{on: bank, sql: \"SELECT SLEEP(:seconds)\"}]\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var log logbook
			f := newFDT(t, b, logged(&log))
			c := f.connect("alice")
			c.want("BEGIN; CALL sleep(1)", "C BEGIN", "E ERROR 08001 resource bank: the database cannot be reached", "Z E")
			line := log.wait(t, "a request failed")
			if !strings.Contains(line, port) && !strings.Contains(line, "/nonexistent/") || !strings.Contains(line, "remote=\"unix:uid=") {
				t.Error(line)
			}
		})
	}
	// A database's own complaint about who connects is none of the client's business, either.
	pg := postgresql(t)
	var log logbook
	f := newFDT(t, bank{"postgres", strings.Replace(pg.DSN("bank"), "dbname=bank", "dbname=vault", 1), bankProcedures}, logged(&log))
	f.connect("alice").want("CALL sleep(1)", "E ERROR 08001 resource bank: the database cannot be reached", "Z I")
	if line := log.wait(t, "a request failed"); !strings.Contains(line, "vault") {
		t.Error(line)
	}
}

// TestRefusedAddress shows that every line about a client says where it is, with names cut as PostgreSQL does.
func TestRefusedAddress(t *testing.T) {
	var log logbook
	f := newFDT(t, bank{}, onTCP(pgwire.Listener{Auth: users(t)}), logged(&log))
	if err := login(t, f.tcp, "user=alice password=wrong"); err == nil {
		t.Fatal("no error")
	}
	if line := log.wait(t, "client refused"); !regexp.MustCompile(`user=alice .*remote=127\.0\.0\.1:\d+`).MatchString(line) {
		t.Error(line)
	}
	long := strings.Repeat("é", 100)
	c := connect(t, "unix", f.sock, long, "database", long)
	c.want("SELECT current_user, current_database()", "T current_user:19/64/0 current_database:19/64/0",
		"D "+long[:62]+"|"+long[:62], "C SELECT 1", "Z I")
}

// TestFloodOfRefusals shows that a flood of refused clients does not flood the log, which says how many there were.
func TestFloodOfRefusals(t *testing.T) {
	var log logbook
	f := newFDT(t, bank{}, logged(&log))
	for range 200 {
		_ = connect(t, "unix", f.sock, "").conn.Close()
	}
	lines := func() int {
		log.mu.Lock()
		defer log.mu.Unlock()
		return strings.Count(log.b.String(), "client refused")
	}
	if n := lines(); n < 40 || n > 150 { // 60, and one for every two seconds that this takes
		t.Errorf("%d lines", n)
	}
	testwait.Until(t, "the number of those left out", func() bool {
		_ = connect(t, "unix", f.sock, "").conn.Close()
		log.mu.Lock()
		defer log.mu.Unlock()
		return strings.Contains(log.b.String(), "left_out=")
	})
}
