package lane

// Patience is how long a seat is waited for.
const Patience = patience

// Held tells whether there is a seat.
func (l *Lane) Held() bool { return l.held }

// Wanted tells whether another process waits for a seat.
func (l *Lane) Wanted() bool { return l.wanted() }

// Close closes the file.
func (l *Lane) Close() error { return l.file.Close() }
