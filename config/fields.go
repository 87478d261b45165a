package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// DefaultSocket is the unix socket that fdt listens on when nothing else is said.
const DefaultSocket = "/run/fdt/.s.PGSQL.7432"

// nameRule is what a name in the configuration must look like.
type nameRule struct {
	pattern *regexp.Regexp
	says    string
	taken   []string // names that are fdt's own
	prefix  string   // of names that are PostgreSQL's own
	words   string   // key words, which SQL takes for no name
}

func (r *nameRule) check(name string) error {
	if !r.pattern.MatchString(name) {
		return errors.New(r.says)
	}
	if slices.Contains(r.taken, name) || r.prefix != "" && strings.HasPrefix(name, r.prefix) {
		return errors.New("fdt answers this name itself; choose another")
	}
	if strings.Contains(r.words, " "+name+" ") {
		return errors.New("this is a key word of SQL, so that no client could call it; choose another")
	}
	return nil
}

// builtins are the functions that a session answers without the configuration.
var builtins = []string{
	"version", "current_database", "current_schema", "current_schemas", "current_user", "session_user", "user",
	"current_setting", "set_config", "txid_current",
}

// Reserved are the key words of PostgreSQL (appendix C) that CALL takes for no name.
const Reserved = ` all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create ` +
	`current_catalog current_date current_role current_time current_timestamp current_user default deferrable desc ` +
	`distinct do else end except false fetch for foreign from grant group having in initially intersect into lateral ` +
	`leading limit localtime localtimestamp not null offset on only or order placing primary references returning ` +
	`select session_user some symmetric table then to trailing true union unique user using variadic when where window with `

// CheckProcedureName tells what is wrong with a name by which clients are to
// call a procedure.
func CheckProcedureName(name string) error { return procedureName.quoting(name) }

// CheckHandlerName tells what is wrong with a name that listeners are to have in
// serve.
func CheckHandlerName(name string) error { return plainName.quoting(name) }

// CheckUser tells what is wrong with a name in users.
func CheckUser(name string) error { return userName.quoting(name) }

// CheckAllowed tells what is wrong with a user as allow names one.
func CheckAllowed(user string) error { return principal.quoting(user) }

// CheckSQLState tells whether the text is an SQLSTATE.
func CheckSQLState(state string) error {
	return matches(stateText, "an SQLSTATE is five capital letters or digits")(state)
}

// quoting is check with the name in the error.
func (r *nameRule) quoting(name string) error {
	if err := r.check(name); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	return nil
}

