package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Fault is one thing wrong with the configuration, and what to do about it.
type Fault struct {
	File    string `json:"file"`             // as opened
	Line    int    `json:"line,omitempty"`   // from 1; 0: the file as a whole
	Column  int    `json:"column,omitempty"` // from 1, in characters
	What    string `json:"what"`
	Hint    string `json:"hint,omitempty"` // what to do; may be empty
	Excerpt string `json:"-"`              // the line with a caret below the place, each indented, without a final newline; may be empty

	src   *source // to quote the line from
	width int     // in characters
}

// Error is the fault on one line: file:line:column: what; hint.
func (f Fault) Error() string {
	var b strings.Builder
	file := f.File
	if strings.ContainsFunc(file, unicode.IsControl) {
		file = strconv.Quote(file) // the fault stays on one line
	}
	b.WriteString(file)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", f.Line, f.Column)
	}
	b.WriteString(": " + f.What)
	if f.Hint != "" {
		b.WriteString("; " + f.Hint)
	}
	return b.String()
}

// Faults is everything wrong with a configuration, in the order of files and lines. It is the error that [Load]
// returns, and never empty there.
type Faults []Fault

// Error is every fault on its line. It quotes no line of the files, and may be told to everybody.
func (fs Faults) Error() string { return fs.lines(Fault.Error) }

// Detail is every fault on its line, each followed by its excerpt: for who may read the files, and for the journal.
func (fs Faults) Detail() string {
	return fs.lines(func(f Fault) string { return strings.TrimSuffix(f.Error()+"\n"+f.Excerpt, "\n") })
}

func (fs Faults) lines(of func(Fault) string) string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = of(f)
	}
	return strings.Join(lines, "\n")
}

// Detail is an error's text, with the excerpts of the [Faults] that it wraps, if it does.
func Detail(err error) string {
	var fs Faults
	if !errors.As(err, &fs) {
		return err.Error()
	}
	return strings.Replace(err.Error(), fs.Error(), fs.Detail(), 1)
}

func (fs Faults) sort() {
	slices.SortStableFunc(fs, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// excerptWidth bounds a quoted line, in characters.
const excerptWidth = 100

// breaks are what YAML 1.1 ends a line with, section 5.4.
var breaks = regexp.MustCompile(`\r\n|[\r\n\x{85}\x{2028}\x{2029}]`)

// lineOf is a line of a text, counted from 1 as YAML does; false if there is none.
func lineOf(text string, line int) (string, bool) {
	lines := breaks.Split(text, -1)
	if line < 1 || line > len(lines) {
		return "", false
	}
	return lines[line-1], true
}

// excerpt quotes one line of a file with a caret under the width characters from column on.
func excerpt(quoted []rune, line, column, width int) string {
	runes := slices.Clone(quoted)
	for i, r := range runes {
		if !unicode.IsPrint(r) {
			runes[i] = ' '
		}
	}
	at := min(max(column-1, 0), len(runes))
	if from := at - excerptWidth/2; from > 0 && len(runes) > excerptWidth {
		from = min(from, len(runes)-excerptWidth)
		runes, at = runes[from:], at-from
	}
	runes = runes[:min(len(runes), excerptWidth)]
	number := fmt.Sprintf("%5d", line)
	width = max(1, min(width, len(runes)-at))
	return number + " | " + strings.TrimRight(string(runes), " ") + "\n" + strings.Repeat(" ", len(number)) + " | " + strings.Repeat(" ", at) + "^" + strings.Repeat("~", width-1)
}

// Suggest returns the candidate that was probably meant, or "".
func Suggest(got string, candidates []string) string {
	best, bestDistance := "", 1+max(1, len(got)/3)
	for _, c := range candidates {
		if d := distance(strings.ToLower(got), strings.ToLower(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the Damerau-Levenshtein distance, restricted to adjacent transpositions.
func distance(a, b string) int {
	before := make([]int, len(b)+1)
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(row[j-1]+1, last[j]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// didYouMean is the hint for a name that does not exist among the candidates.
func didYouMean(got string, candidates []string) string {
	if s := Suggest(got, candidates); s != "" {
		return fmt.Sprintf("did you mean %q?", s)
	}
	if len(candidates) == 0 {
		return ""
	}
	sorted := slices.Sorted(slices.Values(candidates))
	return "it is one of " + strings.Join(sorted, ", ")
}
