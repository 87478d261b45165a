package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/txn"
)

// closeTimeout bounds the goodbye to a server that may not listen any more.
const closeTimeout = time.Second

// conn is one session of the server.
type conn struct {
	pg        *pgx.Conn
	watch     *watch
	app       string // its application_name, by which fences find it
	identity  string // of the store it is connected to
	era       era    // what an xid8 of it means
	session   string // "PID.START", which no other session of the server ever is
	role      string // that it has had from its start; none, as a rule
	level     string // the synchronous_commit that its decisions have
	cancelled bool   // not to be used by others any more
	used      bool   // it may have state of a transaction
	strange   bool   // it may have more than the usual resets take

	prepared map[string]string // names of the statements that pipelines have prepared, by their text
	named    int               // how many names were given
}

// appName is the application_name of an incarnation's sessions, below the 64 bytes of NAMEDATALEN.
func appName(id txn.LogID, incarnation uint64) string {
	return fmt.Sprintf("fdt1-%s-%d", id, incarnation)
}

func (r *Resource) dial(ctx context.Context, app string) (*conn, error) {
	return r.dialWith(ctx, app, nil)
}

// dialWith is dial with further parameters of the session.
func (r *Resource) dialWith(ctx context.Context, app string, params map[string]string) (*conn, error) {
	config := r.config.Copy()
	config.RuntimeParams["application_name"] = app
	if app != recoveryApp && r.opt.LockTimeout > 0 {
		config.RuntimeParams["lock_timeout"] = milliseconds(r.opt.LockTimeout)
	}
	maps.Copy(config.RuntimeParams, params)
	var err error
	if config.Password, err = r.password(); err != nil {
		return nil, err
	}
	w := new(watch)
	w.install(&config.Config)
	pg, err := pgx.ConnectConfig(ctx, config)
	if code(err) == "08P01" { // what PostgreSQL has nothing against is to be a violation of its protocol
		err = fmt.Errorf("%w (%w)", errPooled, err)
	}
	if err != nil {
		return nil, err
	}
	c := &conn{pg: pg, watch: w, app: app}
	if err = c.identify(ctx); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// errPooled is a session that is not the server's own.
var errPooled = errors.New("a connection pooler, such as pgbouncer, stands before the server and hands its sessions to others, " +
	"which two-phase commit cannot bear: connect to PostgreSQL itself")

// identify asks for what Resource.Identity returns, and in which era the session is: both hold for its life. The functions fail on a
// standby. A pooler gives its clients process numbers of its own.
func (c *conn) identify(ctx context.Context) error {
	_, row, err := c.simple(ctx, `SELECT c.system_identifier, ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int, d.oid, d.datname,
		pg_backend_pid(), concat_ws('.', (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint, (extract(epoch FROM b.stats_reset) * 1000000)::bigint),
		(SELECT concat_ws('.', pid, (extract(epoch FROM backend_start) * 1000000)::bigint) FROM pg_stat_activity WHERE pid = pg_backend_pid()),
		current_setting('synchronous_commit'), current_setting('role')
		FROM pg_control_system() c, pg_database d, pg_stat_bgwriter b WHERE d.datname = current_database()`)
	if err != nil {
		return err
	}
	c.identity = strings.Join(row[:4], "/")
	c.era = era{system: row[0], timeline: row[1], life: row[5]}
	c.session, c.level, c.role = row[6], levelOf(row[7]), row[8]
	if pid := strconv.FormatUint(uint64(c.pg.PgConn().PID()), 10); row[4] != pid {
		return fmt.Errorf("%w (the session is process %s, not %s as was said when it began)", errPooled, row[4], pid)
	}
	return nil
}

// socket is the connection beneath the driver and its encryption.
func (c *conn) socket() net.Conn {
	raw := c.pg.PgConn().Conn()
	if secure, ok := raw.(*tls.Conn); ok {
		raw = secure.NetConn()
	}
	return raw
}

// left tells whether the server has said something to an idle session, which is its goodbye as a rule, or has closed the connection. It
// must not wait to be who reads: the driver may be reading in the background, as it does when the server answered before a write returned,
// and on an idle session that takes until the goodbye.
func (c *conn) left() bool {
	left := true
	if sys, ok := c.socket().(syscall.Conn); ok {
		if socket, err := sys.SyscallConn(); err == nil {
			_ = socket.Control(func(fd uintptr) {
				_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
				left = !errors.Is(err, unix.EAGAIN)
			})
		}
	}
	return left
}

// close ends the session and waits until the server has let go of it, so that the place which it takes there is free. There is nobody to
// tell an error.
func (c *conn) close() {
	raw, err := c.pg.PgConn().Hijack()
	if err != nil { // it is in the middle of something, or gone
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		_ = c.pg.Close(ctx)
		return
	}
	_ = raw.Conn.SetDeadline(time.Now().Add(closeTimeout))
	raw.Frontend.Send(&pgproto3.Terminate{})
	_ = raw.Frontend.Flush()
	_, _ = io.Copy(io.Discard, raw.Conn)
	_ = raw.Conn.Close()
}

// simple sends text, of one or more statements, as one message. It returns the tag of the last statement and, of the last that has a
// result, the first row.
func (c *conn) simple(ctx context.Context, text string) (tag string, row []string, err error) {
	results, err := c.pg.PgConn().Exec(ctx, text).ReadAll()
	c.note(ctx, err)
	if err != nil {
		return "", nil, err
	}
	for _, r := range results {
		tag = r.CommandTag.String()
		if len(r.Rows) > 0 {
			row = row[:0]
			for _, v := range r.Rows[0] {
				row = append(row, string(v))
			}
		}
	}
	return tag, row, nil
}

// command sends one statement and requires its exact tag: PREPARE TRANSACTION and COMMIT in a failed transaction answer ROLLBACK
// without an error. Another tag is a tagError.
func (c *conn) command(ctx context.Context, text, want string) error {
	tag, _, err := c.simple(ctx, text)
	if err == nil && tag != want {
		return &tagError{want: want, got: tag}
	}
	return err
}

// tagError says that the server did another thing than it was told, and said so only in its command tag.
type tagError struct{ want, got string }

func (e *tagError) Error() string { return fmt.Sprintf("the server answered %s to %s", e.got, e.want) }

// Is makes the answer ROLLBACK txn.ErrRolledBack.
func (e *tagError) Is(target error) bool {
	return e.got == "ROLLBACK" && target == error(txn.ErrRolledBack)
}

// definite tells whether the server itself answered that the statement failed, so that it surely had no effect. FATAL is not that: a
// session told to go away (57P01) may have just committed.
func definite(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.SeverityUnlocalized == "ERROR"
	}
	_, ok := errors.AsType[*tagError](err)
	return ok || errors.Is(err, errInProgress) || errors.Is(err, errNoProof) // concluded from answers
}

// said is the server's answer; empty if the error is none of it.
func said(err error) (a pgconn.PgError) {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		a = *pg
	}
	return a
}

// code returns the SQLSTATE of the server's answer; empty if it is none.
func code(err error) string { return said(err).Code }

// literal quotes text with standard_conforming_strings on, as it is by default; the texts here have neither quotes nor backslashes
// unless a resource's name has.
func literal(text string) string {
	quoted := "'" + strings.ReplaceAll(text, "'", "''") + "'"
	if strings.Contains(text, `\`) {
		return " E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}