var (
	plainName = nameRule{pattern: regexp.MustCompile(`^[a-z][a-z0-9_-]{0,39}$`),
		says: "a name begins with a small letter and goes on with at most 39 small letters, digits, - or _"}
	sqlName = nameRule{pattern: regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`),
		says: "a name that clients write in SQL has at most 63 small letters, digits or _, and no digit first"}
	procedureName = nameRule{pattern: sqlName.pattern, says: sqlName.says, taken: builtins, prefix: "pg_", words: Reserved}
	// principal is a user's name, with the method by which the user must have proven to be that.
	principal = nameRule{pattern: regexp.MustCompile(`^(?:(?:peer|scram|cert|trust):)?[^\x00-\x20\x7f:,/"'\\]{1,63}$`),
		says: "write a user's name, or method:name with peer, scram, cert or trust"}
	userName = nameRule{pattern: regexp.MustCompile(`^[^\x00-\x20\x7f:,/"'\\]{1,63}$`),
		says: `a user's name has at most 63 bytes, no white space, and none of : , / " ' \`}
	serviceName = nameRule{pattern: regexp.MustCompile(`^[!-~]{1,100}$`), says: "a service's name has at most 100 characters of ASCII, no white space"}
	groupName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,30}$`)
	modeText    = regexp.MustCompile(`^0?[0-7]{3}$`)
	countText   = regexp.MustCompile(`^[0-9]{1,6}$`)
	scramText   = regexp.MustCompile(`^SCRAM-SHA-256\$([1-9][0-9]{0,6}):([A-Za-z0-9+/]+=*)\$([A-Za-z0-9+/]+=*):([A-Za-z0-9+/]+=*)$`)
	stateText   = regexp.MustCompile(`^[0-9A-Z]{5}$`)
)

// maxCount bounds what is counted; no machine has more.
const maxCount = 1 << 20

func rootFields(c *Config, k knowledge) []field {
	return []field{
		{key: "listen", def: "{local: {address: " + DefaultSocket + ", auth: peer}}",
			doc:  "The sockets that clients connect to, by name. systemd owns them.",
			kind: named(&c.Listen, &plainName, func(n string, l *Listener) kind { l.Name = n; return mapping(listenerFields(l)) })},
		{key: "workers", def: "{}", kind: mapping(workersFields(&c.Workers)),
			doc: "How many processes serve, and how much each takes on."},
		{key: "session", def: "{}", kind: mapping(sessionFields(&c.Session)),
			doc: "What one client may take."},
		{key: "log", def: "{}", kind: mapping(logFields(&c.Log)),
			doc: "What the journal is told of calls."},
		{key: "trace", def: "{}", kind: mapping(traceFields(&c.Trace)),
			doc: "Where traces of calls are told, as OpenTelemetry has them."},
		{key: "drain", def: "{}", kind: mapping(drainFields(&c.Drain)),
			doc: "How long a worker that was told to go may still serve."},
		{key: "reload", def: "{}", kind: mapping(reloadFields(&c.Reload)),
			doc: "How a new generation of workers takes over."},
		{key: "transaction", def: "{}", kind: mapping(transactionFields(&c.Transaction)),
			doc: "Limits of every transaction."},
		{key: "resources", def: "{}",
			doc:  "The resource managers that take part in transactions, by name.",
			kind: named(&c.Resources, &plainName, func(n string, r *Resource) kind { r.Name = n; return resourceKind(r, k) })},
		{key: "cluster", def: "{}", kind: mapping(clusterFields(&c.Cluster)),
			doc: "Other hosts with which this one settles transactions."},
		{key: "procedures", def: "{}",
			doc:  "What clients may call, by name.",
			kind: named(&c.Procedures, &procedureName, func(n string, p *Procedure) kind { p.Name = n; return mapping(procedureFields(p)) })},
		{key: "users", def: "{}",
			doc:  "Users who log in with a password, by name, each with a SCRAM verifier as PostgreSQL keeps it in pg_authid.",
			kind: private(named(&c.Users, &userName, func(n string, u *User) kind { u.Name = n; return verifier(u) }))},
		{key: "metrics", def: "{}", kind: mapping(metricsFields(&c.Metrics)),
			doc: "The Prometheus exposition."},
	}
}

func listenerFields(l *Listener) []field {
	l.TLS = nil
	return []field{
		{key: "address", required: true,
			doc:  "Where to listen: host:port with the host in numbers, [host]:port for IPv6, an absolute path for a unix socket, or a list of these.",
			kind: list(schema{}, func() kind { return address(func(a Address) { l.Addresses = append(l.Addresses, a) }) })},
		{key: "auth", kind: choice(&l.Auth, AuthPeer, AuthSCRAM, AuthCert, AuthTrust, AuthProgram),
			doc: "How clients prove who they are. Default: peer on unix sockets, scram elsewhere, program where serve is given. peer and trust are for unix sockets only, program for what another program serves."},
		{key: "serve", kind: text(&l.Serve, schema{Pattern: plainName.pattern.String()}, plainName.check),
			doc: "Which of the program's own handlers serves it, by the name that its code gives it. Default: the PostgreSQL protocol."},
		{key: "mode", kind: mode(&l.Mode),
			doc: "Permissions of the unix socket, in octal. Default: 0660 where auth is trust or serve is given, as whoever connects is let in, 0666 elsewhere."},
		{key: "group", kind: text(&l.Group, schema{Pattern: groupName.String()}, matches(groupName, "this is no name of a group")),
			doc: "Group of the unix socket. Default: fdt-client where auth is trust or serve is given, and mode is not, root elsewhere."},
		{key: "backlog", def: "4096", kind: number(&l.Backlog, 1, maxCount),
			doc: "Connections that may wait in the kernel until a worker is free; net.core.somaxconn bounds it."},
		{key: "tls", doc: "Certificate for encrypted connections. Default: plaintext.", kind: tlsKind(l)},
		{key: "proxy", doc: "Networks of proxies, such as 10.0.0.0/8: connections from there must begin with a PROXY header, version 2, which tells the client's address. Default: none.",
			kind: list(schema{}, func() kind { return network(func(n netip.Prefix) { l.Proxy = append(l.Proxy, n) }) })},
	}
}

func tlsKind(l *Listener) kind {
	fields := func(t *TLS) []field {
		return []field{
			{key: "certificate", required: true, kind: file(&t.Certificate), doc: "PEM file with the certificate and its chain."},
			{key: "key", required: true, kind: private(text(&t.Key, schema{Pattern: "^/"}, checkUntold)), doc: "PEM file with the private key."},
			{key: "client_ca", kind: file(&t.ClientCA), doc: "PEM file with the authorities of client certificates. Default: none are asked for."},
			{key: "required", def: "true", kind: boolean(&t.Required),
				doc: "Whether clients that ask for no encryption are refused; false lets them in by the same address, as host does in pg_hba.conf."},
		}
	}
	return kind{schema: objectSchema(fields(new(TLS))), read: func(d *decoder, v *value, path string) {
		l.TLS = &TLS{Required: true}
		d.section(v, path, fields(l.TLS))
	}}
}

func workersFields(w *Workers) []field {
	return []field{
		{key: "count", def: "auto", kind: workerCount(&w.Count),
			doc: "Worker processes; auto is the number of CPUs that fdt may use."},
		{key: "threads", def: "256", kind: number(&w.Threads, 1, maxCount),
			doc: "Connections that each worker serves at once. More wait in the kernel's queue."},
		{key: "recycle", def: "{}", doc: "When a worker is replaced by a fresh one.", kind: mapping([]field{
			{key: "after", def: "24h", kind: limit(&w.Recycle.After, time.Second), doc: "Age; 0s means never."},
			{key: "memory", def: "1GiB", kind: size(&w.Recycle.Memory, 0, math.MaxInt64), doc: "Resident memory; 0 means never."},
			{key: "grace", def: "5m", kind: duration(&w.Recycle.Grace, 0), doc: "Age from which memory counts: longer than a start needs."},
		})},
		{key: "backoff", def: "{}", doc: "How long nothing is started in the place of a worker that dies again and again.", kind: mapping([]field{
			{key: "first", def: "500ms", kind: duration(&w.Backoff.First, time.Millisecond), doc: "At first; twice as long each time."},
			{key: "longest", def: "30s", kind: duration(&w.Backoff.Longest, time.Millisecond), doc: "At most."},
		})},
	}
}

// Bounds of a message: what PostgreSQL's protocol takes for one, and room for what every client sends.
const (
	leastMessage = 64 << 10
	mostMessage  = 1<<30 - 1
)

func sessionFields(s *Session) []field {
	return []field{
		{key: "authentication_timeout", def: "30s", kind: duration(&s.AuthenticationTimeout, time.Second),
			doc: "How long a client may take from its first byte to the end of its authentication."},
		{key: "reserve_timeout", def: "10s", kind: duration(&s.ReserveTimeout, time.Millisecond),
			doc: "How long a session that was let in beyond workers.threads may be silent. Then it takes a slot if one is free, and else goes."},
		{key: "stall_timeout", def: "1m", kind: duration(&s.StallTimeout, time.Second),
			doc: "How long a message may take from its first byte to its last, and a client to read what was answered."},
		{key: "message", def: "16MiB", kind: size(&s.Message, leastMessage, mostMessage),
			doc: "Longest message that is taken, so the longest statement and the longest set of its parameters."},
		{key: "statements", def: "4096", kind: number(&s.Statements, 1, maxCount),
			doc: "How many prepared statements, portals and cursors a session may hold."},
		{key: "memory", def: "64MiB", kind: size(&s.Memory, leastMessage, math.MaxInt64),
			doc: "How much a session may hold and make: texts, what is parsed of them, values, prepared statements, portals, cursors, settings and savepoints."},
	}
}

func logFields(l *Log) []field {
	return []field{
		{key: "calls", def: LogSlow, kind: choice(&l.Calls, LogOff, LogSlow, LogAll),
			doc: "Which calls and ends of transactions are told, one line each: none, those that take log.slow, or all."},
		{key: "slow", def: "0s", kind: duration(&l.Slow, 0),
			doc: "A call that takes as long is told, with user, client, procedure, outcome and transaction; 0s means none."},
		{key: "rate", def: "100", kind: number(&l.Rate, 1, 10_000),
			doc: "How many lines a second a worker writes of calls that are not slow, with calls: all; of what is left out the next line has the number."},
	}
}

func traceFields(t *Trace) []field {
	return []field{
		{key: "endpoint", kind: private(text(&t.Endpoint, schema{Pattern: "^https?://"}, checkEndpoint)),
			doc: "URL of a collector that takes OTLP over HTTP as JSON, such as http://127.0.0.1:4318/v1/traces. Default: nothing is traced."},
		{key: "sample", def: "0", kind: number(&t.Sample, 0, math.MaxInt32),
			doc: "Of the calls whose client brings no traceparent, one in so many is traced; 0 means none of them."},
		{key: "service", def: "fdt", kind: text(&t.Service, schema{Pattern: serviceName.pattern.String()}, serviceName.check),
			doc: "service.name of the traces."},
	}
}

// checkEndpoint tells what is wrong with a collector's URL.
func checkEndpoint(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return errors.New("write a URL such as http://127.0.0.1:4318/v1/traces")
	case u.User != nil:
		return errors.New("a password does not belong in the configuration: have a collector on this host pass the traces on")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("the URL of a collector has no ? and no #")
	}
	if n, err := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && (err != nil || n == 0) {
		return fmt.Errorf("%q is no port; write a number from 1 to 65535", u.Port())
	}
	return nil
}

