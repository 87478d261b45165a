package application

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/internal/snapshot"
)

// A generation is one program as well as one configuration. The file of the
// program may be replaced at any time, by a package or by a symlink that is
// swapped, long before the reload that is to bring it in; and until then workers
// may be started again, each that has crashed. So the first worker of a
// generation keeps a copy of what it runs, and one that finds itself to be
// another program runs the copy instead.

// self is the running program's file, whatever became of its path: proc(5).
const self = "/proc/self/exe"

// pinned returns the path of what this process is to run instead of itself;
// empty if it is the program of its generation, and known as that from now on.
func (p place) pinned(own string) (path string, err error) {
	dir := filepath.Join(p.lib, "program")
	path = filepath.Join(dir, strconv.Itoa(p.gen))
	p.clear(dir)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := keep(own, path); err != nil {
			return "", err
		}
	}
	if same, err := equal(own, path); same || err != nil {
		return "", err
	}
	return path, nil
}

// clear removes the programs of generations that are gone. Another worker may be
// at it, too; what cannot be removed is in nobody's way.
func (p place) clear(dir string) {
	entries, _ := os.ReadDir(dir) // keep tells what is wrong with it
	for _, e := range entries {
		gen, err := strconv.Atoi(e.Name())
		if err != nil || gen >= p.gen {
			continue
		}
		if _, err := os.Stat(snapshot.Dir(p.run).Path(gen)); errors.Is(err, fs.ErrNotExist) {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// keep copies a program, all of it or nothing; of several that come at once one
// stays. A power cut may leave less, but after it there are other generations.
func keep(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := room(in, filepath.Dir(to)); err != nil {
		return err
	}
	out, err := os.CreateTemp(filepath.Dir(to), "new-*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Chmod(0o500), out.Close()); err != nil {
		return err
	}
	if err = os.Link(out.Name(), to); errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return err
}

// spare is how many bytes a copy leaves free: the room is the transactions'.
const spare = 64 << 20

// room tells whether there is room for a copy. Of what cannot be asked, the
// copying itself tells.
func room(in *os.File, dir string) error {
	var st unix.Stat_t
	var fs unix.Statfs_t
	err := errors.Join(unix.Fstat(int(in.Fd()), &st), unix.Statfs(dir, &fs))
	if free := int64(fs.Bavail) * fs.Bsize; err == nil && free < st.Size+spare {
		return fmt.Errorf("%s has %d bytes free, and the program's copy needs %d: %w", dir, free, st.Size+spare, unix.ENOSPC)
	}
	return nil
}

// equal compares two files: two versions may well have the same size and time.
func equal(a, b string) (same bool, err error) {
	var files [2]*os.File
	for i, path := range []string{a, b} {
		if files[i], err = os.Open(path); err != nil {
			return false, err
		}
		defer files[i].Close()
	}
	var chunks [2][64 << 10]byte
	for {
		n, err := io.ReadFull(files[0], chunks[0][:])
		m, other := io.ReadFull(files[1], chunks[1][:])
		switch {
		case !bytes.Equal(chunks[0][:n], chunks[1][:m]):
			return false, nil
		case err == nil && other == nil:
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return true, nil
		default:
			return false, errors.Join(err, other)
		}
	}
}
