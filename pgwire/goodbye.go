package pgwire

import (
	"errors"
	"os"
	"time"

	"github.com/fdtserver/fdt/txn"
)

// A session that has done its work while the server drains is to hear the
// goodbye between two requests: after it has read the reply, as libpq,
// node-postgres and PgBouncer take what they read together with a reply for a
// part of it, and before it sends more. Nobody knows when it will do that, so
// there is some silence, and what comes in spite of it is served. A client that
// never leaves a silence hears the goodbye as the answer to a request, which
// then was not run.
//
// So does one that sends when the goodbye is under way already. That cannot be
// helped: what was said cannot be unsaid, so the request must not be run, and
// the protocol has no way to ask a client to stop sending first. To shut the
// socket for input before would only turn the answer into a failure to write,
// which says less, and cut off a client that had just begun a transaction.
const (
	// nearby is the silence on a unix socket, where the kernel tells when the
	// reply was read; faraway is the one on TCP, from when its host has it.
	nearby  = time.Millisecond
	faraway = 20 * time.Millisecond

	// reading is how long a client may take to read the reply.
	reading = time.Second

	// insistence is how long a session goes on to be served that leaves no
	// silence.
	insistence = time.Second
)

func (se *session) draining() bool {
	select {
	case <-se.conn.Draining():
		return true
	default:
		return false
	}
}

// leave makes the goodbye due if the session has done something.
func (se *session) leave() {
	se.leaving = se.worked && se.draining() && !se.more()
	se.worked = false
	if se.leaving && se.since.IsZero() {
		se.since = time.Now()
	}
}

// probed tells whether a request that only asks whether the server lives is to
// be answered with the goodbye: a pool then takes another connection, instead
// of losing this one at its next use. One is answered well, as the check of a
// connection that is about to be used once more.
func (se *session) probed(p *plan) bool {
	if !p.probe() || se.txn.State() != txn.Idle || !se.draining() {
		return false
	}
	again := se.greeted || !se.since.IsZero()
	se.greeted = true
	return again
}

// farewell waits for a silence after the reply, and ends the session in it. It
// returns nil when there is a request to be served instead.
func (se *session) farewell() error {
	silence := nearby
	if se.conn.RemoteAddr().Network() != "unix" {
		silence = faraway
	}
	for latest := time.Now().Add(reading); ; {
		_ = se.conn.SetReadDeadline(time.Now().Add(silence)) // a closed connection fails in Read
		err := se.wire.await()
		switch {
		// On a busy machine the deadline may pass and a request come before this goroutine runs again.
		case err == nil, errors.Is(err, os.ErrDeadlineExceeded) && se.more():
			se.leaving, se.over = false, time.Since(se.since) >= insistence
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case se.move(): // what stood in its way is over
			return errMoved
		case se.conn.Unread() == 0, time.Now().After(latest):
			return errGoodbye
		}
	}
}
