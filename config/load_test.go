package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

// write makes a configuration directory of files given as name, text, name, text.
func write(t testing.TB, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		name := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func load(t testing.TB, files ...string) *Config {
	t.Helper()
	cfg, err := Load(write(t, files...))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// defaults is an empty configuration.
func defaults() *Config {
	return &Config{
		Listen: map[string]Listener{"local": {
			Name: "local", Addresses: []Address{{Network: "unix", Address: "/run/fdt/.s.PGSQL.7432"}},
			Auth: AuthPeer, Mode: 0o666, Backlog: 4096,
		}},
		Workers: Workers{Count: cpus(), Threads: 256, Recycle: Recycle{After: 24 * time.Hour, Memory: 1 << 30, Grace: 5 * time.Minute}, Backoff: Backoff{First: 500 * time.Millisecond, Longest: 30 * time.Second}},
		Session: Session{AuthenticationTimeout: 30 * time.Second, ReserveTimeout: 10 * time.Second, StallTimeout: time.Minute,
			Message: 16 << 20, Statements: 4096, Memory: 64 << 20},
		Log:    Log{Calls: LogSlow, Rate: 100},
		Trace:  Trace{Service: "fdt"},
		Drain:  Drain{Timeout: 10 * time.Minute, Idle: 5 * time.Second, Spread: time.Second, Shutdown: time.Minute, Generations: 3},
		Reload: Reload{ReadyTimeout: 30 * time.Second, Settle: 2 * time.Second, Surge: Surge{Percent: 100}},
		Transaction: Transaction{Timeout: time.Minute, IdleTimeout: time.Minute, LockTimeout: 10 * time.Second,
			Prepared: 10000, PreparedPerUser: 5000, Retain: 7 * 24 * time.Hour, Kept: 10000, Answer: AnswerTold},
		Resources:  map[string]Resource{},
		Procedures: map[string]Procedure{},
		Users:      map[string]User{},
	}
}

func TestEmptyFileIsTheDefaults(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "{}\n", "workers:\nusers:\nmetrics: {}\n"} {
		if got := load(t, "config.yaml", text); !reflect.DeepEqual(got, defaults()) {
			t.Errorf("%q is\n%+v", text, got)
		}
	}
}

func TestInstalledFile(t *testing.T) {
	want := defaults()
	want.Resources["outbox"] = Resource{Name: "outbox", Type: TypeSpool, Settings: &Spool{"/var/lib/fdt/outbox"}}
	want.Procedures["enqueue"] = Procedure{
		Name:       "enqueue",
		Parameters: []Parameter{{Name: "body", Type: "text"}},
		Steps:      []Step{{On: "outbox", Put: ":body"}},
	}
	text, err := os.ReadFile("../packaging/deb/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if got := load(t, "config.yaml", string(text)); !reflect.DeepEqual(got, want) {
		t.Errorf("the installed file is\n%+v", got)
	}
	// What it shows in comments must be right too.
	var shown strings.Builder
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(strings.TrimLeft(line, " "), "# "); ok {
			if key, _, found := strings.Cut(rest, ": {"); found && !strings.ContainsAny(key, " '") {
				line = "  " + rest
			}
		}
		if rest, ok := strings.CutPrefix(line, "#"); ok && strings.Contains(rest, ": {") {
			line = rest
		}
		shown.WriteString(line)
	}
	if shown.Len() == len(text) {
		t.Error("no comment was uncovered")
	}
	shown.WriteString("users: {a: '" + verifierA + "'}\n")
	got := load(t, "config.yaml", shown.String())
	if len(got.Listen) != 2 || len(got.Resources) != 3 || !reflect.DeepEqual(got.Drain, want.Drain) ||
		!reflect.DeepEqual(got.Workers, want.Workers) || !reflect.DeepEqual(got.Reload, want.Reload) ||
		!reflect.DeepEqual(got.Transaction, want.Transaction) {
		t.Errorf("its comments show\n%+v", got)
	}
}

