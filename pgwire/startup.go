package pgwire

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/pgwire/statement"
	"github.com/fdtserver/fdt/txn"
)

// Codes that stand where a startup message has its version.
const (
	codeSSL    = 80877103
	codeGSS    = 80877104
	codeCancel = 80877102
)

// newestMinor is the newest minor version of protocol 3 that is spoken.
const newestMinor = 2

// parting is how long a client that was refused may take to read why.
const parting = time.Second

// start takes a connection from its first byte to the first ReadyForQuery. It
// returns false if there is no session: everything has been said then.
func (se *session) start() bool {
	err := se.greet()
	if err == nil {
		return true
	}
	if errors.Is(err, drain.ErrCrowded) {
		err = errCrowded
	}
	if f, ok := errors.AsType[*Failure](err); ok {
		se.server.fatal.Add(classOf(f))
		se.report(f)
		se.wire.flush()
		if se.tls != nil {
			_ = se.tls.CloseWrite() // a client that has gone misses nothing
		}
		se.server.refusing.Sparing(se.log()).Info("client refused", "sqlstate", f.Code, "reason", f.Message)
		if !errors.Is(err, errCrowded) { // from whom there is nothing to be read
			se.conn.Linger(parting)
		}
	}
	return false
}

// errDone is the end of a connection on which there is nothing to say.
var errDone = errors.New("nothing more to serve")

func (se *session) greet() error {
	// One deadline for all that comes before the client is known; drain.Server ends it sooner where others wait.
	se.wire.until = se.conn.Since().Add(se.server.StartupTimeout)
	_ = se.conn.SetDeadline(se.wire.until) // a closed connection fails in Read
	packet, err := se.request()
	if err != nil {
		return err
	}
	params, err := se.negotiate(packet)
	giveBuffer(packet)
	if err != nil {
		return err
	}
	if err := se.authenticate(params); err != nil {
		return err
	}
	return se.welcome(params)
}

// request reads until a startup message comes; what may come before it is
// answered. Encryption may be asked for once each, as libpq does.
func (se *session) request() ([]byte, error) {
	cfg := se.server.Listeners[se.conn.Listener()].TLS
	for asked := map[uint32]bool{}; ; {
		if err := se.wire.await(); err != nil {
			return nil, err
		}
		se.conn.SetBusy()
		if cfg != nil && len(asked) == 0 && se.wire.inbox[se.wire.start] == tlsHandshake {
			asked[codeSSL], asked[codeGSS] = true, true
			if err := se.encrypt(cfg, true); err != nil {
				return nil, err
			}
			continue
		}
		packet, err := se.wire.startup()
		if err != nil {
			return nil, err
		}
		se.conn.Heard()
		code := binary.BigEndian.Uint32(packet)
		switch {
		case code == codeCancel:
			if n := len(packet) - 8; n < 1 || n > maxSecret {
				return nil, errGarbage
			}
			se.server.request(se.ctx, binary.BigEndian.Uint32(packet[4:]), packet[8:])
			return nil, errDone
		case code == codeSSL && !asked[code], code == codeGSS && !asked[code]:
			asked[code] = true
			if se.wire.buffered() { // what came with it cannot have been meant for us in the clear
				return nil, errGarbage
			}
			if err := se.answer(cfg, code); err != nil {
				return nil, err
			}
			asked[codeGSS] = asked[codeGSS] || se.tls != nil
			continue
		}
		return packet, nil
	}
}

// answer says whether encryption goes on, and goes on with it.
func (se *session) answer(cfg *tls.Config, code uint32) error {
	yes := code == codeSSL && cfg != nil
	letter := map[bool]byte{true: 'S', false: 'N'}[yes]
	if _, err := se.conn.Write([]byte{letter}); err != nil || !yes {
		return err
	}
	return se.encrypt(cfg, false)
}

// negotiate reads the startup message and settles the protocol's version.
func (se *session) negotiate(packet []byte) (map[string]string, error) {
	version := binary.BigEndian.Uint32(packet)
	if version>>16 != 3 {
		return nil, fatalf("0A000", "unsupported frontend protocol %d.%d: server supports 3.0 to 3.%d", version>>16, version&0xffff, newestMinor)
	}
	params, options, err := parameters(packet[4:])
	if err != nil {
		return nil, err
	}
	minor := version & 0xffff
	se.secret = make([]byte, shortSecret)
	if minor >= 2 {
		se.secret = make([]byte, longSecret)
	}
	if minor > newestMinor || len(options) > 0 {
		// Of a newer minor version, 3.0 and 3.2 are what is spoken here.
		se.wire.send(&pgproto3.NegotiateProtocolVersion{
			NewestMinorProtocol: 3<<16 | min(minor, newestMinor), UnrecognizedOptions: options,
		})
	}
	return params, nil
}

