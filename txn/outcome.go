package txn

// Outcome is what a statement did on a branch that runs SQL.
type Outcome struct {
	Rows  int64   // affected, or returned by a query
	First *string // first column of the first row as text; nil if null or if there is no row
}

// Statement is one for a branch that runs SQL, with its arguments.
type Statement struct {
	SQL  string
	Args []any
}
