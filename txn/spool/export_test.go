package spool

// SetFault has f called at every step; the step fails with what it returns.
func (s *Spool) SetFault(f func(step string) error) { s.fault = f }

// MaxMessages is how many messages one transaction may have.
const MaxMessages = maxMessages

// SetCount pretends that a branch has so many messages.
func (b *Branch) SetCount(n int) { b.count = n }
