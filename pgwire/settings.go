package pgwire

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ServerVersion is what server_version reports: drivers choose by it what
// they may send.
const ServerVersion = "15.0 (fdt)"

// setting is one run-time parameter that clients know from PostgreSQL.
type setting struct {
	name    string // as SHOW prints it
	initial string
	report  bool // told by ParameterStatus
	fixed   bool // cannot be set
	check   func(value string) (string, bool)
	about   string
}

func oneOf(list ...string) func(string) (string, bool) {
	return func(v string) (string, bool) {
		i := slices.IndexFunc(list, func(s string) bool { return strings.EqualFold(s, v) })
		if i < 0 {
			return "", false
		}
		return list[i], true
	}
}

func boolean(v string) (string, bool) {
	switch strings.ToLower(v) {
	case "on", "true", "t", "yes", "y", "1":
		return "on", true
	case "off", "false", "f", "no", "n", "0":
		return "off", true
	}
	return "", false
}

func onOnly(v string) (string, bool) {
	b, ok := boolean(v)
	return b, ok && b == "on"
}

func integer(low, high int) func(string) (string, bool) {
	return func(v string) (string, bool) {
		n, err := strconv.Atoi(strings.TrimSpace(v))
		return strconv.Itoa(n), err == nil && n >= low && n <= high
	}
}

// encoding takes UTF-8 under all its names and nothing else.
func encoding(v string) (string, bool) {
	switch strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(v)) {
	case "utf8", "unicode":
		return "UTF8", true
	}
	return "", false
}

// dateStyle takes ISO with any order of day and month, as only ISO is printed.
func dateStyle(v string) (string, bool) {
	order := "MDY"
	for part := range strings.SplitSeq(v, ",") {
		switch p := strings.ToUpper(strings.TrimSpace(part)); p {
		case "ISO":
		case "MDY", "DMY", "YMD":
			order = p
		case "US", "NONEURO", "NONEUROPEAN":
			order = "MDY"
		case "EURO", "EUROPEAN":
			order = "DMY"
		default:
			return "", false
		}
	}
	return "ISO, " + order, true
}

// period takes milliseconds, or a number with PostgreSQL's unit, and keeps
// milliseconds.
func period(v string) (string, bool) {
	d, ok := parsePeriod(v)
	return strconv.FormatInt(d.Milliseconds(), 10), ok
}

func parsePeriod(v string) (time.Duration, bool) {
	v = strings.TrimSpace(v)
	number := strings.TrimRight(v, "abcdefghijklmnopqrstuvwxyz ")
	unit, ok := map[string]time.Duration{
		"": time.Millisecond, "us": time.Microsecond, "ms": time.Millisecond, "s": time.Second,
		"min": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
	}[strings.TrimSpace(v[len(number):])]
	n, err := strconv.ParseInt(number, 10, 32)
	return time.Duration(n) * unit, ok && err == nil && n >= 0
}

var isolations = []string{"serializable", "repeatable read", "read committed", "read uncommitted"}

