package statement

import (
	"fmt"
	"strings"
	"testing"
)

// long are texts of about n bytes, in the shapes that cost a parser most.
var long = map[string]func(n int) string{
	"columns": func(n int) string { return "SELECT " + strings.Repeat("a,", n/2) + "a" },
	"array":   func(n int) string { return "SELECT ARRAY[" + strings.Repeat("1,", n/2) + "1]" },
	"nested": func(n int) string {
		return strings.Repeat("SELECT "+strings.Repeat("f(", 50)+strings.Repeat(")", 50)+";", n/150)
	},
	"parts":      func(n int) string { return "CALL a" + strings.Repeat(".a", n/2) + "()" },
	"setting":    func(n int) string { return "SET a" + strings.Repeat(".a", n/2) + " = 1" },
	"values":     func(n int) string { return "SET a.b = " + strings.Repeat("1,", n/2) + "1" },
	"statements": func(n int) string { return strings.Repeat("BEGIN;", n/6) },
	"types":      func(n int) string { return "SELECT " + strings.Repeat("a(b),", n/5) + "1" },
	"operators":  func(n int) string { return "SELECT 1" + strings.Repeat("+1", n/2) },
	"conditions": func(n int) string {
		return "SELECT gid FROM pg_prepared_xacts WHERE a=1" + strings.Repeat(" AND a=1", n/8)
	},
	"order":       func(n int) string { return "SELECT gid FROM pg_prepared_xacts ORDER BY a" + strings.Repeat(",a", n/2) },
	"string":      func(n int) string { return "CALL f('" + strings.Repeat("''", n/2) + "')" },
	"strings":     func(n int) string { return "CALL f('a'" + strings.Repeat("\n'a'", n/4) + ")" },
	"escapes":     func(n int) string { return "CALL f(E'" + strings.Repeat(`\u00e4`, n/6) + "')" },
	"dollars":     func(n int) string { return "SELECT " + strings.Repeat("$a$b$a$,", n/8) + "1" },
	"comments":    func(n int) string { return "SELECT 1 " + strings.Repeat("/**/", n/4) },
	"nest of /*":  func(n int) string { return strings.Repeat("/*", n/4) + strings.Repeat("*/", n/4) },
	"open quote":  func(n int) string { return "SELECT '" + strings.Repeat("ä", n/2) },
	"names":       func(n int) string { return "SELECT " + strings.Repeat(`"ä" x,`, n/7) + "1" },
	"casts":       func(n int) string { return "SELECT ARRAY[1" + strings.Repeat(",1::int8", n/8) + "]" },
	"long name":   func(n int) string { return "CALL " + strings.Repeat("a", n) + "()" },
	"long number": func(n int) string { return "CALL f(" + strings.Repeat("1", n) + ")" },
}

// BenchmarkLinear parses each shape in lengths that double: the time for a byte stays.
func BenchmarkLinear(b *testing.B) {
	for name, text := range long {
		for n := 64 << 10; n <= 1<<20; n *= 4 {
			b.Run(fmt.Sprintf("%s/%dKiB", name, n>>10), func(b *testing.B) {
				src := text(n)
				b.SetBytes(int64(len(src)))
				for b.Loop() {
					_, _ = Parse(src)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(src)), "ns/B")
			})
		}
	}
}
