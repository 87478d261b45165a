package wal

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
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

// Replay yields the payloads of a log in their order. It ends without an error
// where the records end, be it a torn tail: records that were never forced.
// Otherwise the last pair carries a *DamagedError or the error of a read; good
// records behind the damage are yielded before it.
func Replay(r io.ReaderAt) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		var off int64
		want := Number(1)
		var damaged *DamagedError
		for {
			f, ok, err := readFrame(r, off)
			if err == nil && (!ok || f.number != want) {
				bad := off
				f, off, err = findDurable(r, off, want)
				if err == nil && off < 0 {
					break // the end, or a torn tail
				}
				if damaged == nil {
					damaged = &DamagedError{Offset: bad, Number: want, After: f.number}
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

// findDurable looks behind off for a good record that knew the number want to
// be durable; its offset is negative if there is none.
func findDurable(r io.ReaderAt, off int64, want Number) (frame, int64, error) {
	in := bufio.NewReaderSize(io.NewSectionReader(r, off, 1<<62), 64<<10)
	var word [align]byte
	for ; ; off += align {
		if _, err := io.ReadFull(in, word[:]); err != nil {
			if err == io.ErrUnexpectedEOF || err == io.EOF {
				return frame{}, -1, nil
			}
			return frame{}, off, err
		}
		if binary.LittleEndian.Uint32(word[:]) != magic {
			continue
		}
		f, ok, err := readFrame(r, off)
		if err != nil {
			return frame{}, off, err
		}
		if ok && f.durable >= want && f.number > want {
			return f, off, nil
		}
	}
}
