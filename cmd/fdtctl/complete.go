package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/settle"
	"github.com/fdtserver/fdt/internal/snapshot"
)

// completer answers shells that complete a command line. What it knows of commands it has from their own words: the table, and what
// they print when asked for help.
type completer struct {
	root string       // directory of the host
	etc  string       // of the configuration
	run  snapshot.Dir // of what runs

	gids func(ctx context.Context, all bool) []string // see settle.GIDs
}

// gidsWithin bounds the question for transactions: who types waits for the answer.
const gidsWithin = 2 * time.Second

// plainWord is a name that no shell takes for something else.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./+@%,-]+$`)

// runComplete prints what may stand in the place of the last of the words after fdtctl, a candidate in each line, with a tab and what
// it is. Completion files in the package call it.
func runComplete(args []string, stdout, _ io.Writer) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) > 2 { // else the service is what is being typed
		if rest, err := forService(args); err == nil {
			args = rest
		}
	}
	for _, line := range (completer{"/", own().Etc(), snapshot.Dir(own().Run()), settle.GIDs}).candidates(args) {
		fmt.Fprintln(stdout, line)
	}
	return 0
}

// directories is a candidate that stands for all of them: shells know how to list files.
const directories = ":directories\t"

// candidates are for the last of the words, in the order of the table, or sorted.
func (c completer) candidates(words []string) []string {
	if len(words) == 0 {
		return nil
	}
	last := words[len(words)-1]
	var all []string
	add := func(candidates ...string) {
		for _, s := range candidates {
			if !slices.Contains(all, s) && (strings.HasPrefix(s, last) || s == directories) {
				all = append(all, s)
			}
		}
	}
	if len(words) == 1 || words[0] == "help" {
		if len(words) <= 2 {
			for _, cmd := range commands() {
				if !cmd.hidden {
					add(cmd.name + "\t" + cmd.about)
				}
			}
			add("help\twhat a command does")
		}
		if strings.HasPrefix(last, "-") {
			add(serviceOption + "\twhich of the host's services it is about")
		}
		return all
	}
	if words[0] == serviceOption {
		for _, s := range service.Known(c.root)[1:] { // the default one has no name
			add(s.Name() + "\t")
		}
	}
	for _, cmd := range commands() {
		if cmd.name == words[0] && !cmd.hidden {
			for _, form := range forms(cmd) {
				add(c.next(form, words[1:])...)
			}
		}
	}
	return all
}

// token is a part of a form: an option, with the value that it takes, or what stands in a place.
type token struct {
	words []string // alternatives
	value string   // of an option; empty: it takes none
}

func (t token) option() bool { return strings.HasPrefix(t.words[0], "-") }

var (
	formLine  = regexp.MustCompile(`(?m)^(?:[Uu]sage:)?\s*fdtctl ([a-z-]+)( .*)?$`)
	formToken = regexp.MustCompile(`--?([a-z-]+)(?: ([A-Z]+))?|[^\s\[\]|]+(?:\|[^\s\[\]|]+)*`)
)

// forms are the ways to call a command, as its help has them, or else the table.
func forms(c command) (all [][]token) {
	var help bytes.Buffer
	c.run([]string{"--help"}, &help, &help)
	for _, m := range formLine.FindAllStringSubmatch(help.String(), -1) {
		if m[1] == c.name {
			all = append(all, tokens(m[2]))
		}
	}
	if all == nil {
		all = append(all, tokens(c.usage))
	}
	return all
}

// tokens reads a form: "commit|rollback [--within D] GID". Options may be written with one dash or two.
func tokens(form string) (all []token) {
	for _, m := range formToken.FindAllStringSubmatch(form, -1) {
		if m[1] != "" {
			all = append(all, token{words: []string{"--" + m[1]}, value: m[2]})
		} else {
			all = append(all, token{words: strings.Split(m[0], "|")})
		}
	}
	return all
}

// next is what may stand in the last of the words by a form; nothing if the words before it are none of that form.
func (c completer) next(form []token, words []string) []string {
	var places, options []token
	for _, t := range form {
		if t.option() {
			options = append(options, t)
		} else {
			places = append(places, t)
		}
	}
	before, last := words[:len(words)-1], words[len(words)-1]
	value := ""
	for _, word := range before {
		switch {
		case value != "":
			value = ""
		case strings.HasPrefix(word, "-"):
			name, _, given := strings.Cut("--"+strings.TrimLeft(word, "-"), "=")
			i := slices.IndexFunc(options, func(t token) bool { return t.words[0] == name })
			if i < 0 {
				return nil
			}
			if !given {
				value = options[i].value
			}
			options = slices.Delete(options, i, i+1)
		case len(places) == 0 || !places[0].takes(word):
			return nil
		default:
			places = places[1:]
		}
	}
	var all []string
	switch {
	case value != "":
		return c.values(value, words[0])
	case !strings.HasPrefix(last, "-") && len(places) > 0:
		for _, word := range places[0].words {
			all = append(all, c.values(word, words[0])...)
		}
		return all
	}
	for _, t := range options {
		all = append(all, t.words[0]+"\t")
	}
	return all
}

// takes tells whether a word may stand in a place: one of its words, or anything where it has a name in capitals.
func (t token) takes(word string) bool {
	return slices.Contains(t.words, word) || t.words[0] == strings.ToUpper(t.words[0])
}

// values are the candidates for a word of a form: itself, or what it stands for if it is in capitals. verb is the first word after the
// command.
func (c completer) values(word, verb string) (all []string) {
	var names []string
	switch word {
	case "DIR":
		return []string{directories}
	case "GENERATION":
		state, _ := c.run.ReadState() // else there is nothing to tell
		for _, gen := range state.Live() {
			names = append(names, strconv.Itoa(gen))
		}
	case "GID":
		ctx, cancel := context.WithTimeout(context.Background(), gidsWithin)
		defer cancel()
		names = slices.DeleteFunc(c.gids(ctx, verb == "forget"), func(name string) bool { return !plainWord.MatchString(name) })
	case "RESOURCE", "USER":
		if cfg, err := config.Load(c.etc); err == nil {
			names = slices.Sorted(maps.Keys(cfg.Users))
			if word == "RESOURCE" {
				names = slices.Sorted(maps.Keys(cfg.Resources))
			}
		}
	default:
		if word != strings.ToUpper(word) {
			names = []string{word}
		}
	}
	for _, name := range names {
		all = append(all, name+"\t")
	}
	return all
}
