package value

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
)

var (
	literals = flag.Int("literals", 700, "how many literals of each type and format TestDifferential takes")
	seed     = flag.Uint64("seed", 1, "from which it makes them")
)

// moreTexts are what the literals are made from, beside texts.
var moreTexts = map[*Type][]string{
	Bool: {"t", "true", "yes", "on", "1", "FALSE"},
	Date: {"0044-03-15 BC", "5874897-12-31", "4714-11-24 BC", "4714-11-23 BC", "294277-01-01", "0000-01-01", "10000-02-29", "2020-02-29 AD",
		"2020-06-15T10:00+05:3", "2000-02-30", "1900-02-29"},
	Time: {"23:59:59.9999995", "12:34:56.0000005", "12:34:56.0000015", "10:00+05", "12:34.5", "23:59:60", "23:59:60.5", "24:00:00.1"},
	Timestamp: {"0044-03-15 12:00:00 BC", "294276-12-31 23:59:59.999999", "294277-01-01 00:00:00", "4714-11-24 00:00:00 BC", "4714-11-23 23:59:59 BC",
		"2020-02-29 12:34:56.0000005", "2020-02-29 12:34:56.0000015", "2020-02-29 23:59:60", "2020-02-29 24:00:00", "1639-05-01T", "639-5-1T", "2020-02-29 10:00+05:3",
		"2020-02-29 10:00 Europe/Berlin", "2020-02-29 10:00 europe/berlin"},
	Timestamptz: {"0044-03-15 12:00:00+00 BC", "294276-12-31 23:59:59.999999+00", "294277-01-01 00:00:00+00", "4714-11-24 00:00:00+00 BC", "4714-11-24 00:00:00+01 BC",
		"2026-03-08 02:30:00", "2026-11-01 01:30:00", "2026-03-29 02:30:00", "2026-10-25 02:30:00", "1880-01-01 00:00:00", "2500-07-01 12:00", "2020-02-29 10:00+05:3",
		"2020-02-29 12:00+15:59:59", "2020-02-29 12:00-16", "2020-02-29 12:00+1559", "2020-02-29 12:00+010203", "2020-07-29 10:00 Europe/Berlin", "2026-10-25 02:30 America/New_York",
		"2020-02-29 10:00 Nonsense/Zone", "2026-04-05 01:45:00", "2026-10-04 02:15:00"},
	Float4:  {"4e23", "8.5e9", "1.17549435e-38", "3.4028235e38", "3.4028236e38", "1e-45", "7e-46", "16777217", "9007199254740993", "33554432", "1.5e-3", "infinity"},
	Float8:  {"4e23", "9007199254740993", "5e-324", "2e-324", "1.7976931348623159e308", "2.2250738585072014e-308", "1e23", "9.5e-7", "123456789012345680", "-0.0"},
	Numeric: {"1.239", "12345.678e-3", "1e399", "1e-399", "1e401", "-0.0e-5", "1e131071", "1e131072", "1e-16383", "1e-16384", "0.5e1", "99999999999999999999.9999999999"},
	Bytea:   {`\X00`, `\x 0 0`, `\x00 11`, `\000`, `\\x`, `\377a`},
	OID:     {"-1", "0x10", " 5 ", "-2147483648"},
	XID:     {"5", "010", "-1", "x"},
	XID8:    {"-1", "010", "x"},
	JSON:    {`{"a":"\u0000"}`, `"\ud800"`, `"\ud83d\ude00"`, `{"a":1,"a":2}`, `[1,2,]`, `01`, `-0`, `1e5`, `1.`, `"\x"`, "\"\t\"", `tru`, `nul`, `{"a"}`, `{1:2}`, `[]`, `{}`, `"\u00e4"`, ` [ ] `},
	JSONB: {`{"a":"\u0000"}`, `"\ud800"`, `"\ud83d\ude00"`, `{"a":1,"a":2}`, `{"bb":1,"a":2,"c":3}`, `[1,2,]`, `-0`, `-0.00`, `1e5`, `1.50`, `1E-3`, `"\u00e4\b\f\n\r\t\"\\\/\u001f\u007f"`,
		`[]`, `{}`, ` [ {} , [ ] ] `, `{"":1}`, `true`, `false`, `null`, `"x"`, `{"ä":1,"b":2}`, `"\ud800\u0061"`, `"\udc00"`, `1e400`, `{"a":{"b":[1,2,{"c":null}]}}`},
	UUID:       {"a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc999c0b-4ef8bb6d6bb9bd380a11", "a0-eebc999c0b4ef8bb6d6bb9bd380a11"},
	Int4.Array: {"[0:1]={1,2}", "[2:3]={1,2}", "[1:2]={1,2}", "[-1:0][2:3]={{1,2},{3,4}}", "[0:0]={1,2}", "[1:0]={}", "[2]={1,2}", " [0:1] = {1,2}", "{ }", "{{}}", "{{},{}}", "[0:2147483647]={1}", "[5:4]={1}", "{1,,2}", "{{1},{2},}", "{1 2}"},
	Text.Array: {`{"a"b}`, `{a"b"}`, `{ "a" }`, `{"a" }`, `{a b , c}`, `[0:0]={x}`, `{\"}`, `{""}`, `{" "}`, `{ NULL , null, "NULL"}`},
}