func drainFields(d *Drain) []field {
	return []field{
		{key: "timeout", def: "10m", kind: duration(&d.Timeout, 0),
			doc: "How long busy connections may go on after their worker was told to go. Then what is not prepared is rolled back."},
		{key: "idle", def: "5s", kind: duration(&d.Idle, 0),
			doc: "How long a connection without an open transaction may stay silent before it is told goodbye."},
		{key: "spread", def: "1s", kind: duration(&d.Spread, 0),
			doc: "How much sooner than after idle the first of them are told, and the others one after another, so that they do not all come back at once. No more than idle counts."},
		{key: "shutdown", def: "60s", kind: duration(&d.Shutdown, 0),
			doc: "The same as timeout when the host shuts down."},
		{key: "delay", def: "0s", kind: duration(&d.Delay, 0),
			doc: "How long a stop, also of the host, leaves the listeners open while a balancer is told already that fdt is not ready."},
		{key: "generations", def: "3", kind: number(&d.Generations, 1, 100),
			doc: "Old generations that may drain at once. Beyond that the oldest has 10 seconds left."},
	}
}

func reloadFields(r *Reload) []field {
	return []field{
		{key: "ready_timeout", def: "30s", kind: duration(&r.ReadyTimeout, time.Millisecond),
			doc: "How long a new worker may take to be ready before the reload is given up."},
		{key: "settle", def: "2s", kind: duration(&r.Settle, 0),
			doc: "How long the new workers must stay healthy before the old ones are told to go."},
		{key: "surge", def: "100%", kind: surge(&r.Surge),
			doc: "How many workers beyond workers.count may run during a reload: a number, or a percentage of the count."},
	}
}

