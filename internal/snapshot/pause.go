package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Pause is what an operator has asked for a resource: that no new transaction uses it.
type Pause struct {
	Since    time.Time `json:"since"`
	By       string    `json:"by"`              // who asked for it
	Detached bool      `json:"detached"`        // nothing used it any more, so no connection to it is open or opened
	Asked    []Asker   `json:"asked,omitempty"` // all who want it
}

// Asker is a command by which an operator has asked for a pause.
type Asker struct {
	ID    string    `json:"id"` // of it alone
	By    string    `json:"by"` // the operator
	Since time.Time `json:"since"`
}

func (p Pause) askedBy(id string) bool {
	return slices.ContainsFunc(p.Asked, func(a Asker) bool { return a.ID == id })
}

// pauseSuffix tells a pause from a file that is being written.
const pauseSuffix = ".json"

func (d Dir) pauses() string { return filepath.Join(string(d), "paused") }

func (d Dir) pausePath(resource string) string {
	return filepath.Join(d.pauses(), resource+pauseSuffix)
}

// endPath is of a file that tells who ended the last pause.
func (d Dir) endPath(resource string) string {
	return filepath.Join(d.pauses(), "."+resource+".ended")
}

// pause reads one. The error is [fs.ErrNotExist] if there is none.
func (d Dir) pause(resource string) (p Pause, err error) {
	b, err := os.ReadFile(d.pausePath(resource))
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		return Pause{}, fmt.Errorf("%s: %w", d.pausePath(resource), err)
	}
	return p, nil
}

// Pauses returns the resources that are paused, by name. They outlive workers, generations and the master, and not the boot. Everybody
// may read them. The error is of those that cannot be read, beside the others.
func (d Dir) Pauses() (map[string]Pause, error) {
	entries, err := os.ReadDir(d.pauses())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	errs := []error{err}
	all := map[string]Pause{}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), pauseSuffix)
		if !ok {
			continue
		}
		p, err := d.pause(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has just ended
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all[name] = p
	}
	return all, errors.Join(errs...)
}

// Ask has workers that look at it from now on pause a resource, for one more who asks, until the last of them has dropped that, or
// somebody resumes it. Only root can.
func (d Dir) Ask(resource string, a Asker) error {
	return d.alone(func() error {
		p, err := d.pause(resource)
		if errors.Is(err, fs.ErrNotExist) {
			p, err = Pause{Since: a.Since, By: a.By}, nil
		}
		if err != nil {
			return err
		}
		p.Asked = append(p.Asked, a)
		return d.put(resource, p)
	})
}

// Asks is nil while a resource is paused for an asker, and a [*ResumedError] when that is over.
func (d Dir) Asks(resource, asker string) error {
	_, err := d.asked(resource, asker)
	return err
}

// asked reads the pause that an asker has asked for, with the errors of Asks.
func (d Dir) asked(resource, asker string) (Pause, error) {
	p, err := d.pause(resource)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !p.askedBy(asker) {
		over := ResumedError{Resource: resource}
		if b, err := os.ReadFile(d.endPath(resource)); err == nil {
			_ = json.Unmarshal(b, &over) // that it made
		}
		return Pause{}, &over
	}
	return p, err
}

// Detach says that nothing uses a resource any more which is paused for an asker, so that no connection to it stays.
func (d Dir) Detach(resource, asker string) error {
	return d.alone(func() error {
		p, err := d.asked(resource, asker)
		if err != nil || p.Detached {
			return err
		}
		p.Detached = true
		return d.put(resource, p)
	})
}

// Drop takes back what an asker has asked for, if that is not over. The resource stays paused for others.
func (d Dir) Drop(resource, asker string) error {
	return d.alone(func() error {
		p, err := d.pause(resource)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !p.askedBy(asker) {
			return nil
		}
		if err != nil {
			return err
		}
		p.Asked = slices.DeleteFunc(p.Asked, func(a Asker) bool { return a.ID == asker })
		if len(p.Asked) == 0 {
			return os.Remove(d.pausePath(resource))
		}
		p.By = p.Asked[0].By
		return d.put(resource, p)
	})
}

// Resume ends the pause of a resource, if there is one, for all who have asked for it. Those who still wait learn from Asks by whom.
func (d Dir) Resume(resource, by string) error {
	return d.alone(func() error {
		b, _ := json.Marshal(ResumedError{resource, by, time.Now().UTC()}) // cannot fail
		_ = put(d.endPath(resource), b, 0o600)                             // a pause ends also where there is no room to say by whom
		err := os.Remove(d.pausePath(resource))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

// ResumedError is who ended a pause while somebody else still waited for it to come about.
type ResumedError struct {
	Resource string    `json:"resource"`
	By       string    `json:"by"`
	At       time.Time `json:"at"`
}

func (e *ResumedError) Error() string {
	if e.By == "" {
		return e.Resource + " is not paused any more: somebody has resumed it"
	}
	return fmt.Sprintf("%s is not paused any more: %s resumed it at %s", e.Resource, e.By, e.At.Local().Format(time.TimeOnly))
}

// alone does something with what is paused while no other process does.
func (d Dir) alone(do func() error) error {
	err := os.MkdirAll(d.pauses(), 0o755)
	if err == nil {
		err = os.Chmod(d.pauses(), 0o755) // whatever the umask of who asks
	}
	var lock *os.File
	if err == nil { // nobody but its owner can open it, so nobody else can keep it locked
		lock, err = os.OpenFile(filepath.Join(d.pauses(), ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	}
	if err == nil {
		defer lock.Close()
		err = os.NewSyscallError("flock", unix.Flock(int(lock.Fd()), unix.LOCK_EX))
	}
	if err != nil {
		return err
	}
	return do()
}

func (d Dir) put(resource string, p Pause) error {
	b, _ := json.Marshal(p) // cannot fail
	return put(d.pausePath(resource), b, 0o644)
}

// put replaces a file, and leaves nothing beside it.
func put(name string, text []byte, mode fs.FileMode) error {
	err := swap(name, append(text, '\n'), mode)
	if err != nil {
		_ = os.Remove(name + unfinished)
	}
	return err
}
