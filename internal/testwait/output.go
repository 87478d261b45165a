package testwait

import (
	"strings"
	"sync"
)

// Output is a writer whose text can be read while others write it, as by Until. The zero value is ready for use.
type Output struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write is io.Writer's. It never fails.
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

// String is what was written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
