package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
)

// DamagedError: a record that was durable once is no longer readable, with
// good ones behind it. What it said is lost; nothing may be presumed.
type DamagedError struct {
	Offset int64  // of the first bad byte
	Number Number // of the record that should be there
	After  Number // a good one behind, which knew it to be durable
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("log damaged: record %d at byte %d is unreadable, but record %d behind it knew it durable",
		e.Number, e.Offset, e.After)
}

// Replay yields the payloads of a log in their order, from a position on: the
// zero one is the start. The log may be written meanwhile. It ends without an error
// where the records end, be it a torn tail: records that were never forced.
// Otherwise the last pair carries a *DamagedError or the error of a read; good
// records behind the damage are yielded before it.
func Replay(r io.ReaderAt, from Position) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		off := from.Offset
		want := from.Number + 1
		var damaged *DamagedError
		ahead := &window{from: r}
		for {
			f, ok, err := readFrame(ahead, off)
			if err == nil && (!ok || f.number != want) {
				bad := off
				var after Number
				f, off, after, err = findBehind(r, off, want)
				if err == nil && after == 0 {
					break // the end, or a torn tail
				}
				ahead = &window{from: r}
				again, ok, rerr := readFrame(r, bad)
				switch {
				case err != nil || rerr != nil:
					err = errors.Join(err, rerr)
				case ok && again.number == want: // written while we looked behind it
					f, off = again, bad
				case damaged == nil:
					damaged = &DamagedError{Offset: bad, Number: want, After: after}
				}
			}
			if err != nil {
				yield(nil, fmt.Errorf("read log at byte %d: %w", off, err))
				return
			}
			if !yield(f.payload, nil) {
				return
			}
			off += f.size
			want = f.number + 1
		}
		if damaged != nil {
			yield(nil, damaged)
		}
	}
}

// Follow is Replay for who has read a log before, up to from, and wants what a living
// process has added since. It takes the first place without a record for the end, and does not
// look behind it for what a damage would have left.
func Follow(r io.ReaderAt, from Position) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		off, want := from.Offset, from.Number+1
		ahead := &window{from: r}
		for {
			f, ok, err := readFrame(ahead, off)
			switch {
			case err != nil:
				yield(nil, fmt.Errorf("read log at byte %d: %w", off, err))
				return
			case !ok || f.number != want || !yield(f.payload, nil):
				return
			}
			off += f.size
			want++
		}
	}
}

// At yields the payloads of the records at these offsets, which are in ascending
// order and from Position.Offset of a Replay.
func At(r io.ReaderAt, offsets []int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		ahead := &window{from: r}
		for _, off := range offsets {
			f, ok, err := readFrame(ahead, off)
			if err == nil && !ok {
				err = errors.New("no record")
			}
			if err != nil {
				err = fmt.Errorf("read log at byte %d: %w", off, err)
			}
			if !yield(f.payload, err) || err != nil {
				return
			}
		}
	}
}

// window reads ahead, so that small reads one after the other cost few system
// calls: more each time, since most questions are about the last few records. What it holds may be older than what the
// file holds now.
type window struct {
	from io.ReaderAt
	buf  []byte
	at   int64 // of buf in the file
	next int   // how many bytes to read ahead
}

func (w *window) ReadAt(p []byte, off int64) (int, error) {
	if i := off - w.at; i >= 0 && i+int64(len(p)) <= int64(len(w.buf)) {
		return copy(p, w.buf[i:]), nil
	}
	w.next = min(max(4<<10, 4*w.next), batch)
	w.buf, w.at = slices.Grow(w.buf[:0], max(w.next, len(p))), off
	n, err := w.from.ReadAt(w.buf[:max(w.next, len(p))], off)
	w.buf = w.buf[:n]
	if n >= len(p) {
		err = nil
	}
	return copy(p, w.buf), err
}

// findBehind looks behind off for the first good record with a higher number
// than want, and for one that knew want to be durable: after is its number, 0
// if there is none.
func findBehind(r io.ReaderAt, off int64, want Number) (first frame, at int64, after Number, err error) {
	var mark [4]byte
	binary.LittleEndian.PutUint32(mark[:], magic)
	chunk := make([]byte, 256<<10)
	for {
		n, err := r.ReadAt(chunk, off)
		if err = ignoreEOF(err); err != nil {
			return frame{}, off, 0, err
		}
		if n < headerSize {
			return frame{}, off, 0, nil
		}
		for i := 0; i < n; i += align {
			next := bytes.Index(chunk[i:n], mark[:])
			if next < 0 {
				break
			}
			i = (i + next) / align * align
			f, ok, err := readFrame(r, off+int64(i))
			if err != nil {
				return frame{}, off, 0, err
			}
			if !ok || f.number <= want {
				continue
			}
			if first.number == 0 {
				first, at = f, off+int64(i)
			}
			if f.durable >= want {
				return first, at, f.number, nil
			}
		}
		off += int64(n) / align * align
	}
}
