package pgwire

import (
	"strings"
	"testing"
)

// TestRowTooLong shows that a row is not sent whose length the protocol cannot tell, and that nothing is sent after it.
func TestRowTooLong(t *testing.T) {
	value := strings.Repeat("x", 64<<20)
	r := make(row, maxClaim/len(value))
	for i := range r {
		r[i].text = value
	}
	var w wire
	w.row(r)
	if w.fault == nil || w.out != nil {
		t.Errorf("fault %v, and %d bytes to send", w.fault, len(w.out))
	}
}
