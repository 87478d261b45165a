package printable

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

func TestText(t *testing.T) {
	for _, c := range []struct{ in, text, line string }{
		{"", "", ""},
		{"Ünïcode 日本語 ☃ 🐘", "Ünïcode 日本語 ☃ 🐘", "Ünïcode 日本語 ☃ 🐘"},
		{"a\x1b[31mred\x07\rb", `a\u001b[31mred\u0007\u000db`, `a\u001b[31mred\u0007\u000db`},
		{"two\nlines\tand", "two\nlines\tand", `two\u000alines\u0009and`},
		{"\xff\xc3", `\xff\xc3`, `\xff\xc3`},
		{"\ufffd stays", "\ufffd stays", "\ufffd stays"},
		{"\u0085\u009b\u007f", `\u0085\u009b\u007f`, `\u0085\u009b\u007f`},
		{"\u202egnp.exe\u2028\u200b\ufeff", `\u202egnp.exe\u2028\u200b\ufeff`, `\u202egnp.exe\u2028\u200b\ufeff`},
		{"\U000e0041", `\U000e0041`, `\U000e0041`},
	} {
		if got := Text(c.in); got != c.text {
			t.Errorf("Text(%q) is %q, want %q", c.in, got, c.text)
		}
		if got := Line(c.in); got != c.line {
			t.Errorf("Line(%q) is %q, want %q", c.in, got, c.line)
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		in    string
		limit int
		want  string
	}{
		{"12345", 5, "12345"},
		{"123456", 5, "12345… (1 bytes more)"},
		{"1234ä", 5, "1234… (2 bytes more)"},
		{"12ää", 4, "12ä… (2 bytes more)"},
		{"1🐘", 4, "1… (4 bytes more)"},
		{"\x80\x80\x80\x80\x80", 4, "\x80\x80\x80\x80… (1 bytes more)"},
	} {
		if got := Cut(c.in, c.limit); got != c.want {
			t.Errorf("Cut(%q, %d) is %q, want %q", c.in, c.limit, got, c.want)
		}
	}
}

// One byte at a time gives the same as all at once.
func TestWriter(t *testing.T) {
	const in = "Ü 🐘\n\x1b]0;title\x07 \xff日\t"
	var whole, bytewise bytes.Buffer
	if n, err := NewWriter(&whole).Write([]byte(in)); n != len(in) || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	w := NewWriter(&bytewise)
	for i := range len(in) {
		if n, err := w.Write([]byte{in[i]}); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	want := "Ü 🐘\n" + `\u001b]0;title\u0007 \xff` + "日\t"
	if whole.String() != want || bytewise.String() != want {
		t.Errorf("%q and %q, want %q", whole.String(), bytewise.String(), want)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if NewWriter(full).Unwrap() != full {
		t.Error("what is wrapped is lost")
	}
	if n, err := NewWriter(full).Write([]byte("x")); n != 0 || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("to a full device: %d, %v", n, err)
	}
}

// Whatever comes, what goes out is printable UTF-8, and bounded.
func FuzzText(f *testing.F) {
	f.Add("plain", 3)
	f.Add("\x1b\xff\u202e🐘", 4)
	f.Fuzz(func(t *testing.T, in string, limit int) {
		limit &= 0xff
		if out := Cut(in, limit); len(out) > limit+40 {
			t.Fatalf("%q", out)
		}
		for _, out := range []string{Text(in), Line(in), Text(Cut(in, limit))} {
			if !utf8.ValidString(out) {
				t.Fatalf("%q", out)
			}
			for _, r := range out {
				if !strconv.IsPrint(r) && r != '\n' && r != '\t' {
					t.Fatalf("%q has %q", out, r)
				}
			}
		}
		if strings.ContainsAny(Line(in), "\n\t") {
			t.Fatal("a line of several")
		}
		var b bytes.Buffer
		w := NewWriter(&b)
		_, err1 := w.Write([]byte(in[:len(in)/2]))
		_, err2 := w.Write([]byte(in[len(in)/2:]))
		_, err3 := w.Write([]byte("."))
		if err := errors.Join(err1, err2, err3); err != nil || b.String() != Text(in+".") {
			t.Fatalf("%q, %v", b.String(), err)
		}
	})
}
