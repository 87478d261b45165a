package powercut

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// node is a file or a directory, as it is on disk.
type node struct {
	dir     bool
	mode    fs.FileMode
	entries map[string]*node
	content []byte
	size    int // of the content as the process sees it
}

// change is what a call did to a name or a content, and is not yet on disk. A rename changes two names at once, as a
// journaling file system has it: ext4, XFS and btrfs write both in one transaction.
type change struct {
	id    int
	what  string
	names []name // of directories; their order is kept: what was done later to a name needs what was done before
	file  *node  // whose content it writes
	at    int
	data  []byte  // nil: cut to the length at
	asks  []*node // directories that were not synced since
}

type name struct {
	in *node
	as string
	to *node // nil: there is none any more
}

// open is an open file.
type open struct {
	node   *node
	path   string
	at     int
	append bool
}

// Disk is the files below some directories.
type Disk struct {
	roots   map[string]*node // by path
	watched []string
	now     map[*node]map[string]*node // the entries as processes see them
	pending []*change
	begun   int               // changes there were
	settled map[int]bool      // those that are on disk, by id
	drafts  map[string]string // contents of watched files, until they are linked
	files   map[int]*open
	half    []*change     // on disk, with a directory that was not synced since
	covers  map[int]cover // by thread
}

// cover is what a sync that has begun makes durable.
type cover struct {
	of      *node
	changes []*change
}

// New takes all that is below the roots, absolute paths, for durable. What is written below watched, in memory as a
// rule, is shown to who plays calls, and lost by every cut.
func New(roots, watched []string) (*Disk, error) {
	d := &Disk{roots: map[string]*node{}, watched: watched, now: map[*node]map[string]*node{}, covers: map[int]cover{},
		settled: map[int]bool{}, drafts: map[string]string{}}
	for _, root := range roots {
		n, err := d.read(root)
		if err != nil {
			return nil, err
		}
		d.roots[root] = n
	}
	return d, nil
}

