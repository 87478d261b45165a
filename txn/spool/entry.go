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

// entryName is the name of a transaction's directory.
func entryName(gid txn.GID, k kind) string {
	if k == staged {
		return gid.String()
	}
	return gid.String() + "." + string(k)
}

// parseEntry reads what entryName writes, and nothing else.
func parseEntry(name string) (txn.GID, kind, bool) {
	text, suffix, dotted := strings.Cut(name, ".")
	gid, err := txn.ParseGID(text)
	k := kind(suffix)
	known := !dotted || k == committed || k == single || k == aborted
	return gid, k, err == nil && known
}

// messageName is the name of a message within its transaction's directory.
func messageName(n int) string { return fmt.Sprintf("%06d", n) }

// parseMessage reads what messageName writes, and nothing else.
func parseMessage(name string) (int, bool) {
	n, err := strconv.Atoi(name)
	return n, err == nil && n >= 1 && n <= maxMessages && messageName(n) == name
}

// deliveredName is the name of a message in new/.
func deliveredName(gid txn.GID, message string) string { return gid.String() + "." + message }