// catalog is all settings that are known, by name in lower case. Those that
// change nothing here are kept because drivers and pools set them.
var catalog = func() map[string]setting {
	m := map[string]setting{}
	for _, s := range []setting{
		{name: "application_name", report: true, about: "Name of the client's application."},
		{name: "backslash_quote", initial: "safe_encoding"},
		{name: "bytea_output", initial: "hex", check: oneOf("hex"), about: "Only hex is printed."},
		{name: "check_function_bodies", initial: "on", check: boolean},
		{name: "client_encoding", initial: "UTF8", report: true, check: encoding, about: "Only UTF8 is spoken."},
		{name: "client_min_messages", initial: "notice"},
		{name: "DateStyle", initial: "ISO, MDY", report: true, check: dateStyle, about: "Only ISO is printed."},
		{name: "default_table_access_method", initial: "heap"},
		{name: "default_tablespace"},
		{name: "default_transaction_deferrable", initial: "off", check: boolean},
		{name: "default_transaction_isolation", initial: "read committed", check: oneOf(isolations...), about: "Isolation of new transactions."},
		{name: "default_transaction_read_only", initial: "off", report: true, check: boolean, about: "Whether new transactions are read-only."},
		{name: "extra_float_digits", initial: "1", check: integer(-15, 3)},
		{name: "geqo", initial: "on", check: boolean},
		{name: "idle_in_transaction_session_timeout", initial: "0", check: period, about: "Longest silence in a transaction, in ms; 0 leaves the server's limit."},
		{name: "idle_session_timeout", initial: "0", check: period},
		{name: "in_hot_standby", initial: "off", report: true, fixed: true},
		{name: "integer_datetimes", initial: "on", report: true, fixed: true},
		{name: "IntervalStyle", initial: "postgres", report: true, check: oneOf("postgres")},
		{name: "is_superuser", initial: "off", report: true, fixed: true},
		{name: "jit", initial: "on", check: boolean},
		{name: "lc_messages", initial: "C"},
		{name: "lc_monetary", initial: "C"},
		{name: "lc_numeric", initial: "C"},
		{name: "lc_time", initial: "C"},
		{name: "lock_timeout", initial: "0", check: period},
		{name: "max_identifier_length", initial: "63", fixed: true},
		{name: "max_index_keys", initial: "32", fixed: true},
		{name: "max_prepared_transactions", initial: "262143", fixed: true},
		{name: "quote_all_identifiers", initial: "off", check: boolean},
		{name: "role", initial: "none", check: oneOf("none")},
		{name: "row_security", initial: "on", check: boolean},
		{name: "search_path", initial: `"$user", public`},
		{name: "server_encoding", initial: "UTF8", report: true, fixed: true},
		{name: "server_version", initial: ServerVersion, report: true, fixed: true},
		{name: "server_version_num", initial: "150000", fixed: true},
		{name: "session_authorization", report: true, fixed: true},
		{name: "standard_conforming_strings", initial: "on", report: true, check: onOnly},
		{name: "statement_timeout", initial: "0", check: period, about: "Longest time for a statement, in ms; 0 is no limit."},
		{name: "synchronize_seqscans", initial: "on", check: boolean},
		{name: "synchronous_commit", initial: "on"},
		{name: "TimeZone", initial: "UTC", report: true, about: "Times are printed in UTC, with their offset, whatever this is."},
		{name: "transaction_deferrable", initial: "off", check: boolean},
		{name: "transaction_isolation", initial: "read committed", check: oneOf(isolations...), about: "Isolation of this transaction."},
		{name: "transaction_read_only", initial: "off", check: boolean},
		{name: "transaction_timeout", initial: "0", check: period},
		{name: "xmloption", initial: "content"},
	} {
		m[strings.ToLower(s.name)] = s
	}
	return m
}()

// reported are the settings that ParameterStatus tells, in order.
var reported = func() []string {
	var list []string
	for key, s := range catalog {
		if s.report {
			list = append(list, key)
		}
	}
	slices.Sort(list)
	return list
}()

// values are settings that differ from their defaults, by name in lower case.
// They are never changed in place, so that keeping an old state is free.
type values map[string]string

func (v values) with(name, value string) values {
	m := maps.Clone(v)
	if m == nil {
		m = values{}
	}
	m[name] = value
	return m
}

func (v values) without(name string) values {
	if _, ok := v[name]; !ok {
		return v
	}
	m := maps.Clone(v)
	delete(m, name)
	return m
}

// layers are a session's settings at one moment.
type layers struct {
	session values // survive a commit
	local   values // SET LOCAL: until the transaction ends
}

// settings are a session's run-time parameters. What a transaction sets is
// taken back when it is rolled back, also to a savepoint.
type settings struct {
	startup values // from the startup packet: what RESET goes back to
	now     layers
	begun   layers // at the transaction's begin
	open    bool   // there is a transaction
	saved   []savedLayers
	told    map[string]string // what ParameterStatus last told, where it differs from the initial value
}

type savedLayers struct {
	name string
	at   layers
}

func (s *settings) get(key string) string {
	for _, v := range []values{s.now.local, s.now.session, s.startup} {
		if value, ok := v[key]; ok {
			return value
		}
	}
	return catalog[key].initial
}

