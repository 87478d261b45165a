package pgwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fdtserver/fdt/internal/bulk"
)

// Limits on what a client may send.
const (
	maxStartup = 10000   // bytes of a startup packet, as PostgreSQL's MAX_STARTUP_PACKET_LENGTH
	maxSmall   = 30000   // bytes of a message that has no business being long, as PQ_SMALL_MESSAGE_LIMIT
	maxClaim   = 1 << 30 // a length from here on is no length but noise
	// DefaultMaxMessage is the length in bytes above which a message is
	// refused, unless Server.MaxMessage says otherwise.
	DefaultMaxMessage = 16 << 20
)

// Sizes of buffers. A session that waits holds only its inbox.
const (
	inboxSize  = 512      // most requests fit: one system call each
	flushAbove = 64 << 10 // bytes of a reply that are not held back any longer
	keepBelow  = 64 << 10 // bytes of a buffer that is worth keeping
	piece      = 64 << 10 // of a long message is read at once
)

// Faults of the byte stream, after which nothing can be said to the client.
var (
	errGarbage = errors.New("not a message of the protocol")
	errLong    = errors.New("no memory for a long message")
	errHungUp  = fmt.Errorf("the client closed the connection in a message: %w", io.ErrUnexpectedEOF)
)

// wire frames messages on a connection. Reading and writing belong to one
// goroutine.
type wire struct {
	conn  net.Conn
	max   int           // longest message, in bytes
	stall time.Duration // Server.StallTimeout

	inbox      [inboxSize]byte
	start, end int                  // unread bytes of inbox
	out        []byte               // reply not yet written; from buffers
	long       func(bytes int) bool // is asked before a long message takes memory; nil for none that may be long
	fault      error                // of encoding or writing: nothing more is written
	until      time.Time            // when writing ends, whatever is written; zero: stall after its begin
}

// buffers holds buffers for messages and replies, so that idle sessions have
// none. The elements are *[]byte.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

func takeBuffer() []byte {
	b, _ := buffers.Get().(*[]byte) // there is nothing else in it
	return (*b)[:0]
}

func giveBuffer(b []byte) {
	if cap(b) > 0 && cap(b) <= keepBelow {
		buffers.Put(&b)
	}
}

// buffered tells whether input was read that is not yet taken.
func (w *wire) buffered() bool { return w.start < w.end }

// await blocks until there is input, taking no more memory than the inbox.
// The error is Read's own.
func (w *wire) await() error {
	if w.buffered() {
		return nil
	}
	n, err := w.conn.Read(w.inbox[:])
	w.start, w.end = 0, n
	if n > 0 {
		return nil
	}
	return err
}

// read fills b, first from the inbox. The first byte is there already: await
// has returned.
func (w *wire) read(b []byte) error {
	n := copy(b, w.inbox[w.start:w.end])
	w.start += n
	if n == len(b) {
		return nil
	}
	if len(b)-n >= inboxSize { // too long for the inbox
		_, err := io.ReadFull(w.conn, b[n:])
		return eof(err)
	}
	m, err := io.ReadAtLeast(w.conn, w.inbox[:], len(b)-n)
	if err != nil {
		return eof(err)
	}
	w.start, w.end = copy(b[n:], w.inbox[:m]), m
	return nil
}

func eof(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errHungUp
	}
	return err
}

// message reads one message into a buffer that is given back by giveBuffer.
// A length that cannot be right is errGarbage, one above the limit *fatal.
func (w *wire) message() (kind byte, body []byte, err error) {
	kind, size, err := w.head()
	if err != nil {
		return 0, nil, err
	}
	switch limit := w.limit(kind); {
	case limit == 0:
		return 0, nil, fatalf("08P01", "invalid frontend message type %d", kind)
	case size > limit && limit == maxSmall:
		return 0, nil, fatalf("08P01", "invalid message length")
	case size > limit:
		return 0, nil, fatalf("54000", "a message of %d bytes is longer than the %d that are taken here", size, limit)
	}
	body, err = w.body(size)
	return kind, body, err
}

// head reads the kind of a message and how many bytes follow.
func (w *wire) head() (kind byte, size int, err error) {
	var head [5]byte
	if err := w.read(head[:]); err != nil {
		return 0, 0, err
	}
	length := binary.BigEndian.Uint32(head[1:])
	if length < 4 || length >= maxClaim {
		return 0, 0, fmt.Errorf("%w: length %d", errGarbage, length)
	}
	return head[0], int(length) - 4, nil
}

