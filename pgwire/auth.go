package pgwire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/procedure"
)

// Identity is who a client has proven to be, and how. Users of one name who
// have proven it by different methods are not the same: the unix user alice,
// whoever knows the password of alice, and whoever says on a socket without
// authentication to be alice.
type Identity struct {
	User     string
	Method   string
	Operator bool // may settle what others prepared
}

// The methods of this package's authenticators.
const (
	MethodTrust = "trust"
	MethodPeer  = "peer"
	MethodSCRAM = "scram"
	MethodCert  = "cert"
)

// Principal is the name by which the identity owns transactions, and by which
// it may be allowed something: method:user. No method has a colon in its name.
func (id Identity) Principal() string { return id.Method + ":" + id.User }

// allowed tells whether the identity may call a procedure. A name without a
// method means whoever has proven to be that user, by any method; that is not
// so of those who are trusted.
func (id Identity) allowed(p *procedure.Procedure) bool {
	return p.Allowed(id.Principal()) || id.Method != MethodTrust && p.Allowed(id.User)
}

// Client is a connection that wants to become a session.
type Client interface {
	// PeerCred is who connected a unix-domain socket.
	PeerCred() (*unix.Ucred, error)
	// PeerGroups are the supplementary groups of that process, as of then.
	PeerGroups() ([]uint32, error)
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
	return Identity{User: asked, Method: MethodTrust}, nil
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
	return Identity{User: asked, Method: MethodCert}, nil
}

// peerFor is how long a unix user's name is remembered, and that there is none.
const peerFor = 5 * time.Second

// Peer lets a unix user in under its own name, if it is root or its process
// is a member of Group. The kernel says both (SO_PEERCRED, SO_PEERGROUPS,
// unix(7)), and only of those who connect in the same user namespace: so a
// group counts however the process came by it, as by SupplementaryGroups= of
// its unit. The name of a user may come from any source of nsswitch.conf(5).
type Peer struct {
	Group string

	mu    sync.Mutex
	known map[uint32]*peer
}

type peer struct {
	found chan struct{} // closed when name and err are there
	name  string
	err   error
	until time.Time
}

// Authenticate asks the kernel.
func (p *Peer) Authenticate(c Client, asked string) (Identity, error) {
	cred, err := c.PeerCred()
	var name string
	if err == nil {
		name, err = p.lookup(cred.Uid, time.Now())
	}
	if err != nil {
		return Identity{}, fmt.Errorf("who the peer is: %w", err)
	}
	f := fatalf("28000", "peer authentication failed for user %q", asked)
	if name != asked {
		return Identity{}, f.hint("You are the unix user %q, and can only be that user here.", name)
	}
	if cred.Uid != 0 && !p.member(c, cred) {
		return Identity{}, f.hint("The unix user %q must be a member of the group %q.", name, p.Group)
	}
	return Identity{User: asked, Method: MethodPeer, Operator: cred.Uid == 0}, nil
}

// member tells whether the peer's process is in the group. No such group has
// no members, nor has one that cannot be read.
func (p *Peer) member(c Client, cred *unix.Ucred) bool {
	g, err := user.LookupGroup(p.Group)
	if err != nil {
		return false
	}
	groups, err := c.PeerGroups()
	return err == nil && slices.ContainsFunc(append(groups, cred.Gid), func(gid uint32) bool {
		return strconv.FormatUint(uint64(gid), 10) == g.Gid
	})
}

// lookup finds the name of a user, at most once in peerFor for each. Who waits for one user's waits for no other's.
func (p *Peer) lookup(uid uint32, now time.Time) (string, error) {
	p.mu.Lock()
	who, ok := p.known[uid]
	if ok && now.Before(who.until) {
		p.mu.Unlock()
		<-who.found // within the limit of userName
		return who.name, who.err
	}
	maps.DeleteFunc(p.known, func(_ uint32, who *peer) bool { return !now.Before(who.until) })
	who = &peer{found: make(chan struct{}), until: now.Add(peerFor)}
	if p.known == nil {
		p.known = map[uint32]*peer{}
	}
	p.known[uid] = who
	p.mu.Unlock()
	defer close(who.found)
	who.name, who.err = userName(uid)
	return who.name, who.err
}

// asking bounds how long a directory of users may take.
const asking = 2 * time.Second

// userName reads /etc/passwd, and asks getent(1) for a user who is not there:
// those of LDAP, and of units with DynamicUser=, are known to the C library's
// modules alone.
func userName(uid uint32) (string, error) {
	id := strconv.FormatUint(uint64(uid), 10)
	u, err := user.LookupId(id)
	if err == nil {
		return u.Username, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), asking)
	defer cancel()
	cmd := exec.CommandContext(ctx, "getent", "passwd", id)
	cmd.WaitDelay = asking // for what it may have started, and left with its output
	line, gerr := cmd.Output()
	name, _, ok := strings.Cut(string(line), ":")
	if gerr != nil || !ok || name == "" {
		return "", errors.Join(err, gerr)
	}
	return name, nil
}
