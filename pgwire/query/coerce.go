package query

import (
	"strings"

	"github.com/fdtserver/fdt/internal/value"
)

// The categories of types that pg_type.typcategory has.
const (
	categoryArray   = 'A'
	categoryBool    = 'B'
	categoryDate    = 'D'
	categoryNumeric = 'N'
	categoryString  = 'S'
	categorySpan    = 'T'
	categoryUser    = 'U'
	categoryUnknown = 'X'
	categoryOther   = 'Z'
)

func category(t *value.Type) byte {
	switch {
	case t == nil || t == value.Unknown:
		return categoryUnknown
	case t == value.Bool:
		return categoryBool
	case t.Elem != nil, t == value.Int2Vector, t == value.OIDVector:
		return categoryArray
	case stringy(t):
		return categoryString
	case t == value.Char, t == value.NodeTree:
		return categoryOther
	case t == value.Int2, t == value.Int4, t == value.Int8, t == value.Float4, t == value.Float8, t == value.Numeric, t == value.OID, t.Reg():
		return categoryNumeric
	case t == value.Date, t == value.Time, t == value.Timestamp, t == value.Timestamptz:
		return categoryDate
	case t == value.Interval:
		return categorySpan
	}
	return categoryUser
}

// preferred are the types of a category that are tried before others.
func preferred(t *value.Type) bool {
	switch t {
	case value.Bool, value.Text, value.Float8, value.OID, value.Timestamptz, value.Interval:
		return true
	}
	return false
}

// infer settles the type of a parameter that has none yet.
func infer(n node, t *value.Type) {
	if pa, ok := n.(param); ok && pa.typ() == nil {
		(*pa.types)[pa.i] = t
	}
}

// known is the type of a node; Unknown also for a parameter that has none yet.
func known(n node) *value.Type {
	if t := n.typ(); t != nil {
		return t
	}
	return value.Unknown
}

// coerce makes a node of a type, where that goes without an explicit cast, or
// is one. A constant is read at once, unless its value depends on the session.
func (pl *Planner) coerce(n node, t *value.Type) (node, error) {
	infer(n, t)
	if n.typ() == t {
		return n, nil
	}
	l, ok := n.(literal)
	if !ok {
		return &cast{of: n, to: t, at: -1}, nil
	}
	if l.v.Null {
		return literal{t.Null(), l.at}, nil
	}
	if l.v.Type == value.Unknown && t.Reg() && t != value.RegRole { // roles are the session's to know
		v, err := pl.Catalogue.Object(nil, t, l.v.Text)
		return literal{v, l.at}, place(err, l.at)
	}
	if l.v.Type != value.Unknown || t == value.Timestamptz || t.Reg() || t.Elem != nil && (t.Elem == value.Timestamptz || t.Elem.Reg()) {
		at := -1
		if l.v.Type == value.Unknown { // it is the constant that is wrong then
			at = l.at
		}
		return &cast{of: n, to: t, at: at}, nil
	}
	making := 0 // and let go of
	if t.Elem != nil {
		making = value.ElementSize * (1 + strings.Count(l.v.Text, ","))
	}
	if err := pl.Meter(making); err != nil {
		return nil, err
	}
	v, err := t.ParseWatched(nil, l.v.Text, pl.watch)
	if err == nil {
		err = pl.Meter(len(v.Text) - making)
	}
	return literal{v, l.at}, place(err, l.at)
}

// watch tells the meter of work of which nothing is left.
func (pl *Planner) watch(bytes int) error {
	err := pl.Meter(bytes)
	if err == nil {
		err = pl.Meter(-bytes)
	}
	return err
}

// settled makes a text of what is of no type yet.
func (pl *Planner) settled(n node) (node, error) {
	if known(n) == value.Unknown {
		return pl.coerce(n, value.Text)
	}
	return n, nil
}

// common is the type that values are brought to so that they can stand in one
// place: PostgreSQL's manual, "UNION, CASE, and Related Constructs". what names
// the place for the error.
func common(what string, list []node) (*value.Type, error) {
	var found *value.Type
	for _, n := range list {
		t := n.typ()
		switch {
		case t == nil || t == value.Unknown || t == found:
		case found == nil:
			found = t
		case category(t) != category(found):
			return nil, errorf("42804", "%s types %s and %s cannot be matched", what, found.Name, t.Name)
		case !preferred(found) && value.Implicit(found, t) && !value.Implicit(t, found):
			found = t
		case !value.Implicit(t, found):
			return nil, errorf("42804", "%s types %s and %s cannot be matched", what, found.Name, t.Name)
		}
	}
	if found == nil {
		return value.Text, nil
	}
	return found, nil
}