// stricter are the texts and bytes that PostgreSQL takes and fdt refuses, on purpose: fdt.yaml(5) has each reason.
var stricter = []struct {
	types []*Type
	codes string
	why   string
}{
	{[]*Type{Date, Time, Timestamp, Timestamptz, Date.Array, Time.Array, Timestamp.Array, Timestamptz.Array}, "22007 22009 22023", "dates and times are taken in the forms of ISO 8601 alone"},
	{[]*Type{Numeric, Numeric.Array, JSONB, JSONB.Array}, "22003", "an exponent stands for at most 400 zeros"},
	{[]*Type{Float4, Float8}, "22P02", "numbers are taken in decimal"},
	{[]*Type{Numeric}, "22P02", "no white space within a number"},
	{nil, "22P02", "the rows of an array are all of one depth"},
	{nil, "42804", "a binary array names the type of its elements"},
	{[]*Type{OID, XID, XID8, OID.Array, XID.Array, XID8.Array}, "22P02 22003", "system identifiers are taken in decimal, and not negative"},
}

// TestDifferential feeds each type with texts and bytes, good and bad, and compares what becomes of them with PostgreSQL: the SQLSTATE, or the text and
// the bytes that come out.
func TestDifferential(t *testing.T) {
	pg := oracle(t)
	for _, oid := range sortedOIDs() {
		typ := known[oid]
		if typ == Void || typ == Unknown || typ.System { // those of the catalogue are compared by queries
			continue
		}
		zones := []string{"UTC"}
		if typ == Timestamptz || typ == Timestamptz.Array {
			zones = []string{"UTC", "America/New_York", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "-5.5", "Pacific/Apia"}
		}
		for _, name := range zones {
			d := newDifferential(t, pg, typ, name)
			d.compare(t, 0, *literals/len(zones))
			d.compare(t, 1, *literals/len(zones))
		}
	}
}

func sortedOIDs() (list []uint32) {
	for oid := range known {
		list = append(list, oid)
	}
	slices.Sort(list)
	return list
}

// differential is the comparison for one type, in one time zone.
type differential struct {
	typ   *Type
	zone  string
	pg    *pgconn.PgConn
	texts []string
	binar [][]byte
	rand  *rand.Rand
}

