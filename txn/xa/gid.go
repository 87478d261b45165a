package xa

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Limits of the parts of a GID, so that both fit the 63 bits of an XID and its
// text the 64 bytes of the longest gtrid that MariaDB takes (XA, CAE C193 §4.2).
const (
	MaxIncarnation = 1<<(63-sequenceBits) - 1 // the highest number of an incarnation
	MaxSequence    = 1<<sequenceBits - 1      // the highest number of a transaction within one
	// GIDPrefix begins the text of every GID.
	GIDPrefix = "fdt1-"
	// MaxGIDLen is the longest text of a GID in bytes.
	MaxGIDLen = 64
	// MaxClientGIDLen is the longest gid in bytes that a client may give,
	// as in PostgreSQL (GIDSIZE 200 with its terminating NUL).
	MaxClientGIDLen = 199
)

// LogID names one log directory: 128 random bits that are bound to the
// machine and the directory they were made for.
type LogID [16]byte

// NewLogID returns a fresh random id.
func NewLogID() LogID {
	var id LogID
	_, _ = rand.Read(id[:]) // never fails, crypto/rand.Read
	return id
}

// String returns the id as 32 lower-case hexadecimal digits.
func (id LogID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText is String.
func (id LogID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote, and nothing else.
func (id *LogID) UnmarshalText(text []byte) error {
	if len(text) != 32 || strings.ToLower(string(text)) != string(text) {
		return fmt.Errorf("log id %q: not 32 lower-case hexadecimal digits", text)
	}
	if _, err := hex.Decode(id[:], text); err != nil {
		return fmt.Errorf("log id %q: %w", text, err)
	}
	return nil
}

// Role says who decides a transaction.
type Role byte

// The two roles: L is decided by the worker that began it, X by an
// outside coordinator through PREPARE TRANSACTION.
const (
	RoleLocal    Role = 'L'
	RoleExternal Role = 'X'
)

// GID is the global identifier under which every resource manager knows its
// branch of one transaction. GIDs are never reused.
type GID struct {
	Log         LogID
	Incarnation uint64 // of the worker that began the transaction
	Sequence    uint64 // within the incarnation, from 1
	Role        Role
}

// String returns fdt1-LOG-INCARNATION-SEQUENCE-ROLE, at most 64 bytes of
// lower-case letters, digits and hyphens but for the final L or X.
func (g GID) String() string {
	text := append(make([]byte, 0, MaxGIDLen), GIDPrefix...)
	text = append(hex.AppendEncode(text, g.Log[:]), '-')
	text = append(strconv.AppendUint(text, g.Incarnation, 10), '-')
	text = append(strconv.AppendUint(text, g.Sequence, 10), '-', byte(g.Role))
	return string(text)
}

// IsZero tells whether g names no transaction.
func (g GID) IsZero() bool { return g == GID{} }

// Same tells whether both name the same transaction. It does not look at the
// role, which some resources cannot keep.
func (g GID) Same(o GID) bool {
	g.Role = o.Role
	return g == o
}

// MarshalText is String.
func (g GID) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText is ParseGID.
func (g *GID) UnmarshalText(text []byte) (err error) {
	*g, err = ParseGID(string(text))
	return err
}

// ParseGID reads the exact text that GID.String writes; anything else, leading
// zeros and signs included, is an error: a foreign branch that only looks like
// ours is not ours.
func ParseGID(text string) (GID, error) {
	g, err := parseGID(text)
	if err != nil {
		return GID{}, fmt.Errorf("gid %q: %w", text, err)
	}
	return g, nil
}

func parseGID(text string) (g GID, err error) {
	rest, ok := strings.CutPrefix(text, GIDPrefix)
	if !ok || len(text) > MaxGIDLen {
		return GID{}, errors.New("not one of fdt")
	}
	part := strings.Split(rest, "-")
	if len(part) != 4 || len(part[3]) != 1 {
		return GID{}, errors.New("wrong number of parts")
	}
	if err := g.Log.UnmarshalText([]byte(part[0])); err != nil {
		return GID{}, err
	}
	if g.Incarnation, err = parseNumber(part[1], MaxIncarnation); err != nil {
		return GID{}, fmt.Errorf("incarnation: %w", err)
	}
	if g.Sequence, err = parseNumber(part[2], MaxSequence); err != nil {
		return GID{}, fmt.Errorf("sequence: %w", err)
	}
	g.Role = Role(part[3][0])
	if g.Role != RoleLocal && g.Role != RoleExternal {
		return GID{}, fmt.Errorf("unknown role %q", part[3])
	}
	return g, nil
}

// parseNumber reads a decimal from 1 to limit in its shortest form.
func parseNumber(text string, limit uint64) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, err
	}
	if n == 0 || n > limit || strconv.FormatUint(n, 10) != text {
		return 0, fmt.Errorf("%q: not a number from 1 to %d in its shortest form", text, limit)
	}
	return n, nil
}

// XID names a transaction of one log directory in 63 bits, for a client that
// may have to ask how it ended: SQL's pg_current_xact_id(). Like a gid it is
// never used again, but for a log that is lost: PostgreSQL's begins anew with
// its cluster, too.
type XID uint64

// sequenceBits of an XID are the sequence number, those above the incarnation.
const sequenceBits = 36

// XID returns the transaction's number in 63 bits.
func (g GID) XID() XID { return XID(g.Incarnation<<sequenceBits | g.Sequence) }

// GID returns the transaction of that number, in that log and of that role.
func (x XID) GID(log LogID, r Role) GID {
	return GID{Log: log, Incarnation: uint64(x >> sequenceBits), Sequence: uint64(x) & MaxSequence, Role: r}
}