// parameters splits a startup message into names and values; options are the
// protocol options, whose names begin with _pq_., of which none is known.
func parameters(b []byte) (params map[string]string, options []string, err error) {
	bad := fatalf("08P01", "invalid startup packet layout: expected terminator as last byte")
	params = map[string]string{}
	for {
		name, rest, ok := bytes.Cut(b, []byte{0})
		if !ok {
			return nil, nil, bad
		}
		if len(name) == 0 {
			if len(rest) != 0 {
				return nil, nil, bad
			}
			return params, options, nil
		}
		value, rest, ok := bytes.Cut(rest, []byte{0})
		if !ok {
			return nil, nil, bad
		}
		b = rest
		if !utf8.Valid(name) || !utf8.Valid(value) {
			return nil, nil, fatalf("22021", "invalid byte sequence for encoding \"UTF8\" in the startup packet")
		}
		if strings.HasPrefix(string(name), "_pq_.") {
			options = append(options, string(name))
			continue
		}
		params[string(name)] = string(value)
	}
}

func (se *session) authenticate(params map[string]string) error {
	asked := statement.Shorten(params["user"])
	if asked == "" {
		return fatalf("28000", "no PostgreSQL user name specified in startup packet")
	}
	l, ok := se.server.Listeners[se.conn.Listener()]
	if !ok {
		return fatalf("28000", "no way to authenticate on listener %q", se.conn.Listener())
	}
	se.user = asked
	if l.TLS != nil && !l.Optional && se.tls == nil {
		return fatalf("28000", "connection is not encrypted").hint("This listener asks for TLS: use sslmode=require or higher.")
	}
	id, err := l.Auth.Authenticate(applicant{se}, asked)
	if err != nil {
		if f, ok := errors.AsType[*Failure](err); ok {
			return f
		}
		if _, ok := errors.AsType[net.Error](err); ok || errors.Is(err, io.EOF) || errors.Is(err, errHungUp) || errors.Is(err, errGarbage) {
			return err // there is nobody to tell
		}
		se.server.refusing.Sparing(se.log()).Warn("authentication failed", "error", err)
		return fatalf("28000", "authentication failed for user %q", asked)
	}
	se.user, se.identity = id.User, id
	return nil
}

// welcome sets the session up and says so.
func (se *session) welcome(params map[string]string) error {
	se.database = statement.Shorten(params["database"])
	if se.database == "" {
		se.database = se.user
	}
	if r := params["replication"]; r != "" {
		if v, ok := boolean(r); !ok || v == "on" { // also database, which is logical replication
			return fatalf("0A000", "fdt has no replication to offer")
		}
	}
	if err := se.initial(params); err != nil {
		return explain(se.ctx, err).with(func(f *Failure) { f.Fatal = true })
	}
	se.transacts()
	se.conn.Welcome()
	se.reserved = se.conn.Reserved()
	se.wire.until = time.Time{}
	se.server.sessions.add(se, se.server.Origin)
	se.enrol()
	se.wire.send(&pgproto3.AuthenticationOk{})
	for _, key := range reported {
		se.wire.send(&pgproto3.ParameterStatus{Name: catalog[key].name, Value: se.settings.get(key)})
	}
	for key, value := range se.settings.startup {
		se.ineffective(key, value)
	}
	se.wire.send(&pgproto3.BackendKeyData{ProcessID: se.pid, SecretKey: se.secret})
	return se.ready()
}

// transacts begins the session's life as one of txn, for what the client's transactions are.
func (se *session) transacts() {
	se.txn = se.server.Manager.NewSession(txn.Principal{
		User: se.identity.Principal(), Operator: se.identity.Operator, Addr: se.conn.Peer(), Database: se.database,
	})
	se.txn.Notify(se.activity.numbered)
}

// initial takes the settings out of the startup packet.
func (se *session) initial(params map[string]string) error {
	start := values{"session_authorization": se.user}
	if most := se.server.Manager.Limits().Prepared; most > 0 {
		start["max_prepared_transactions"] = strconv.Itoa(most)
	}
	if se.identity.Operator {
		start["is_superuser"] = "on"
	}
	given := map[string]string{}
	for name, value := range params {
		switch name {
		case "user", "database", "replication":
		case "options":
			if err := commandLine(value, given); err != nil {
				return err
			}
		default:
			given[name] = value
		}
	}
	for name, value := range given {
		key, value, err := parseSetting(name, []string{value})
		if err != nil {
			return err
		}
		start[key] = value
	}
	se.settings.startup = start
	return nil
}

// commandLine reads -c name=value and --name=value of the options parameter;
// a backslash keeps the next character, also a space.
func commandLine(text string, into map[string]string) error {
	var words []string
	var word strings.Builder
	inside := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			word.WriteByte(text[i])
			inside = true
		case c == ' ' || c == '\t' || c == '\n':
			if inside {
				words = append(words, word.String())
			}
			word.Reset()
			inside = false
		default:
			word.WriteByte(c)
			inside = true
		}
	}
	if inside {
		words = append(words, word.String())
	}
	for i := 0; i < len(words); i++ {
		w := words[i]
		if w == "-c" && i+1 < len(words) {
			i++
			w = words[i]
		} else if strings.HasPrefix(w, "-c") || strings.HasPrefix(w, "--") {
			w = w[2:]
		} else {
			return errorf("42601", "invalid command-line argument for server process: %s", w)
		}
		name, value, ok := strings.Cut(w, "=")
		if !ok || name == "" {
			return errorf("42601", "-c %s requires a value", w)
		}
		into[strings.ReplaceAll(name, "-", "_")] = value
	}
	return nil
}
