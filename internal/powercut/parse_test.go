package powercut

import (
	"fmt"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	const text = `7  openat(AT_FDCWD, "\x2f\x61", O_RDWR|O_CREAT|O_CLOEXEC, 0640) = 3
7  openat(AT_FDCWD, "\x2f\x62", O_RDONLY) = -1 ENOENT (No such file or directory)
7  fsync(3 <unfinished ...>
8  close(4)                          = 0
8  --- SIGURG {si_signo=SIGURG} ---
7  <... fsync resumed>)              = 0
8  fsync(5 <unfinished ...>
9  write(1, "", 0)   = 0
8  fsync(6)   = ?
8  ???( <detached ...>
9  +++ killed by SIGKILL +++
`
	calls, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range calls {
		got = append(got, strings.ReplaceAll(fmt.Sprintf("%d %s %q %d %t", c.Thread, c.Name, c.Args, c.Result, c.Begins), "true", "begins"))
	}
	want := `7 openat ["AT_FDCWD" "/a" "O_RDWR|O_CREAT|O_CLOEXEC" "0640"] 0 begins
7 openat ["AT_FDCWD" "/a" "O_RDWR|O_CREAT|O_CLOEXEC" "0640"] 3 false
7 openat ["AT_FDCWD" "/b" "O_RDONLY"] 0 begins
7 fsync ["3"] 0 begins
8 close ["4"] 0 begins
8 close ["4"] 0 false
7 fsync ["3"] 0 false
8 fsync ["5"] 0 begins
9 write ["1" "" "0"] 0 begins
9 write ["1" "" "0"] 0 false
8 fsync ["6"] 0 begins`
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("got\n%s", s)
	}
	for _, bad := range []string{
		"x close(3) = 0", "nothing", "7 close", "7 (3) = 0", "7 close(3)", "7 close(3) = x", `7 write(1, "\x4") = 0`, `7 write(1, "a") = 0`,
		`7 write(1, "\xzz", 1) = 1`, `7 write(1, "\x41`, "7 close(,) = 0", "7 <... close", "7 <... close resumed>) = 0", `7 write(1, "\x4 <unfinished ...>`,
	} {
		if calls, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%s: %v", bad, calls)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("7 close(3) = 0\n7 fsync(3 <unfinished ...>\n7 <... fsync resumed>) = 0\n"))
	f.Add([]byte(`7 openat(AT_FDCWD, "\x2f", O_RDONLY) = -1 ENOENT (No)`))
	f.Fuzz(func(_ *testing.T, text []byte) { _, _ = Parse(text) })
}

// TestUnknown: what the model does not know of its files is an error, and never passed over.
func TestUnknown(t *testing.T) {
	root := t.TempDir()
	open := Call{Name: "openat", Args: []string{"AT_FDCWD", root + "/f", "O_RDWR|O_CREAT", "0640"}, Result: 5}
	for _, calls := range [][]Call{
		{open, {Name: "lseek", Args: []string{"5", "0", "SEEK_SET"}}},
		{{Name: "sync"}},
		{{Name: "openat", Args: []string{"AT_FDCWD", root + "/none", "O_RDONLY"}, Result: 5}},
		{{Name: "openat", Args: []string{"AT_FDCWD", root + "/none/f", "O_RDONLY"}, Result: 5}},
		{{Name: "openat", Args: []string{"AT_FDCWD", root + "/f", "O_CREAT", "x"}, Result: 5}},
		{open, {Name: "pwrite64", Args: []string{"5", "x", "1", "x"}, Result: 1}},
		{open, {Name: "ftruncate", Args: []string{"5", "x"}}},
		{{Name: "renameat", Args: []string{"AT_FDCWD", root + "/none", "AT_FDCWD", root + "/g"}}},
		{{Name: "renameat", Args: []string{"AT_FDCWD", "/else", "AT_FDCWD", root + "/g"}}},
		{{Name: "linkat", Args: []string{"AT_FDCWD", root + "/no/f", "AT_FDCWD", root + "/g", "0"}}},
		{{Name: "unlinkat", Args: []string{"AT_FDCWD", root + "/no/f", "0"}}},
		{{Name: "unlinkat", Args: []string{"AT_FDCWD", root + "/f", "0"}}},
		{{Name: "mkdirat", Args: []string{"AT_FDCWD", root + "/no/f", "0700"}}},
		{{Name: "mkdirat", Args: []string{"AT_FDCWD", root + "/f", "x"}}},
	} {
		d, err := New([]string{root}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Play(calls, func(Moment) error { return nil }); err == nil {
			t.Errorf("%v is passed over", calls)
		}
	}
	d, err := New([]string{root}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Play([]Call{
		{Name: "lseek", Args: []string{"5", "0", "SEEK_SET"}}, {Name: "dup", Args: []string{"x"}}, {Name: "close"}, {Name: "write", Args: []string{"9", "x", "1"}, Result: 1},
		{Name: "openat", Args: []string{"9", "f", "O_RDONLY"}, Result: 5}, {Name: "linkat", Args: []string{"9", "f", "9", "g", "0"}},
		{Name: "renameat", Args: []string{"9", "f", "9", "g"}}, {Name: "unlinkat", Args: []string{"9", "f", "0"}}, {Name: "mkdirat", Args: []string{"9", "f", "0700"}},
		{Name: "linkat", Args: []string{"AT_FDCWD", "/x", "AT_FDCWD", "/y", "0"}}, {Name: "fsync", Args: []string{"5"}}, {Name: "fsync", Args: []string{"5"}, Begins: true},
	}, func(Moment) error { return nil }); err != nil {
		t.Errorf("what is elsewhere is none of its business: %v", err)
	}
	if _, err := New([]string{root + "/none"}, nil); err == nil {
		t.Error("a root that is not there")
	}
}
