package pgwire

import (
	"fmt"
	"strings"

	"github.com/fdtserver/fdt/internal/trace"
	"github.com/fdtserver/fdt/pgwire/statement"
)

// setting is one run-time parameter that clients know from PostgreSQL. None is
// taken and then not heeded in silence: it is applied, or takes the single
// value that is served and refuses others, or is answered with a WARNING.
type setting struct {
	name    string // as SHOW prints it
	initial string
	report  bool // told by ParameterStatus
	fixed   bool // cannot be set
	single  bool // of what it could mean one thing is served: check refuses the rest
	check   func(value string) (string, bool)
	idle    func(s setting, value string) bool // tells the values that do nothing here; nil: all are applied
	about   string
}

// changed is for a setting that does nothing, whatever it is.
func changed(s setting, value string) bool { return value != s.initial }

// belowOne is for extra_float_digits, of which those values ask for fewer digits.
func belowOne(_ setting, value string) bool { return value == "0" || strings.HasPrefix(value, "-") }

// applicationName makes a name of printable ASCII that is no longer than an identifier, as PostgreSQL does.
func applicationName(v string) (string, bool) {
	b := []byte(statement.Shorten(v))
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b), true
}

// traceparent takes one of W3C Trace Context, or none.
func traceparent(v string) (string, bool) {
	_, ok := trace.Parse(v)
	return v, ok || v == ""
}

// ineffective warns of a value that was set and does nothing.
func (se *session) ineffective(key, value string) {
	if s, ok := catalog[key]; ok && s.idle != nil && s.idle(s, value) {
		se.warn("01000", fmt.Sprintf("parameter %q has no effect in fdt", s.name))
	}
}

// catalog is all settings that are known, by name in lower case. fdt-worker(8)
// prints it.
var catalog = func() map[string]setting {
	m := map[string]setting{}
	for _, s := range []setting{
		{name: "application_name", report: true, about: "Name of the client's application.", check: applicationName},
		{name: "backslash_quote", initial: "safe_encoding", idle: changed},
		{name: "bytea_output", initial: "hex", check: oneOf("hex"), about: "Only hex is printed.", single: true},
		{name: "check_function_bodies", initial: "on", check: boolean, idle: changed},
		{name: "client_encoding", initial: "UTF8", report: true, check: encoding, about: "Only UTF8 is spoken.", single: true},
		{name: "client_min_messages", initial: "notice", check: oneOf("debug5", "debug4", "debug3", "debug2", "debug1", "debug", "log", "notice", "warning", "error"), about: "Of warnings nothing is said at error."},
		{name: "DateStyle", initial: "ISO, MDY", report: true, check: dateStyle, about: "Only ISO is printed.", single: true},
		{name: "default_table_access_method", initial: "heap", idle: changed},
		{name: "default_tablespace", idle: changed},
		{name: "default_transaction_deferrable", initial: "off", check: boolean, about: "Whether new transactions are deferrable."},
		{name: "default_transaction_isolation", initial: "read committed", check: oneOf(isolations...), about: "Isolation of new transactions."},
		{name: "default_transaction_read_only", initial: "off", report: true, check: boolean, about: "Whether new transactions are read-only."},
		{name: "extra_float_digits", initial: "1", check: integer(-15, 3), idle: belowOne, about: "Floats are printed with all digits that they need; 1 and more ask for that."},
		{name: trace.Setting, check: traceparent, about: "Of which trace of W3C Trace Context calls are a part; empty is none."},
		{name: "geqo", initial: "on", check: boolean, idle: changed},
		{name: "idle_in_transaction_session_timeout", initial: "0", check: period, about: "Longest silence in a transaction, in ms; 0 leaves the server's limit."},
		{name: "idle_session_timeout", initial: "0", check: period, about: "Longest silence outside of a transaction, in ms; 0 is no limit."},
		{name: "in_hot_standby", initial: "off", report: true, fixed: true},
		{name: "integer_datetimes", initial: "on", report: true, fixed: true},
		{name: "IntervalStyle", initial: "postgres", report: true, check: oneOf("postgres"), single: true},
		{name: "is_superuser", initial: "off", report: true, fixed: true},
		{name: "jit", initial: "on", check: boolean, idle: changed},
		{name: "lc_messages", initial: "C", idle: changed},
		{name: "lc_monetary", initial: "C", idle: changed},
		{name: "lc_numeric", initial: "C", idle: changed},
		{name: "lc_time", initial: "C", idle: changed},
		{name: "lock_timeout", initial: "0", check: period, about: "Longest wait for one lock, in ms; 0 leaves the server's limit, which it cannot exceed."},
		{name: "max_identifier_length", initial: "63", fixed: true},
		{name: "max_index_keys", initial: "32", fixed: true},
		{name: "max_prepared_transactions", initial: "262143", fixed: true},
		{name: "quote_all_identifiers", initial: "off", check: boolean, idle: changed},
		{name: "role", initial: "none", check: oneOf("none"), single: true},
		{name: "row_security", initial: "on", check: boolean, idle: changed},
		{name: "search_path", initial: `"$user", public`, idle: changed},
		{name: "server_encoding", initial: "UTF8", report: true, fixed: true},
		{name: "server_version", initial: ServerVersion, report: true, fixed: true},
		{name: "server_version_num", initial: "150000", fixed: true},
		{name: "session_authorization", report: true, fixed: true},
		{name: "standard_conforming_strings", initial: "on", report: true, check: onOnly, single: true},
		{name: "statement_timeout", initial: "0", check: period, about: "Longest time for a statement, in ms; 0 is no limit."},
		{name: "synchronize_seqscans", initial: "on", check: boolean, idle: changed},
		{name: "synchronous_commit", initial: "on", idle: changed},
		{name: "TimeZone", initial: "UTC", report: true, check: timeZone, about: "In which timestamptz is read and printed: a name of the IANA's database, or hours east."},
		{name: "transaction_deferrable", initial: "off", check: boolean, about: "Whether this transaction is deferrable."},
		{name: "transaction_isolation", initial: "read committed", check: oneOf(isolations...), about: "Isolation of this transaction."},
		{name: "transaction_read_only", initial: "off", check: boolean, about: "Whether this transaction is read-only."},
		{name: "transaction_timeout", initial: "0", check: period, about: "Longest time for a transaction, in ms; 0 leaves the server's limit, which it cannot exceed."},
		{name: "xmloption", initial: "content", idle: changed},
	} {
		m[strings.ToLower(s.name)] = s
	}
	return m
}()
