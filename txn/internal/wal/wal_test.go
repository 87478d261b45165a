package wal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/fdtserver/fdt/txn/internal/wal"
)

var errIO = errors.New("input/output error")

func create(t testing.TB, fault func(string) error) (*wal.Log, string) {
	t.Helper()
	return createIn(t, t.TempDir(), fault)
}

func createIn(t testing.TB, dir string, fault func(string) error) (*wal.Log, string) {
	t.Helper()
	path := filepath.Join(dir, "log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	l, err := wal.Create(f, fault)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, path
}

func add(t testing.TB, l *wal.Log, force bool, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		n, err := l.Append([]byte(p), wal.Normal)
		if err == nil && force {
			err = l.Force(n)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// replay reads a log's bytes; the error is the last pair's.
func replay(raw []byte) (payloads []string, err error) {
	for p, e := range wal.Replay(bytes.NewReader(raw), wal.Position{}) {
		if e != nil {
			err = e
			continue
		}
		payloads = append(payloads, string(p))
	}
	return payloads, err
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestRoundTrip(t *testing.T) {
	l, path := create(t, nil)
	want := []string{"one", "", "three is longer than eight bytes", string(make([]byte, 100_000))}
	add(t, l, false, want...)
	if l.Durable() != 0 {
		t.Errorf("durable through %d before a force", l.Durable())
	}
	if err := l.Force(4); err != nil || l.Durable() != 4 {
		t.Errorf("durable through %d: %v", l.Durable(), err)
	}
	got, err := replay(read(t, path))
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %d payloads, %v", len(got), err)
	}
	if _, err := l.Append(make([]byte, wal.MaxPayload+1), wal.Urgent); !errors.Is(err, wal.ErrTooLong) {
		t.Errorf("got %v", err)
	}
	if l.Size() < 100_000 || l.Err() != nil {
		t.Errorf("size %d, %v", l.Size(), l.Err())
	}
}

func TestGrows(t *testing.T) {
	l, path := create(t, nil)
	big := string(make([]byte, wal.MaxPayload))
	add(t, l, false, big, big, big)
	got, err := replay(read(t, path))
	if err != nil || len(got) != 3 {
		t.Errorf("got %d payloads, %v", len(got), err)
	}
}

// TestTornTail cuts and spoils the last records, which nobody had forced, at
// every byte: what came before is read, and no damage is reported.
func TestTornTail(t *testing.T) {
	l, path := create(t, nil)
	add(t, l, true, "a", "b")
	safe := int(l.Size())
	add(t, l, false, "cc", "dd")
	end := int(l.Size())
	raw := read(t, path)[:end+64]
	for at := safe; at < end; at++ {
		for what, spoilt := range map[string][]byte{
			"cut":     raw[:at],
			"flipped": slices.Concat(raw[:at], []byte{raw[at] ^ 0x5a}, raw[at+1:]),
			"zeroed":  slices.Concat(raw[:at], make([]byte, len(raw)-at)),
		} {
			got, err := replay(spoilt)
			if err != nil || len(got) < 2 || got[0] != "a" || got[1] != "b" {
				t.Fatalf("%s at %d: got %q, %v", what, at, got, err)
			}
		}
	}
}

// TestDamage spoils each byte of a record that was durable, with good ones
// behind it: those are read, and the damage is reported.
func TestDamage(t *testing.T) {
	l, path := create(t, nil)
	add(t, l, true, "first", "second", "third", "fourth")
	size := int(l.Size()) / 4
	raw := read(t, path)[:4*size+64]
	for at := size; at < 2*size-3; at++ { // padding is not covered
		spoilt := slices.Clone(raw)
		spoilt[at] ^= 0x5a
		got, err := replay(spoilt)
		damage, ok := errors.AsType[*wal.DamagedError](err)
		if !ok || damage.Number != 2 || damage.After != 3 && damage.After != 4 {
			if at >= size+32+len("second") {
				continue
			}
			t.Fatalf("byte %d: got %q, %v", at, got, err)
		}
		if got[0] != "first" || got[len(got)-1] != "fourth" {
			t.Fatalf("byte %d: got %q", at, got)
		}
		if damage.Error() == "" {
			t.Error("says nothing")
		}
	}
	lost := slices.Concat(raw[:size], make([]byte, 4096), raw[size:]) // a page of zeros between
	if _, err := replay(lost); err == nil {
		t.Error("zeros before durable records pass for the end")
	}
}

// TestFollow reads on behind what was read, as far as it has come, and does not
// look behind a place without a record.
func TestFollow(t *testing.T) {
	l, path := create(t, nil)
	add(t, l, true, "one")
	at := wal.Position{}
	follow := func(r io.ReaderAt, most int) (payloads []string, err error) {
		for p, e := range wal.Follow(r, at) {
			if e != nil {
				return payloads, e
			}
			at = at.Past(p)
			if payloads = append(payloads, string(p)); len(payloads) == most {
				break
			}
		}
		return payloads, nil
	}
	for _, want := range [][]string{{"one"}, nil} {
		if got, err := follow(bytes.NewReader(read(t, path)), 9); err != nil || !slices.Equal(got, want) {
			t.Errorf("read %q, %v, want %q", got, err, want)
		}
	}
	add(t, l, false, "two", "three", "four")
	raw := read(t, path)
	if got, err := follow(bytes.NewReader(raw), 1); err != nil || !slices.Equal(got, []string{"two"}) {
		t.Errorf("read %q, %v", got, err)
	}
	if got, err := follow(bytes.NewReader(raw), 9); err != nil || !slices.Equal(got, []string{"three", "four"}) {
		t.Errorf("read %q, %v", got, err)
	}
	at = wal.Position{}
	raw[4] ^= 1
	if got, err := follow(bytes.NewReader(raw), 9); err != nil || len(got) != 0 {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := follow(badReader{bytes.NewReader(raw), 0}, 9); !errors.Is(err, errIO) {
		t.Errorf("a read that fails: %v", err)
	}
}

// TestAt: records are read once more where a replay saw them.
func TestAt(t *testing.T) {
	l, path := create(t, nil)
	add(t, l, true, "one", "two is longer than eight bytes", "three", "four")
	raw := read(t, path)
	var offsets []int64
	at := wal.Position{}
	for p, err := range wal.Replay(bytes.NewReader(raw), at) {
		if err != nil {
			t.Fatal(err)
		}
		offsets = append(offsets, at.Offset)
		at = at.Past(p)
	}
	again := func(r io.ReaderAt, offsets ...int64) (payloads []string, err error) {
		for p, e := range wal.At(r, offsets) {
			if e != nil {
				return payloads, e
			}
			payloads = append(payloads, string(p))
		}
		return payloads, nil
	}
	if got, err := again(bytes.NewReader(raw), offsets[1], offsets[3]); err != nil || !slices.Equal(got, []string{"two is longer than eight bytes", "four"}) {
		t.Errorf("read %q, %v", got, err)
	}
	for p := range wal.At(bytes.NewReader(raw), offsets) {
		if string(p) != "one" {
			t.Errorf("read %q behind the end", p)
		}
		break
	}
	if got, err := again(bytes.NewReader(raw), offsets[0], offsets[1]+8); err == nil || len(got) != 1 {
		t.Errorf("where there is no record: read %q, %v", got, err)
	}
	if _, err := again(badReader{bytes.NewReader(raw), 1}, offsets[1]); !errors.Is(err, errIO) {
		t.Errorf("a read that fails: %v", err)
	}
}

// TestStopEarly: the reader may stop at any record.
func TestStopEarly(t *testing.T) {
	l, path := create(t, nil)
	add(t, l, true, "a", "b")
	for range wal.Replay(bytes.NewReader(read(t, path)), wal.Position{}) {
		break
	}
}

type badReader struct {
	io.ReaderAt
	at int64
}

func (r badReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > r.at {
		return 0, errIO
	}
	return r.ReaderAt.ReadAt(p, off)
}

// TestReadError fails each read in turn.
func TestReadError(t *testing.T) {
	l, path := create(t, nil)
	add(t, l, true, "first", "second")
	raw := read(t, path)
	spoilt := slices.Clone(raw)
	spoilt[3] ^= 1
	for _, log := range [][]byte{raw, spoilt} {
		for _, at := range []int64{8, 36, 60, 1 << 17} {
			var err error
			for _, err = range wal.Replay(badReader{bytes.NewReader(log), at}, wal.Position{}) {
			}
			if !errors.Is(err, errIO) && at < 100 {
				t.Errorf("reads fail from %d on: got %v", at, err)
			}
		}
	}
}

// smallFails is a reader of which only long reads succeed.
type smallFails struct{ io.ReaderAt }

func (r smallFails) ReadAt(p []byte, off int64) (int, error) {
	if len(p) < 1<<18 {
		return 0, errIO
	}
	return r.ReaderAt.ReadAt(p, off)
}

// TestReadErrorBehind: looking behind a bad record fails.
func TestReadErrorBehind(t *testing.T) {
	l, path := create(t, nil)
	add(t, l, true, "first", "second")
	raw := read(t, path)
	spoilt := slices.Clone(raw)
	spoilt[3] ^= 1
	for name, r := range map[string]io.ReaderAt{
		"of the rest": badReader{bytes.NewReader(raw), 1 << 18}, "of a record": smallFails{bytes.NewReader(spoilt)},
	} {
		var err error
		for _, err = range wal.Replay(r, wal.Position{}) {
		}
		if !errors.Is(err, errIO) {
			t.Errorf("the read %s fails: got %v", name, err)
		}
	}
}

// TestAppendAll writes what is longer than one write.
func TestAppendAll(t *testing.T) {
	long := string(make([]byte, 200_000))
	sequence := func(payloads ...string) iter.Seq2[[]byte, error] {
		return func(yield func([]byte, error) bool) {
			for _, p := range payloads {
				if !yield([]byte(p), map[bool]error{true: errIO}[p == "bad"]) {
					return
				}
			}
		}
	}
	var failing atomic.Bool
	l, path := create(t, func(step string) error {
		if step == "write" && failing.Load() {
			return errIO
		}
		return nil
	})
	if n, err := l.AppendAll(sequence("one", long, long, "four")); err != nil || n != 4 {
		t.Errorf("record %d, %v", n, err)
	}
	if _, err := l.AppendAll(sequence("five", "bad", "never")); !errors.Is(err, errIO) {
		t.Errorf("a sequence that fails: %v", err)
	}
	if got, err := replay(read(t, path)); err != nil || !slices.Equal(got, []string{"one", long, long, "four"}) {
		t.Errorf("%d records, %v", len(got), err)
	}
	failing.Store(true)
	if _, err := l.AppendAll(sequence(long, long)); !errors.Is(err, wal.ErrPoisoned) {
		t.Errorf("a write that fails: %v", err)
	}
}

// TestReadWhileWritten replays a log that grows: what was durable is there, and
// nothing looks damaged.
func TestReadWhileWritten(t *testing.T) {
	l, path := create(t, nil)
	var written atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 300 {
			n, err := l.Append([]byte("payload"), wal.Normal)
			if err == nil {
				err = l.Force(n)
			}
			if err != nil {
				t.Error(err)
				return
			}
			written.Add(1)
		}
	}()
	defer func() { <-ended }()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for writing := true; writing; {
		select {
		case <-ended:
			writing = false
		default:
		}
		before, n := written.Load(), int64(0)
		for _, err := range wal.Replay(f, wal.Position{}) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n < before {
			t.Errorf("%d records of %d", n, before)
		}
	}
}

// TestGroupCommit has many callers force at once: each returns with its record
// durable, and they share syncs.
func TestGroupCommit(t *testing.T) {
	var syncs atomic.Int64
	gate := make(chan struct{})
	l, _ := create(t, func(step string) error {
		if step == "sync" {
			syncs.Add(1)
			<-gate
		}
		return nil
	})
	const callers = 64
	var all, appended sync.WaitGroup
	appended.Add(callers)
	for range callers {
		all.Go(func() {
			n, err := l.Append([]byte("x"), wal.Normal)
			appended.Done()
			if err == nil {
				err = l.Force(n)
			}
			if err != nil || l.Durable() < n {
				t.Errorf("record %d: durable through %d, %v", n, l.Durable(), err)
			}
		})
	}
	appended.Wait()
	close(gate)
	all.Wait()
	if n := syncs.Load(); n > 2 {
		t.Errorf("%d syncs for %d callers that waited together", n, callers)
	}
}

func TestPoison(t *testing.T) {
	for _, step := range []string{"write", "sync", "grow"} {
		t.Run(step, func(t *testing.T) {
			var broken atomic.Bool
			l, _ := create(t, func(s string) error {
				if broken.Load() && s == step {
					return errIO
				}
				return nil
			})
			add(t, l, true, "good")
			broken.Store(true)
			payload := []byte("bad")
			if step == "grow" {
				payload = make([]byte, wal.MaxPayload)
			}
			n, err := l.Append(payload, wal.Normal)
			if step == "sync" {
				if err != nil {
					t.Fatal(err)
				}
				var all sync.WaitGroup
				for range 4 {
					all.Go(func() {
						if err := l.Force(n); !errors.Is(err, wal.ErrPoisoned) || !errors.Is(err, errIO) {
							t.Errorf("got %v", err)
						}
					})
				}
				all.Wait()
			} else if !errors.Is(err, wal.ErrPoisoned) {
				t.Errorf("got %v", err)
			}
			broken.Store(false)
			if _, err := l.Append(nil, wal.Urgent); !errors.Is(err, wal.ErrPoisoned) {
				t.Errorf("a poisoned log takes a record: %v", err)
			}
			if err := l.Force(1); err != nil {
				t.Errorf("what was durable is no more: %v", err)
			}
			if err := l.Force(2); (step == "sync") != errors.Is(err, wal.ErrPoisoned) {
				t.Errorf("got %v", err)
			}
			if l.Err() == nil {
				t.Error("Err is nil")
			}
		})
	}
}

func TestCreateFails(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wal.Create(f, func(string) error { return errIO }); !errors.Is(err, errIO) {
		t.Errorf("got %v", err)
	}
	if err := f.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the file was left open: %v", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if _, err := wal.Create(w, nil); err == nil {
		t.Error("a pipe is a log")
	}
}

// TestDiskFull fills a real small filesystem: urgent records still find room
// in the reserve, others do not, and all are readable.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2560k"); err != nil {
		t.Skipf("NOT TESTED: a full disk needs a tmpfs of its own: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	l, path := createIn(t, dir, nil)
	payload := make([]byte, 1000)
	normal := 0
	for {
		_, err := l.Append(payload, wal.Normal)
		if errors.Is(err, wal.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		normal++
	}
	urgent := 0
	for {
		n, err := l.Append(payload, wal.Urgent)
		if errors.Is(err, wal.ErrFull) {
			break
		}
		if err == nil {
			err = l.Force(n)
		}
		if err != nil {
			t.Fatal(err)
		}
		urgent++
	}
	if urgent < wal.Reserve/2000 {
		t.Errorf("only %d urgent records found room", urgent)
	}
	got, err := replay(read(t, path))
	if err != nil || len(got) != normal+urgent {
		t.Errorf("got %d of %d records, %v", len(got), normal+urgent, err)
	}
	if err := os.Truncate(path, 0); err != nil { // room again
		t.Fatal(err)
	}
	if l.Err() != nil {
		t.Error(l.Err())
	}
}

func FuzzReplay(f *testing.F) {
	l, path := create(f, nil)
	add(f, l, true, "one", "two", "three")
	raw := read(f, path)[:512]
	f.Add(raw, 40)
	f.Add(raw[:50], 0)
	f.Add(slices.Concat(raw[40:], raw), 8)
	f.Add([]byte{}, 0)
	f.Fuzz(func(t *testing.T, raw []byte, flip int) {
		whole, err := replay(raw)
		if flip < 0 || flip >= len(raw) {
			return
		}
		spoilt := slices.Clone(raw)
		spoilt[flip] ^= 0x80
		got, _ := replay(spoilt)
		if err == nil && len(got) > len(whole) && flip >= 32*len(whole) && len(whole) > 0 && got[0] != whole[0] {
			t.Errorf("a flip at %d made %q of %q", flip, got, whole)
		}
	})
}

// BenchmarkForce measures records forced per second by 1, 16 and 64 callers;
// BenchmarkBare is what one write and fdatasync costs on the same disk.
func BenchmarkForce(b *testing.B) {
	payload := make([]byte, 400)
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			l, _ := create(b, nil)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var all sync.WaitGroup
			for range callers {
				all.Go(func() {
					for left.Add(-1) >= 0 {
						n, err := l.Append(payload, wal.Normal)
						if err == nil {
							err = l.Force(n)
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
		})
	}
}

func BenchmarkBare(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "bare"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	payload := make([]byte, 432)
	for b.Loop() {
		if _, err := f.Write(payload); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
}