func (d *Disk) read(path string) (*node, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	n := &node{mode: info.Mode().Perm()}
	switch {
	case info.Mode().IsRegular():
		n.content, err = os.ReadFile(path)
		n.size = len(n.content)
		return n, err
	case !info.IsDir():
		return nil, fmt.Errorf("%s: neither a file nor a directory", path)
	}
	list, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	n.dir, n.entries = true, map[string]*node{}
	for _, e := range list {
		if n.entries[e.Name()], err = d.read(filepath.Join(path, e.Name())); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// Moment is one at which to think of a power failure. All that was done before may be told by then.
type Moment struct {
	Sync    string // of this file or directory, which is about to begin
	Said    string // by the process, on its standard output
	Written string // to the file At below a watched directory, or so far to one that was linked to At
	At      string
}

// Play plays the calls of one process, and calls each at every moment that matters: before a sync, since until then
// there is ever more to lose, and after something was said that must hold from then on.
func (d *Disk) Play(calls []Call, each func(Moment) error) error {
	d.files = map[int]*open{}
	clear(d.covers)
	for i, c := range calls {
		m, err := d.call(c)
		if err == nil && m != (Moment{}) {
			err = each(m)
		}
		if err != nil {
			return fmt.Errorf("call %d, %s: %w", i, c.Name, err)
		}
	}
	return nil
}

// call plays one.
func (d *Disk) call(c Call) (m Moment, err error) {
	if c.Begins {
		return d.begin(c)
	}
	switch c.Name {
	case "openat":
		return m, d.open(c)
	case "write", "pwrite64":
		return d.write(c)
	case "ftruncate":
		if f := d.file(c); f != nil {
			size, err := strconv.Atoi(c.Args[1])
			d.cut(f.node, f.path, size)
			return m, err
		}
	case "fsync", "fdatasync":
		d.synced(d.covers[c.Thread])
		delete(d.covers, c.Thread)
	case "renameat":
		return m, d.rename(c)
	case "linkat":
		return d.link(c)
	case "unlinkat":
		return m, d.unlink(c)
	case "mkdirat":
		return m, d.mkdir(c)
	case "close":
	case "lseek", "dup", "dup2", "dup3", "writev", "pwritev", "pwritev2", "fallocate", "sync_file_range", "copy_file_range", "sendfile", "splice":
		if d.file(c) != nil {
			return m, fmt.Errorf("unknown to the model: %.3q", c.Args)
		}
	default:
		return m, fmt.Errorf("unknown to the model: %.3q", c.Args)
	}
	return m, nil
}

// begin plays what takes effect when a call begins: from then on a closed number may be given to another file, and what
// comes later is not what a sync was asked to make durable.
func (d *Disk) begin(c Call) (m Moment, err error) {
	f := d.file(c)
	switch {
	case f == nil:
	case c.Name == "close":
		n, err := strconv.Atoi(c.Args[0])
		delete(d.files, n)
		return m, err
	case c.Name == "fsync", c.Name == "fdatasync":
		d.covers[c.Thread] = cover{f.node, slices.DeleteFunc(slices.Concat(d.half, d.pending), func(ch *change) bool { return !ch.touches(f.node) })}
		return Moment{Sync: f.path}, nil
	}
	return m, nil
}

func (ch *change) touches(n *node) bool {
	return ch.file == n || slices.ContainsFunc(ch.names, func(e name) bool { return e.in == n })
}

// needs tells whether a change cannot be on disk without an earlier one.
func (ch *change) needs(earlier *change) bool {
	return slices.ContainsFunc(ch.names, func(e name) bool {
		return slices.ContainsFunc(earlier.names, func(before name) bool { return before.in == e.in && before.as == e.as })
	})
}

// synced has on disk what a sync covered.
func (d *Disk) synced(c cover) {
	for _, ch := range c.changes {
		d.settle(ch)
		ch.answer(c.of)
	}
	d.half = slices.DeleteFunc(d.half, func(ch *change) bool { return len(ch.asks) == 0 })
}

// answer says that a directory was synced, or is gone.
func (ch *change) answer(dir *node) {
	ch.asks = slices.DeleteFunc(ch.asks, func(n *node) bool { return n == dir })
}

// HalfSynced lists the renames from one directory to another of which one was synced and the other was not. The
// model takes renames for atomic, and so for durable by then; fsync(2) promises it of both directories together.
func (d *Disk) HalfSynced() []string {
	var list []string
	for _, ch := range d.half {
		list = append(list, ch.what)
	}
	return list
}

// settle has a change on disk, and what it needs.
func (d *Disk) settle(ch *change) {
	i := slices.Index(d.pending, ch)
	if i < 0 {
		return
	}
	for _, earlier := range slices.Clone(d.pending[:i]) {
		if ch.needs(earlier) {
			d.settle(earlier)
		}
	}
	d.pending = slices.DeleteFunc(d.pending, func(other *change) bool { return other == ch })
	d.settled[ch.id] = true
	if len(ch.asks) > 1 {
		d.half = append(d.half, ch)
	}
	for _, e := range ch.names {
		e.in.entries[e.as] = e.to
		if e.to == nil {
			delete(e.in.entries, e.as)
		}
	}
	if ch.file != nil {
		ch.file.content = ch.content(ch.file.content)
	}
}

// content is what becomes of a file's content; what it was stays as it is.
func (ch *change) content(was []byte) []byte {
	if ch.data == nil {
		return append(slices.Clone(was[:min(ch.at, len(was))]), make([]byte, max(0, ch.at-len(was)))...)
	}
	is := slices.Grow(slices.Clone(was), max(0, ch.at+len(ch.data)-len(was)))
	if end := ch.at + len(ch.data); end > len(is) {
		is = append(is, make([]byte, end-len(is))...)
	}
	copy(is[ch.at:], ch.data)
	return is
}

// file is the open file of a call's first argument, nil if it is none of ours.
func (d *Disk) file(c Call) *open {
	if len(c.Args) == 0 {
		return nil
	}
	n, err := strconv.Atoi(c.Args[0])
	if err != nil {
		return nil
	}
	return d.files[n]
}

// seen are the entries of a directory as processes see them.
func (d *Disk) seen(dir *node) map[string]*node {
	if d.now[dir] == nil {
		d.now[dir] = map[string]*node{}
		for as, to := range dir.entries {
			d.now[dir][as] = to
		}
	}
	return d.now[dir]
}

func (d *Disk) change(ch *change) {
	for _, e := range ch.names {
		d.seen(e.in)[e.as] = e.to
		if e.to == nil {
			delete(d.seen(e.in), e.as)
		}
	}
	d.add(ch)
}

func (d *Disk) add(ch *change) {
	ch.id = d.begun
	d.begun++
	d.pending = append(d.pending, ch)
}

// errElsewhere: the path is not below the roots.
var errElsewhere = errors.New("elsewhere")

// path is what a directory's number and a path of a call mean.
func (d *Disk) path(at, path string) (string, error) {
	if filepath.IsAbs(path) {
		return filepath.Clean(path), nil
	}
	n, err := strconv.Atoi(at)
	if f := d.files[n]; err == nil && f != nil {
		return filepath.Join(f.path, path), nil
	}
	return "", errElsewhere
}

// find returns the directory of a path and what has that name there, nil if nothing has.
func (d *Disk) find(path string) (in *node, as string, is *node, err error) {
	for root, n := range d.roots {
		inside, ok := strings.CutPrefix(path, root)
		switch {
		case ok && inside == "":
			return nil, "", n, nil
		case !ok || inside[0] != '/':
			continue
		}
		parts := strings.Split(inside[1:], "/")
		for _, part := range parts[:len(parts)-1] {
			if n = d.seen(n)[part]; n == nil || !n.dir {
				return nil, "", nil, fmt.Errorf("%s: no directory of that name is known", path)
			}
		}
		as = parts[len(parts)-1]
		return n, as, d.seen(n)[as], nil
	}
	return nil, "", nil, errElsewhere
}
