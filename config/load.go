package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
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
// them. Load opens no other file, resolves no name and never waits.
func Load(dir string) (*Config, error) {
	d := new(decoder)
	files, err := Files(dir)
	if err != nil {
		d.faults = append(d.faults, Fault{File: filepath.Join(dir, "config.d"), What: reason(err)})
	}
	d.foreign(filepath.Join(dir, "config.d"))
	root := value{kind: yaml.MappingNode}
	for _, name := range files {
		name = filepath.Join(dir, name)
		text, err := read(name)
		if err != nil {
			d.faults = append(d.faults, Fault{File: name, What: reason(err)})
			continue
		}
		if v, ok := d.parse(&source{name: name, text: text}); ok {
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
	d.section(&root, "", rootFields(cfg))
	d.check(cfg)
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
	return d.faults
}

// foreign reports files of config.d that look like configuration and would be passed over in silence.
func (d *decoder) foreign(dir string) {
	stray, _ := filepath.Glob(filepath.Join(dir, "*.yml")) // the pattern is well-formed unless dir is not
	for _, name := range stray {
		d.faults = append(d.faults, Fault{File: name, What: "only *.yaml is read",
			Hint: "rename it to " + strings.TrimSuffix(filepath.Base(name), ".yml") + ".yaml"})
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

// read returns a regular file's text.
func read(name string) (string, error) {
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
	d.fault(&value{src: src, line: second.Line, column: second.Column}, "put it into a file of its own in config.d",
		"a second document begins here")
	return v, true
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line \d+: )?(.*)$`)

// syntax reports an error of the YAML parser. Of the place, that knows only a line, which is sometimes wrong:
// the fault is rather where the file stops being YAML.
func (d *decoder) syntax(src *source, err error) {
	d.broken = true
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
