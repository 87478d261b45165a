package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Pause is what an operator has asked for a resource: that no new transaction uses it.
type Pause struct {
	Since    time.Time `json:"since"`
	By       string    `json:"by"`       // who asked for it
	Detached bool      `json:"detached"` // nothing used it any more, so no connection to it is open or opened
}

// pauseSuffix tells a pause from a file that is being written.
const pauseSuffix = ".json"

func (d Dir) pauses() string { return filepath.Join(string(d), "paused") }

func (d Dir) pausePath(resource string) string {
	return filepath.Join(d.pauses(), resource+pauseSuffix)
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
		var p Pause
		b, err := os.ReadFile(d.pausePath(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has just ended
		}
		if err == nil {
			err = json.Unmarshal(b, &p)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", d.pausePath(name), err))
			continue
		}
		all[name] = p
	}
	return all, errors.Join(errs...)
}

// Pause has workers that look at it from now on pause a resource. Only root can write it.
func (d Dir) Pause(resource string, p Pause) error {
	b, err := json.Marshal(p)
	if err == nil {
		err = os.MkdirAll(d.pauses(), 0o755)
	}
	temp := d.pausePath(resource) + ".new"
	if err == nil {
		err = os.WriteFile(temp, append(b, '\n'), 0o644)
	}
	for _, path := range []string{d.pauses(), temp} { // whatever the umask of who asks
		if err == nil {
			err = os.Chmod(path, map[bool]fs.FileMode{true: 0o644, false: 0o755}[path == temp])
		}
	}
	if err == nil {
		err = os.Rename(temp, d.pausePath(resource))
	}
	return err
}

// Resume ends the pause of a resource, if there is one.
func (d Dir) Resume(resource string) error {
	err := os.Remove(d.pausePath(resource))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
