// Package statement parses the SQL statements that fdt serves: transaction
// control, calls of procedures, session settings, and the few queries with
// which drivers probe a server. It never guesses: what is valid SQL but not
// served comes back as [Unsupported], and what PostgreSQL would not parse is
// an [Error] with PostgreSQL's own SQLSTATE and position.
//
// The grammar follows "SQL Commands" and "Lexical Structure" of the
// PostgreSQL manual, with standard_conforming_strings on.
package statement

// SQLSTATEs of PostgreSQL's appendix A that parsing can end with.
const (
	codeSyntax      = "42601" // syntax_error
	codeUnsupported = "0A000" // feature_not_supported
	codeEncoding    = "22021" // character_not_in_repertoire
	codeTooComplex  = "54001" // statement_too_complex
)

// Error is a text that cannot be parsed.
type Error struct {
	Code     string // SQLSTATE
	Message  string
	Position int // 1-based, in characters
}

func (e *Error) Error() string { return e.Message + " (SQLSTATE " + e.Code + ")" }

// Statement is one parsed statement; the types below are all there are.
type Statement interface{ statement() }

// Modes are the characteristics of a transaction; nil means not mentioned.
type Modes struct {
	Isolation  *string // "serializable", "repeatable read", "read committed" or "read uncommitted"
	ReadOnly   *bool
	Deferrable *bool
}

type (
	// Begin is BEGIN and START TRANSACTION; Start tells which.
	Begin struct {
		Start bool
		Modes Modes
	}
	// Commit is COMMIT and END.
	Commit struct{ Chain bool }
	// Rollback is ROLLBACK and ABORT.
	Rollback struct{ Chain bool }
	// Savepoint is SAVEPOINT name.
	Savepoint struct{ Name string }
	// Release is RELEASE [SAVEPOINT] name.
	Release struct{ Name string }
	// RollbackTo is ROLLBACK TO [SAVEPOINT] name.
	RollbackTo struct{ Name string }
	// Prepare is PREPARE TRANSACTION 'gid'.
	Prepare struct{ GID string }
	// CommitPrepared is COMMIT PREPARED 'gid'.
	CommitPrepared struct{ GID string }
	// RollbackPrepared is ROLLBACK PREPARED 'gid'.
	RollbackPrepared struct{ GID string }
	// Call is CALL name(arguments).
	Call struct{ Func Func }
	// Select is a query of constants, of functions, of one called function
	// in FROM, or of pg_prepared_xacts.
	Select struct {
		Items   []Item
		From    *From
		Where   []Condition // all must hold
		OrderBy []Order
	}
	// Set is SET name TO value; no values stand for DEFAULT.
	Set struct {
		Name   string
		Values []string
		Local  bool
	}
	// SetTransaction is SET TRANSACTION, or for Session SET SESSION
	// CHARACTERISTICS AS TRANSACTION.
	SetTransaction struct {
		Session bool
		Modes   Modes
	}
	// Show is SHOW name; Name "all" is SHOW ALL.
	Show struct{ Name string }
	// Reset is RESET name; Name "all" is RESET ALL.
	Reset struct{ Name string }
	// Discard is DISCARD ALL, PLANS, SEQUENCES or TEMP, in lower case.
	Discard struct{ What string }
	// Deallocate is DEALLOCATE name; an empty name is ALL.
	Deallocate struct{ Name string }
	// Nothing is a statement that has nothing to do here, as UNLISTEN * and
	// CLOSE ALL; Tag is its command tag.
	Nothing struct{ Tag string }
	// Unsupported is SQL that fdt does not serve. What is a phrase that
	// tells what was asked for.
	Unsupported struct{ What string }
)

func (Begin) statement()            {}
func (Commit) statement()           {}
func (Rollback) statement()         {}
func (Savepoint) statement()        {}
func (Release) statement()          {}
func (RollbackTo) statement()       {}
func (Prepare) statement()          {}
func (CommitPrepared) statement()   {}
func (RollbackPrepared) statement() {}
func (Call) statement()             {}
func (Select) statement()           {}
func (Set) statement()              {}
func (SetTransaction) statement()   {}
func (Show) statement()             {}
func (Reset) statement()            {}
func (Discard) statement()          {}
func (Deallocate) statement()       {}
func (Nothing) statement()          {}
func (Unsupported) statement()      {}

// Item is one column of a query: an expression, or * if Expr is nil.
type Item struct {
	Expr  Expr
	Alias string
}

// From is what a query reads: a function that is called, or a relation.
type From struct {
	Func     *Func  // nil for a relation
	Relation string // without its schema if that is pg_catalog
	Alias    string
}

// Condition is Left Op Right; Op is =, <> or like.
type Condition struct {
	Left  Expr
	Op    string
	Right Expr
}

// Order is one key of ORDER BY, a column by its name.
type Order struct {
	Column string
	Desc   bool
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

type (
	// Const is a constant; Text is its value without quotes.
	Const struct {
		Kind ConstKind
		Text string
	}
	// Param is $N, from 1.
	Param struct{ N int }
	// Cast is an expression forced to a type, by :: or CAST or type 'text'.
	Cast struct {
		Of   Expr
		Type string // as written, in lower case, with single spaces; an array ends in []
	}
	// Array is ARRAY[…]; an element that is an Array is a row of the next dimension.
	Array struct{ Elems []Expr }
	// Func is a function with its arguments.
	Func struct {
		Name string // without its schema if that is pg_catalog
		Args []Arg
		// Position is the 1-based character at which the name stands.
		Position int
	}
	// Column is a name that is neither called nor a constant.
	Column struct{ Name string }
)

func (Const) expr()  {}
func (Param) expr()  {}
func (Cast) expr()   {}
func (Array) expr()  {}
func (Func) expr()   {}
func (Column) expr() {}

// Arg is an argument of a call; Name is empty for a positional one.
type Arg struct {
	Name  string
	Value Expr
}