func transactionFields(t *Transaction) []field {
	return []field{
		{key: "timeout", def: "60s", kind: limit(&t.Timeout, time.Millisecond),
			doc: "Longest transaction, from its beginning to its end or its PREPARE TRANSACTION; 0s means no limit."},
		{key: "idle_timeout", def: "60s", kind: limit(&t.IdleTimeout, time.Millisecond),
			doc: "Longest silence of a client within a transaction; 0s means no limit."},
		{key: "lock_timeout", def: "10s", kind: duration(&t.LockTimeout, time.Millisecond),
			doc: "Longest wait for a lock at a resource. It ends deadlocks across resources, so it has no 0s."},
		{key: "prepared", def: "10000", kind: number(&t.Prepared, 1, maxCount),
			doc: "How many transactions of all users may be prepared at a time. Each takes 4 KiB of /run."},
		{key: "prepared_per_user", def: "5000", kind: number(&t.PreparedPerUser, 1, maxCount),
			doc: "How many of them one user may have."},
		{key: "retain", def: "7d", kind: duration(&t.Retain, time.Millisecond),
			doc: "How long the outcome of a prepared transaction is kept for a coordinator that has not acknowledged it by its next statement."},
		{key: "kept", def: "10000", kind: number(&t.Kept, 1, maxCount),
			doc: "How many such outcomes are kept; the oldest are forgotten first. Each takes 4 KiB of /run."},
		{key: "answer", def: AnswerTold, kind: choice(&t.Answer, AnswerTold, AnswerDecided),
			doc: "When a commit in two phases is answered: told, when all resources know it; decided, as soon as it is final. Then only the same session is sure to see it everywhere, as its next transaction waits for that."},
		{key: "decider", kind: text(&t.Decider, schema{}, nil),
			doc: "A postgres resource, made ready by fdtctl decider init, that keeps the decisions of the transactions in which it takes part: its commit is the decision. Default: the log on this host keeps all."},
	}
}

