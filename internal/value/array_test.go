package value

import (
	"encoding/binary"
	"runtime"
	"strings"
	"testing"
)

// TestCells shows that the number of an array's elements is bounded by what is told of it before it is read, and that reading one that is
// of short elements takes no more memory for each than is told.
func TestCells(t *testing.T) {
	const n = 1 << 20
	src := "{1" + strings.Repeat(",1", n-1) + "}"
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	long, err := Int4.Array.Parse(src)
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; err != nil || got > ElementSize*n {
		t.Errorf("%d bytes for each element, %v", got/n, err)
	}
	beyond := binary.BigEndian.AppendUint32(nil, 6)
	beyond = append(beyond, strings.Repeat("\xff", 64)...)
	for _, c := range []struct {
		of     *Type
		src    []byte
		binary bool
		want   int
	}{
		{Int4, []byte("1,2"), false, 0},
		{Int4.Array, []byte(src), false, n},
		{Int4.Array, long.AppendIn(nil, nil, true), true, n},
		{Text.Array, Value{Type: Text.Array, Text: `[2:3][1:2]={{"a,b",NULL},{c,d}}`}.AppendIn(nil, nil, true), true, 4},
		{Int4.Array, make([]byte, 19), true, 0},
		{Int4.Array, beyond, true, len(beyond) / 4},
	} {
		if got := c.of.Cells(c.src, c.binary); got != c.want {
			t.Errorf("%s, %.20q: %d elements, want %d", c.of.Name, c.src, got, c.want)
		}
	}
}
