// Package snapshot keeps what the master must not forget while it is away: the configuration of each generation
// that lives, and which of them serves. Readers never see half of anything: files and directories appear under
// their names only when they are complete.
//
// The master writes, and it alone; the generator, the workers and fdtctl read.
package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/fdtserver/fdt/config"
)

// Dir is the directory that holds the state and the snapshots: of an installed service its Run, in memory, so that a boot begins
// without any.
type Dir string

// Schema is the version of [State] that this program writes and reads. Fields may be added without a new one.
const Schema = 1

// State is what unit names cannot tell a master that comes back. A generation is a number from 1; 0 is none.
type State struct {
	Schema        int    `json:"schema"`
	Next          int    `json:"next"`                     // number of the next generation; no number is used twice
	Applied       int    `json:"applied,omitempty"`        // the generation that serves
	Pending       int    `json:"pending,omitempty"`        // the generation that a reload in progress starts
	Previous      int    `json:"previous,omitempty"`       // the generation that served before Applied
	Draining      []int  `json:"draining,omitempty"`       // generations told to go that are not gone
	RestartWanted bool   `json:"restart_wanted,omitempty"` // the next master rolls a generation
	UnitHash      string `json:"unit_hash,omitempty"`      // of the workers' units as they were when Applied began
	BinaryHash    string `json:"binary_hash,omitempty"`    // of the workers' program, likewise
	PendingUnit   string `json:"pending_unit,omitempty"`   // UnitHash when Pending began
	PendingBinary string `json:"pending_binary,omitempty"` // BinaryHash when Pending began
	Rejected      string `json:"rejected,omitempty"`       // why the configuration that was asked for last is not what serves
	Step          string `json:"step,omitempty"`           // of the reload in progress
	Healing       bool   `json:"healing,omitempty"`        // nobody asked for it: it brings back what Applied should have
	Degraded      string `json:"degraded,omitempty"`       // why the last such one failed, until all is as it should be

	Rollouts Rollouts `json:"rollouts"`
}

// Rollouts counts how rollouts ended since the state began, with the host's boot; the first start is one, too.
type Rollouts struct {
	Applied  uint64 `json:"applied"`
	Failed   uint64 `json:"failed"`   // begun, and taken back
	Rejected uint64 `json:"rejected"` // not even begun: the configuration has faults, or asks for what no reload can do
}

// Counts is what is told of a state to whoever wants to know how fdt fares: numbers, no name and no text of the
// configuration. Fields are only ever added.
type Counts struct {
	Applied  int      `json:"applied"`
	Wanted   int      `json:"wanted"`   // workers that the applied generation is configured to have; 0: not known
	Rejected bool     `json:"rejected"` // the configuration that was asked for last is not what serves
	Rollouts Rollouts `json:"rollouts"`
}

// Live returns the generations whose sockets and workers may exist, without repetition, in ascending order.
func (s State) Live() []int {
	live := slices.Clone(s.Draining)
	for _, gen := range []int{s.Applied, s.Pending} {
		if gen != 0 {
			live = append(live, gen)
		}
	}
	slices.Sort(live)
	return slices.Compact(live)
}

// Cold is the state in which nothing serves: all the generations that have a snapshot are on their way out.
func (s State) Cold(generations []int) State {
	if s.Applied != 0 {
		s.Previous = s.Applied
	}
	s.Applied, s.Pending, s.Step, s.Draining = 0, 0, "", generations
	s.RestartWanted, s.Healing, s.Degraded = false, false, ""
	return s
}

func (d Dir) statePath() string { return filepath.Join(string(d), "state.json") }

func (d Dir) countsPath() string { return filepath.Join(string(d), "counts.json") }

// Metrics is the directory in which workers tell their counts, and nothing else: a socket of each that lives, and the
// last counts of those that have ended.
func (d Dir) Metrics() string { return filepath.Join(string(d), "metrics") }

func (d Dir) generations() string { return filepath.Join(string(d), "generation") }

// Path is the directory of a generation's snapshot, which has the form of /etc/fdt.
func (d Dir) Path(gen int) string { return filepath.Join(d.generations(), strconv.Itoa(gen)) }

// ReadState returns the state. The error is [fs.ErrNotExist] if there is none, as after a boot.
func (d Dir) ReadState() (State, error) {
	b, err := os.ReadFile(d.statePath())
	if err != nil {
		return State{}, err
	}
	s, err := decodeState(b)
	if err != nil {
		return State{}, fmt.Errorf("%s: %w", d.statePath(), err)
	}
	return s, nil
}

func decodeState(b []byte) (State, error) {
	var s State
	if err := json.Unmarshal(b, &s); err != nil {
		return State{}, err
	}
	if s.Schema != Schema {
		return State{}, fmt.Errorf("schema %d is not known to this version of fdt, which knows %d", s.Schema, Schema)
	}
	for _, gen := range append([]int{s.Applied, s.Pending}, s.Draining...) {
		if gen < 0 || gen >= s.Next {
			return State{}, fmt.Errorf("generation %d is not below the next one, %d", gen, s.Next)
		}
	}
	if slices.Contains(s.Draining, 0) {
		return State{}, errors.New("generation 0 cannot drain, it is none")
	}
	return s, nil
}

