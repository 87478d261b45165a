// Package lastlog keeps, apart from the transaction log, which log served last on this machine. Where the volume of the log is
// not mounted there is an empty directory or another log, and nothing there tells that this is not how it was.
package lastlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// File is where an installed fdt keeps it: with the configuration, which a server that is set up anew gets back, and not on
// the volume that may be missing.
const File = "/etc/fdt/transaction-log"

const header = `# Written by fdt: the transaction log that served last on this machine, which is waited for where another or none is found.
# To begin without it, though what it has in doubt is unknown then, remove this file.
`

// Read returns the name of the log that served last on the machine, a machine-id(5); empty if that is not known, as on a new
// machine that was given another's configuration.
func Read(file, machine string) (log string, err error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		switch words := strings.Fields(line); {
		case len(words) == 0 || strings.HasPrefix(words[0], "#"):
		case len(words) != 2:
			return "", fmt.Errorf("%s: the line %q is not a machine and a log", file, strings.TrimSpace(line))
		case words[0] == machine:
			return words[1], nil
		}
	}
	return "", nil
}

// Write replaces the file as a whole, for everybody to read who may enter its directory.
func Write(file, machine, log string) error {
	f, err := os.OpenFile(file+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s%s %s\n", header, machine, log)
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
