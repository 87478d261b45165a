package drain

import (
	"slices"
	"strings"
	"time"
)

// Work names what a handler is at, for the operator who finds that it does not end. What is empty is left out.
type Work struct {
	Face string // what of the program serves, such as the name of a handler
	Kind string // such as procedure, or the method of a request
	Name string // its own, such as a path

	since time.Time
}

// Begin says that a handler works on w until End. There may be several at once. The caller must leave w alone meanwhile.
func (c *Conn) Begin(w *Work) {
	w.since = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.works = append(c.works, w)
}

// End says that what Begin began is done.
func (c *Conn) End(w *Work) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.works, w); i >= 0 {
		c.works = slices.Delete(c.works, i, i+1)
	}
}

// work is what the connection's handler is at, in words, and since when the oldest of it; c.mu is held.
func (c *Conn) work() (words string, since time.Time) {
	var all []string
	for _, w := range c.works {
		all = append(all, strings.Join(slices.DeleteFunc([]string{w.Face, w.Kind, w.Name}, func(s string) bool { return s == "" }), " "))
		since = earlier(since, w.since)
	}
	return strings.Join(all, ", "), since
}

// accuse logs a connection whose handler goes on though it was cut and closed.
func (c *Conn) accuse() {
	c.mu.Lock()
	words, since := c.work()
	c.mu.Unlock()
	args := []any{"listener", c.loop.name, "remote", c.remote, "message_id", idHandlerStuck}
	if words != "" {
		args = append(args, "work", words, "since", since.Format(time.RFC3339), "for", time.Since(since).Round(time.Second).String())
	}
	c.loop.server.logger().Error("a handler goes on though its context has ended and its connection is closed", args...)
}
