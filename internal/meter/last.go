package meter

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Kept is how long the last counts of a worker are told: longer than anybody waits between two scrapes. Without them
// what a worker counted since the last scrape would be lost, and with it all that a drain ends in.
const Kept = 5 * time.Minute

const lastSuffix = ".last"

// Leave writes a worker's last counts into a directory, where they replace those of an earlier life, and removes those
// that were kept for long enough.
func Leave(dir string, w Worker) error {
	name := filepath.Join(dir, fmt.Sprintf("%d-%d%s", w.Generation, w.Slot, lastSuffix))
	text, err := json.Marshal(w)
	if err == nil {
		err = os.WriteFile(name+".new", text, 0o640)
	}
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	return errors.Join(err, each(dir, func(path string, _ []byte, age time.Duration) error {
		if age < Kept {
			return nil
		}
		return os.Remove(path)
	}))
}

// Left returns what workers left in a directory within the time Kept.
func Left(dir string) ([]Worker, error) {
	var all []Worker
	err := each(dir, func(path string, text []byte, age time.Duration) error {
		var w Worker
		if err := json.Unmarshal(text, &w); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if age < Kept {
			all = append(all, w)
		}
		return nil
	})
	return all, err
}

// each calls f for every worker's last counts. One that vanishes meanwhile is passed over.
func each(dir string, f func(path string, text []byte, age time.Duration) error) error {
	paths, _ := filepath.Glob(filepath.Join(dir, "*"+lastSuffix)) // the pattern is sound
	var errs []error
	for _, path := range paths {
		info, err := os.Stat(path)
		var text []byte
		if err == nil {
			text, err = os.ReadFile(path)
		}
		if err == nil {
			err = f(path, text, time.Since(info.ModTime()))
		}
		if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