// setzone is the session's zone on the side of PostgreSQL.
func newDifferential(t *testing.T, pg *pgconn.PgConn, typ *Type, zone string) *differential {
	t.Helper()
	d := &differential{typ: typ, zone: zone, pg: pg, texts: slices.Concat(texts[typ], moreTexts[typ]), rand: rand.New(rand.NewPCG(*seed, uint64(typ.OID)))}
	if typ.Elem != nil { // also arrays of what the element's texts are
		for _, s := range slices.Concat(texts[typ.Elem], moreTexts[typ.Elem]) {
			if utf8.ValidString(s) && len(s) < 1000 {
				d.texts = append(d.texts, `{"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s)+`",NULL}`)
			}
		}
	}
	if len(d.texts) == 0 {
		d.texts = []string{"", "x", "a b", "ä€😀", "0", "-1"}
	}
	d.texts = slices.DeleteFunc(d.texts, func(s string) bool { return len(s) > 10000 })
	d.binar = [][]byte{{}, {0, 0, 0, 1}}
	for _, s := range d.texts {
		if v, err := typ.Parse(s); err == nil {
			d.binar = append(d.binar, v.Append(nil, true))
		}
	}
	must(t, pg.Exec(t.Context(), "DEALLOCATE ALL; SET TimeZone = '"+zone+"'").Close())
	name := strings.Replace(typ.Name, "character", "bpchar", 1) // which is of any length
	if strings.HasSuffix(name, "varying") || strings.HasSuffix(name, "varying[]") {
		name = typ.Name
	}
	_, err := pg.Prepare(t.Context(), "d", "SELECT $1::"+name+", $1::"+name, []uint32{typ.OID})
	must(t, err)
	return d
}

// mutate makes a text or bytes out of those at hand.
func (d *differential) mutate(from []byte, other []byte) []byte {
	b := slices.Clone(from)
	for range d.rand.IntN(4) {
		at := d.rand.IntN(len(b) + 1)
		char := "0123456789+-.:eE{}[],\"\\ TZBCxn/\t"[d.rand.IntN(32)]
		switch d.rand.IntN(7) {
		case 0:
			b = slices.Insert(b, at, char)
		case 1:
			if at < len(b) {
				b[at] = char
			}
		case 2:
			if at < len(b) {
				b = slices.Delete(b, at, at+1)
			}
		case 3:
			if at < len(b) && b[at] >= '0' && b[at] <= '9' {
				b[at] = byte('0' + d.rand.IntN(10))
			}
		case 4:
			if len(b) < 500 {
				b = slices.Insert(b, at, b[at:min(len(b), at+1+d.rand.IntN(5))]...)
			}
		case 5:
			if len(other) > 0 {
				cut := d.rand.IntN(len(other))
				b = append(b[:at:at], other[cut:min(len(other), cut+200)]...)
			}
		case 6:
			if at < len(b) {
				b[at] = byte(d.rand.IntN(256))
			}
		}
	}
	return b
}

// compare holds n texts (format 0) or bytes (format 1) against PostgreSQL.
func (d *differential) compare(t *testing.T, format int16, n int) {
	t.Helper()
	var inputs [][]byte
	for i := range n {
		pick := func() []byte {
			if format == 0 {
				return []byte(d.texts[(i+d.rand.IntN(2)*d.rand.IntN(len(d.texts)))%len(d.texts)])
			}
			return d.binar[(i+d.rand.IntN(2)*d.rand.IntN(len(d.binar)))%len(d.binar)]
		}
		in := pick()
		if i >= len(d.texts) {
			in = d.mutate(in, pick())
		}
		if format == 0 && (!utf8.Valid(in) || bytes.IndexByte(in, 0) >= 0) {
			continue // the session refuses these before any type sees them
		}
		inputs = append(inputs, append([]byte{}, in...)) // never nil, which is null
	}
	for batch := range slices.Chunk(inputs, 100) {
		d.batch(t, format, batch)
	}
}

type answer struct {
	code         string
	text, binary []byte
	message      string
}

func (d *differential) batch(t *testing.T, format int16, inputs [][]byte) {
	t.Helper()
	p := d.pg.StartPipeline(t.Context())
	for _, in := range inputs {
		p.SendQueryPrepared("d", [][]byte{in}, []int16{format}, []int16{0, 1})
		p.SendPipelineSync()
	}
	must(t, p.Flush())
	answers := make([]answer, len(inputs))
	for i := 0; i < len(inputs); {
		r, err := p.GetResults()
		if e, ok := errors.AsType[*pgconn.PgError](err); ok {
			answers[i].code, answers[i].message = e.Code, e.Message
			continue
		}
		must(t, err)
		switch r := r.(type) {
		case *pgconn.PipelineSync:
			i++
		case *pgconn.ResultReader:
			for r.NextRow() {
				answers[i].text, answers[i].binary = slices.Clone(r.Values()[0]), slices.Clone(r.Values()[1])
			}
			if _, err := r.Close(); err != nil {
				e, _ := errors.AsType[*pgconn.PgError](err)
				answers[i].code, answers[i].message = e.Code, e.Message
			}
		}
	}
	must(t, p.Close())
	for i, in := range inputs {
		d.judge(t, format, in, answers[i])
	}
}

func (d *differential) judge(t *testing.T, format int16, in []byte, want answer) {
	t.Helper()
	loc, _, err := Zone(d.zone)
	must(t, err)
	var v Value
	if format == 0 {
		v, err = d.typ.ParseIn(loc, string(in))
	} else {
		v, err = d.typ.Decode(in)
	}
	say := func(format string, args ...any) {
		t.Errorf("%s in %s, %q: "+format, append([]any{d.typ, d.zone, in}, args...)...)
	}
	if e, ok := errors.AsType[*Error](err); err != nil {
		switch {
		case !ok:
			say("%v", err)
		case want.code == "" && !d.stricter(e.Code):
			say("refused with %s %s, PostgreSQL has %s", e.Code, e.Message, want.text)
		case want.code != "" && !alike(e.Code, want.code, format == 0 && d.typ.Elem == nil):
			say("refused with %s %s, by PostgreSQL with %s %s", e.Code, e.Message, want.code, want.message)
		}
		return
	}
	if want.code != "" {
		say("%q, PostgreSQL refuses with %s %s", v.Text, want.code, want.message)
		return
	}
	if got := v.AppendIn(loc, nil, false); !bytes.Equal(got, want.text) {
		say("%q, PostgreSQL has %q", got, want.text)
	} else if got := v.Append(nil, true); !bytes.Equal(got, want.binary) && !strings.Contains(v.Text, "NaN") { // of which there are many in binary
		say("% x, PostgreSQL has % x", got, want.binary)
	}
}

// alike tells whether two complaints are of one kind: of a text the same, but that digits before garbage may be too many, or parts of a date
// out of range; of bytes and arrays it depends on what is looked at first.
func alike(a, b string, scalar bool) bool {
	kinds := []string{"22P02 22003", "22P02 22P05", "22007 22008 22009 22023"}
	if !scalar {
		kinds = []string{"22P02 22P03 22003 22007 22008 22009 22021 22023 22P05 XX000 54001 08P01 42804 54000 42622 2202E 42P22"}
	}
	return a == b || slices.ContainsFunc(kinds, func(kind string) bool { return strings.Contains(kind, a) && strings.Contains(kind, b) })
}

func (d *differential) stricter(code string) bool {
	for _, s := range stricter {
		if (slices.Contains(s.types, d.typ) || s.types == nil && d.typ.Elem != nil) && strings.Contains(s.codes, code) {
			return true
		}
	}
	return false
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(fmt.Errorf("PostgreSQL: %w", err))
	}
}
