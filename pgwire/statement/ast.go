package statement

// Select is a query: SELECT, VALUES, or several of them put together. A zero
// field is a clause that is not there.
type Select struct {
	Recursive bool
	With      []CTE

	Distinct bool
	On       []Expr // of DISTINCT ON
	Items    []Item
	From     []*Table
	Where    Expr
	GroupBy  []Expr
	Having   Expr
	Values   [][]Expr // of VALUES, which has no items
	Terms    []Term   // of UNION and its like, which have neither

	OrderBy       []Order
	Limit, Offset Expr
}

// CTE is one query of WITH.
type CTE struct {
	Name    string
	Columns []string
	Query   *Select
}

// Term is one query of several, and how it is joined to those before it; Op is
// union, intersect or except, and empty for the first.
type Term struct {
	Op    string
	All   bool
	Query *Select
}

// Item is one column of a query: an expression; * if Expr is nil, of one table
// if Table names it.
type Item struct {
	Expr  Expr
	Alias string
	Table []string
	At    int // byte offset of a *
}

// Table is one thing that a query reads from: exactly one of Name, Func, Query
// and Join is set.
type Table struct {
	Name       []string // with its schema
	Func       *Func
	Ordinality bool
	Lateral    bool // may read the tables before it; a function always may
	Query      *Select
	Join       *Join
	Alias      string
	Columns    []string // names that the alias gives
	Types      []Cast   // of Columns, for a function that returns record
	At         int      // byte offset
}

// Join is two tables made one. Kind is inner, left, right, full or cross.
type Join struct {
	Kind        string
	Left, Right *Table
	Natural     bool
	Using       []string
	On          Expr
	At          int // byte offset
}

// Order is one key of ORDER BY.
type Order struct {
	Expr       Expr
	Desc       bool
	NullsFirst *bool // nil: as the direction has it
}

// Expr is an expression; the types below are all there are.
type Expr interface{ expr() }

// ConstKind is the kind of a [Const].
type ConstKind uint8

// The kinds of constants.
const (
	Null ConstKind = iota
	String
	Integer // digits with an optional sign
	Decimal // with a point or an exponent
	Bool    // "true" or "false"
)

// What stands in expressions. At is the byte at which the part stands in the
// query text that an error about it points to: see [Position].
type (
	// Const is a constant; Text is its value without quotes.
	Const struct {
		Kind ConstKind
		Text string
		At   int
	}
	// Param is $N, from 1.
	Param struct{ N, At int }
	// Cast is an expression forced to a type, by :: or CAST or type 'text'.
	Cast struct {
		Of   Expr
		Type string // as written, in lower case, with single spaces; an array ends in []; PostgreSQL's "char" keeps its quotes
		Mods []int  // length, precision or scale in parentheses; nil without
		At   int    // of the type's name
	}
	// Array is ARRAY[…]; an element that is an Array is a row of the next dimension.
	Array struct {
		Elems []Expr
		At    int
	}
	// Func is a function with its arguments, or an aggregate.
	Func struct {
		Name     string // without its schema if that is pg_catalog
		Args     []Arg
		Star     bool // count(*)
		Variadic bool // of the last argument
		Distinct bool
		OrderBy  []Order
		Filter   Expr
		Over     *Window // nil unless it is a window function's call
		At       int
	}
	// Column is a name that is neither called nor a constant, with the names
	// of its table and schema before it.
	Column struct {
		Names []string
		At    int
	}
	// Collate is COLLATE of the order by bytes, which is the only one.
	Collate struct{ Of Expr }
	// Op is an operator; Left is nil for one that stands in front.
	Op struct {
		Name        string
		Left, Right Expr
		At          int
	}
	// Logic is AND or OR of two and more.
	Logic struct {
		Or   bool
		Args []Expr
		At   int
	}
	// Not is NOT.
	Not struct {
		Of Expr
		At int
	}
	// Is is IS [NOT] null, true, false, unknown or document; What says which.
	Is struct {
		Of   Expr
		What string
		Not  bool
		At   int
	}
	// DistinctFrom is IS [NOT] DISTINCT FROM.
	DistinctFrom struct {
		Left, Right Expr
		Not         bool
		At          int
	}
	// Between is [NOT] BETWEEN [SYMMETRIC].
	Between struct {
		Of, Low, High  Expr
		Not, Symmetric bool
		At             int
	}
	// In is [NOT] IN of a list, or of a query.
	In struct {
		Of    Expr
		List  []Expr
		Query *Select
		Not   bool
		At    int
	}
	// Any is an operator with ANY or ALL of an array, or of a query.
	Any struct {
		Left  Expr
		Op    string
		All   bool
		Array Expr
		Query *Select
		At    int
	}
	// Sub is a query as a value, or its rows as an array, or whether there are any.
	Sub struct {
		Query         *Select
		Array, Exists bool
		At            int
	}
	// Case is CASE; Of is nil where each WHEN is a condition.
	Case struct {
		Of    Expr
		Whens []When
		Else  Expr
		At    int
	}
	// Row is ROW(…), or (a, b).
	Row struct {
		Elems []Expr
		At    int
	}
	// Index is an element of an array, or for Slice a part of it.
	Index struct {
		Of       Expr
		Slice    bool
		Low, Top Expr // Low is the subscript; either may be nil in a slice
		At       int
	}
	// Field is a column of a composite value; an empty Name is all.
	Field struct {
		Of   Expr
		Name string
		At   int
	}
)

// When is a branch of CASE.
type When struct{ If, Then Expr }

// Window is what a window function runs over.
type Window struct {
	Partition []Expr
	OrderBy   []Order
}

func (Const) expr()        {}
func (Param) expr()        {}
func (Cast) expr()         {}
func (Array) expr()        {}
func (Func) expr()         {}
func (Column) expr()       {}
func (Collate) expr()      {}
func (Op) expr()           {}
func (Logic) expr()        {}
func (Not) expr()          {}
func (Is) expr()           {}
func (DistinctFrom) expr() {}
func (Between) expr()      {}
func (In) expr()           {}
func (Any) expr()          {}
func (Sub) expr()          {}
func (Case) expr()         {}
func (Row) expr()          {}
func (Index) expr()        {}
func (Field) expr()        {}

// Arg is an argument of a call; Name is empty for a positional one.
type Arg struct {
	Name  string
	Value Expr
}