const verifierA = "SCRAM-SHA-256$4096:c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

const everything = `
listen:
  local: {address: [/run/fdt/s, "/run/my app/100%"], auth: trust, mode: 0660, group: staff}
  public:
    address: ["0.0.0.0:7432", "[::]:7432"]
    auth: cert
    backlog: 16
    tls: {certificate: /etc/fdt/tls.crt, key: /etc/fdt/tls.key, client_ca: /etc/fdt/ca.crt}
  inner: {address: "10.0.0.1:0543", tls: {certificate: /c, key: /k, required: false}}
session: {authentication_timeout: 5s, reserve_timeout: 1s, stall_timeout: 2m, message: 64KiB, statements: 7, memory: 1MiB}
workers: {count: 3, threads: 8, recycle: {after: 1d12h, memory: 0, grace: 1s}, backoff: {first: 1s, longest: 1m}}
drain: {timeout: 1d, idle: 100ms, spread: 10ms, shutdown: 0s, generations: 1}
reload: {ready_timeout: 1m30s, settle: 0s, surge: 2}
transaction: {timeout: 0s, idle_timeout: 1.5s, lock_timeout: 1ms, prepared: 5, prepared_per_user: 4, retain: 1h, kept: 3, answer: decided, decider: a}
resources:
  outbox: {type: spool, directory: /var/spool/my app}
  a: {type: postgres, dsn: "host=/run/postgresql dbname=a", password_file: /etc/fdt/a}
  b: {type: mariadb, dsn: "fdt@unix(/run/mysqld/mysqld.sock)/b", pool: 4, marker: fdt_marker}
procedures:
  transfer:
    parameters: {src: bigint, dst: int8, amount: decimal, note: {type: varchar, default: ""}, urgent: {type: bool, default: false}, tags: {type: "int8[]", default: "{1,2}"}}
    allow: [alice, bob]
    timeout: 5s
    returns: {balance: numeric, src: bigint}
    steps:
      - {on: a, sql: "UPDATE t SET x = x - :amount WHERE id = :src RETURNING x", rows: 1, else: "no money", sqlstate: 23514, as: balance}
      - {on: b, sql: "UPDATE t SET x = x + :amount WHERE id = :dst", rows: 1, when: urgent}
      - {on: outbox, put: ":src to :dst, balance :balance, note:: :note"}
  one: {allow: alice, steps: [{on: outbox, put: x}]}
users: {alice: "` + verifierA + `"}
metrics: {}
log: {calls: all, slow: 1500ms, rate: 5}
trace: {endpoint: "https://collector:4318/v1/traces", sample: 10, service: shop}
`

