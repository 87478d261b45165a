package pool

// Unavailable says that a resource cannot be reached, and nothing was begun there.
type Unavailable struct {
	Resource string
	Err      error
}

// Error names the resource and the cause.
func (e *Unavailable) Error() string {
	return "resource " + e.Resource + " is not available: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Unavailable) Unwrap() error { return e.Err }

// SQLState is 08001, sqlclient_unable_to_establish_sqlconnection (ISO/IEC 9075-2).
func (e *Unavailable) SQLState() string { return "08001" }

// Lost says that the session with a resource has ended, and with it what was done there and is not prepared.
type Lost struct{ Err error }

// Error says so, and how.
func (e *Lost) Error() string { return "the connection was lost: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Lost) Unwrap() error { return e.Err }

// SQLState is 08006, connection_failure (PostgreSQL documentation, appendix A), whatever the server said last: 57P01 would tell a client
// that its own session ends.
func (e *Lost) SQLState() string { return "08006" }
