package pgwire

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/statement"
	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
)

// A client is told the kind of a failure and the name of the resource. What else an error says — the host, port, user
// and database of a server, paths — is for the operator: it is in the log.

// mention is how errors name a resource.
var mention = regexp.MustCompile(`\bresource "?([A-Za-z_][A-Za-z0-9_-]*)"?(?::| is not available)`)

// kinds is what a client is told, by SQLSTATE, where the error has no text that is meant for clients.
var kinds = map[string]string{
	"08001": "the database cannot be reached",
	"08006": "the connection to the database was lost",
	"53100": "disk full",
	"53300": "the resource has no free connection",
}

// reticent returns what a client may be told of an error, and whether that is less than it says.
func reticent(err error) (message string, less bool) {
	text := err.Error()
	if harmless(err) {
		return text, false
	}
	message = "internal error"
	if m, ok := kinds[txn.SQLState(err)]; ok {
		message = m
	} else if e, ok := errors.AsType[syscall.Errno](err); ok {
		message = e.Error() // as "too many open files"
	}
	if e, ok := errors.AsType[*txn.Error](err); ok && (txn.InDoubt(err) || e.SQLState() == txn.SQLState(err)) {
		message = e.Error()
	}
	var names []string
	for _, m := range mention.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(names, m[1]) {
			names = append(names, m[1])
		}
	}
	if len(names) > 0 {
		message = "resource " + strings.Join(names, ", ") + ": " + message
	}
	return message, true
}

// harmless tells whether all of an error was written for clients: by this server or, as its answer to a statement, by a
// database.
func harmless(err error) bool {
	switch e := err.(type) { //nolint:errorlint // each part of the error is looked at
	case *txn.Error, *Failure, *statement.Error, *value.Error, *procedure.Error, fields:
		return true
	case interface{ Unwrap() error }:
		return e.Unwrap() != nil && harmless(e.Unwrap())
	case interface{ Unwrap() []error }:
		return !slices.ContainsFunc(e.Unwrap(), func(err error) bool { return !harmless(err) })
	}
	return false
}

// fields is a database's own answer.
type fields interface {
	error
	SQLState() string
	Fields() (message, detail, hint string)
}
