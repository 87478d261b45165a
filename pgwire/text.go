package pgwire

import (
	"bytes"
	"slices"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fdtserver/fdt/internal/bulk"
)

// The text of a long message is not copied: it is the message, whose buffer nobody uses again (see giveBuffer).

// queryOf returns the text of a Query.
func queryOf(body []byte) (string, error) {
	if cap(body) > keepBelow && bytes.IndexByte(body, 0) == len(body)-1 {
		return bulk.Text(body[:len(body)-1]), nil
	}
	var m pgproto3.Query
	err := m.Decode(body)
	return m.String, err
}

// longName is more than is read of a name.
const longName = 256

// parseOf reads a Parse.
func parseOf(body []byte) (m pgproto3.Parse, err error) {
	end := []byte{0}
	name, rest, _ := bytes.Cut(body, end)
	text, types, ok := bytes.Cut(rest, end)
	if cap(body) <= keepBelow || !ok {
		err = m.Decode(body)
		return m, err
	}
	err = m.Decode(slices.Concat(name[:min(len(name), longName)], end, end, types))
	if m.Query = bulk.Text(text); len(text) < len(body)/2 { // a statement is not to keep a message that is much longer
		m.Query = bulk.String(text)
	}
	return m, err
}