// parse checks a value for a setting and brings it to its canonical form.
func parseSetting(name string, list []string) (key, value string, err error) {
	key = strings.ToLower(name)
	value = strings.Join(list, ", ")
	s, ok := catalog[key]
	if !ok {
		if strings.ContainsRune(key, '.') { // a client's own
			return key, value, nil
		}
		return "", "", unknownSetting(name)
	}
	if s.fixed {
		return "", "", errorf("55P02", "parameter %q cannot be changed", s.name)
	}
	if s.check != nil {
		if value, ok = s.check(value); !ok {
			f := errorf("22023", "invalid value for parameter %q: %q", s.name, strings.Join(list, ", "))
			if s.about != "" {
				_ = f.hint("%s", s.about)
			}
			return "", "", f
		}
	}
	return key, value, nil
}

func unknownSetting(name string) error {
	return errorf("42704", "unrecognized configuration parameter %q", name)
}

func (s *settings) set(key, value string, local bool) {
	if local {
		s.now.local = s.now.local.with(key, value)
		return
	}
	s.now.session = s.now.session.with(key, value)
	s.now.local = s.now.local.without(key)
}

// setLocal sets all of list until the transaction ends, and takes it over.
func (s *settings) setLocal(list values) {
	for key, value := range s.now.local {
		if _, ok := list[key]; !ok {
			list[key] = value
		}
	}
	s.now.local = list
}

func (s *settings) reset(key string) {
	s.now.session = s.now.session.without(key)
	s.now.local = s.now.local.without(key)
}

// resetAll takes everything back to what the startup packet asked for.
func (s *settings) resetAll() { s.now = layers{} }

// begin notes where to go back to; within a transaction it does nothing.
func (s *settings) begin() {
	if !s.open {
		s.open, s.begun = true, s.now
	}
}

// end ends the transaction.
func (s *settings) end(committed bool) {
	if !s.open {
		return
	}
	if !committed {
		s.now = s.begun
	}
	s.now.local = nil
	s.open, s.begun, s.saved = false, layers{}, nil
}

// fail takes back what was set since the last savepoint.
func (s *settings) fail() {
	s.now = s.begun
	if n := len(s.saved); n > 0 {
		s.now = s.saved[n-1].at
	}
}

// depth returns how many savepoints are set.
func (s *settings) depth() int { return len(s.saved) }

func (s *settings) savepoint(name string) {
	s.saved = append(s.saved, savedLayers{name, s.now})
}

// find returns the index of the innermost savepoint of the name, or -1.
func (s *settings) find(name string) int {
	i := len(s.saved) - 1
	for i >= 0 && s.saved[i].name != name {
		i--
	}
	return i
}

func (s *settings) release(name string) {
	if i := s.find(name); i >= 0 {
		s.saved = s.saved[:i]
	}
}

func (s *settings) rollbackTo(name string) {
	if i := s.find(name); i >= 0 {
		s.now = s.saved[i].at
		s.saved = s.saved[:i+1]
	}
}

// changed calls tell for every reported setting whose value the client does
// not know yet.
func (s *settings) changed(tell func(name, value string)) {
	if len(s.now.session) == 0 && len(s.now.local) == 0 && len(s.told) == 0 {
		return
	}
	for _, key := range reported {
		value := s.get(key)
		known, ok := s.told[key]
		if !ok {
			known = s.initially(key)
		}
		if value == known {
			continue
		}
		if s.told == nil {
			s.told = map[string]string{}
		}
		s.told[key] = value
		tell(catalog[key].name, value)
	}
}

// initially is the value with which the session began.
func (s *settings) initially(key string) string {
	if v, ok := s.startup[key]; ok {
		return v
	}
	return catalog[key].initial
}

// milliseconds is the value of a setting that holds a period; zero is none.
func (s *settings) milliseconds(key string) time.Duration {
	n, _ := strconv.ParseInt(s.get(key), 10, 64) // checked when set
	return time.Duration(n) * time.Millisecond
}
