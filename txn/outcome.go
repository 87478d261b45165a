package txn

// Outcome is what a statement did on a branch that runs SQL.
type Outcome struct {
	Rows  int64   // affected, or returned by a query
	First *string // first column of the first row, in the text that PostgreSQL prints for Type; nil if null or if there is no row
	// Type is that of the first column, by its number (OID) in PostgreSQL's pg_type. 0: the resource has a type of its own, and First is
	// what it prints.
	Type uint32
}

// Statement is one for a branch that runs SQL, with its arguments.
type Statement struct {
	SQL  string
	Args []any
}
