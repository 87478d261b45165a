// Package value is the data types that pass between clients, procedures and
// resources. A [Value] is always valid for its type and its text is canonical:
// what PostgreSQL prints with DateStyle ISO, IntervalStyle postgres, TimeZone
// UTC and bytea_output hex, so that equal values have equal texts; but json is
// kept as it was written.
//
// Names, OIDs and binary formats are those of PostgreSQL's pg_type.dat and
// its type input and output functions.
package value

import (
	"fmt"
	"strings"
	"time"
)

// Type is a data type. The types of this package are the only ones; they are
// compared by pointer.
type Type struct {
	Name  string // as format_type prints it: "bigint", "text[]"
	OID   uint32
	Size  int16 // pg_type.typlen
	Elem  *Type // nil unless this is an array
	Array *Type // the array of this type, nil if there is none

	// System is set of what only queries of the catalogue meet.
	System bool

	parse  func(t *Type, text string) (string, error) // nil where it takes more: see read
	encode func(dst []byte, text string) []byte
	decode func(t *Type, src []byte) (string, error)
}

// Value is a value of a type, or null. The zero Value is an untyped null.
type Value struct {
	Type *Type
	Null bool
	Text string // canonical; empty if Null
}

// Error is text or bytes that are no value of the type.
type Error struct {
	Code    string // SQLSTATE
	Message string
}

func (e *Error) Error() string { return e.Message }

