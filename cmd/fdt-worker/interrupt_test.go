package main

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/pgwire"
)

// interrupted ends a session of the worker by its control socket, as an operator does, and looks for who did that in its log.
func (h *host) interrupted(path string, out *testwait.Output) {
	h.t.Helper()
	c := h.connect()
	if _, err := c.Exec(h.t.Context(), "BEGIN"); err != nil {
		h.t.Fatal(err)
	}
	if _, err := c.Exec(h.t.Context(), "CALL enqueue($1)", "undone"); err != nil {
		h.t.Fatal(err)
	}
	var was *pgwire.Activity
	asked := control.Interrupt{PID: c.PgConn().PID(), End: true, By: "ann"}
	if err := control.Call(h.t.Context(), path, control.OpInterrupt, asked, &was); err != nil || was == nil || was.State != "idle in transaction" || was.Procedure != "enqueue" || was.Listener != "local" {
		h.t.Errorf("%+v, %v", was, err)
	}
	_, err := c.Exec(h.t.Context(), "COMMIT")
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code != "57P01" || err == nil { // a write may fail before the answer is read
		h.t.Errorf("a session that was told to end: %v", err)
	}
	if said := out.String(); !strings.Contains(said, "an operator ends a session") || !strings.Contains(said, "by=ann") {
		h.t.Errorf("the log:\n%s", said)
	}
	asked.PID++
	was = nil
	if err := control.Call(h.t.Context(), path, control.OpInterrupt, asked, &was); err != nil || was != nil {
		h.t.Errorf("of nobody: %+v, %v", was, err)
	}
}
