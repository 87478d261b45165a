package powercut

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// State is one in which a power failure may leave the directories.
type State struct {
	Name string // what is there of what was not synced
	d    *Disk
	with []*change
}

// States yields what a power failure may leave at this moment: with nothing of what was not synced; with all of it; with what
// was done up to any change of a name; with names but no contents, and the other way round; with all but one change.
// A change of a name needs the earlier ones of that name. The state must be restored before the next call is played.
func (d *Disk) States() iter.Seq[State] {
	return func(yield func(State) bool) {
		told := map[string]bool{}
		give := func(name string, in func(int, *change) bool) bool {
			s := d.state(name, in)
			key := s.Key()
			if told[key] {
				return true
			}
			told[key] = true
			return yield(s)
		}
		all := func(int, *change) bool { return true }
		ok := give("nothing", func(int, *change) bool { return false }) && give("all", all) &&
			give("names only", func(_ int, ch *change) bool { return ch.file == nil }) &&
			give("contents only", func(_ int, ch *change) bool { return ch.file != nil })
		for i, ch := range d.pending {
			ok = ok && (ch.file != nil || give("all until "+ch.what, func(j int, _ *change) bool { return j <= i })) &&
				give("all but "+ch.what, func(j int, _ *change) bool { return j != i })
		}
	}
}

// state is with those changes that in chooses, less those that lack what they need.
func (d *Disk) state(what string, in func(int, *change) bool) State {
	s := State{Name: what, d: d}
	var missing []*change
	for i, ch := range d.pending {
		chosen := in(i, ch)
		if chosen && len(ch.names) > 0 {
			chosen = !slices.ContainsFunc(missing, ch.needs)
		}
		if chosen {
			s.with = append(s.with, ch)
		} else {
			missing = append(missing, ch)
		}
	}
	return s
}

// Key is the same for states that are the same, at whatever moment.
func (s State) Key() string {
	is := make([]byte, s.d.begun)
	for id := range is {
		is[id] = map[bool]byte{true: '1', false: '0'}[s.d.settled[id]]
	}
	for _, ch := range s.with {
		is[ch.id] = '1'
	}
	return strings.TrimRight(string(is), "0")
}

// Restore writes the state of each root into the directory that to names for it, which is there and empty.
func (s State) Restore(to map[string]string) error {
	entries, contents := map[*node]map[string]*node{}, map[*node][]byte{}
	for _, ch := range s.with {
		for _, e := range ch.names {
			if entries[e.in] == nil {
				entries[e.in] = map[string]*node{}
				for as, is := range e.in.entries {
					entries[e.in][as] = is
				}
			}
			entries[e.in][e.as] = e.to
		}
		if ch.file != nil {
			was, ok := contents[ch.file]
			if !ok {
				was = ch.file.content
			}
			contents[ch.file] = ch.content(was)
		}
	}
	made := map[*node]string{}
	var write func(n *node, path string) error
	write = func(n *node, path string) error {
		if !n.dir {
			if first := made[n]; first != "" {
				return os.Link(first, path)
			}
			made[n] = path
			content, ok := contents[n]
			if !ok {
				content = n.content
			}
			return writeSparse(path, content, n.mode)
		}
		if err := os.Mkdir(path, 0o770); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		list, ok := entries[n]
		if !ok {
			list = n.entries
		}
		for as, is := range list {
			if is != nil {
				if err := write(is, filepath.Join(path, as)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for root, n := range s.d.roots {
		if err := write(n, to[root]); err != nil {
			return fmt.Errorf("restore %s: %w", root, err)
		}
	}
	return nil
}

// writeSparse writes a file without the zeros at its end, which are a hole.
func writeSparse(path string, content []byte, mode fs.FileMode) error {
	if err := os.WriteFile(path, bytes.TrimRight(content, "\x00"), mode); err != nil {
		return err
	}
	return os.Truncate(path, int64(len(content)))
}

// Unsynced lists what is not on disk yet, in the order in which it was done.
func (d *Disk) Unsynced() []string {
	list := make([]string, len(d.pending))
	for i, ch := range d.pending {
		list[i] = ch.what
	}
	return list
}
