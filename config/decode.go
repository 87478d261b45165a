package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gopkg.in/yaml.v3"
)

// nonblock keeps a FIFO in place of a file from holding up whoever reads it.
const nonblock = syscall.O_NONBLOCK | syscall.O_CLOEXEC

// decoder collects faults, and remembers where each value stood for the checks that come after.
type decoder struct {
	faults     Faults
	broken     bool              // what was read is not all there is: the checks would report ghosts
	places     map[string]*value // by path: "listen.local.address"
	passedOver Faults            // files that look like configuration, and are not read
	reader     *Program          // nil: whoever reads has not the program

	effective value              // all that was read, with the defaults that do not depend on other keys
	derived   map[string][]entry // those that do, by the path of their mapping
}

// knows is what the reader knows.
func (d *decoder) knows() knowledge {
	if d.reader == nil {
		return knowledge{types: ownTypes()}
	}
	return d.reader.knows()
}

// kind reads one sort of value and describes it for the JSON Schema.
type kind struct {
	schema schema
	read   func(d *decoder, v *value, path string)
}

// field is one key of a mapping. The same row decodes it, gives its default and describes it to editors.
type field struct {
	key      string
	doc      string // one sentence
	def      string // default, as YAML; empty: none, or it depends on other keys
	required bool
	kind     kind
}

func (d *decoder) fault(v *value, hint, format string, args ...any) {
	d.faults = append(d.faults, Fault{
		File: v.src.name, Line: v.line, Column: v.column, What: fmt.Sprintf(format, args...), Hint: hint,
		src: v.src, width: v.width,
	})
}

