package bulk_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/bulk"
)

// sizes are around those at which a copy has one piece more.
var sizes = []int{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 128 << 10, 1 << 20, 1<<20 + 7}

// counted is a list in which no element is like its neighbours.
func counted(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i + i>>8)
	}
	return b
}

// TestCopy shows that pieces make the whole, whichever side is the longer one.
func TestCopy(t *testing.T) {
	for _, n := range sizes {
		src := counted(n)
		for _, m := range []int{n, n / 2, n + 3} {
			dst, want := make([]byte, m), make([]byte, m)
			copied := copy(want, src)
			if got := bulk.Copy(dst, src); got != copied || !bytes.Equal(dst, want) {
				t.Errorf("%d bytes to %d: %d copied, want %d", n, m, got, copied)
			}
		}
	}
	type wide struct{ all [100 << 10]byte }
	from, to := make([]wide, 3), make([]wide, 3)
	from[2].all[99<<10] = 1
	if n := bulk.Copy(to, from); n != 3 || to[2] != from[2] {
		t.Errorf("%d of 3 elements that are longer than a piece", n)
	}
	if n := bulk.Copy(make([]struct{}, 2), make([]struct{}, 5)); n != 2 {
		t.Errorf("%d of 2 elements of nothing", n)
	}
}

// TestLists shows that a list that grows keeps what it has, and is no part of the one from which it grew.
func TestLists(t *testing.T) {
	for _, n := range sizes {
		old := counted(n)
		list := bulk.Grow(old, n+1)
		if !bytes.Equal(list, old) || cap(list) < n+1 {
			t.Errorf("%d bytes grew to %d of %d", n, len(list), cap(list))
		}
		if n > 0 {
			list[0]++
			if old[0] == list[0] {
				t.Errorf("%d bytes are shared", n)
			}
		}
	}
	var list, want []*int
	for i := range 100_000 {
		list, want = bulk.Add(list, &i), append(want, &i)
	}
	if !slices.Equal(list, want) {
		t.Error("a list of pointers is not what was added")
	}
}

// TestTexts shows which texts are copies.
func TestTexts(t *testing.T) {
	for _, n := range sizes {
		b := counted(n)
		own, shared := bulk.String(b), bulk.Text(b)
		if own != string(b) || shared != own || !bytes.Equal(bulk.Bytes(own), b) {
			t.Errorf("texts of %d bytes are not those bytes", n)
		}
		if n > 0 {
			was := strings.Clone(own)
			b[n-1]++
			if own != was || shared == was {
				t.Errorf("of %d bytes, the copy changed: %v, the text did: %v", n, own != was, shared != was)
			}
		}
	}
}
