package mariadb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/fdtserver/fdt/txn"
)

// slots is how many numbered locks an incarnation may hold; above MaxPool, so that a number is free again when its turn comes.
const slots = 512

// conn is one session of the server.
type conn struct {
	*sql.Conn
	socket  net.Conn // beneath the driver; nil if a program dials itself
	key     string   // of its pool, and the prefix of the lock that it holds for its life; empty for recovery
	slot    uint32   // completes the lock's name
	id      uint64   // connection_id()
	store   string   // identity of the store it is connected to
	seconds int64    // lock timeout that is set; -1: the server's default
	mark    string   // the lock's name, as an expression
	reset   []string // statements that make a used session as new
	again   stored   // the same
	vote    stored   // what is looked at before the vote
	used    bool     // by a transaction
	called  bool     // a routine, which may have made a temporary table or what else a session keeps
	strange bool     // it may have state that reset leaves

	statements map[string]*sql.Stmt   // those of steps that are prepared, by their text
	compounds  map[compound]*sql.Stmt // likewise; nil: it cannot be
}

// lockPrefix begins the names of an incarnation's locks; the longest name has 52 of 64 bytes.
func lockPrefix(id txn.LogID, incarnation uint64) string {
	return fmt.Sprintf("fdt-%s-%d-", id, incarnation)
}

// current lists the settings that are reset, each with its value, as assignments.
var current = func() string {
	var list []string
	for _, name := range []string{
		"sql_mode", "time_zone", "tx_isolation", "autocommit", "foreign_key_checks", "unique_checks", "character_set_client", "character_set_results",
		"collation_connection",
	} {
		list = append(list, "CONCAT('"+name+" = ', QUOTE(@@"+name+"))")
	}
	return strings.Join(list, ", ")
}()

