package pgwire_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// BenchmarkQuery is one round trip of a simple Query on a unix socket; a transfer is four statements in PostgreSQL.
func BenchmarkQuery(b *testing.B) {
	for name, text := range map[string]string{
		"ping": "", "select": "SELECT 1", "begin": "BEGIN; ROLLBACK", "call": "BEGIN; CALL enqueue('x'); ROLLBACK",
		"transfer": "CALL transfer(1, 2, 5)",
	} {
		b.Run(name, func(b *testing.B) {
			var behind bank
			if name == "transfer" {
				behind = withBank(b)
			}
			f := newFDT(b, behind)
			c := f.connect("a")
			if name == "transfer" {
				for _, set := range []string{"CALL deposit(1, 1)", "CALL deposit(2, 1)"} {
					if got := c.query(set); got[0] != "C CALL" {
						b.Fatal(got)
					}
				}
			}
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
