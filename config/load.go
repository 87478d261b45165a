package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// maxFile bounds one file of configuration, in bytes.
const maxFile = 1 << 20

// Files returns what [Load] reads in dir, relative to it and in this order: config.yaml, then config.d/*.yaml by
// name. Only config.d may be absent; hidden files in it are passed over.
func Files(dir string) ([]string, error) {
	files := []string{"config.yaml"}
	entries, err := os.ReadDir(filepath.Join(dir, "config.d"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return files, err
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".yaml") && !strings.HasPrefix(name, ".") {
			files = append(files, filepath.Join("config.d", name))
		}
	}
	return files, nil
}

// Load reads dir/config.yaml and dir/config.d/*.yaml as one configuration. Mappings are merged over the files; any
// other key may be given once. The error is a [Faults] with everything that is wrong, in the files and between
// them. Load opens no other file but those in which the kernel
// tells of CPUs, resolves no name and never waits. A type of resource that it does not know is taken for one of the
// program of the workers, whose keys that will check.
func Load(dir string) (*Config, error) { return new(decoder).load(dir) }

func (d *decoder) load(dir string) (*Config, error) {
	files, err := Files(dir)
	if err != nil {
		d.faults = append(d.faults, Fault{File: filepath.Join(dir, "config.d"), What: reason(err)})
	}
	d.foreign(dir)
	var sources []*source
	for _, name := range files {
		name = filepath.Join(dir, name)
		text, err := ReadFile(name)
		if err != nil {
			d.faults = append(d.faults, Fault{File: name, What: reason(err)})
			continue
		}
		sources = append(sources, &source{name: name, text: text})
	}
	return d.decode(sources)
}

// Text is one file of a configuration.
type Text struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// Texts reads the files that [Load] reads, in its order.
func Texts(dir string) ([]Text, error) {
	files, err := Files(dir)
	if err != nil {
		return nil, err
	}
	var texts []Text
	for _, name := range files {
		text, err := ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		texts = append(texts, Text{filepath.Join(dir, name), text})
	}
	return texts, nil
}

// Parse is [Load] of files that somebody else has read.
func Parse(texts []Text) (*Config, error) { return new(decoder).parseAll(texts) }

func (d *decoder) parseAll(texts []Text) (*Config, error) {
	if len(texts) == 0 {
		return nil, errors.New("a configuration has at least one file")
	}
	var sources []*source
	for _, t := range texts {
		sources = append(sources, &source{name: t.Name, text: t.Text})
	}
	return d.decode(sources)
}

// Says reports whether any file of a configuration that [Load] takes has a key, and be its value empty. A configuration without
// a section that it had is more often one of which a file was lost than the wish to drop all that was in it.
func Says(dir, key string) bool {
	files, _ := Files(dir)
	for _, name := range files {
		text, _ := ReadFile(filepath.Join(dir, name))
		v, _ := new(decoder).parse(&source{name: name, text: text})
		if slices.ContainsFunc(v.entries, func(e entry) bool { return e.key.text == key }) {
			return true
		}
	}
	return false
}

// decode makes the texts of files one configuration.
func (d *decoder) decode(sources []*source) (*Config, error) {
	root := value{kind: yaml.MappingNode}
	for _, src := range sources {
		if v, ok := d.parse(src); ok {
			if root.src == nil {
				root.src, root.line, root.column = v.src, v.line, v.column
			}
			for _, e := range v.entries {
				d.add(&root, e)
			}
		}
	}
	if d.broken || root.src == nil {
		return nil, d.result()
	}
	cfg := new(Config)
	d.section(&root, "", rootFields(cfg, d.knows()))
	d.check(cfg)
	d.effective = root
	if err := d.result(); err != nil {
		return nil, err
	}
	return cfg, nil
}

// result is nil or the sorted faults. (A nil Faults in an error would not be a nil error.)
func (d *decoder) result() error {
	if len(d.faults) == 0 {
		return nil
	}
	d.faults.sort()
	d.excerpts()
	return d.faults
}

// excerpts quotes the lines of the faults.
func (d *decoder) excerpts() {
	for i := range d.faults {
		f := &d.faults[i]
		if f.src == nil {
			continue
		}
		if line, ok := f.src.quoted(f.Line); ok { // all that is to be hidden is known only now
			f.Excerpt = excerpt(line, f.Line, f.Column, f.width)
		}
	}
}

// foreign reports files that look like configuration and are passed over. In config.d that is a fault; beside config.yaml, where there
// may be drafts, it is for a warning.
func (d *decoder) foreign(dir string) {
	for _, in := range []string{dir, filepath.Join(dir, "config.d")} {
		entries, _ := os.ReadDir(in) // of a directory that cannot be read is told elsewhere
		for _, e := range entries {
			name := e.Name()
			ending := filepath.Ext(name)
			if like := strings.ToLower(ending); like != ".yaml" && like != ".yml" || strings.HasPrefix(name, ".") {
				continue
			}
			f := Fault{File: filepath.Join(in, name), What: "only *.yaml is read", Hint: "rename it to " + strings.TrimSuffix(name, ending) + ".yaml"}
			switch {
			case in != dir && ending != ".yaml":
				d.faults = append(d.faults, f)
			case in == dir && name != "config.yaml":
				f.What, f.Hint = "it is not read: only config.yaml and config.d/*.yaml are", "move it to config.d, or away"
				d.passedOver = append(d.passedOver, f)
			}
		}
	}
}