func clusterFields(c *Cluster) []field {
	return []field{
		{key: "decider", kind: text(&c.Decider, schema{}, nil),
			doc: "A postgres resource, made ready by fdtctl cluster init, in which all hosts that name it keep what they have promised and decided: any of them settles what any of them has prepared. It is transaction.decider, too. Default: this host keeps its own log and settles its own."},
	}
}

func procedureFields(p *Procedure) []field {
	return []field{
		{key: "parameters", kind: parameters(&p.Parameters, true),
			doc: "Parameters in the order of a call: name: type, or name: {type: …, default: …}. Default: none."},
		{key: "steps", required: true, doc: "What a call does, in order.", kind: steps(&p.Steps)},
		{key: "returns", kind: parameters(&p.Returns, false),
			doc: "Columns of the one result row, name: type; each name is a parameter or an earlier as. With rows: many the columns of that statement, in its order. Default: no result."},
		{key: "allow", doc: "Users who may call it, each as name, who has proven that, or as method:name; of auth: trust only as trust:name. Default: everybody.", kind: list(schema{}, func() kind {
			return scalar(schema{Type: "string", Pattern: principal.pattern.String()}, "the name of a user", tagAny, func(t string) (string, error) {
				p.Allow = append(p.Allow, t)
				return "", principal.check(t)
			})
		})},
		{key: "timeout", def: "0s", kind: limit(&p.Timeout, time.Millisecond),
			doc: "Longest call; 0s leaves it to the limits of the transaction."},
	}
}

func stepFields(s *Step) []field {
	return []field{
		{key: "on", required: true, kind: text(&s.On, schema{}, nil),
			doc: "The resource."},
		{key: "sql", kind: text(&s.SQL, schema{}, nil),
			doc: "postgres, mariadb: one statement; :name stands for a parameter or an earlier as."},
		{key: "put", kind: text(&s.Put, schema{}, nil),
			doc: "spool: the message; :name stands for a parameter or an earlier as, :: for a colon."},
		{key: "rows", doc: "How many rows the statement must affect; or many, of a last step: all that it returns are the result. Default: any number.", kind: rows(s)},
		{key: "else", kind: text(&s.Else, schema{}, nil),
			doc: "Message of the error when rows is not met."},
		{key: "sqlstate", kind: sqlState(&s.SQLState),
			doc: "SQLSTATE of that error. Default: P0001."},
		{key: "as", kind: text(&s.As, schema{Pattern: sqlName.pattern.String()}, sqlName.check),
			doc: "Name under which later steps and returns find the first column of the first row."},
		{key: "when", kind: text(&s.When, schema{Pattern: sqlName.pattern.String()}, sqlName.check),
			doc: "Name of a parameter or an earlier as; the step is skipped when it is false or null. Default: never skipped."},
	}
}

func metricsFields(m *Metrics) []field {
	return []field{
		{key: "address", kind: address(func(a Address) { m.Address = &a }),
			doc: "Where to serve /metrics over HTTP, without encryption or authentication. Default: nowhere."},
	}
}

func address(add func(Address)) kind {
	return scalar(schema{Type: "string"}, "an address such as 0.0.0.0:7432", tagText, func(t string) (string, error) {
		a, err := ParseAddress(t)
		if err == nil {
			add(a)
		}
		return "", err
	})
}

