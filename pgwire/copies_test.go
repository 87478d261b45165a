package pgwire_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// allocated is how many bytes were ever allocated by this process.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// TestNoCopyOfLongMessages shows that a long message, and a long value that answers it, are not copied: the runtime interrupts no copy,
// and whoever asks for memory may have to wait for its end.
func TestNoCopyOfLongMessages(t *testing.T) {
	const size = 12 << 20
	f := newFDT(t, bank{})
	c := f.connect("a")
	text := "SELECT '" + strings.Repeat("x", size) + "'"
	ready := []byte{'Z', 0, 0, 0, 5, 'I'}
	buffer := make([]byte, 64<<10)
	for _, ask := range [][]pgproto3.FrontendMessage{
		{&pgproto3.Query{String: text}},
		{&pgproto3.Parse{Query: text}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{}},
	} {
		var message []byte
		for _, m := range ask {
			var err error
			if message, err = m.Encode(message); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			before := allocated()
			if _, err := c.conn.Write(message); err != nil {
				t.Fatal(err)
			}
			got, end := 0, []byte{}
			for !bytes.HasSuffix(end, ready) {
				n, err := c.conn.Read(buffer)
				if err != nil {
					t.Fatal(err)
				}
				got += n
				end = append(end, buffer[max(0, n-len(ready)):n]...)
				end = end[max(0, len(end)-len(ready)):]
			}
			if got < size {
				t.Errorf("the answer to %T has %d bytes", ask[0], got)
			}
			if n := allocated() - before; n > 3*size { // of which a third of the size are the buffers before the last; every copy is one more
				t.Errorf("%T took %d bytes in all, for a text of %d", ask[0], n, size)
			}
		}
	}
}

// TestLongRows shows that a row that is sent in pieces is the row, in both formats and beside empty values and nulls.
func TestLongRows(t *testing.T) {
	f := newFDT(t, bank{})
	c := f.connect("a")
	for _, n := range []int{1, 64<<10 - 40, 64<<10 - 20, 64<<10 - 1, 64 << 10, 200_001} {
		x, y := strings.Repeat("x", n), strings.Repeat("y", n+1)
		text := fmt.Sprintf("SELECT '%s', '', NULL::text, '%s', 7", x, y)
		row := "D " + strings.Join([]string{x, "", "NULL", y, "7"}, "|")
		if got := c.query(text + ";" + text); len(got) != 7 || got[1] != row || got[4] != row || got[6] != "Z I" {
			t.Errorf("%d bytes: %.300q", n, got)
		}
		for format, seven := range []string{"7", `\x00000007`} {
			for _, m := range []pgproto3.FrontendMessage{
				&pgproto3.Parse{Query: text}, &pgproto3.Bind{ResultFormatCodes: []int16{int16(format)}}, &pgproto3.Execute{},
			} {
				c.front.Send(m)
			}
			c.front.Send(&pgproto3.Sync{})
			if err := c.front.Flush(); err != nil {
				t.Fatal(err)
			}
			want := "D " + strings.Join([]string{x, "", "NULL", y, seven}, "|")
			if got := c.read(); len(got) != 5 || got[2] != want || got[4] != "Z I" {
				t.Errorf("%d bytes in format %d: %.300q", n, format, got)
			}
		}
	}
}

// TestLongParse shows that all of a long Parse is read, and that its statement keeps no more than its text.
func TestLongParse(t *testing.T) {
	const size = 15 << 20
	f := newFDT(t, bank{})
	c := f.connect("a")
	name := strings.Repeat("n", size)
	send := func(m ...pgproto3.FrontendMessage) []string {
		t.Helper()
		for _, m := range append(m, &pgproto3.Sync{}) {
			c.front.Send(m)
		}
		if err := c.front.Flush(); err != nil {
			t.Fatal(err)
		}
		return c.read()
	}
	comment := "/*" + strings.Repeat("x", 1<<20) + "*/"
	c.answers("Parse", send(&pgproto3.Parse{Name: "a", Query: "SELECT $1 " + comment, ParameterOIDs: []uint32{20}}), "1", "Z I")
	c.answers("Describe", send(&pgproto3.Describe{ObjectType: 'S', Name: "a"}), "t 20", "T ?column?:20/8/0", "Z I")
	before := memory()
	for n := range 8 {
		c.answers("Parse", send(&pgproto3.Parse{Name: fmt.Sprint(n) + name, Query: "SELECT 1"}), "1", "Z I")
	}
	if grown := memory() - before; grown > 4*size {
		t.Errorf("%d bytes more for eight short statements", grown)
	}
	c.answers("by the whole name", send(&pgproto3.Describe{ObjectType: 'S', Name: "0" + name[:62]}), "t ", "T ?column?:23/4/0", "Z I")
	c.raw(append(length('P', 4+80<<10), bytes.Repeat([]byte("x"), 80<<10)...))
	if got := c.read(); len(got) < 1 || !strings.Contains(got[0], "08P01") {
		t.Errorf("a Parse without an end: %q", got)
	}
}
