package pgwire

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/fdtserver/fdt/txn"
)

// Activity is what a session is at, as PostgreSQL's pg_stat_activity has it.
type Activity struct {
	PID         uint32 `json:"pid"`       // the session's number, not a process's
	Principal   string `json:"principal"` // [Identity.Principal]
	User        string `json:"user"`
	Database    string `json:"database"`
	Application string `json:"application,omitempty"`
	Address     string `json:"address,omitempty"` // of a client on TCP
	Port        string `json:"port,omitempty"`
	Peer        string `json:"peer"` // [drain.Conn.Peer], as the log has it
	Listener    string `json:"listener"`
	State       string `json:"state"` // active, idle, idle in transaction, idle in transaction (aborted)

	Began       time.Time `json:"began"`
	Changed     time.Time `json:"changed"`                  // when State began
	Transaction time.Time `json:"transaction,omitzero"`     // when it began; zero without one
	Query       time.Time `json:"query_start,omitzero"`     // when the last one began; zero before the first
	Text        string    `json:"query,omitempty"`          // of the last one, cut to 1 KiB
	Procedure   string    `json:"procedure,omitempty"`      // that it called last
	GID         string    `json:"transaction_id,omitempty"` // the open transaction's, once a resource is used

	Places []txn.Place `json:"places,omitempty"` // where the open transaction has branches
	Waits  []txn.Wait  `json:"waits,omitempty"`  // what its statement waits for; for locks only by [Server.Waits]
}

// Bounds of what is told of sessions.
const (
	longText = 1 << 10 // bytes of a query, as PostgreSQL's track_activity_query_size
	mostTold = 4096    // sessions of a worker, so that all of it fits in a reply of the control socket
)

// activities is what a session tells others about itself.
type activities struct {
	mu       sync.Mutex
	Activity         // without its GID
	gid      txn.GID // likewise, which becomes a text when somebody asks
}

// enrol notes what does not change.
func (se *session) enrol() {
	a := &se.activity
	a.mu.Lock()
	defer a.mu.Unlock()
	a.PID, a.Principal, a.User, a.Database = se.pid, se.identity.Principal(), se.user, se.database
	a.Address, a.Port = se.address()
	a.Peer, a.Began = se.conn.Peer(), time.Now()
	a.Listener = cmp.Or(se.server.Listeners[se.conn.Listener()].Name, se.conn.Listener())
}

// read copies what the session has told.
func (a *activities) read() Activity {
	a.mu.Lock()
	defer a.mu.Unlock()
	told := a.Activity
	told.GID = gidText(a.gid)
	return told
}

// active notes that a statement of the text is run.
func (se *session) active(text string) {
	if len(text) > longText {
		text = text[:longText]
		for !utf8.ValidString(text) { // it was cut within a character
			text = text[:len(text)-1]
		}
	}
	a := &se.activity
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if a.State != "active" {
		a.Changed = now
	}
	if a.Transaction.IsZero() {
		a.Transaction = now
	}
	a.State, a.Query, a.Text, a.Procedure = "active", now, strings.Clone(text), ""
}

// calls notes which procedure is run.
func (a *activities) calls(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Procedure = name
}

// awaits notes what the session waits for; nothing, if none is given.
func (a *activities) awaits(list ...txn.Wait) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Waits = list
}

// numbered notes the name of the transaction, which is one of a single call's, too.
func (a *activities) numbered(gid txn.GID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gid = gid
}

// resting are the states between requests, by ReadyForQuery's status.
var resting = map[byte]string{'I': "idle", 'T': "idle in transaction", 'E': "idle in transaction (aborted)"}

// resting notes how a request has left the session.
func (se *session) rests(status byte) {
	a := &se.activity
	a.mu.Lock()
	defer a.mu.Unlock()
	a.State, a.Changed, a.Application, a.gid = resting[status], time.Now(), se.settings.get("application_name"), se.txn.GID()
	if status == 'I' {
		a.Transaction = time.Time{}
	}
}

// ends notes that the session has no transaction any more, and says its last words.
func (a *activities) ends() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gid, a.Transaction = txn.GID{}, time.Time{}
}

// Activity lists the sessions of this server, at most 4,096, in the order of their numbers.
func (s *Server) Activity() []Activity {
	all := s.sessions.list()
	list := make([]Activity, min(len(all), mostTold))
	for i := range list {
		list[i] = all[i].activity.read()
		list[i].Places = all[i].txn.Places()
		if w, ok := all[i].txn.Waiting(); ok {
			list[i].Waits = []txn.Wait{w}
		}
	}
	return list
}

// everywhere lists the sessions of this server and those elsewhere.
func (s *Server) everywhere(ctx context.Context, own []Activity) []Activity {
	list := own
	if s.Elsewhere != nil {
		list = append(list, s.Elsewhere(ctx)...)
		slices.SortStableFunc(list, func(a, b Activity) int { return cmp.Compare(a.PID, b.PID) })
	}
	return list
}
