package spool

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/fdtserver/fdt/txn"
)

// kind is what the suffix of an entry of prepared/ or tmp/ says.
type kind string

const (
	staged    kind = ""           // undecided
	committed kind = "committed"  // phase two said commit
	single    kind = "single"     // committed in one phase; needs no proof
	aborted   kind = "rolledback" // being deleted, in tmp/
)

// maxMessages keeps the numbers of one transaction six digits wide, so that
// the order of names is the order of messages.
const maxMessages = 999_999

// validName tells whether a resource of that name can be told from others in
// the names of files.
func validName(name string) bool {
	return name != "" && len(name) <= 64 && !strings.ContainsAny(name, "./\x00")
}

// entryName is the name of a branch's directory. The resource is part of it:
// two of them may be one directory.
func entryName(gid txn.GID, resource string, k kind) string {
	name := gid.String() + "+" + resource
	if k == staged {
		return name
	}
	return name + "." + string(k)
}

// parseEntry reads what entryName writes, and nothing else.
func parseEntry(entry string) (gid txn.GID, resource string, k kind, ok bool) {
	branch, suffix, dotted := strings.Cut(entry, ".")
	text, resource, named := strings.Cut(branch, "+")
	gid, err := txn.ParseGID(text)
	k = kind(suffix)
	known := !dotted || k == committed || k == single || k == aborted
	return gid, resource, k, err == nil && named && known && validName(resource)
}

// messageName is the name of a message within its transaction's directory.
func messageName(n int) string { return fmt.Sprintf("%06d", n) }

// parseMessage reads what messageName writes, and nothing else.
func parseMessage(name string) (int, bool) {
	n, err := strconv.Atoi(name)
	return n, err == nil && n >= 1 && n <= maxMessages && messageName(n) == name
}

// deliveredName is the name of a message in new/.
func deliveredName(gid txn.GID, resource, message string) string {
	return entryName(gid, resource, staged) + "." + message
}
