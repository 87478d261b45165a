// Package wal is an append-only file of checksummed records with group commit.
// Force returns nil only when the record and all before it are on disk; it
// knows nothing of what the records mean.
//
// A record is a header of 32 bytes and a payload, padded with zeros to eight:
//
//	0  magic "fdtR"
//	4  length of the payload, bytes
//	8  number of the record, from 1 without gaps
//	16 number of the last record known durable when this one was written
//	24 CRC32C (RFC 3720 §12.1) of the header with this field zero, and the payload
//	28 zero
//
// all little-endian. The field at 16 tells a torn tail from a damaged log: a
// bad record that a later good one knows to be durable was damaged since.
package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"os"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/ofd"
)

const (
	magic      = 0x52746466 // "fdtR"
	headerSize = 32
	align      = 8

	// MaxPayload is the longest payload in bytes.
	MaxPayload = 1 << 20
	// Step is by how much the file grows, zeros ahead of the records: a
	// record that overwrites allocated blocks needs no metadata on disk.
	Step = 1 << 20
	// Reserve is how much of it only records of Urgent may use.
	Reserve = 256 << 10
)

// Errors of Append and Force.
var (
	// ErrFull: the disk is full and the record was not written; nothing else
	// happened to the log.
	ErrFull = errors.New("log: no space to grow")
	// ErrPoisoned: a write or sync failed. Whether records since the last
	// successful Force are durable, nobody knows (fsync(2)); the log takes no
	// more.
	ErrPoisoned = errors.New("log: poisoned by a failed write")
	// ErrTooLong: the payload exceeds MaxPayload.
	ErrTooLong = errors.New("log: record too long")
)

// Urgency says whether a record may use the reserve of a full disk.
type Urgency bool

// The urgencies.
const (
	Normal Urgency = false
	Urgent Urgency = true
)

// Number is the number of a record within its file.
type Number uint64

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Log is one file open for appending. Its methods may be called concurrently.
type Log struct {
	file  *os.File
	fault func(step string) error // nil but in tests

	mu      sync.Mutex
	synced  sync.Cond // a sync ended
	end     int64     // where the next record goes
	size    int64     // zeros are written up to here
	last    Number    // written
	durable Number    // on disk
	syncing bool
	err     error // poisoned
}

// Create makes f, an empty file, a log. The first Force makes it durable, the
// zeros ahead of the records included (fdatasync(2) writes what is needed to
// read them). The log owns f from then on, also if an error is returned. What step in a test
// returns is taken for the outcome of that system call.
func Create(f *os.File, fault func(step string) error) (*Log, error) {
	l := &Log{file: f, fault: fault}
	l.synced.L = &l.mu
	if err := l.grow(); err != nil {
		return nil, errors.Join(fmt.Errorf("create log %s: %w", f.Name(), err), f.Close())
	}
	return l, nil
}

func (l *Log) at(step string) error {
	if l.fault == nil {
		return nil
	}
	return l.fault(step)
}

var zeros [64 << 10]byte