func network(add func(netip.Prefix)) kind {
	return scalar(schema{Type: "string"}, "a network such as 10.0.0.0/8", tagText, func(t string) (string, error) {
		n, err := ParseNetwork(t)
		if err == nil {
			add(n)
		}
		return "", err
	})
}

// file is an absolute path.
func file(dst *string) kind { return text(dst, schema{Pattern: "^/"}, checkPath) }

// checkUntold accepts what checkPath accepts, and does not tell a path that may have been meant to be something else.
func checkUntold(t string) error {
	if checkPath(t) != nil {
		return errors.New("write the absolute path of a file, in its shortest form")
	}
	return nil
}

func matches(r *regexp.Regexp, says string) func(string) error {
	return func(t string) error {
		if !r.MatchString(t) {
			return errors.New(says)
		}
		return nil
	}
}

func mode(dst *fs.FileMode) kind {
	s := schema{Type: []string{"string", "integer"}, Pattern: modeText.String()}
	return scalar(s, "permissions such as 0660", tagEither, func(t string) (string, error) {
		if !modeText.MatchString(t) {
			return "", errors.New("write permissions as three octal digits, such as 0660")
		}
		n, err := strconv.ParseUint(t, 8, 9)
		*dst = fs.FileMode(n)
		return "", err
	})
}

func workerCount(dst *int) kind {
	s := schema{AnyOf: []schema{{Type: "string", Enum: []string{"auto"}}, number(new(int), 1, 4096).schema}}
	return scalar(s, "auto or a number", tagEither, func(t string) (string, error) {
		if t == "auto" {
			*dst = cpus()
			return "", nil
		}
		n, err := strconv.Atoi(t)
		if err != nil || n < 1 || n > 4096 {
			return "", errors.New("write auto or a number from 1 to 4096")
		}
		*dst = n
		return "", nil
	})
}

func surge(dst *Surge) kind {
	s := schema{Type: []string{"string", "integer"}, Pattern: "^[0-9]{1,6}%?$"}
	return scalar(s, "a number or a percentage", tagEither, func(t string) (string, error) {
		digits, percent := strings.CutSuffix(t, "%")
		if !countText.MatchString(digits) {
			return "", errors.New("write a number or a percentage such as 50%")
		}
		n, err := strconv.Atoi(digits)
		switch {
		case n == 0:
			return "", errors.New("at least one worker beyond the count is needed")
		case percent:
			*dst = Surge{Percent: n}
		default:
			*dst = Surge{Count: n}
		}
		return "", err
	})
}

func rows(s *Step) kind {
	n := new(int)
	k := number(n, 0, 1<<30)
	read := k.read
	k.read = func(d *decoder, v *value, path string) {
		if s.Many = v.kind == yaml.ScalarNode && v.text == many; s.Many {
			return
		}
		s.Rows = n
		read(d, v, path)
	}
	k.schema = schema{AnyOf: []schema{k.schema, {Type: "string", Enum: []string{many}}}}
	return k
}

// many is the value of rows for all that a statement returns.
const many = "many"

// sqlState is a text, but some look like numbers to YAML.
func sqlState(dst *string) kind {
	s := schema{Type: []string{"string", "number"}, Pattern: stateText.String()}
	return scalar(s, "an SQLSTATE", tagAny, func(t string) (string, error) {
		*dst = t
		return "", CheckSQLState(t)
	})
}

func verifier(u *User) kind {
	s := schema{Type: "string", Pattern: scramText.String()}
	return scalar(s, "a SCRAM verifier", tagText, func(t string) (string, error) {
		m := scramText.FindStringSubmatch(t)
		if m == nil {
			return "it is what PostgreSQL keeps in pg_authid, and begins with SCRAM-SHA-256$", errors.New("this is no SCRAM-SHA-256 verifier")
		}
		for i, want := range []int{0, 32, 32} { // a salt of any length, two SHA-256 keys
			b, err := base64.StdEncoding.DecodeString(m[2+i])
			if err != nil || want > 0 && len(b) != want {
				return "it is what PostgreSQL keeps in pg_authid, and begins with SCRAM-SHA-256$", fmt.Errorf("part %d of the verifier is damaged", 2+i)
			}
		}
		u.Verifier = t
		return "", nil
	})
}
