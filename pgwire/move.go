package pgwire

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/statement"
	"github.com/fdtserver/fdt/txn"
)

// A session that is idle while its worker drains goes on in a worker of the new code, if that lets it: see drain.Conn.Move. It takes
// along who the client is, its settings and its prepared statements, as texts: each is planned again at its next use, as the procedures
// may be others. What cannot be told in such a passport keeps a session where it is: a transaction, a cursor, a request that is not
// answered, and TLS, whose keys crypto/tls does not give out.

// passport is a session on its way. Fields are only ever added; a change of their meaning is another format.
type passport struct {
	Format     int               `json:"format"`
	Identity   Identity          `json:"identity"`
	Proof      string            `json:"proof"` // see Lasting
	Database   string            `json:"database"`
	PID        uint32            `json:"pid"`
	Secret     []byte            `json:"secret"`
	Startup    map[string]string `json:"startup"`
	Settings   map[string]string `json:"settings"`
	Told       map[string]string `json:"told"`
	Statements []moved           `json:"statements"`
	Activity   Activity          `json:"activity"`
}

// passportFormat is that of this version.
const passportFormat = 1

// moved is a prepared statement on its way.
type moved struct {
	Name    string        `json:"name"`
	Text    string        `json:"text"`
	Params  []uint32      `json:"params"`
	Columns []movedColumn `json:"columns"` // null if it returns no rows
	Bytes   int           `json:"bytes"`
}

type movedColumn struct {
	Name string `json:"name"`
	Type uint32 `json:"type"`
}

// Lasting is an [Authenticator] whose clients may be let in again without being asked, as they have proven before who they are. The proof
// is what that depends on beside the name, such as the verifier of a password, in a form that gives nothing away: while another worker's
// is the same, the client may stay. An error means that it may not.
type Lasting interface {
	Proof(c Client, id Identity) (string, error)
}

// Proof is that there is nothing to prove.
func (Trust) Proof(Client, Identity) (string, error) { return "", nil }

// Proof asks the kernel, as Authenticate does.
func (p *Peer) Proof(c Client, id Identity) (string, error) {
	now, err := p.Authenticate(c, id.User)
	if err == nil && now != id {
		err = fmt.Errorf("%s is not what it was", id.User)
	}
	return "", err
}

