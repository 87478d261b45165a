package txn_test

import (
	"log/slog"
	"testing"

	"github.com/fdtserver/fdt/txn"
)

// BenchmarkCommit is a commit of messages that were put into one spool, or into both, with allocs/op of fdt and the spools; decided is
// answered before all know.
func BenchmarkCommit(b *testing.B) {
	for name, test := range map[string]struct {
		spools  []string
		decided bool
	}{
		"one phase":          {[]string{"a"}, false},
		"two phases":         {[]string{"a", "b"}, false},
		"two phases/decided": {[]string{"a", "b"}, true},
	} {
		b.Run(name, func(b *testing.B) {
			p := newFastPlace(b)
			m := p.open(b, func(o *txn.Options) {
				o.Logger, o.AnswerDecided = slog.New(slog.DiscardHandler), test.decided
			})
			s := m.NewSession(alice)
			b.ReportAllocs()
			for b.Loop() {
				begin(b, s)
				for _, name := range test.spools {
					put(b, s, name, "message")
				}
				wantErr(b, s.Commit(b.Context()), nil)
			}
			wantErr(b, s.Close(b.Context()), nil)
			closeAll(b, m)
		})
	}
}