func errorf(code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Input is PostgreSQL's complaint about a text that the type does not take.
func (t *Type) input(text string) error {
	return errorf("22P02", "invalid input syntax for type %s: %q", t.Name, text)
}

func (t *Type) binary() error {
	return errorf("22P03", "incorrect binary data format for type %s", t.Name)
}

// short is PostgreSQL's complaint about bytes that end too early.
func short() error { return errorf("08P01", "insufficient data left in message") }

// String returns the type's name.
func (t *Type) String() string { return t.Name }

// Parse is [Type.ParseIn] in UTC.
func (t *Type) Parse(text string) (Value, error) { return t.ParseIn(nil, text) }

// ParseIn reads a value from text, in any form that PostgreSQL takes for the
// common cases. A timestamptz without a zone is a time in loc, nil for UTC. The
// error is an *[Error].
func (t *Type) ParseIn(loc *time.Location, text string) (Value, error) {
	return t.ParseWatched(loc, text, nil)
}

// Watch is told, as a value is read that takes long, how many bytes of text the work was that it was not told of yet.
// Its error ends the reading, and is returned as it is.
type Watch func(bytes int) error

// ParseWatched is ParseIn that tells of its work: with a jsonb and with an array, all others are short.
func (t *Type) ParseWatched(loc *time.Location, text string, watch Watch) (Value, error) {
	s, err := t.read(&input{loc: loc, watch: watch}, text)
	if err != nil {
		return Value{}, err
	}
	return Value{Type: t, Text: s}, nil
}

// input is how a text is read.
type input struct {
	loc   *time.Location // of what has no zone; nil for UTC
	watch Watch          // nil for nobody
	work  int            // in bytes, of which watch was not told
}

// spell is how many bytes the work is before the watch is told: some hundred microseconds.
const spell = 16 << 10

// did counts work.
func (r *input) did(bytes int) error {
	if r.work += bytes; r.watch == nil || r.work < spell {
		return nil
	}
	work := r.work
	r.work = 0
	return r.watch(work)
}

func (t *Type) read(in *input, text string) (string, error) {
	switch {
	case t.OID == timestamptzOID:
		return parseTimestamptz(t, text, in.loc)
	case t.OID == jsonbOID:
		return readJSONB(t, text, in)
	case t.Elem != nil:
		return parseArray(t, text, in)
	}
	return t.parse(t, text)
}

// Decode reads a value from PostgreSQL's binary format; the error is an
// *[Error].
func (t *Type) Decode(src []byte) (Value, error) { return t.DecodeWatched(src, nil) }

// DecodeWatched is Decode that tells of its work, as ParseWatched does, with a jsonb.
func (t *Type) DecodeWatched(src []byte, watch Watch) (Value, error) {
	if t.Size > 0 && t.OID != nameOID {
		if len(src) < int(t.Size) {
			return Value{}, short()
		}
		if len(src) > int(t.Size) {
			return Value{}, t.binary()
		}
	}
	decode := t.decode
	if t.OID == jsonbOID {
		decode = func(t *Type, src []byte) (string, error) { return decodeJSONB(t, src, &input{watch: watch}) }
	}
	s, err := decode(t, src)
	if err != nil {
		return Value{}, err
	}
	return Value{Type: t, Text: s}, nil
}

// Null returns the type's null.
func (t *Type) Null() Value { return Value{Type: t, Null: true} }

// Append is [Value.AppendIn] in UTC.
func (v Value) Append(dst []byte, binary bool) []byte { return v.AppendIn(nil, dst, binary) }

// AppendIn appends the value in PostgreSQL's binary format if binary, else as
// text, a timestamptz as the time in loc, nil for UTC. It must not be called
// for a null.
func (v Value) AppendIn(loc *time.Location, dst []byte, binary bool) []byte {
	if binary {
		return v.Type.encode(dst, v.Text)
	}
	return append(dst, v.TextIn(loc)...)
}

// TextIn is the text in a zone.
func (v Value) TextIn(loc *time.Location) string {
	switch {
	case loc == nil:
	case v.Type.OID == timestamptzOID:
		us, _ := readMoment(v.Type, v.Text, nil) // canonical
		return moment(us, loc)
	case v.Type.Elem != nil && v.Type.Elem.OID == timestamptzOID:
		g := gridOf(v)
		for i := range g.cells {
			if !g.cells[i].null {
				g.cells[i].text = Value{Type: v.Type.Elem, Text: g.cells[i].text}.TextIn(loc)
			}
		}
		return g.text()
	}
	return v.Text
}

const (
	oidOID         = 26
	nameOID        = 19 // whose binary format is not of its fixed length
	timestamptzOID = 1184
	jsonbOID       = 3802
)

// Names of the types, with all their aliases; in pg_type's order.
var (
	Bool        = scalar("boolean", 16, 1, parseBool, encodeBool, decodeBool)
	Bytea       = scalar("bytea", 17, -1, parseBytea, encodeBytea, decodeBytea)
	Name        = scalar("name", 19, 64, parseName, encodeText, decodeName)
	Int8        = scalar("bigint", 20, 8, parseInt(64), encodeInt(8), decodeInt)
	Int2        = scalar("smallint", 21, 2, parseInt(16), encodeInt(2), decodeInt)
	Int4        = scalar("integer", 23, 4, parseInt(32), encodeInt(4), decodeInt)
	Text        = scalar("text", 25, -1, parseText, encodeText, decodeText)
	OID         = scalar("oid", 26, 4, parseUint(32), encodeUint(4), decodeUint)
	XID         = scalar("xid", 28, 4, parseUint(32), encodeUint(4), decodeUint)
	JSON        = scalar("json", 114, -1, parseJSON, encodeText, decodeParsed)
	Float4      = scalar("real", 700, 4, parseFloat(32), encodeFloat4, decodeFloat4)
	Float8      = scalar("double precision", 701, 8, parseFloat(64), encodeFloat8, decodeFloat8)
	Unknown     = scalar("unknown", 705, -2, parseText, encodeText, decodeText)
	Bpchar      = scalar("character", 1042, -1, parseText, encodeText, decodeText)
	Varchar     = scalar("character varying", 1043, -1, parseText, encodeText, decodeText)
	Date        = scalar("date", 1082, 4, parseDate, encodeDate, decodeDate)
	Time        = scalar("time without time zone", 1083, 8, parseTime, encodeTime, decodeTime)
	Timestamp   = scalar("timestamp without time zone", 1114, 8, parseTimestamp, encodeTimestamp, decodeTimestamp)
	Timestamptz = scalar("timestamp with time zone", 1184, 8, nil, encodeTimestamp, decodeTimestamptz)
	Numeric     = scalar("numeric", 1700, -1, parseNumeric, encodeNumeric, decodeNumeric)
	Void        = scalar("void", 2278, 4, parseVoid, encodeVoid, decodeVoid)
	UUID        = scalar("uuid", 2950, 16, parseUUID, encodeUUID, decodeUUID)
	JSONB       = scalar("jsonb", jsonbOID, -1, nil, encodeJSONB, nil)
	XID8        = scalar("xid8", 5069, 8, parseUint(64), encodeUint(8), decodeUint)
)

func scalar(name string, oid uint32, size int16, parse func(*Type, string) (string, error),
	encode func([]byte, string) []byte, decode func(*Type, []byte) (string, error),
) *Type {
	return &Type{Name: name, OID: oid, Size: size, parse: parse, encode: encode, decode: decode}
}

// spelling is a type with the OID of its array, 0 for none, and its other
// names, comma-separated.
type spelling struct {
	t       *Type
	array   uint32
	aliases string
}

// known maps every OID and every spelling of a name to its type.
var known, spelled = register()

func register() (map[uint32]*Type, map[string]*Type) {
	oids, names := map[uint32]*Type{}, map[string]*Type{}
	for _, r := range append([]spelling{
		{Bool, 1000, "bool"},
		{Bytea, 1001, ""},
		{Name, 1003, ""},
		{Int8, 1016, "int8"},
		{Int2, 1005, "int2"},
		{Int4, 1007, "int4,int"},
		{Text, 1009, ""},
		{OID, 1028, ""},
		{XID, 1011, ""},
		{JSON, 199, ""},
		{Float4, 1021, "float4"},
		{Float8, 1022, "float8,float"},
		{Unknown, 0, ""},
		{Bpchar, 1014, "bpchar,char"},
		{Varchar, 1015, "varchar,char varying"},
		{Date, 1182, ""},
		{Time, 1183, "time"},
		{Timestamp, 1115, "timestamp"},
		{Timestamptz, 1185, "timestamptz"},
		{Numeric, 1231, "decimal,dec"},
		{Void, 0, ""},
		{UUID, 2951, ""},
		{JSONB, 3807, ""},
		{XID8, 271, ""},
	}, systemArrays...) {
		oids[r.t.OID], names[r.t.Name] = r.t, r.t
		spellings := []string{r.t.Name}
		if r.aliases != "" {
			spellings = append(spellings, strings.Split(r.aliases, ",")...)
		}
		if r.array != 0 {
			a := &Type{Name: r.t.Name + "[]", OID: r.array, Size: -1, Elem: r.t, System: r.t.System, decode: decodeArray}
			a.encode = func(dst []byte, text string) []byte { return encodeArray(a, dst, text) }
			r.t.Array, oids[r.array] = a, a
		}
		for _, s := range spellings {
			names[s] = r.t
			if r.t.Array != nil {
				names[s+"[]"] = r.t.Array
			}
		}
	}
	return oids, names
}

// Lookup finds a type by any of its names, in lower case with single spaces.
func Lookup(name string) (*Type, bool) {
	t, ok := spelled[name]
	return t, ok
}

// ByOID finds a type by its number in pg_type.
func ByOID(oid uint32) (*Type, bool) {
	t, ok := known[oid]
	return t, ok
}

// widening lists the implicit casts of pg_cast between these types.
var widening = map[*Type][]*Type{
	Int2:    {Int4, Int8, Numeric, Float4, Float8, OID, RegProc, RegProcedure, RegOper, RegOperator, RegConfig, RegDict, RegCollation, RegClass, RegType, RegNamespace, RegRole},
	Int4:    {Int8, Numeric, Float4, Float8, OID, RegProc, RegProcedure, RegOper, RegOperator, RegConfig, RegDict, RegCollation, RegClass, RegType, RegNamespace, RegRole},
	Int8:    {Numeric, Float4, Float8, OID, RegProc, RegProcedure, RegOper, RegOperator, RegConfig, RegDict, RegCollation, RegClass, RegType, RegNamespace, RegRole},
	OID:     {RegProc, RegProcedure, RegOper, RegOperator, RegConfig, RegDict, RegCollation, RegClass, RegType, RegNamespace, RegRole},
	RegProc: {OID, RegProcedure}, RegProcedure: {OID, RegProc}, RegOper: {OID, RegOperator},
	RegOperator:  {OID, RegOper},
	RegConfig:    {OID},
	RegDict:      {OID},
	RegCollation: {OID}, RegClass: {OID}, RegType: {OID}, RegNamespace: {OID}, RegRole: {OID},
	Char:      {Text},
	NodeTree:  {Text},
	Time:      {Interval},
	Numeric:   {Float4, Float8},
	Float4:    {Float8},
	Name:      {Text},
	Bpchar:    {Text, Varchar},
	Varchar:   {Text, Bpchar, Name},
	Text:      {Varchar, Bpchar, Name},
	Date:      {Timestamp, Timestamptz},
	Timestamp: {Timestamptz},
}

// Implicit tells whether a value of type from may be passed where to is
// wanted without a cast. An unknown, that is a plain string constant or an
// untyped parameter, may be passed for anything.
func Implicit(from, to *Type) bool {
	if from == to || from == Unknown {
		return true
	}
	if from.Elem != nil && to.Elem != nil {
		return Implicit(from.Elem, to.Elem)
	}
	if from == Int2Vector || from == OIDVector {
		return to == from.ElementType().Array
	}
	for _, t := range widening[from] {
		if t == to {
			return true
		}
	}
	return false
}

// As is [Value.AsIn] in UTC.
func (v Value) As(t *Type) (Value, error) { return v.AsIn(nil, t) }

// AsIn converts the value to the type, through its text where there is no other
// rule, as an explicit cast does in a session whose zone is loc, nil for UTC;
// the error is an *[Error].
func (v Value) AsIn(loc *time.Location, t *Type) (Value, error) {
	switch {
	case v.Null:
		return t.Null(), nil
	case v.Type == t:
		return v, nil
	case v.Type == Int2Vector && t.Elem != nil, v.Type == OIDVector && t.Elem != nil:
		a, _ := v.AsArray()
		return a.AsIn(loc, t)
	case v.Type.Elem != nil && t.Elem != nil:
		return v.recast(loc, t)
	case v.Type == Interval && t == Time:
		us := SpanOf(v).Micros
		return Value{Type: t, Text: formatClock(us - floorDiv(us, day)*day)}, nil
	case t == Bool && integral(v.Type):
		if v.Text == "0" {
			return Value{Type: t, Text: "f"}, nil
		}
		return Value{Type: t, Text: "t"}, nil
	case v.Type == Bool && (t == Int4):
		return t.Parse(map[string]string{"t": "1", "f": "0"}[v.Text])
	case v.Type == Bool && (t == Text || t == Varchar):
		return t.Parse(map[string]string{"t": "true", "f": "false"}[v.Text])
	case v.Type == Numeric && integral(t):
		return v.whole(t)
	case v.Type == Float4 || v.Type == Float8:
		return v.floating(t)
	case v.Type == JSONB && (t == Bool || t == Numeric || integral(t) || t == Float4 || t == Float8):
		return v.member(t)
	case t == Time && (v.Type == Timestamp || v.Type == Timestamptz):
		us, _ := readTimestamp(v.Type, v.TextIn(loc)) // what it printed
		if _, ok := endless(us); ok {
			return t.Null(), nil
		}
		return Value{Type: t, Text: formatClock(us - floorDiv(us, day)*day)}, nil
	case v.Type == Bpchar && (t == Text || t == Varchar || t == Name):
		return t.Parse(strings.TrimRight(v.Text, " "))
	case t == Date && (v.Type == Timestamp || v.Type == Timestamptz):
		us, _ := readTimestamp(v.Type, v.TextIn(loc)) // what it printed
		return Value{Type: t, Text: dateOf(us)}, nil
	}
	return t.ParseIn(loc, v.TextIn(loc))
}

func integral(t *Type) bool { return t == Int2 || t == Int4 || t == Int8 }