// reason is an error of the file system without the path, which stands before it.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return "cannot be read: " + err.Error()
}

// ReadFile returns the text of one of the files of a configuration. It must be a regular one, or a link to one, of at most
// 1 MiB; ReadFile does not wait for the writer of a FIFO in its place.
func ReadFile(name string) (string, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && !st.Mode().IsRegular() {
		return "", errors.New("it is not a regular file")
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("it is longer than %d bytes", maxFile)
	}
	return string(b), err
}

// parse reads one file as one mapping. An empty file is an empty mapping.
func (d *decoder) parse(src *source) (value, bool) {
	v := value{src: src, line: 1, column: 1, kind: yaml.MappingNode}
	if at, ok := notUTF8(src.text); ok {
		d.broken, src.torn = true, true
		v.line, v.column, v.width = 1+len(breaks.FindAllString(src.text[:at], -1)), 1, 1
		if begin := breaks.FindAllStringIndex(src.text[:at], -1); len(begin) > 0 {
			v.column -= utf8.RuneCountInString(src.text[:begin[len(begin)-1][1]])
		}
		v.column += utf8.RuneCountInString(src.text[:at])
		d.fault(&v, "save the file as UTF-8", "the byte 0x%02x here is no text in UTF-8", src.text[at])
		return v, false
	}
	dec := yaml.NewDecoder(strings.NewReader(src.text))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return v, true
	case err != nil:
		d.syntax(src, err)
		return v, false
	}
	if top := doc.Content[0]; top.Kind != yaml.ScalarNode || top.ShortTag() != "!!null" {
		v = d.build(src, top)
	}
	if v.kind != yaml.MappingNode {
		v.hide()
		d.fault(&v, "begin with a key such as listen:", "the file must be a mapping, not %s", v.describe())
		d.broken = true
		return v, false
	}
	var second yaml.Node
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
		return v, true
	case err != nil:
		d.syntax(src, err)
		return v, false
	}
	next := d.build(src, second.Content[0])
	next.hide()
	next.line, next.column = second.Line, second.Column
	d.fault(&next, "put it into a file of its own in config.d", "a second document begins here")
	return v, true
}

// notUTF8 returns where a text stops being UTF-8. One that says that it is UTF-16 is YAML, too.
func notUTF8(text string) (at int, is bool) {
	if strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") {
		return 0, false
	}
	for i, r := range text {
		if _, size := utf8.DecodeRuneInString(text[i:]); r == utf8.RuneError && size == 1 {
			return i, true
		}
	}
	return 0, false
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line \d+: )?(.*)$`)

// syntax reports an error of the YAML parser. Of the place, that knows only a line, which is sometimes wrong:
// the fault is rather where the file stops being YAML.
func (d *decoder) syntax(src *source, err error) {
	d.broken, src.torn = true, true
	message := yamlLine.FindStringSubmatch(strings.ReplaceAll(err.Error(), "\n", " "))[1]
	v, hint := value{src: src, line: brokenLine(src.text)}, ""
	if v.line > 0 {
		text, _ := lineOf(src.text, v.line)
		body := strings.TrimLeft(text, " ")
		begin := len(text) - len(body)
		v.column, v.width = 1+begin, utf8.RuneCountInString(strings.TrimSpace(body))
		if strings.HasPrefix(body, "\t") {
			v.width, hint = 1, "indent with spaces, not with tabs"
		} else if colon := strings.LastIndex(text, ": "); colon > begin && strings.Contains(message, "mapping values") {
			v.column, v.width = 1+utf8.RuneCountInString(text[:colon]), 1
			hint = "quote a text that holds a colon and a space"
		}
	}
	if strings.HasPrefix(message, "unknown anchor") {
		message = "unknown anchor" // its name is the text after a star
	}
	d.fault(&v, hint, "this is not YAML: %s", message)
}

// brokenLine returns the line after the longest beginning of a text that is YAML, or 0 if the text is long or is
// no text at all.
func brokenLine(text string) int {
	text = breaks.ReplaceAllString(text, "\n")
	lines := strings.SplitAfter(text, "\n")
	if len(lines) > 1000 || !utf8.ValidString(text) {
		return 0
	}
	n, end := len(lines), len(text)-len(lines[len(lines)-1])
	for ; !isYAML(text[:end]); n-- { // nothing at all is YAML
		end -= len(lines[n-2])
	}
	return n
}

func isYAML(text string) bool {
	dec := yaml.NewDecoder(strings.NewReader(text))
	for {
		var doc yaml.Node
		if err := dec.Decode(&doc); err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}
