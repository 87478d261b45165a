package pgwire

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/fdtserver/fdt/internal/value"
	tables "github.com/fdtserver/fdt/pgwire/catalog"
	"github.com/fdtserver/fdt/pgwire/query"
	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
)

// host is what the catalogue shows of a session, and of what it may see of
// others.
type host struct {
	session *session
	ctx     context.Context //nolint:containedctx // of one run, which ends with it

	all   []tables.Activity      // once it was asked for
	waits map[int]tables.Waiting // likewise
}

func (h *host) User() string { return h.session.user }

func (h *host) Database() string { return h.session.database }

func (h *host) Allowed(p *procedure.Procedure) bool { return h.session.identity.allowed(p) }

func (h *host) Settings() []tables.Setting {
	se := h.session
	list := make([]tables.Setting, 0, len(catalog))
	for _, key := range slices.Sorted(maps.Keys(catalog)) {
		s := catalog[key]
		v, _ := se.show(key) // known
		reset := s.initial
		if own, ok := se.settings.startup[key]; ok {
			reset = own
		}
		list = append(list, tables.Setting{Name: s.name, Value: v, Initial: s.initial, Reset: reset, About: s.about, Fixed: s.fixed})
	}
	return list
}

// Activity lists the sessions of all workers, as they were when it is asked
// first. Of those of others, but for an operator, it tells no more than
// PostgreSQL does.
func (h *host) Activity() []tables.Activity {
	if h.all != nil {
		return h.all
	}
	se := h.session
	se.turn.rest()
	for _, a := range se.server.everywhere(h.ctx, se.server.Activity()) {
		h.all = append(h.all, tables.Activity{
			PID: int(a.PID), User: a.User, Database: a.Database, Application: a.Application, Address: a.Address, Port: a.Port, State: a.State,
			Hidden:  a.Principal != se.identity.Principal() && !se.identity.Operator,
			Started: momentOf(a.Began), Transaction: momentOf(a.Transaction), Query: momentOf(a.Query), Changed: momentOf(a.Changed), Text: a.Text,
		})
	}
	return h.all
}

// Waits tells, by their numbers, which sessions wait for whose locks or for what else, of those of which more may be told than that they are there.
func (h *host) Waits() map[int]tables.Waiting {
	if h.waits != nil {
		return h.waits
	}
	se := h.session
	se.turn.rest()
	within := cmp.Or(se.server.waiting.within, waitsFor)
	ctx, cancel := context.WithTimeoutCause(h.ctx, within, fmt.Errorf("no answer within %s", within))
	defer cancel()
	list := se.server.everywhere(h.ctx, se.server.Waits(ctx))
	Join(list)
	h.waits = map[int]tables.Waiting{}
	for i := range list {
		a := &list[i]
		if a.Principal != se.identity.Principal() && !se.identity.Operator {
			continue
		}
		var w tables.Waiting
		var texts []string
		for n := range a.Waits {
			w.Known = w.Known || len(a.Waits[n].Holders) > 0
			if on := &a.Waits[n]; on.For == txn.ForLock && on.Fault == "" && len(on.Holders) == 0 { // for somebody's, and it is not told whose
				w.For = append(w.For, 0)
			}
			for k := range a.Waits[n].Holders {
				holder := &a.Waits[n].Holders[k]
				w.For = append(w.For, int(holder.Session))
				if !se.identity.Operator && !se.owns(holder.Owner) { // as in pg_prepared_xacts
					holder.ClientGID = ""
				}
			}
			text := WaitText(&a.Waits[n], se.identity.Operator)
			if on := a.Waits[n].Resource; on != "" {
				text = on + ": " + text
			}
			texts = append(texts, text)
		}
		if w.Text = strings.Join(texts, "; "); w.Text != "" {
			h.waits[int(a.PID)] = w
		}
	}
	return h.waits
}

// momentOf is null for no time.
func momentOf(t time.Time) value.Value {
	if t.IsZero() {
		return value.Timestamptz.Null()
	}
	return moment(t)
}

// address is that of a client on TCP.
func (se *session) address() (addr, port string) {
	addr, port, err := net.SplitHostPort(se.conn.Peer())
	if err != nil || net.ParseIP(addr) == nil {
		return "", ""
	}
	return addr, port
}

// Prepared lists the prepared transactions that the user may settle.
func (h *host) Prepared(r *query.Run) ([]tables.Prepared, error) {
	se := h.session
	se.turn.rest()
	list, err := se.server.Manager.List(r.Ctx)
	if err != nil { // names the server's files, which are none of the client's business
		se.log().Error("cannot list the prepared transactions", "error", err)
		return nil, errorf("XX000", "cannot list the prepared transactions").hint("The server's log says why.")
	}
	var out []tables.Prepared
	for i, t := range list {
		if t.Phase != txn.Prepared || t.ClientGID == "" || !se.owns(t.Owner) && !se.identity.Operator {
			continue
		}
		out = append(out, tables.Prepared{Number: i + 1, GID: t.ClientGID, User: userOf(t.Owner), Database: t.Database, Since: moment(t.Since)})
	}
	return out, nil
}

// Statements lists the prepared statements that have a name.
func (h *host) Statements() []tables.Statement {
	var list []tables.Statement
	for _, name := range slices.Sorted(maps.Keys(h.session.statements.named)) {
		if p, _ := h.session.statements.get(name); name != "" {
			list = append(list, tables.Statement{Name: name, Params: slices.DeleteFunc(slices.Clone(p.params), func(t *value.Type) bool { return t == nil })})
		}
	}
	return list
}
