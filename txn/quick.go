package txn

import (
	"bytes"
	"strconv"
	"time"
	"unique"
)

// quick reads JSON in the form in which our own records and claims are
// written. Whatever else it meets, an escape or a field it does not know, makes
// it give up, and encoding/json reads the text instead: it is faster, and
// decides nothing.
type quick struct {
	rest []byte
	bad  bool
}

// all tells whether the whole text was read.
func (q *quick) all() bool { return !q.bad && len(q.rest) == 0 }

func (q *quick) fail() { q.bad = true }

// take reads one character if it is next.
func (q *quick) take(c byte) bool {
	if q.bad || len(q.rest) == 0 || q.rest[0] != c {
		return false
	}
	q.rest = q.rest[1:]
	return true
}

func (q *quick) must(c byte) {
	if !q.take(c) {
		q.fail()
	}
}

// object reads an object, whose values field reads by their names.
func (q *quick) object(field func(name string)) {
	q.list('{', '}', func() {
		name := q.bytes()
		q.must(':')
		if !q.bad {
			field(string(name)) // does not escape: no copy is made
		}
	})
}

// list reads what is between brackets, separated by commas.
func (q *quick) list(first, last byte, element func()) {
	q.must(first)
	if q.take(last) {
		return
	}
	for !q.bad {
		element()
		if q.take(last) {
			return
		}
		q.must(',')
	}
}

// bytes reads a string without its quotes.
func (q *quick) bytes() []byte {
	q.must('"')
	end := bytes.IndexByte(q.rest, '"')
	if q.bad || end < 0 {
		q.fail()
		return nil
	}
	text := q.rest[:end]
	for _, c := range text {
		if c == '\\' || c < ' ' || c >= 0x80 {
			q.fail()
			return nil
		}
	}
	q.rest = q.rest[end+1:]
	return text
}

// text reads a string.
func (q *quick) text() string { return string(q.bytes()) }

// common reads a string that many records share, and so does its memory.
func (q *quick) common() string { return unique.Make(q.text()).Value() }

// into reads a string that v knows how to read.
func (q *quick) into(v interface{ UnmarshalText(text []byte) error }) {
	if text := q.bytes(); !q.bad && v.UnmarshalText(text) != nil {
		q.fail()
	}
}

func (q *quick) time() (t time.Time) {
	q.into(&t)
	return t
}

func (q *quick) number() uint64 {
	end := 0
	for end < len(q.rest) && q.rest[end] >= '0' && q.rest[end] <= '9' {
		end++
	}
	n, err := strconv.ParseUint(string(q.rest[:end]), 10, 64)
	if err != nil || q.rest[0] == '0' && end > 1 {
		q.fail()
		return 0
	}
	q.rest = q.rest[end:]
	return n
}

// yes reads true, the only one that is written.
func (q *quick) yes() bool {
	rest, ok := bytes.CutPrefix(q.rest, []byte("true"))
	if !ok {
		q.fail()
	}
	q.rest = rest
	return ok
}

func (q *quick) branches() []BranchID {
	all := make([]BranchID, 0, 2)
	q.list('[', ']', func() {
		var b BranchID
		q.object(func(name string) {
			switch name {
			case "resource":
				b.Resource = q.common()
			case "identity":
				b.Identity = q.common()
			case "proof":
				b.Proof = Proof(q.text())
			default:
				q.fail()
			}
		})
		all = append(all, b)
	})
	return all
}

// record reads a record.
func (q *quick) record() (r record, ok bool) {
	q.object(func(name string) {
		switch name {
		case "kind":
			r.Kind = kind(q.common())
		case "at":
			r.At = q.time()
		case "gid":
			q.into(&r.GID)
		case "client_gid":
			r.ClientGID = q.text()
		case "named":
			r.Named = q.yes()
		case "owner":
			r.Owner = q.common()
		case "addr":
			r.Addr = q.common()
		case "database":
			r.Database = q.common()
		case "decider":
			r.Decider = q.common()
		case "decision":
			q.into(&r.Decision)
		case "hazard":
			r.Hazard = q.text()
		case "branches":
			r.Branches = q.branches()
		case "log":
			q.into(&r.Log)
		case "incarnation":
			r.Incarnation = q.number()
		case "through":
			r.Through = q.number()
		case "program":
			r.Program = q.text()
		default:
			q.fail()
		}
	})
	return r, q.all()
}

// claim reads a claim's state.
func (q *quick) claim() (st claimState, ok bool) {
	q.object(func(name string) {
		switch name {
		case "gid":
			q.into(&st.GID)
		case "client_gid":
			st.ClientGID = q.text()
		case "phase":
			q.into(&st.Phase)
		case "heuristic":
			st.Heuristic = q.yes()
		case "hazard":
			st.Hazard = q.text()
		case "owner":
			st.Owner = q.common()
		case "addr":
			st.Addr = q.common()
		case "database":
			st.Database = q.common()
		case "since":
			st.Since = q.time()
		case "decider":
			st.Decider = q.common()
		case "branches":
			st.Branches = q.branches()
		case "claimant":
			st.Claimant = q.number()
		case "deciding":
			q.into(&st.Deciding)
		case "deciding_by":
			st.DecidingBy = q.number()
		case "hands_off":
			st.HandsOff = q.text()
		case "decision":
			q.into(&st.Decision)
		default:
			q.fail()
		}
	})
	return st, q.all()
}