// limit returns how long a message of the kind may be; zero for an unknown one.
func (w *wire) limit(kind byte) int {
	switch kind {
	case 'Q', 'P', 'B', 'F':
		return w.max
	case 'd', 'c', 'f': // COPY's, which PostgreSQL passes over when there is none
		return w.max
	case 'p', 'E', 'D', 'C', 'S', 'H', 'X':
		return maxSmall
	}
	return 0
}

// body reads size bytes. Memory grows with what arrives, not with what was
// announced. Where there is none for a long message, it is passed over and the
// error is errLong.
func (w *wire) body(size int) ([]byte, error) {
	b := takeBuffer()
	for len(b) < size {
		from := len(b)
		if cap(b) == from {
			next := min(size, 4*from+1) // what there is, and some copies of it are few
			if from >= keepBelow && !w.long(from+next) {
				return nil, w.skip(size - from)
			}
			was := b
			b = bulk.Grow(b, next)
			giveBuffer(was)
		}
		if from >= keepBelow {
			w.long(cap(b))
		}
		b = b[:min(size, cap(b), from+piece)]
		if err := w.read(b[from:]); err != nil {
			giveBuffer(b)
			return nil, err
		}
	}
	return b, nil
}

// skip passes over bytes of a message.
func (w *wire) skip(size int) error {
	b := make([]byte, min(size, piece))
	for size > 0 {
		w.long(0)
		n := min(size, piece)
		if err := w.read(b[:n]); err != nil {
			return err
		}
		size -= n
	}
	return errLong
}

// startup reads a packet without a type: a startup message or one of the
// requests that may come before it.
func (w *wire) startup() ([]byte, error) {
	var head [4]byte
	if err := w.read(head[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(head[:])
	if length < 8 || length > maxStartup {
		return nil, fmt.Errorf("%w: startup packet of length %d", errGarbage, length)
	}
	return w.body(int(length) - 4)
}

// send adds a message to the reply.
func (w *wire) send(m pgproto3.BackendMessage) {
	if w.out == nil {
		w.out = takeBuffer()
	}
	var err error
	w.out, err = m.Encode(w.out)
	w.fault = errors.Join(w.fault, err) // of a message longer than the protocol can tell
	if len(w.out) >= flushAbove {
		w.flush()
	}
}

// row adds a row to the reply. What has a long value goes out in pieces, so that it is in no buffer as a whole.
func (w *wire) row(r row) {
	if r.size() < flushAbove {
		w.send(&pgproto3.DataRow{Values: r.values()})
		return
	}
	size := r.size()
	if size >= maxClaim {
		w.fault = errors.Join(w.fault, fmt.Errorf("a row of %d bytes is longer than the protocol can tell", size))
		return
	}
	var head [7]byte
	head[0] = 'D'
	binary.BigEndian.PutUint32(head[1:], uint32(size))
	binary.BigEndian.PutUint16(head[5:], uint16(len(r)))
	w.put(string(head[:]))
	for _, c := range r {
		var length [4]byte
		binary.BigEndian.PutUint32(length[:], uint32(c.length()))
		w.put(string(length[:]))
		w.put(c.text)
	}
}

// put adds a part of a message to the reply.
func (w *wire) put(s string) {
	for s != "" {
		if w.out == nil {
			w.out = takeBuffer()
		}
		n := min(len(s), flushAbove-len(w.out))
		w.out = append(w.out, s[:n]...)
		s = s[n:]
		if len(w.out) == flushAbove {
			w.flush()
		}
	}
}

// row is a row as it is sent.
type row []cell

// cell is a value of a row, in text or binary format.
type cell struct {
	text string
	null bool
}

// length is what stands before the value.
func (c cell) length() int32 {
	if c.null {
		return -1
	}
	return int32(len(c.text))
}

// size is the length of the row's message.
func (r row) size() int {
	n := 4 + 2
	for _, c := range r {
		n += 4 + len(c.text)
	}
	return n
}

// values are the cells as pgproto3 has them.
func (r row) values() [][]byte {
	list := make([][]byte, len(r))
	for i, c := range r {
		if !c.null {
			list[i] = append([]byte{}, c.text...)
		}
	}
	return list
}

// flush writes the reply in one piece and gives its buffer back.
func (w *wire) flush() {
	if w.out == nil {
		return
	}
	if w.fault == nil {
		until := w.until
		if until.IsZero() {
			until = time.Now().Add(w.stall)
		}
		_ = w.conn.SetWriteDeadline(until) // a closed connection fails in Write
		if _, err := w.conn.Write(w.out); err != nil {
			w.fault = err
		}
	}
	giveBuffer(w.out)
	w.out = nil
}