// at reports a fault at the value of that path, or at the nearest one around it that was written.
func (d *decoder) at(path, hint, format string, args ...any) {
	for {
		if v := d.places[path]; v != nil {
			d.fault(v, hint, format, args...)
			return
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
}

// remember notes where the value of a path stands.
func (d *decoder) remember(path string, v *value) {
	if d.places == nil {
		d.places = make(map[string]*value)
	}
	d.places[path] = v
}

// section reads a mapping with known keys, and fills in the defaults of those not given.
func (d *decoder) section(v *value, path string, fields []field) {
	d.remember(path, v)
	if !v.isNull() && v.kind != yaml.MappingNode {
		v.hide()
		d.fault(v, "", "%s must be a mapping, not %s", title(path), v.describe())
	}
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	for n := range v.entries {
		e := &v.entries[n]
		i := slices.Index(keys, e.key.text)
		if i < 0 {
			e.val.hide() // it was meant for some other
			d.fault(&e.key, didYouMean(e.key.text, keys), "there is no key %s in %s", e.named(), title(path))
			continue
		}
		inner := join(path, e.key.text)
		d.remember(inner, &e.val)
		if e.val.isNull() && fields[i].kind.schema.Type != "object" {
			d.fault(&e.key, "give it one or leave it out", "%s has no value", inner)
			continue
		}
		fields[i].kind.read(d, &e.val, inner)
	}
	var all []entry // in the order of the table, with the defaults
	for _, f := range fields {
		if i := slices.IndexFunc(v.entries, func(e entry) bool { return e.key.text == f.key }); i >= 0 {
			all = append(all, v.entries[i])
			continue
		}
		if f.required {
			d.at(path, "", "%s needs the key %q", title(path), f.key)
		}
		if f.def != "" {
			val := builtin(f.def)
			f.kind.read(d, val, join(path, f.key))
			all = append(all, entry{key: value{src: val.src, text: f.key}, val: *val})
		}
	}
	v.entries = all
}

// derive notes a default that depends on other keys.
func (d *decoder) derive(path, key, text string) {
	if d.derived == nil {
		d.derived = make(map[string][]entry)
	}
	d.derived[path] = append(d.derived[path], entry{key: value{src: &source{name: byDefault}, text: key}, val: *builtin(text)})
}

// byDefault is the name of the source of defaults, which no file has.
const byDefault = "default"

// builtin is a default as if it had been written.
func builtin(text string) *value {
	doc := new(yaml.Node)
	certain(doc, yaml.Unmarshal([]byte(text), doc))
	v := new(decoder).build(&source{name: byDefault, text: text}, doc.Content[0])
	return &v
}

// certain returns v; an error would be one of this package's own table.
func certain[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func title(path string) string {
	if path == "" {
		return "the configuration"
	}
	return path
}

// scalar reads a value whose text is all there is to it.
func scalar(s schema, wanted string, tags []string, set func(text string) (hint string, err error)) kind {
	return kind{schema: s, read: func(d *decoder, v *value, path string) {
		if v.kind != yaml.ScalarNode || !slices.Contains(tags, v.tag) {
			d.fault(v, "", "%s must be %s, not %s", path, wanted, v.describe())
			return
		}
		if hint, err := set(v.text); err != nil {
			d.fault(v, hint, "%s: %v", path, err)
		}
	}}
}

var (
	tagText   = []string{"!!str"}
	tagNumber = []string{"!!int"}
	tagEither = []string{"!!str", "!!int"}
	tagAny    = []string{"!!str", "!!int", "!!float", "!!bool", "!!timestamp"}
)

// text is a string that check accepts, if there is a check.
func text(dst *string, s schema, check func(string) error) kind {
	s.Type = "string"
	return scalar(s, "a text", tagText, func(t string) (string, error) {
		if check != nil {
			if err := check(t); err != nil {
				return "", err
			}
		}
		*dst = t
		return "", nil
	})
}

// choice is one of a few words.
func choice(dst *string, words ...string) kind {
	s := schema{Type: "string", Enum: words}
	return scalar(s, "a word", tagText, func(t string) (string, error) {
		if !slices.Contains(words, t) {
			return didYouMean(t, words), fmt.Errorf("%q is not known", t)
		}
		*dst = t
		return "", nil
	})
}

func number(dst *int, low, high int) kind {
	s := schema{Type: "integer", Minimum: &low, Maximum: &high}
	return scalar(s, "a number", tagNumber, func(t string) (string, error) {
		n, err := strconv.Atoi(t)
		if err != nil || n < low || n > high {
			return "", fmt.Errorf("write a number from %d to %d", low, high)
		}
		*dst = n
		return "", nil
	})
}

// longest bounds every duration: what is longer is a slip of the pen.
const longest = 366 * 24 * time.Hour

func duration(dst *time.Duration, low time.Duration) kind { return durationFrom(dst, low, low) }

// limit reads a duration of which 0s means that there is none.
func limit(dst *time.Duration, low time.Duration) kind { return durationFrom(dst, 0, low) }

// durationFrom reads a duration of at least low, or zero if that is given as least.
func durationFrom(dst *time.Duration, least, low time.Duration) kind {
	s := schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h|d))+$`}
	return kind{schema: s, read: func(d *decoder, v *value, path string) {
		if v.kind == yaml.ScalarNode && v.tag == "!!int" {
			d.fault(v, fmt.Sprintf("write %ss for seconds", v.text), "%s needs a unit", path)
			return
		}
		none := ""
		if least < low {
			none = "0s means none"
		}
		scalar(s, "a duration such as 30s or 10m", tagText, func(t string) (string, error) {
			got, err := parseDuration(t)
			switch {
			case err != nil:
				return "write it as 500ms, 30s, 10m or 24h", fmt.Errorf("%q is no duration", t)
			case got < low && got != least:
				return none, fmt.Errorf("it must be at least %s", low)
			case got > longest:
				return "", fmt.Errorf("it must be at most %s", longest)
			}
			*dst = got
			return "", nil
		}).read(d, v, path)
	}}
}

// parseDuration is [time.ParseDuration] with days, and without a sign.
func parseDuration(s string) (time.Duration, error) {
	if s == "" || s[0] == '-' || s[0] == '+' {
		return 0, errors.New("no duration")
	}
	days, rest, found := strings.Cut(s, "d")
	if !found {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseUint(days, 10, 16)
	if err != nil {
		return 0, err
	}
	var more time.Duration
	if rest != "" {
		if more, err = parseDuration(rest); err != nil {
			return 0, err
		}
	}
	if more += time.Duration(n) * 24 * time.Hour; more < 0 {
		return 0, errors.New("longer than can be told")
	}
	return more, nil
}

var sizeUnits = map[string]int64{
	"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}

// boolean is true or false.
func boolean(dst *bool) kind {
	return scalar(schema{Type: "boolean"}, "true or false", []string{"!!bool"}, func(t string) (string, error) {
		b, err := strconv.ParseBool(t) // YAML's forms are among Go's
		*dst = b
		return "", err
	})
}

// size is a number of bytes from low to high: 1GiB, 512MiB. Zero needs no unit.
func size(dst *int64, low, high int64) kind {
	s := schema{Type: []string{"string", "integer"}, Pattern: `^[0-9]+ ?(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)$`}
	return scalar(s, "a size such as 1GiB", tagEither, func(t string) (string, error) {
		if t == "0" && low == 0 {
			*dst = 0
			return "", nil
		}
		digits := len(t) - len(strings.TrimLeft(t, "0123456789"))
		n, err := strconv.ParseInt(t[:digits], 10, 64)
		unit, known := sizeUnits[strings.TrimPrefix(t[digits:], " ")]
		if err != nil || !known || n > math.MaxInt64/unit {
			return "write it as 512MiB or 1GiB", fmt.Errorf("%q is no size", t)
		}
		n *= unit
		switch {
		case n < low:
			return "", fmt.Errorf("it must be at least %dB", low)
		case n > high:
			return "", fmt.Errorf("it must be at most %dB", high)
		}
		*dst = n
		return "", nil
	})
}

// list reads a sequence, or a single item in place of one.
func list(s schema, item func() kind) kind {
	one := item().schema
	s.AnyOf = []schema{one, {Type: "array", Items: &one}}
	return kind{schema: s, read: func(d *decoder, v *value, path string) {
		if v.kind != yaml.SequenceNode {
			item().read(d, v, path)
			return
		}
		for i := range v.items {
			inner := fmt.Sprintf("%s[%d]", path, i)
			d.remember(inner, &v.items[i])
			item().read(d, &v.items[i], inner)
		}
	}}
}

// mapping is a nested section.
func mapping(fields []field) kind {
	return kind{schema: objectSchema(fields), read: func(d *decoder, v *value, path string) {
		d.section(v, path, fields)
	}}
}

// named reads a mapping from names to sections of the same form. A faulty one is kept all the same, so that what
// refers to it is not a fault too.
func named[T any](dst *map[string]T, name *nameRule, one func(name string, t *T) kind) kind {
	*dst = make(map[string]T)
	inner := one("", new(T)).schema
	s := schema{Type: "object", AdditionalProperties: &inner, PropertyNames: &schema{Pattern: name.pattern.String()}}
	return kind{schema: s, read: func(d *decoder, v *value, path string) {
		d.remember(path, v)
		if !v.isNull() && v.kind != yaml.MappingNode {
			v.hide()
			d.fault(v, "", "%s must be a mapping from names, not %s", path, v.describe())
			return
		}
		for i := range v.entries {
			e := &v.entries[i]
			err, null := name.check(e.key.text), v.secret && e.val.isNull()
			if err != nil {
				d.fault(&e.key, "", "%s: %v", e.named(), err)
			} else if null {
				d.fault(&e.key, "give it one or leave it out", "%s in %s has no value", e.named(), path)
			}
			told, inner := join(path, e.key.text), join(path, e.key.text)
			if e.key.secret && e.named() == "this" { // a path with it would tell it
				told = path
				if err != nil || null {
					e.val.hide()
					continue
				}
			}
			t := new(T)
			d.remember(inner, &e.key)
			one(e.key.text, t).read(d, &e.val, told)
			d.remember(inner, &e.key)
			(*dst)[e.key.text] = *t
		}
	}}
}
