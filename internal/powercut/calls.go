package powercut

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// open plays openat(at, path, flags, mode) = number.
func (d *Disk) open(c Call) error {
	path, err := d.path(c.Args[0], c.Args[1])
	if err != nil {
		return ignoreElsewhere(err)
	}
	in, as, is, err := d.find(path)
	if errors.Is(err, errElsewhere) && d.watches(path) {
		d.files[c.Result] = &open{path: path}
		return nil
	}
	if err != nil {
		return ignoreElsewhere(err)
	}
	flags := "|" + c.Args[2] + "|"
	if is == nil {
		if !strings.Contains(flags, "|O_CREAT|") {
			return fmt.Errorf("%s is opened, and not known to be there", path)
		}
		mode, err := strconv.ParseUint(c.Args[3], 8, 32)
		if err != nil {
			return err
		}
		is = &node{mode: fs.FileMode(mode)}
		d.change(&change{what: "create " + path, names: []name{{in, as, is}}})
	} else if strings.Contains(flags, "|O_TRUNC|") {
		d.cut(is, path, 0)
	}
	d.files[c.Result] = &open{node: is, path: path, append: strings.Contains(flags, "|O_APPEND|")}
	return nil
}

func (d *Disk) watches(path string) bool {
	for _, dir := range d.watched {
		if strings.HasPrefix(path, dir+"/") {
			return true
		}
	}
	return false
}

func ignoreElsewhere(err error) error {
	if errors.Is(err, errElsewhere) {
		return nil
	}
	return err
}

// write plays write(number, data, length) and pwrite64(…, offset).
func (d *Disk) write(c Call) (Moment, error) {
	data := c.Args[1][:c.Result]
	f := d.file(c)
	switch {
	case f == nil && c.Args[0] == "1":
		return Moment{Said: data}, nil
	case f == nil:
		return Moment{}, nil
	case f.node == nil:
		d.drafts[f.path] += data
		return Moment{Written: data, At: f.path}, nil
	}
	at := f.at
	switch {
	case c.Name == "pwrite64":
		var err error
		if at, err = strconv.Atoi(c.Args[3]); err != nil {
			return Moment{}, err
		}
	case f.append:
		at = f.node.size
	default:
		f.at += len(data)
	}
	f.node.size = max(f.node.size, at+len(data))
	ch := &change{what: fmt.Sprintf("write %s at %d, %d bytes", f.path, at, len(data)), file: f.node, at: at, data: []byte(data)}
	if n := len(d.pending); n > 0 && len(d.covers) == 0 && ch.prolongs(d.pending[n-1]) {
		ch.at, ch.data = d.pending[n-1].at, append(slices.Clone(d.pending[n-1].data), ch.data...)
		ch.what = fmt.Sprintf("write %s at %d, %d zeros", f.path, ch.at, len(ch.data))
		d.pending = d.pending[:n-1]
	}
	d.add(ch)
	return Moment{}, nil
}

// prolongs tells whether a write adds zeros to zeros: such are taken for one change.
func (ch *change) prolongs(last *change) bool {
	return last.file == ch.file && last.data != nil && last.at+len(last.data) == ch.at && zero(last.data) && zero(ch.data)
}

func zero(data []byte) bool {
	return len(bytes.TrimLeft(data, "\x00")) == 0
}

func (d *Disk) cut(n *node, path string, size int) {
	if n == nil || n.size == size {
		return
	}
	n.size = size
	d.add(&change{what: fmt.Sprintf("cut %s to %d bytes", path, size), file: n, at: size})
}

// rename plays renameat(at, path, at, path).
func (d *Disk) rename(c Call) error {
	from, err := d.path(c.Args[0], c.Args[1])
	to, elsewhere := d.path(c.Args[2], c.Args[3])
	if err = errors.Join(err, elsewhere); err != nil {
		return ignoreElsewhere(err)
	}
	in, as, is, err := d.find(from)
	toIn, toAs, was, toErr := d.find(to)
	switch {
	case errors.Is(err, errElsewhere) && errors.Is(toErr, errElsewhere):
		return nil
	case err != nil || toErr != nil || is == nil || in == nil || toIn == nil:
		return fmt.Errorf("%s to %s: %w", from, to, errors.Join(err, toErr, errors.New("not between known directories")))
	case was == is:
		return nil // rename(2): of two names of one file both stay
	}
	ch := &change{what: "rename " + from + " to " + to, names: []name{{in, as, nil}, {toIn, toAs, is}}}
	if in != toIn {
		ch.asks = []*node{in, toIn}
	}
	d.change(ch)
	return nil
}

// link plays linkat(at, path, at, path, flags).
func (d *Disk) link(c Call) (Moment, error) {
	from, err := d.path(c.Args[0], c.Args[1])
	to, elsewhere := d.path(c.Args[2], c.Args[3])
	if err = errors.Join(err, elsewhere); err != nil {
		return Moment{}, ignoreElsewhere(err)
	}
	if d.watches(to) {
		return Moment{Written: d.drafts[from], At: to}, nil
	}
	_, _, is, err := d.find(from)
	in, as, _, toErr := d.find(to)
	if err = errors.Join(err, toErr); err != nil {
		return Moment{}, ignoreElsewhere(err)
	}
	d.change(&change{what: "link " + from + " to " + to, names: []name{{in, as, is}}})
	return Moment{}, nil
}

// unlink plays unlinkat(at, path, flags).
func (d *Disk) unlink(c Call) error {
	path, err := d.path(c.Args[0], c.Args[1])
	if err != nil {
		return ignoreElsewhere(err)
	}
	in, as, is, err := d.find(path)
	if err != nil {
		return ignoreElsewhere(err)
	}
	if is == nil {
		return fmt.Errorf("%s is removed, and not known to be there", path)
	}
	if is.dir {
		for _, ch := range slices.Concat(d.half, d.pending) {
			ch.answer(is)
		}
		d.half = slices.DeleteFunc(d.half, func(ch *change) bool { return len(ch.asks) == 0 })
	}
	d.change(&change{what: "remove " + path, names: []name{{in, as, nil}}})
	return nil
}

// mkdir plays mkdirat(at, path, mode).
func (d *Disk) mkdir(c Call) error {
	path, err := d.path(c.Args[0], c.Args[1])
	if err != nil {
		return ignoreElsewhere(err)
	}
	in, as, _, err := d.find(path)
	if err != nil {
		return ignoreElsewhere(err)
	}
	mode, err := strconv.ParseUint(c.Args[2], 8, 32)
	d.change(&change{what: "mkdir " + filepath.Clean(path), names: []name{{in, as, &node{dir: true, mode: fs.FileMode(mode), entries: map[string]*node{}}}}})
	return err
}
