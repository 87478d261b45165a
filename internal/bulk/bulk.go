// Package bulk copies what is long in pieces.
// The runtime interrupts no copy. One of 16 MiB into memory that is new takes a hundred milliseconds, and a collection of garbage that
// ends meanwhile waits for it; so does everybody who allocates anything, then. What a client can make long is therefore copied by
// this package, or not at all.
package bulk

import "unsafe"

// piece is how many bytes are copied at once: in less than a millisecond, also where each page is new.
const piece = 64 << 10

// Copy is copy: it copies as much as both have, and returns how many elements that are.
func Copy[T any](dst, src []T) int {
	var t T
	each := max(1, piece/max(1, int(unsafe.Sizeof(t))))
	n := min(len(dst), len(src))
	for i := 0; i < n; i += each {
		step(dst[i:min(n, i+each)], src[i:])
	}
	return n
}

// step copies one piece. The runtime may interrupt who calls it, as the stack is looked at.
//
//go:noinline
func step[T any](dst, src []T) { copy(dst, src) }

// Grow returns the list in new memory for so many elements, which are no fewer than it has.
func Grow[T any](list []T, capacity int) []T {
	next := make([]T, len(list), capacity) // is cleared in pieces
	Copy(next, list)
	return next
}

// Add is append, of one.
func Add[T any](list []T, one T) []T {
	if n := len(list); n == cap(list) && n*int(unsafe.Sizeof(one)) >= piece {
		list = Grow(list, 2*n)
	}
	return append(list, one)
}

// String returns a text with those bytes.
func String(b []byte) string {
	if len(b) < piece {
		return string(b)
	}
	return Text(Grow(b, len(b)))
}

// Text returns a text that is those bytes: they must not change any more.
func Text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// Bytes returns a text's own bytes, which must not be changed.
func Bytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