// Proof is a hash of the user's verifier.
func (s *SCRAM) Proof(_ Client, id Identity) (string, error) {
	v, ok := s.users[id.User]
	if !ok {
		return "", fmt.Errorf("there is no user %q any more", id.User)
	}
	text, _ := json.Marshal(v) // of numbers and bytes: cannot fail
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// errMoved ends a session here that goes on elsewhere.
var errMoved = errors.New("the session has moved")

// resting tells whether all that the session is stands in its passport: nothing is open, nothing half read or half answered.
func (se *session) resting() bool {
	return se.tls == nil && !se.asking && !se.over && !se.wire.buffered() && se.wire.out == nil && se.wire.fault == nil &&
		se.txn.State() == txn.Idle && se.txn.Settled() && len(se.portals.named) == 0
}

// move hands a session that rests to another worker, and tells whether it did; then nothing more is done here.
func (se *session) move() bool {
	if se.stays || !se.draining() || !se.resting() {
		return false
	}
	way := se.server.Listeners[se.conn.Listener()]
	lasting, ok := way.Auth.(Lasting)
	if !ok || se.keeps() > drain.MaxState {
		se.stays = true
		return false
	}
	proof, err := lasting.Proof(applicant{se}, se.identity)
	if err == nil {
		err = se.conn.Move(se.passport(proof))
	}
	if err != nil {
		se.stays = true
		if !errors.Is(err, drain.ErrNoSuccessor) {
			se.log().Debug("a session does not move", "reason", err)
		}
	}
	return err == nil
}

func (se *session) passport(proof string) []byte {
	p := passport{
		Format: passportFormat, Identity: se.identity, Proof: proof, Database: se.database, PID: se.pid, Secret: se.secret,
		Startup: se.settings.startup, Settings: se.settings.session, Told: se.settings.told, Activity: se.activity.read(),
	}
	for name, k := range se.statements.named {
		m := moved{Name: name, Text: k.it.text, Bytes: k.bytes}
		for _, t := range k.it.params {
			m.Params = append(m.Params, t.OID)
		}
		if k.it.columns != nil {
			m.Columns = []movedColumn{}
		}
		for _, c := range k.it.columns {
			m.Columns = append(m.Columns, movedColumn{c.name, c.typ.OID})
		}
		p.Statements = append(p.Statements, m)
	}
	b, _ := json.Marshal(p) // of strings, numbers, times and bytes: cannot fail
	return b
}

// Adopt takes a session over that another worker hands on, unless it may not stay by this configuration; it is the Adopt of a drain.Server.
func (s *Server) Adopt(c *drain.Conn, state []byte) (serve func(ctx context.Context, ours bool), err error) {
	s.init()
	var p passport
	if err := json.Unmarshal(state, &p); err != nil {
		return nil, fmt.Errorf("a session's state: %w", err)
	}
	if p.Format != passportFormat {
		return nil, fmt.Errorf("a session's state has format %d", p.Format)
	}
	se := s.session(context.Background(), c)
	se.user, se.identity, se.database, se.secret, se.pid = p.Identity.User, p.Identity, p.Database, p.Secret, p.PID
	if err := se.admitted(p.Proof); err != nil {
		return nil, err
	}
	if err := se.unpack(&p); err != nil {
		return nil, err
	}
	if !s.sessions.reserve(p.PID) {
		return nil, fmt.Errorf("another session has the number %d", p.PID)
	}
	if !se.share.cover(se.keeps()) {
		s.sessions.remove(se)
		return nil, errCrammed
	}
	return func(ctx context.Context, ours bool) {
		if !ours {
			se.share.cover(0)
			s.sessions.remove(se)
			return
		}
		se.ctx = ctx
		se.wire.conn = &polite{c, ctx, &se.turn}
		se.arrive(p.Activity)
		se.converse()
	}, nil
}

// admitted tells whether a session that began elsewhere may go on here.
func (se *session) admitted(proof string) error {
	way, ok := se.server.Listeners[se.conn.Listener()]
	lasting, lasts := way.Auth.(Lasting)
	switch {
	case !ok, !lasts:
		return fmt.Errorf("no way to stay on listener %q", se.conn.Listener())
	case way.TLS != nil && !way.Optional:
		return errors.New("the listener asks for TLS now")
	case way.method() != se.identity.Method:
		return fmt.Errorf("the listener's authentication is %s now", way.method())
	}
	now, err := lasting.Proof(applicant{se}, se.identity)
	if err == nil && now != proof {
		err = fmt.Errorf("the password of user %q was changed", se.user)
	}
	return err
}

// method is how clients of the listener authenticate, as in an Identity; empty for a way that is not of this package.
func (l Listener) method() string {
	switch l.Auth.(type) {
	case Trust:
		return MethodTrust
	case *Peer:
		return MethodPeer
	case *SCRAM:
		return MethodSCRAM
	}
	return ""
}

// unpack takes settings and statements out of a passport, within this configuration's limits.
func (se *session) unpack(p *passport) error {
	for key := range maps.Keys(p.Startup) {
		if err := knownSetting(key); err != nil {
			return err
		}
	}
	se.settings.startup, se.settings.told = p.Startup, p.Told
	if most := se.server.Manager.Limits().Prepared; most > 0 {
		se.settings.startup["max_prepared_transactions"] = strconv.Itoa(most)
	} else {
		delete(se.settings.startup, "max_prepared_transactions")
	}
	for key, value := range p.Settings {
		if err := knownSetting(key); err != nil {
			return err
		}
		se.settings.put(&se.settings.session, key, &value)
	}
	for _, m := range p.Statements {
		pl := &plan{text: m.Text, again: true, params: []*value.Type{}}
		for _, oid := range m.Params {
			t, ok := value.ByOID(oid)
			if !ok {
				return fmt.Errorf("type %d is not known", oid)
			}
			pl.params = append(pl.params, t)
		}
		if m.Columns != nil {
			pl.columns = []column{}
		}
		for _, c := range m.Columns {
			t, ok := value.ByOID(c.Type)
			if !ok {
				return fmt.Errorf("type %d is not known", c.Type)
			}
			pl.columns = append(pl.columns, column{c.Name, t})
		}
		se.statements.put(m.Name, pl, m.Bytes)
	}
	if n := len(p.Statements); n > se.server.MaxStatements || se.keeps() > se.server.MaxMemory {
		return fmt.Errorf("%d statements and settings of %d bytes are more than a session may have", n, se.keeps())
	}
	return nil
}

func knownSetting(key string) error {
	if _, ok := catalog[key]; !ok && !strings.ContainsRune(key, '.') {
		return unknownSetting(key)
	}
	return nil
}

// arrive begins the session's life here.
func (se *session) arrive(was Activity) {
	se.transacts()
	se.server.sessions.settle(se)
	se.enrol()
	a := &se.activity
	a.mu.Lock()
	defer a.mu.Unlock()
	was.Principal, was.Listener, was.Peer = a.Principal, a.Listener, a.Peer
	a.Activity = was
}

// fresh returns a statement as it is to be run: one that came from another worker is planned, by its text, for the procedures that there are
// now. One that does not fit them any more fails at each use, as in PostgreSQL.
func (se *session) fresh(ctx context.Context, name string, p *plan) (*plan, error) {
	if !p.again {
		return p, nil
	}
	before := se.spent
	list, err := statement.ParseMetered(p.text, se.meter(ctx))
	if err != nil {
		return nil, err
	}
	var stmt statement.Statement
	if len(list) == 1 {
		stmt = list[0]
	}
	oids := make([]uint32, len(p.params))
	for i, t := range p.params {
		oids[i] = t.OID
	}
	now, err := prepare(se.planner(p.text, se.meter(ctx)), stmt, oids)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(now.columns, p.columns) || (now.columns == nil) != (p.columns == nil) {
		return nil, errorf("0A000", "cached plan must not change result type")
	}
	se.spent = before // it counts as it did
	se.statements.put(name, now, se.statements.named[name].bytes)
	return now, nil
}
