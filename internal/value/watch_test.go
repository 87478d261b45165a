package value_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/value"
)

// TestWatched shows that reading a long value tells of its work before much of it is done, and can be ended at each such moment.
func TestWatched(t *testing.T) {
	const n = 20_000
	numbers := strings.Repeat("1,", n) + "1"
	nested := `{"b": 1, "a": [` + numbers + `]}`
	for range 20 {
		nested = `{"bb": 1, "a": ` + nested + `, "c": 2, "bb": 3}`
	}
	errStop := errors.New("stop")
	for _, c := range []struct {
		typ   *value.Type
		text  string
		least int // bytes of work
	}{
		{value.JSONB, "[" + numbers + "]", n},
		{value.JSONB, `{"a": "` + strings.Repeat("x", n) + `", "b": [1, 2, 3]}`, n},
		{value.JSONB, nested, 20 * n}, // each level is put in order
		{value.Int4.Array, "{" + numbers + "}", n},
		{value.Text.Array, `{"` + strings.Repeat(`x\"`, n) + `",y}`, n},
		{value.JSONB.Array, `{"{\"a\": [` + numbers + `]}",NULL}`, n},
	} {
		plain, err := c.typ.Parse(c.text)
		if err != nil {
			t.Fatal(err)
		}
		read := map[string]func(value.Watch) (value.Value, error){
			"text": func(w value.Watch) (value.Value, error) { return c.typ.ParseWatched(nil, c.text, w) },
		}
		if c.typ == value.JSONB {
			binary := append([]byte{1}, c.text...)
			read["binary"] = func(w value.Watch) (value.Value, error) { return c.typ.DecodeWatched(binary, w) }
		}
		for format, do := range read {
			calls, work := 0, 0
			v, err := do(func(bytes int) error { calls++; work += bytes; return nil })
			if err != nil || v != plain || work < c.least-16<<10 || calls == 0 {
				t.Errorf("%.40s in %s: %v, the same: %v, %d calls for %d bytes", c.text, format, err, v == plain, calls, work)
			}
			for at := range calls {
				left := at
				_, err := do(func(int) error {
					if left--; left < 0 {
						return errStop
					}
					return nil
				})
				if err != errStop { //nolint:errorlint // as it is
					t.Errorf("%.40s in %s: stopped at %d of %d: %v", c.text, format, at, calls, err)
				}
			}
		}
	}
}
