package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// journald is a socket that a test reads as journald does.
func journald(t *testing.T) (path string, next func() map[string]string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "socket")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return path, func() map[string]string {
		t.Helper()
		data := make([]byte, 1<<20)
		n, err := l.Read(data)
		if err != nil {
			t.Fatal(err)
		}
		fields, err := decode(data[:n])
		if err != nil {
			t.Fatal(err)
		}
		return fields
	}
}

// decode is the protocol's other side.
func decode(data []byte) (map[string]string, error) {
	fields := map[string]string{}
	for len(data) > 0 {
		line, rest, ok := bytes.Cut(data, []byte("\n"))
		if !ok {
			return nil, errors.New("no newline at the end")
		}
		name, value, ok := bytes.Cut(line, []byte("="))
		if !ok {
			if len(rest) < 8 {
				return nil, errors.New("no length")
			}
			n := binary.LittleEndian.Uint64(rest)
			if rest = rest[8:]; uint64(len(rest)) <= n || rest[n] != '\n' {
				return nil, errors.New("wrong length")
			}
			value, rest = rest[:n], rest[n+1:]
		}
		if !regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`).Match(name) {
			return nil, fmt.Errorf("bad name %q", name)
		}
		fields[string(name)] = string(value)
		data = rest
	}
	return fields, nil
}

func TestHandler(t *testing.T) {
	path, next := journald(t)
	h, err := open(path, os.Stderr, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(h)
	log.Debug("not this one")
	log.Warn("cannot accept", slog.String("listener", "public"), slog.Any("error", errors.New("too many open files")),
		ID(AcceptFailing))
	got := next()
	for name, want := range map[string]string{
		"MESSAGE":           `cannot accept: listener=public error="too many open files"`,
		"PRIORITY":          "4",
		"SYSLOG_IDENTIFIER": filepath.Base(os.Args[0]),
		"MESSAGE_ID":        AcceptFailing,
		"FDT_LISTENER":      "public",
		"FDT_ERROR":         "too many open files",
		"CODE_FUNC":         "github.com/fdtserver/fdt/internal/journal.TestHandler",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}

	log.With("a", 1).WithGroup("").WithGroup("txn").With("gid", "x").Error("grouped",
		slog.Group("client", "addr_v4", "y"), slog.Group("", "in", "line"), slog.Attr{}, slog.String("empty", ""))
	got = next()
	if got["MESSAGE"] != `grouped: a=1 txn_gid=x txn_client_addr_v4=y txn_in=line txn_empty=""` {
		t.Errorf("MESSAGE is %q", got["MESSAGE"])
	}
	if got["FDT_A"] != "1" || got["FDT_TXN_GID"] != "x" || got["FDT_TXN_CLIENT_ADDR_V4"] != "y" {
		t.Errorf("%v", got)
	}

	const stack = "first\nsecond"
	log.Info("lines", "stack", stack)
	if got = next(); got["FDT_STACK"] != stack || got["MESSAGE"] != `lines: stack="first\nsecond"` {
		t.Errorf("%v", got)
	}
	// As much as a datagram holds, and no more.
	long := strings.Repeat("x", 1<<20)
	log.Info("long", "text", long, "error", errors.New(long), strings.Repeat("k", 100), "cut")
	got = next()
	if got["FDT_TEXT"] != long[:maxValue]+"… (1048064 bytes more)" || got["FDT_ERROR"] != long[:maxError]+"… (1044480 bytes more)" ||
		got["FDT_"+strings.Repeat("K", 60)] != "cut" {
		t.Errorf("a long record arrived with %d and %d bytes", len(got["FDT_TEXT"]), len(got["FDT_ERROR"]))
	}
	many := make([]any, 0, 200)
	for i := range cap(many) {
		many = append(many, slog.String(fmt.Sprint("key", i), strings.Repeat("\x1b", maxValue)))
	}
	r := slog.Record{Message: long, Level: slog.LevelInfo}
	r.Add(many...)
	if err := h.Handle(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got = next(); !strings.HasPrefix(got["MESSAGE"], long[:maxMessage]+"… (") || len(got["FDT_KEY0"]) != 6*maxValue || got["FDT_KEY199"] != "" {
		t.Errorf("a long record arrived with %d fields, MESSAGE of %d bytes", len(got), len(got["MESSAGE"]))
	}

	// Nothing that a stranger chose reaches a terminal as it is.
	log.Info("who\rtold", "user", "mal\x1b[2Jlory\x07", "name", "\u202eexe", "path", `a\b`, "bytes", "\xff\xfe", "plain", "Jürgen")
	got = next()
	if got["MESSAGE"] != `who\u000dtold: user="mal\x1b[2Jlory\a" name="\u202eexe" path="a\\b" bytes="\xff\xfe" plain=Jürgen` {
		t.Errorf("MESSAGE is %s", got["MESSAGE"])
	}
	if got["FDT_USER"] != `mal\u001b[2Jlory\u0007` || got["FDT_NAME"] != `\u202eexe` || got["FDT_PATH"] != `a\b` || got["FDT_BYTES"] != `\xff\xfe` {
		t.Errorf("%q", got)
	}
	if err := h.Handle(t.Context(), slog.Record{Message: "no place"}); err != nil {
		t.Fatal(err)
	}
	if got = next(); got["MESSAGE"] != "no place" || got["CODE_FILE"] != "" {
		t.Errorf("%v", got)
	}
}

func TestNew(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "stream"))
	if err != nil {
		t.Fatal(err)
	}
	for stream, native := range map[string]bool{"": false, "1": false, "1:2": false, streamOf(t, f): true} {
		t.Setenv("JOURNAL_STREAM", stream)
		if _, got := New(f, slog.LevelInfo).(*Handler); got != native {
			t.Errorf("JOURNAL_STREAM=%q: native is %v", stream, got)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if Attached(f) {
		t.Error("a closed file is attached to the journal")
	}

	// Started by systemd while there was no journald.
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := os.Unsetenv("JOURNAL_STREAM"); err != nil { // which Setenv brings back
		t.Fatal(err)
	}
	for id, want := range map[string]bool{"": false, "0123": true} {
		t.Setenv("INVOCATION_ID", id)
		if Attached(null) != want {
			t.Errorf("INVOCATION_ID=%q: attached is %v", id, !want)
		}
	}
}

// A program that cannot have a socket says so, and all else, as text.
func TestNoDescriptors(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "stream"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	t.Setenv("JOURNAL_STREAM", streamOf(t, f))
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	plain, direct := New(f, slog.LevelInfo), Direct(f, slog.LevelInfo)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	for _, h := range []slog.Handler{plain, direct} {
		if _, native := h.(*Handler); native {
			t.Error("a handler without a socket")
		}
	}
	Flush(plain, time.Hour) // has nothing to wait for
}

func streamOf(t *testing.T, f *os.File) string {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

func TestPriority(t *testing.T) {
	for level, want := range map[slog.Level]int{
		slog.LevelDebug: 7, slog.LevelInfo: 6, slog.LevelInfo + 2: 5, slog.LevelWarn: 4, slog.LevelError: 3, slog.LevelError + 4: 2,
	} {
		if got := priority(level); got != want {
			t.Errorf("%v is %d, want %d", level, got, want)
		}
	}
}

// Every event has one explanation, and every explanation an event.
func TestCatalog(t *testing.T) {
	catalog, err := os.ReadFile("../../packaging/systemd/fdt.catalog")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("id.go")
	if err != nil {
		t.Fatal(err)
	}
	ids := func(re string, b []byte) (ids []string) {
		for _, m := range regexp.MustCompile(re).FindAllSubmatch(b, -1) {
			ids = append(ids, string(m[1]))
		}
		slices.Sort(ids)
		return ids
	}
	have, want := ids(`(?m)^-- ([0-9a-f]{32})$`, catalog), ids(`= "([0-9a-f]{32})"`, source)
	if !slices.Equal(have, want) || len(slices.Compact(have)) != len(want) {
		t.Errorf("the catalog has %d events, the constants %d", len(have), len(want))
	}
	server, err := os.ReadFile("../../drain/server.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids(`= "([0-9a-f]{32})"`, server) {
		if !slices.Contains(want, id) {
			t.Errorf("package drain's %s is unknown", id)
		}
	}
}

// Whatever a record holds, journald can read it.
func FuzzField(f *testing.F) {
	f.Add("key", "value")
	f.Add("", "\n")
	f.Add("gr=up\n", "a\nb")
	f.Fuzz(func(t *testing.T, key, value string) {
		var b bytes.Buffer
		appendField(&b, prefix+fieldName(key), value)
		fields, err := decode(b.Bytes())
		if err != nil || len(fields) != 1 {
			t.Fatalf("%q: %v, %v", b.Bytes(), fields, err)
		}
		for _, got := range fields {
			if got != value {
				t.Errorf("got %q", got)
			}
		}
	})
}