// dial opens a session. Its named lock is what a fence finds it by: ids of connections come back after a restart of the server, and then
// are strangers'.
func (r *Resource) dial(ctx context.Context, key string) (*conn, error) {
	c := &conn{key: key, seconds: -1}
	raw, err := r.db.Conn(context.WithValue(ctx, dialKey{}, c))
	if err != nil {
		return nil, err
	}
	c.Conn = raw
	if err := r.setup(ctx, c); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

type dialKey struct{}

// dialSocket is the driver's own way to connect, and tells the conn that is being dialled what its socket is.
func dialSocket(ctx context.Context, network, address string) (net.Conn, error) {
	socket, err := new(net.Dialer).DialContext(ctx, network, address)
	if c, ok := ctx.Value(dialKey{}).(*conn); ok {
		c.socket = socket
	}
	return socket, err
}

func (r *Resource) setup(ctx context.Context, c *conn) error {
	if err := r.makeMarker(ctx, c); err != nil || c.key == recoveryKey {
		return err
	}
	for range slots {
		c.slot = r.slot.Add(1) % slots
		var got sql.NullBool
		c.mark = fmt.Sprintf("'%s%d'", c.key, c.slot)
		var settings string
		err := c.QueryRowContext(ctx, "SELECT GET_LOCK("+c.mark+", 0), CONNECTION_ID(), ("+identity+"), CONCAT_WS(', ', "+current+")").
			Scan(&got, &c.id, &c.store, &settings)
		if err != nil || got.Bool {
			c.reset = []string{"DO RELEASE_ALL_LOCKS(), GET_LOCK(" + c.mark + ", 0)", "SET " + settings}
			c.again = stored{name: "fdt_again", list: c.reset}
			c.vote = stored{name: "fdt_vote", list: []string{"BEGIN NOT ATOMIC " + c.looking("") + "END"}}
			return err
		}
	}
	return fmt.Errorf("all %d locks of this process are held", slots)
}

// stored is a list of statements that the server has read once in the session's life, as it is to run them in each transaction: reading
// them costs about as much as all else that a small transaction does there. A compound statement costs more to run than the statements
// in it do one by one.
type stored struct {
	name  string
	list  []string
	known bool // to the server
}

// run is what runs the list, inside of BEGIN NOT ATOMIC. Where that succeeds, the list is known.
func (s *stored) run() string {
	var text strings.Builder
	for i, statement := range s.list {
		name := s.name + strconv.Itoa(i)
		if !s.known {
			text.WriteString("PREPARE " + name + " FROM '" + strings.ReplaceAll(statement, "'", "''") + "'; ")
		}
		text.WriteString("EXECUTE " + name + "; ")
	}
	return text.String()
}

// renewed tells whether the session, which is in no transaction, can be used for another. One that ran a routine is made as new at once:
// it may hold a lock for which others wait.
func (c *conn) renewed() bool {
	if c.strange || !c.called {
		return !c.strange
	}
	ctx, cancel := context.WithTimeout(context.Background(), settle)
	defer cancel()
	c.called, c.used = false, false
	return c.forget() == nil && c.exec(ctx, "BEGIN NOT ATOMIC "+strings.Join(c.reset, "; ")+"; END") == nil
}

// left tells whether the server has said something to an idle session, which is its goodbye as a rule, or has closed the connection: the
// driver looks when it is about to use a connection again.
func (c *conn) left(ctx context.Context) bool {
	return c.Raw(func(raw any) (err error) {
		if idle, ok := raw.(driver.SessionResetter); ok {
			err = idle.ResetSession(ctx)
		}
		return err
	}) != nil
}

func (c *conn) close() { _ = c.Conn.Close() } // there is nobody to tell

func (c *conn) exec(ctx context.Context, text string, args ...any) error {
	_, err := c.ExecContext(ctx, text, args...)
	return err
}

// xid is the name of a branch in a statement. The gtrid is the gid without its role, which is not known when the branch begins and cannot
// change later; the bqual tells resources of one server apart. XA statements take no placeholders.
func (r *Resource) xid(gid txn.GID) string {
	return "X'" + hex.EncodeToString([]byte(gtrid(gid))) + "',X'" + hex.EncodeToString([]byte(r.opt.Name)) + "',1"
}

func gtrid(gid txn.GID) string {
	text := gid.String()
	return text[:strings.LastIndexByte(text, '-')]
}

// parse reads what xid wrote, as XA RECOVER returns it. The role is RoleLocal whatever it was.
func (r *Resource) parse(format, glen, blen int, data []byte) (txn.GID, bool) {
	if format != 1 || glen < 0 || blen < 0 || glen+blen != len(data) || string(data[glen:]) != r.opt.Name {
		return txn.GID{}, false
	}
	gid, err := txn.ParseGID(string(data[:glen]) + "-" + string(txn.RoleLocal))
	return gid, err == nil
}

// holder names a session beyond its life: the lock it held and its id.
type holder struct {
	lock string
	id   uint64
}

func (c *conn) holder() holder { return holder{fmt.Sprintf("%s%d", c.key, c.slot), c.id} }

// kill returns when the session is gone from the server, and with it what it had not prepared. KILL only asks; the lock is given up
// after the transaction. No connection is held between two looks, so that a session which is slow to end holds up no other's end.
func (r *Resource) kill(ctx context.Context, h holder) error {
	return poll(ctx, func() (gone bool, err error) {
		err = r.privileged(ctx, func(c *conn) error {
			gone, err = c.end(ctx, h)
			return err
		})
		return gone, err
	})
}

// end tells the session to end if it lives, and whether it is gone.
func (c *conn) end(ctx context.Context, h holder) (gone bool, err error) {
	var id sql.NullInt64
	if err := c.QueryRowContext(ctx, "SELECT IS_USED_LOCK(?)", h.lock).Scan(&id); err != nil {
		return false, err
	}
	if !id.Valid || uint64(id.Int64) != h.id {
		return true, nil
	}
	return false, c.kill(ctx, h.id)
}

func (c *conn) kill(ctx context.Context, id uint64) error {
	err := c.exec(ctx, fmt.Sprintf("KILL CONNECTION %d", id))
	if number(err) == errNoThread {
		return nil
	}
	return err
}

// poll calls f, at first often, until it is done, fails or ctx ends. That we may not kill a session is no failure yet: one that is just
// leaving has no user any more by whom it could be ours (sql_parse.cc, kill_one_thread), and is soon gone.
func poll(ctx context.Context, f func() (done bool, err error)) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		done, err := f()
		if done || err != nil && number(err) != errNotOwner {
			return err
		}
		if ended := pause(ctx, wait); ended != nil {
			return errors.Join(ended, err)
		}
	}
}

var errBusy = txn.Busy.Mark(errors.New("its session has not ended yet"))