func TestEverything(t *testing.T) {
	got := load(t, "config.yaml", everything)
	one, empty, no, pair := 1, "", "false", "{1,2}"
	want := &Config{
		Listen: map[string]Listener{
			"local": {Name: "local", Addresses: []Address{{"unix", "/run/fdt/s"}, {"unix", "/run/my app/100%"}},
				Auth: AuthTrust, Mode: 0o660, Group: "staff", Backlog: 4096},
			"public": {Name: "public", Addresses: []Address{{"tcp4", "0.0.0.0:7432"}, {"tcp6", "[::]:7432"}},
				Auth: AuthCert, Mode: 0o666, Backlog: 16, TLS: &TLS{"/etc/fdt/tls.crt", "/etc/fdt/tls.key", "/etc/fdt/ca.crt", true}},
			"inner": {Name: "inner", Addresses: []Address{{"tcp4", "10.0.0.1:543"}}, Auth: AuthSCRAM, Mode: 0o666, Backlog: 4096, TLS: &TLS{"/c", "/k", "", false}},
		},
		Log:     Log{Calls: LogAll, Slow: 1500 * time.Millisecond, Rate: 5},
		Trace:   Trace{Endpoint: "https://collector:4318/v1/traces", Sample: 10, Service: "shop"},
		Session: Session{5 * time.Second, time.Second, 2 * time.Minute, 64 << 10, 7, 1 << 20},
		Workers: Workers{Count: 3, Threads: 8, Recycle: Recycle{After: 36 * time.Hour, Grace: time.Second}, Backoff: Backoff{First: time.Second, Longest: time.Minute}},
		Drain:   Drain{Timeout: 24 * time.Hour, Idle: 100 * time.Millisecond, Spread: 10 * time.Millisecond, Generations: 1},
		Reload:  Reload{ReadyTimeout: 90 * time.Second, Surge: Surge{Count: 2}},
		Transaction: Transaction{IdleTimeout: 1500 * time.Millisecond, LockTimeout: time.Millisecond,
			Prepared: 5, PreparedPerUser: 4, Retain: time.Hour, Kept: 3, Answer: AnswerDecided, Decider: "a"},
		Resources: map[string]Resource{
			"outbox": {Name: "outbox", Type: TypeSpool, Settings: &Spool{"/var/spool/my app"}},
			"a":      {Name: "a", Type: TypePostgres, Settings: &Postgres{Database{"host=/run/postgresql dbname=a", "/etc/fdt/a", 32}}},
			"b":      {Name: "b", Type: TypeMariaDB, Settings: &MariaDB{Database{"fdt@unix(/run/mysqld/mysqld.sock)/b", "", 4}, "fdt_marker"}},
		},
		Procedures: map[string]Procedure{
			"transfer": {
				Name: "transfer",
				Parameters: []Parameter{{"src", "bigint", nil}, {"dst", "bigint", nil}, {"amount", "numeric", nil},
					{"note", "text", &empty}, {"urgent", "boolean", &no}, {"tags", "bigint[]", &pair}},
				Allow: []string{"alice", "bob"}, Timeout: 5 * time.Second,
				Returns: []Parameter{{"balance", "numeric", nil}, {"src", "bigint", nil}},
				Steps: []Step{
					{On: "a", SQL: "UPDATE t SET x = x - :amount WHERE id = :src RETURNING x", Rows: &one, Else: "no money", SQLState: "23514", As: "balance"},
					{On: "b", SQL: "UPDATE t SET x = x + :amount WHERE id = :dst", Rows: &one, SQLState: "P0001", When: "urgent"},
					{On: "outbox", Put: ":src to :dst, balance :balance, note:: :note"},
				},
			},
			"one": {Name: "one", Allow: []string{"alice"}, Steps: []Step{{On: "outbox", Put: "x"}}},
		},
		Users: map[string]User{"alice": {"alice", verifierA}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestFilesAreMerged(t *testing.T) {
	dir := write(t,
		"config.yaml", "listen: {a: {address: /run/a}}\n",
		"config.d/20.yaml", "drain: {idle: 1s}\nlisten: {b: {address: /run/b}}\n",
		"config.d/10.yaml", "drain: {timeout: 1m}\nlisten: {a: {mode: 0600}}\n",
		"config.d/.hidden.yaml", "not: read\n",
		"config.d/README", "not: read\n",
	)
	cfg, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Drain.Timeout != time.Minute || cfg.Drain.Idle != time.Second || cfg.Listen["a"].Mode != 0o600 || len(cfg.Listen) != 2 {
		t.Errorf("merged to %+v", cfg)
	}
	files, err := Files(dir)
	if want := []string{"config.yaml", "config.d/10.yaml", "config.d/20.yaml"}; err != nil || !reflect.DeepEqual(files, want) {
		t.Errorf("%v, %v", files, err)
	}
}

// TestFilesThatAreNone names what stands in the way of reading.
func TestFilesThatAreNone(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(dir string) error
		want    string
	}{
		"config.d is a file": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "config.d"), nil, 0o644) },
			"/config.d: cannot be read: not a directory"},
		"a directory": {func(dir string) error { return os.MkdirAll(filepath.Join(dir, "config.d/a.yaml"), 0o755) },
			"/config.d/a.yaml: cannot be read: it is not a regular file"},
		"a pipe": {func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, "config.d"), 0o755), syscall.Mkfifo(filepath.Join(dir, "config.d/a.yaml"), 0o644))
		}, "/config.d/a.yaml: cannot be read: it is not a regular file"},
		"a broken link": {func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, "config.d"), 0o755), os.Symlink("nowhere", filepath.Join(dir, "config.d/a.yaml")))
		}, "/config.d/a.yaml: cannot be read: no such file or directory"},
		"too long": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(strings.Repeat("#", maxFile+1)), 0o644)
		}, "/config.yaml: cannot be read: it is longer than 1048576 bytes"},
		"broken and long": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(strings.Repeat("\n", 2000)+"a: b: c"), 0o644)
		}, "/config.yaml: this is not YAML: mapping values are not allowed in this context"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, "config.yaml", "")
			if err := c.prepare(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Load(dir)
			if err == nil || err.Error() != dir+c.want {
				t.Errorf("got  %v\nwant %s", err, dir+c.want)
			}
		})
	}
}

