package value

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
)

// Types of the catalogue, which only queries of it meet: no procedure has one
// of them as a parameter, and what a database returns of one is text. Those
// that stand for an object (regclass and its like) are kept as its OID; how it
// is called knows the catalogue alone.
var (
	Char         = system(`"char"`, 18, 1, parseChar, encodeChar, decodeChar)
	Int2Vector   = system("int2vector", 22, -1, parseText, encodeVector(Int2), nil)
	RegProc      = system("regproc", 24, 4, parseUint(32), encodeUint(4), decodeUint)
	TID          = system("tid", 27, 6, parseText, encodeText, decodeText)
	CID          = system("cid", 29, 4, parseUint(32), encodeUint(4), decodeUint)
	OIDVector    = system("oidvector", 30, -1, parseText, encodeVector(OID), nil)
	NodeTree     = system("pg_node_tree", 194, -1, parseText, encodeText, decodeText)
	Inet         = system("inet", 869, -1, parseInet, encodeInet, decodeInet)
	ACLItem      = system("aclitem", 1033, 12, parseText, encodeText, decodeText)
	Interval     = system("interval", 1186, 16, parseInterval, encodeInterval, decodeInterval)
	RegProcedure = system("regprocedure", 2202, 4, parseUint(32), encodeUint(4), decodeUint)
	RegOper      = system("regoper", 2203, 4, parseUint(32), encodeUint(4), decodeUint)
	RegOperator  = system("regoperator", 2204, 4, parseUint(32), encodeUint(4), decodeUint)
	RegConfig    = system("regconfig", 3734, 4, parseUint(32), encodeUint(4), decodeUint)
	RegDict      = system("regdictionary", 3769, 4, parseUint(32), encodeUint(4), decodeUint)
	RegCollation = system("regcollation", 4191, 4, parseUint(32), encodeUint(4), decodeUint)
	RegClass     = system("regclass", 2205, 4, parseUint(32), encodeUint(4), decodeUint)
	RegType      = system("regtype", 2206, 4, parseUint(32), encodeUint(4), decodeUint)
	Record       = system("record", 2249, -1, parseText, encodeText, decodeText)
	AnyArray     = system("anyarray", 2277, -1, parseText, encodeText, decodeText)
	PgLSN        = system("pg_lsn", 3220, 8, parseText, encodeLSN, nil)
	Distinct     = system("pg_ndistinct", 3361, -1, parseText, encodeText, decodeText)
	Dependencies = system("pg_dependencies", 3402, -1, parseText, encodeText, decodeText)
	RegNamespace = system("regnamespace", 4089, 4, parseUint(32), encodeUint(4), decodeUint)
	RegRole      = system("regrole", 4096, 4, parseUint(32), encodeUint(4), decodeUint)
	MCVList      = system("pg_mcv_list", 5017, -1, parseText, encodeText, decodeText)
)

func system(name string, oid uint32, size int16, parse func(*Type, string) (string, error),
	encode func([]byte, string) []byte, decode func(*Type, []byte) (string, error),
) *Type {
	t := scalar(name, oid, size, parse, encode, decode)
	t.System = true
	if decode == nil {
		t.decode = func(t *Type, _ []byte) (string, error) {
			return "", errorf("0A000", "fdt reads no %s in binary format", t.Name)
		}
	}
	return t
}

// NewRecord returns a type of rows that is equal to no other.
func NewRecord() *Type {
	t := *Record
	return &t
}

// systemArrays are the OIDs of the arrays of the catalogue's types, and their
// other names.
var systemArrays = []spelling{
	{Char, 1002, ""}, {Int2Vector, 1006, ""}, {RegProc, 1008, ""}, {TID, 1010, ""}, {CID, 1012, ""}, {OIDVector, 1013, ""},
	{NodeTree, 0, ""}, {Inet, 1041, ""}, {ACLItem, 1034, ""}, {Interval, 1187, ""}, {RegProcedure, 2207, ""}, {RegOper, 2208, ""},
	{RegOperator, 2209, ""}, {RegConfig, 3735, ""}, {RegDict, 3770, ""}, {RegCollation, 4192, ""}, {RegClass, 2210, ""}, {RegType, 2211, ""}, {Record, 2287, ""}, {AnyArray, 0, ""}, {PgLSN, 3221, ""}, {Distinct, 0, ""},
	{Dependencies, 0, ""}, {RegNamespace, 4090, ""}, {RegRole, 4097, ""}, {MCVList, 0, ""},
}

// Reg tells whether values stand for an object of the catalogue, by its OID.
func (t *Type) Reg() bool {
	switch t {
	case RegProc, RegProcedure, RegOper, RegOperator, RegConfig, RegDict, RegCollation, RegClass, RegType, RegNamespace, RegRole:
		return true
	}
	return false
}

