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
