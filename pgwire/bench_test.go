package pgwire_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// BenchmarkQuery is one round trip of a simple Query on a unix socket.
func BenchmarkQuery(b *testing.B) {
	for name, text := range map[string]string{
		"ping": "", "select": "SELECT 1", "begin": "BEGIN; ROLLBACK", "call": "BEGIN; CALL enqueue('x'); ROLLBACK",
	} {
		b.Run(name, func(b *testing.B) {
			f := newFDT(b, "")
			c := f.connect("a")
			q, err := (&pgproto3.Query{String: text}).Encode(nil)
			if err != nil {
				b.Fatal(err)
			}
			answer := make([]byte, 4096)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.conn.Write(q); err != nil {
					b.Fatal(err)
				}
				if _, err := c.conn.Read(answer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