// WriteState replaces the state as a whole; its Schema is set here. The state is for root and the group of the directory,
// if that is setgid; what [Dir.ReadCounts] returns is for everybody.
func (d Dir) WriteState(s State) error {
	s.Schema = Schema
	b, err := json.Marshal(s)
	if err == nil {
		_, err = decodeState(b)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", d.statePath(), err)
	}
	counts := Counts{Applied: s.Applied, Rejected: s.Rejected != "", Rollouts: s.Rollouts}
	if c, err := d.LoadResolved(s.Applied); err == nil { // else there is none, or it cannot be read, as its user will tell
		counts.Wanted = c.Workers.Count
	}
	told, _ := json.Marshal(counts) // numbers: cannot fail
	if err := replace(d.countsPath(), append(told, '\n'), 0o644); err != nil {
		return err
	}
	return replace(d.statePath(), append(b, '\n'), 0o640)
}

// ReadCounts returns what the last state was counted to be. The error is [fs.ErrNotExist] if there is none.
func (d Dir) ReadCounts() (Counts, error) {
	var c Counts
	b, err := os.ReadFile(d.countsPath())
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		return Counts{}, fmt.Errorf("%s: %w", d.countsPath(), err)
	}
	return c, nil
}

// Load reads a generation's configuration.
func (d Dir) Load(gen int) (*config.Config, error) { return config.Load(d.Path(gen)) }

// resolved is the file of a snapshot that holds its configuration as it was understood when it was taken.
const resolved = "resolved.json"

// LoadResolved returns a generation's configuration as the program that took the snapshot understood it. After an
// upgrade [Dir.Load] may no longer accept what serves; the listeners must stay open all the same.
func (d Dir) LoadResolved(gen int) (*config.Config, error) {
	b, err := os.ReadFile(filepath.Join(d.Path(gen), resolved))
	if err != nil {
		return nil, err
	}
	c := new(config.Config)
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(d.Path(gen), resolved), err)
	}
	return c, nil
}

// resolve writes what LoadResolved reads, if the configuration in dir has no fault.
func resolve(dir string) error {
	c, err := config.Load(dir)
	if err != nil {
		return nil //nolint:nilerr // whether it has faults is for the master to say
	}
	b, err := json.Marshal(c)
	return errors.Join(err, write(filepath.Join(dir, resolved), b, 0o640, false))
}

// Take copies the configuration in directory from into the snapshot of a generation, which must not exist yet.
// The files are 0640; their group is that of the directory of snapshots if that is setgid.
func (d Dir) Take(gen int, from string) error {
	if err := os.MkdirAll(d.generations(), 0o750); err != nil {
		return err
	}
	if _, err := os.Lstat(d.Path(gen)); err == nil {
		return fmt.Errorf("snapshot of generation %d: %w", gen, fs.ErrExist)
	}
	temp := filepath.Join(d.generations(), ".new-"+strconv.Itoa(gen))
	err := os.RemoveAll(temp) // of a master that was killed at this point
	if err == nil {
		err = copyConfig(from, temp, false)
	}
	if err == nil {
		err = resolve(temp)
	}
	if err == nil {
		err = os.Rename(temp, d.Path(gen))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("snapshot of generation %d: %w", gen, err), os.RemoveAll(temp))
	}
	return nil
}

// Remove deletes a generation's snapshot; one that does not exist is no error.
func (d Dir) Remove(gen int) error {
	gone := filepath.Join(d.generations(), ".old-"+strconv.Itoa(gen))
	err := os.RemoveAll(gone)
	if err == nil {
		err = os.Rename(d.Path(gen), gone)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(gone))
}

// Generations returns the generations that have a snapshot, in ascending order.
func (d Dir) Generations() ([]int, error) {
	entries, err := os.ReadDir(d.generations())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var found []int
	for _, e := range entries {
		if gen, err := strconv.Atoi(e.Name()); err == nil && gen > 0 && strconv.Itoa(gen) == e.Name() && e.IsDir() {
			found = append(found, gen)
		}
	}
	slices.Sort(found)
	return found, nil
}

// Same reports whether two directories hold the same configuration, byte for byte.
func Same(a, b string) (bool, error) {
	namesA, errA := config.Files(a)
	namesB, errB := config.Files(b)
	if err := errors.Join(errA, errB); err != nil {
		return false, err
	}
	if !slices.Equal(namesA, namesB) {
		return false, nil
	}
	for _, name := range namesA {
		textA, errA := config.ReadFile(filepath.Join(a, name))
		textB, errB := config.ReadFile(filepath.Join(b, name))
		if err := errors.Join(errA, errB); err != nil {
			return false, err
		}
		if textA != textB {
			return false, nil
		}
	}
	return true, nil
}