// parseChar takes the first byte, or a character beyond ASCII in octal.
func parseChar(_ *Type, s string) (string, error) {
	if len(s) > 1 && s[0] < 0x80 {
		s = s[:1]
	}
	return s, checkText(s)
}

// encodeChar writes the byte; none is zero.
func encodeChar(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, 0)
	}
	return append(dst, s[0])
}

func decodeChar(_ *Type, src []byte) (string, error) {
	if src[0] == 0 {
		return "", nil
	}
	return string(src), checkText(string(src))
}

// vectorOf is a vector as the array that it is, which counts from 0.
func vectorOf(v Value, elem *Type) Value {
	list := strings.Fields(v.Text)
	if len(list) == 0 {
		return Value{Type: elem.Array, Text: "{}"}
	}
	return Value{Type: elem.Array, Text: "[0:" + strconv.Itoa(len(list)-1) + "]={" + strings.Join(list, ",") + "}"}
}

// AsArray is the value as an array, if it is one or a vector.
func (v Value) AsArray() (Value, bool) {
	switch {
	case v.Type.Elem != nil:
		return v, true
	case v.Type == Int2Vector, v.Type == OIDVector:
		elem := v.Type.ElementType()
		if v.Null {
			return elem.Array.Null(), true
		}
		return vectorOf(v, elem), true
	}
	return v, false
}

// ElementType is the type of an array's elements, also of a vector's; nil for
// what has none.
func (t *Type) ElementType() *Type {
	switch t {
	case Int2Vector:
		return Int2
	case OIDVector:
		return OID
	}
	return t.Elem
}

// encodeVector is arrays' binary format, with one dimension also where there
// is no element.
func encodeVector(elem *Type) func([]byte, string) []byte {
	return func(dst []byte, s string) []byte {
		list := strings.Fields(s)
		for _, n := range []uint32{1, 0, elem.OID, uint32(len(list)), 0} { //nolint:gosec // came out of a text in memory
			dst = binary.BigEndian.AppendUint32(dst, n)
		}
		for _, e := range list {
			dst = binary.BigEndian.AppendUint32(dst, uint32(elem.Size)) //nolint:gosec // fixed
			dst = elem.encode(dst, e)
		}
		return dst
	}
}

func parseInet(t *Type, s string) (string, error) {
	in := strings.Trim(s, white)
	if a, err := netip.ParseAddr(in); err == nil && a.Zone() == "" {
		return a.String(), nil
	}
	p, err := netip.ParsePrefix(in)
	if err != nil {
		return "", t.input(s)
	}
	if p.IsSingleIP() {
		return p.Addr().String(), nil
	}
	return p.String(), nil
}

// The families of inet's binary format: PGSQL_AF_INET and PGSQL_AF_INET6.
const (
	inet4 = 2
	inet6 = 3
)

func encodeInet(dst []byte, s string) []byte {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, _ := netip.ParseAddr(s) // canonical
		p = netip.PrefixFrom(a, a.BitLen())
	}
	family := byte(inet4)
	if p.Addr().Is6() {
		family = inet6
	}
	b := p.Addr().AsSlice()
	return append(append(dst, family, byte(p.Bits()), 0, byte(len(b))), b...) //nolint:gosec // at most 128
}

func decodeInet(t *Type, src []byte) (string, error) {
	if len(src) < 4 || len(src) != 4+int(src[3]) {
		return "", t.binary()
	}
	a, ok := netip.AddrFromSlice(src[4:])
	p := netip.PrefixFrom(a, int(src[1]))
	if !ok || !p.IsValid() || (src[0] == inet4) != a.Is4() {
		return "", t.binary()
	}
	if p.IsSingleIP() {
		return a.String(), nil
	}
	return p.String(), nil
}

func encodeLSN(dst []byte, s string) []byte {
	high, low, _ := strings.Cut(s, "/")
	for _, part := range []string{high, low} {
		n, _ := strconv.ParseUint(part, 16, 32)
		dst = binary.BigEndian.AppendUint32(dst, uint32(n)) //nolint:gosec // 32 bits
	}
	return dst
}

// internals are the names of types in pg_type that SQL spells differently.
var internals = map[*Type]string{
	Bool: "bool", Int2: "int2", Int4: "int4", Int8: "int8", Float4: "float4", Float8: "float8", Bpchar: "bpchar", Varchar: "varchar",
	Time: "time", Timestamp: "timestamp", Timestamptz: "timestamptz", Char: "char",
}

// Internal is the type's name in pg_type; an array's is that of its elements.
func (t *Type) Internal() string {
	if t.Elem != nil {
		t = t.Elem
	}
	if n, ok := internals[t]; ok {
		return n
	}
	return t.Name
}
