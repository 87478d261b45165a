package meter

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fdtserver/fdt/internal/foreign"
)

// Kept is how long the last counts of a worker are told: longer than anybody waits between two scrapes. Without them
// what a worker counted since the last scrape would be lost, and with it all that a drain ends in.
const Kept = 5 * time.Minute

const lastSuffix = ".last"

const (
	// maxLast bounds the last counts of one worker, in bytes: those of some thousand procedures.
	maxLast = 1 << 20
	// maxLeft bounds what is read of all, in bytes.
	maxLeft = 16 << 20
)

// errMuch says that more was left than is told.
var errMuch = errors.New("more was left than is told")

func lastName(generation, slot int) string {
	return fmt.Sprintf("%d-%d%s", generation, slot, lastSuffix)
}

// Leave writes a worker's last counts into a directory, where they replace those of an earlier life, and removes those
// that were kept for long enough. It reads nothing there, and waits for nobody.
func Leave(dir string, w Worker) error {
	name := filepath.Join(dir, lastName(w.Generation, w.Slot))
	text, err := json.Marshal(w)
	if err == nil {
		err = create(name+".new", text)
	}
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	errs := []error{err}
	for _, path := range lasts(dir) {
		info, err := os.Lstat(path)
		if err == nil && time.Since(info.ModTime()) >= Kept {
			err = os.Remove(path)
		}
		if !errors.Is(err, fs.ErrNotExist) { // a sibling has removed it
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// create writes a file that nobody has put there before.
func create(name string, text []byte) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// Left returns what workers left in a directory within the time Kept. Whose counts they are is told by the name of the
// file: nobody speaks for another by what he writes into his own.
func Left(dir string) ([]Worker, error) {
	var all []Worker
	var errs []error
	left := int64(maxLeft)
	for _, path := range lasts(dir) {
		if left < maxLast {
			errs = append(errs, fmt.Errorf("%s: %w", dir, errMuch))
			break
		}
		text, info, err := foreign.Read(path, maxLast)
		left -= int64(len(text))
		var w Worker
		if err == nil && time.Since(info.ModTime()) < Kept {
			if w, err = decodeLast(path, text); err == nil {
				all = append(all, w)
			}
		}
		if !errors.Is(err, fs.ErrNotExist) { // it was removed meanwhile
			errs = append(errs, err)
		}
	}
	return all, errors.Join(errs...)
}

func decodeLast(path string, text []byte) (Worker, error) {
	var w Worker
	var generation, slot int
	if err := json.Unmarshal(text, &w); err != nil {
		return w, fmt.Errorf("%s: %w", path, err)
	}
	base := filepath.Base(path)
	if _, err := fmt.Sscanf(base, "%d-%d", &generation, &slot); err != nil || lastName(generation, slot) != base {
		return w, fmt.Errorf("%s: not the name of a worker's last counts", path)
	}
	w.Generation, w.Slot = generation, slot
	return w, nil
}

// lasts are the names of all last counts in a directory.
func lasts(dir string) []string {
	paths, _ := filepath.Glob(filepath.Join(dir, "*"+lastSuffix)) // the pattern is sound
	return paths
}
