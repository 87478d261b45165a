package main

import (
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/fdtserver/fdt/internal/printable"
)

// states are the words of status that are coloured, by the parameter of "Select Graphic Rendition", ECMA-48 8.3.117.
var states = map[string]string{
	"ready": "32", "open": "32", "reachable": "32",
	"starting": "33", "draining": "33", "unknown": "33", "unfit": "33",
	"failed": "31", "closed": "31", "unreachable": "31",
}

// stateCell is a cell of a table that is one of them: not the first, which is a name.
var stateCell = regexp.MustCompile(`(?m)(  )(` + strings.Join(slices.Sorted(maps.Keys(states)), "|") + `)(  |$)`)

// painted is a printable text with its states in colour.
func painted(text string) string {
	return stateCell.ReplaceAllStringFunc(text, func(cell string) string {
		m := stateCell.FindStringSubmatch(cell)
		return m[1] + "\x1b[" + states[m[2]] + "m" + m[2] + "\x1b[m" + m[3]
	})
}

// show writes a text, in colour where that is a terminal that has any and nobody has asked for none; see https://no-color.org.
func show(stdout io.Writer, text string) {
	if file, _ := screenOf(stdout); file != nil && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" {
		stdout, text = file, painted(printable.Text(text)) // a printable.Writer would escape the colours
	}
	_, _ = io.WriteString(stdout, text) // main tells if it is lost; a terminal that is gone has nobody to tell
}
