// Package statement parses the SQL statements that fdt serves: transaction
// control, calls of procedures, session settings, and queries, with the whole
// of SELECT but for what tables alone need. It never guesses: what is valid SQL but not
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
	codeColumns     = "54011" // too_many_columns
	codeArguments   = "54023" // too_many_arguments
)

// PostgreSQL's limits on what one statement may hold.
const (
	MaxColumns   = 1664 // of a query: MaxTupleAttributeNumber
	MaxArguments = 100  // of a function: FUNC_MAX_ARGS
	maxParts     = 3    // of a function's name: catalog, schema and name
)

// Error is a text that cannot be parsed.
type Error struct {
	Code     string // SQLSTATE
	Message  string
	Position int // 1-based, in characters; 0: none

	at int // the byte offset of Position, which is counted once, when the error leaves Parse; -1: none
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
	// Nothing is a statement that has nothing to do here, as UNLISTEN *;
	// Tag is its command tag.
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
func (*Select) statement()          {}
func (Set) statement()              {}
func (SetTransaction) statement()   {}
func (Show) statement()             {}
func (Reset) statement()            {}
func (Discard) statement()          {}
func (Deallocate) statement()       {}
func (Nothing) statement()          {}
func (Unsupported) statement()      {}