// grow writes Step zeros behind those there are; less if the disk is full.
func (l *Log) grow() error {
	for target := l.size + Step; l.size < target; {
		if err := l.at("grow"); err != nil {
			return err
		}
		n, err := l.file.WriteAt(zeros[:], l.size)
		l.size += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// Append writes a record, which then survives the death of the process. It is
// durable after Force of its number, or of a later one.
func (l *Log) Append(payload []byte, u Urgency) (Number, error) {
	if len(payload) > MaxPayload {
		return 0, ErrTooLong
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.write(encode(nil, l.last+1, l.durable, payload), 1, u)
}

// batch is how many bytes AppendAll writes at once.
const batch = 256 << 10

// AppendAll writes what the sequence yields as Append does, urgent, many
// records with one write. An error of the sequence ends it. Meanwhile the log
// takes no others.
func (l *Log) AppendAll(payloads iter.Seq2[[]byte, error]) (Number, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	frames := make([]byte, 0, batch)
	count := Number(0)
	for payload, err := range payloads {
		if err != nil {
			return 0, err
		}
		if count > 0 && int64(len(frames))+recordSize(len(payload)) > batch {
			if _, err := l.write(frames, count, Urgent); err != nil {
				return 0, err
			}
			frames, count = frames[:0], 0
		}
		count++
		frames = encode(frames, l.last+count, l.durable, payload)
	}
	return l.write(frames, count, Urgent)
}

// write adds encoded records behind the last one, and returns the number of
// the last of them.
func (l *Log) write(frames []byte, count Number, u Urgency) (Number, error) {
	if l.err != nil {
		return 0, l.err
	}
	if err := l.room(int64(len(frames)), u); err != nil {
		return 0, err
	}
	err := l.at("write")
	if err == nil {
		_, err = l.file.WriteAt(frames, l.end)
	}
	if err != nil {
		return 0, l.poison(err)
	}
	l.end += int64(len(frames))
	l.last += count
	return l.last, nil
}

// room makes sure that n bytes fit. An error other than a full disk poisons.
func (l *Log) room(n int64, u Urgency) error {
	if l.end+n+Reserve <= l.size {
		return nil
	}
	err := l.grow()
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT):
		return l.poison(err)
	case u == Urgent && l.end+n <= l.size:
		return nil
	}
	return fmt.Errorf("%w: %w", ErrFull, err)
}

func (l *Log) poison(err error) error {
	if l.err == nil {
		l.err = fmt.Errorf("%w: %w", ErrPoisoned, err)
	}
	return l.err
}

// Force returns when the record is durable. Callers that wait while a sync is
// under way share the next one. A number that was not given yet means the last
// that was.
func (l *Log) Force(n Number) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = min(n, l.last)
	for l.durable < n && l.err == nil {
		if l.syncing {
			l.synced.Wait()
			continue
		}
		l.syncing = true
		l.mu.Unlock()
		runtime.Gosched() // who is about to append shares this sync
		l.mu.Lock()
		covers := l.last
		l.mu.Unlock()
		err := l.sync()
		l.mu.Lock()
		l.syncing = false
		if err == nil {
			l.durable = covers
		} else {
			_ = l.poison(err)
		}
		l.synced.Broadcast()
	}
	if l.durable >= n {
		return nil
	}
	return l.err
}

func (l *Log) sync() error {
	if err := l.at("sync"); err != nil {
		return err
	}
	for {
		if err := unix.Fdatasync(int(l.file.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Durable returns the last number that is on disk.
func (l *Log) Durable() Number {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durable
}

// Size returns how many bytes the records take.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

// Err returns why the log is poisoned, nil if it is not.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// File is the open file, for locks and stat. The log keeps it.
func (l *Log) File() *os.File { return l.file }

// Close closes the file without forcing, and gives its lock back.
func (l *Log) Close() error { return ofd.Close(l.file) }

// Position is a place between two records of a log.
type Position struct {
	Offset int64
	Number Number // of the record before it
}

// Past returns the position behind one more record with that payload.
func (p Position) Past(payload []byte) Position {
	return Position{p.Offset + recordSize(len(payload)), p.Number + 1}
}

func recordSize(payload int) int64 {
	return int64(headerSize+payload+align-1) / align * align
}

// encode appends a record to frames.
func encode(frames []byte, n, durable Number, payload []byte) []byte {
	at, size := len(frames), int(recordSize(len(payload)))
	frames = slices.Grow(frames, size)[:at+size]
	b := frames[at:]
	clear(b)
	binary.LittleEndian.PutUint32(b[0:], magic)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(payload)))
	binary.LittleEndian.PutUint64(b[8:], uint64(n))
	binary.LittleEndian.PutUint64(b[16:], uint64(durable))
	copy(b[headerSize:], payload)
	binary.LittleEndian.PutUint32(b[24:], checksum(b[:headerSize], payload))
	return frames
}

// checksum of a header whose checksum field is zero, and its payload.
func checksum(header, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(header, castagnoli), castagnoli, payload)
}

// frame is one good record.
type frame struct {
	number, durable Number
	payload         []byte
	size            int64
}

// readFrame reads the record at off; ok is false if there is no good one.
func readFrame(r io.ReaderAt, off int64) (f frame, ok bool, err error) {
	var h [headerSize]byte
	if n, err := r.ReadAt(h[:], off); n < headerSize {
		return frame{}, false, ignoreEOF(err)
	}
	length := binary.LittleEndian.Uint32(h[4:])
	if binary.LittleEndian.Uint32(h[0:]) != magic || length > MaxPayload {
		return frame{}, false, nil
	}
	payload := make([]byte, length)
	if n, err := r.ReadAt(payload, off+headerSize); n < len(payload) {
		return frame{}, false, ignoreEOF(err)
	}
	want := binary.LittleEndian.Uint32(h[24:])
	clear(h[24:28])
	if checksum(h[:], payload) != want {
		return frame{}, false, nil
	}
	return frame{
		number:  Number(binary.LittleEndian.Uint64(h[8:])),
		durable: Number(binary.LittleEndian.Uint64(h[16:])),
		payload: payload,
		size:    recordSize(len(payload)),
	}, true, nil
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