func TestSurge(t *testing.T) {
	for _, c := range []struct {
		surge       Surge
		count, want int
	}{
		{Surge{Percent: 100}, 4, 4}, {Surge{Percent: 50}, 4, 2}, {Surge{Percent: 1}, 4, 1}, {Surge{Percent: 300}, 4, 4},
		{Surge{Percent: 34}, 3, 2}, {Surge{Count: 1}, 8, 1}, {Surge{Count: 9}, 8, 8}, {Surge{}, 8, 1},
	} {
		if got := c.surge.Workers(c.count); got != c.want {
			t.Errorf("%+v of %d is %d, want %d", c.surge, c.count, got, c.want)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	dir := write(b, "config.yaml", everything)
	for b.Loop() {
		if _, err := Load(dir); err != nil {
			b.Fatal(err)
		}
	}
}

// TestWhoCanConnect: where no proof is asked for, not everybody can connect, unless the file says so.
func TestWhoCanConnect(t *testing.T) {
	for text, want := range map[string]Listener{
		"auth: peer":                {Mode: 0o666},
		"auth: trust":               {Mode: 0o660, Group: ClientGroup},
		"auth: trust, group: staff": {Mode: 0o660, Group: "staff"},
		"auth: trust, mode: 0666":   {Mode: 0o666},
		"auth: scram, group: staff": {Mode: 0o666, Group: "staff"},
		"auth: program, mode: 0600": {Mode: 0o600},
		"auth: trust, mode: 000":    {},
		"serve: web":                {Mode: 0o660, Group: ClientGroup},
		"serve: web, mode: 0666":    {Mode: 0o666},
	} {
		got := load(t, "config.yaml", "listen: {a: {address: /run/fdt/s, "+text+"}}\nusers: {a: '"+verifierA+"'}").Listen["a"]
		if got.Mode != want.Mode || got.Group != want.Group {
			t.Errorf("%s: mode %v, group %q", text, got.Mode, got.Group)
		}
	}
}

// TestSays: a key counts with whatever value, in whichever file; and one of no file is not there.
func TestSays(t *testing.T) {
	for text, want := range map[string]bool{"": false, "workers: {count: 1}": false, "procedures: {}": true, "procedures:": true, "a: \xff": false} {
		if got := Says(write(t, "config.yaml", text), "procedures"); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
	if Says(filepath.Join(t.TempDir(), "absent"), "procedures") {
		t.Error("said by nobody")
	}
}

// TestFaultIsOneLine: what a file is called does not cut the status, which has one line.
func TestFaultIsOneLine(t *testing.T) {
	if got := (Fault{File: "a\nb.yaml", Line: 1, Column: 2, What: "no"}).Error(); got != `"a\nb.yaml":1:2: no` {
		t.Error(got)
	}
}

// TestUTF16 is YAML, too.
func TestUTF16(t *testing.T) {
	if _, err := Load(write(t, "config.yaml", "\xff\xfe#\x00\n\x00")); err != nil {
		t.Error(err)
	}
}
