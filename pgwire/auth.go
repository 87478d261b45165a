package pgwire

import (
	"crypto/tls"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sys/unix"
)

// Identity is who a client has proven to be.
type Identity struct {
	User     string
	Operator bool // may settle what others prepared
}

// Client is a connection that wants to become a session.
type Client interface {
	// PeerCred is who connected a unix-domain socket.
	PeerCred() (*unix.Ucred, error)
	// TLS is the state of the connection's encryption, nil without.
	TLS() *tls.ConnectionState
	// Binding is the channel's tls-server-end-point (RFC 5929), nil without.
	Binding() []byte
	// Ask sends a request for proof and returns the body of the answer.
	Ask(m pgproto3.BackendMessage) ([]byte, error)
	// Tell adds a message to what is sent next.
	Tell(m pgproto3.BackendMessage)
}

// Authenticator decides whether a client may be the user it asks for. A refusal
// is an error of which the client is told only that there was one, unless it is
// a *[Failure].
type Authenticator interface {
	Authenticate(c Client, asked string) (Identity, error)
}

// Trust lets everybody be whom they say. It must be used on unix-domain
// sockets only.
type Trust struct{}

// Authenticate believes the client.
func (Trust) Authenticate(_ Client, asked string) (Identity, error) {
	return Identity{User: asked}, nil
}

// Cert lets a client in under the common name of its certificate, which
// tls.Config must have verified.
type Cert struct{}

// Authenticate looks at the certificate.
func (Cert) Authenticate(c Client, asked string) (Identity, error) {
	f := fatalf("28000", "certificate authentication failed for user %q", asked)
	state := c.TLS()
	if state == nil || len(state.VerifiedChains) == 0 {
		return Identity{}, f.hint("This listener asks for a client certificate.")
	}
	if cn := state.VerifiedChains[0][0].Subject.CommonName; cn != asked {
		return Identity{}, f.hint("Your certificate is for %q.", cn)
	}
	return Identity{User: asked}, nil
}

// peerFor is how long a unix user's name and membership are remembered.
const peerFor = 5 * time.Second

// Peer lets a unix user in under its own name, if it is root or a member of
// Group. The kernel says who it is (SO_PEERCRED, unix(7)), and only of those
// who connect in the same user namespace.
type Peer struct {
	Group string

	mu    sync.Mutex
	known map[uint32]peer
}

type peer struct {
	name   string
	member bool
	until  time.Time
}

// Authenticate asks the kernel.
func (p *Peer) Authenticate(c Client, asked string) (Identity, error) {
	cred, err := c.PeerCred()
	var who peer
	if err == nil {
		who, err = p.lookup(cred.Uid, time.Now())
	}
	if err != nil {
		return Identity{}, fmt.Errorf("who the peer is: %w", err)
	}
	f := fatalf("28000", "peer authentication failed for user %q", asked)
	if who.name != asked {
		return Identity{}, f.hint("You are the unix user %q, and can only be that user here.", who.name)
	}
	if cred.Uid != 0 && !who.member {
		return Identity{}, f.hint("The unix user %q must be a member of the group %q.", who.name, p.Group)
	}
	return Identity{User: asked, Operator: cred.Uid == 0}, nil
}

// lookup reads the user and group databases, at most once in peerFor for each
// user.
func (p *Peer) lookup(uid uint32, now time.Time) (peer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if who, ok := p.known[uid]; ok && now.Before(who.until) {
		return who, nil
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return peer{}, err
	}
	who := peer{name: u.Username, until: now.Add(peerFor)}
	// No such group has no members, nor has one that cannot be read.
	if g, err := user.LookupGroup(p.Group); err == nil {
		ids, _ := u.GroupIds()
		who.member = slices.Contains(ids, g.Gid)
	}
	if p.known == nil {
		p.known = map[uint32]peer{}
	}
	p.known[uid] = who
	return who, nil
}