// together brings all to their common type.
func (pl *Planner) together(what string, list []node) (*value.Type, error) {
	t, err := common(what, list)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i], err = pl.coerce(list[i], t); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// comparable is the type as which two types are compared, nil if they cannot be.
func comparable(l, r *value.Type) *value.Type {
	if l == value.Unknown && r == value.Unknown {
		return value.Text
	}
	if l == value.Unknown {
		l = r
	} else if r == value.Unknown {
		r = l
	}
	if l == r {
		switch l {
		case value.JSON, value.NodeTree, value.Void:
			return nil
		case value.Varchar, value.Name:
			return value.Text
		}
		return l
	}
	cl, cr := category(l), category(r)
	switch {
	case cl == categoryString && cr == categoryString:
		if l == value.Bpchar && r != value.Text && r != value.Name || r == value.Bpchar && l != value.Text && l != value.Name {
			return value.Bpchar
		}
		return value.Text
	case cl == categoryNumeric && cr == categoryNumeric:
		return wider(l, r)
	case l == value.Char && cr == categoryString, r == value.Char && cl == categoryString:
		return value.Text
	case l == value.NodeTree && cr == categoryString, r == value.NodeTree && cl == categoryString:
		return value.Text
	case l == value.XID && r == value.Int4, r == value.XID && l == value.Int4:
		return value.Int8
	case cl == categoryArray && cr == categoryArray:
		if value.Implicit(l, r) {
			return r
		}
		if value.Implicit(r, l) {
			return l
		}
		return nil
	case cl == categoryDate && cr == categoryDate && l != value.Time && r != value.Time:
		if value.Implicit(l, r) {
			return r
		}
		return l
	}
	return nil
}

// rank orders the numbers by how much they hold.
var rank = map[*value.Type]int{value.Int2: 1, value.Int4: 2, value.Int8: 4, value.Numeric: 5, value.Float4: 6, value.Float8: 7}

// wider is the type of two numbers that holds both. What stands for an object
// is compared as OID, and with an integer as that.
func wider(l, r *value.Type) *value.Type {
	l, r = plain(l), plain(r)
	if l == r {
		return l
	}
	switch {
	case l == value.OID && rank[r] <= rank[value.Int8], r == value.OID && rank[l] <= rank[value.Int8]:
		if l == value.Int8 || r == value.Int8 {
			return value.Int8
		}
		return value.OID
	case l == value.OID || r == value.OID:
		return nil
	case l == value.Float4 || r == value.Float4: // but with each other
		return value.Float8
	case rank[l] > rank[r]:
		return l
	}
	return r
}

func plain(t *value.Type) *value.Type {
	if t.Reg() {
		return value.OID
	}
	return t
}

// comparison plans a comparison.
func (pl *Planner) comparison(op string, l, r node, at int) (node, error) {
	t := comparable(known(l), known(r))
	if t == nil {
		return nil, noOperator(op, l, r).at(at)
	}
	return pl.compared(op, l, r, t)
}

func (pl *Planner) compared(op string, l, r node, t *value.Type) (node, error) {
	as := t
	if known(l) == value.Unknown && known(r) != value.Unknown && !(known(r) == value.Name || known(r) == value.Varchar) {
		as = known(r)
	}
	// A constant is read as the other side's type, and compared as what both are.
	var err error
	for _, n := range []*node{&l, &r} {
		if known(*n) == value.Unknown && as.Reg() {
			if *n, err = pl.coerce(*n, as); err != nil {
				return nil, err
			}
		}
		if *n, err = pl.coerce(*n, t); err != nil {
			return nil, err
		}
	}
	return &compare{op: op, left: l, right: r}, nil
}

func noOperator(op string, l, r node) *Error {
	name := op + " "
	if l != nil {
		name = known(l).Name + " " + name
	}
	return errorf("42883", "operator does not exist: %s", name+known(r).Name).
		hint("No operator matches the given name and argument types. You might need to add explicit type casts.")
}
