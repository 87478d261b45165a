package query

import (
	"io"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"

	"github.com/fdtserver/fdt/internal/value"
)

// match is LIKE, or ~, and their like.
type match struct {
	of, pattern node
	like        bool
	fold        bool // upper and lower case are alike
	not         bool
	at          int
}

func newMatch(op string, of, pattern node, at int) *match {
	return &match{
		of: of, pattern: pattern, at: at, like: strings.Contains(op, "~~"), fold: strings.HasSuffix(op, "*"), not: strings.HasPrefix(op, "!"),
	}
}

func (*match) typ() *value.Type { return value.Bool }

func (n *match) eval(f *frame) (value.Value, error) {
	v, err := n.of.eval(f)
	if err != nil {
		return v, err
	}
	p, err := n.pattern.eval(f)
	if err != nil || v.Null || p.Null {
		return value.Bool.Null(), err
	}
	if n.like {
		s, pattern := v.Text, p.Text
		if n.fold {
			s, pattern = asciiCase(s, 'A', 'Z'), asciiCase(pattern, 'A', 'Z')
		}
		if err := f.run.step(1 + len(s)/16*(1+len(pattern)/16)); err != nil {
			return v, err
		}
		ok, err := like(s, pattern)
		return boolean(ok != n.not), place(err, n.at)
	}
	re, err := expression(f.run, p.Text, n.fold)
	if err == nil {
		err = re.costs(f.run, v.Text)
	}
	if err != nil {
		return v, place(err, n.at)
	}
	return boolean(re.MatchString(v.Text) != n.not), nil
}

// like matches % and _, and \ before either.
func like(s, p string) (bool, error) {
	back, from := -1, 0 // where the last % was, and what it has to let through
	i, j := 0, 0
	for i < len(s) {
		switch {
		case j < len(p) && p[j] == '%':
			back, from = j, i
			j++
			continue
		case j < len(p) && p[j] == '_':
			_, n := utf8.DecodeRuneInString(s[i:])
			i, j = i+n, j+1
			continue
		case j < len(p):
			k := j
			if p[k] == '\\' {
				if k++; k == len(p) {
					return false, errorf("22025", "LIKE pattern must not end with escape character")
				}
			}
			if p[k] == s[i] {
				i, j = i+1, k+1
				continue
			}
		}
		if back < 0 {
			return false, nil
		}
		_, n := utf8.DecodeRuneInString(s[from:])
		from += n
		i, j = from, back+1
	}
	for j < len(p) && p[j] == '%' {
		j++
	}
	return j == len(p), nil
}

// likeEscape makes a pattern with another escape character one with \.
func likeEscape(_ *Run, args []value.Value) (value.Value, error) {
	p, e := args[0].Text, args[1].Text
	if utf8.RuneCountInString(e) > 1 {
		return args[0], errorf("22025", "invalid escape string").hint("Escape string must be empty or one character.")
	}
	var b strings.Builder
	for i := 0; i < len(p); {
		switch {
		case e != "" && strings.HasPrefix(p[i:], e):
			b.WriteByte('\\')
			if i += len(e); i < len(p) {
				_, n := utf8.DecodeRuneInString(p[i:])
				b.WriteString(p[i : i+n])
				i += n
			}
			continue
		case p[i] == '\\':
			b.WriteString(`\\`)
		default:
			b.WriteByte(p[i])
		}
		i++
	}
	return text(b.String()), nil
}

type expressionKey struct {
	text string
	fold bool
}

// Bounds of a regular expression: its length in bytes, and for one text its
// bytes times the instructions that it is compiled to, as a match cannot be
// stopped.
const (
	maxExpression = 4 << 10
	maxMatch      = 20_000_000
)

// compiled is a regular expression, and how many instructions it has.
type compiled struct {
	*regexp.Regexp
	size int
	next *regexp.Regexp // the first match behind a character
}

// each finds all matches, and hands do their places, as FindStringSubmatchIndex
// returns them. Where one search may read on to the end of the text for every
// match, all of them cost the square of it: so their work is counted as they
// read, and they end when the run is to end.
func (c *compiled) each(r *Run, s string, do func(m []int) error) error {
	for at := 0; at <= len(s); {
		from, re := 0, c.Regexp
		if at > 0 {
			_, n := utf8.DecodeLastRuneInString(s[:at])
			from, re = at-n, c.next
		}
		in := &reader{run: r, rest: s[from:], cost: 1 + c.size/8}
		m := re.FindReaderSubmatchIndex(in)
		if in.err != nil || m == nil {
			return in.err
		}
		if at > 0 { // its own parentheses come after those around it
			m = m[2:]
		}
		for i := range m {
			if m[i] >= 0 {
				m[i] += from
			}
		}
		if err := do(m); err != nil {
			return err
		}
		if at = m[1]; m[0] == m[1] { // go on behind the next character
			_, n := utf8.DecodeRuneInString(s[at:])
			at += max(n, 1)
		}
	}
	return nil
}

// reader hands a text to a search, and ends it with the run.
type reader struct {
	run  *Run
	rest string
	cost int
	err  error
}

func (r *reader) ReadRune() (rune, int, error) {
	if r.err = r.run.step(r.cost); r.err != nil {
		return 0, 0, r.err
	}
	if r.rest == "" {
		return 0, 0, io.EOF
	}
	c, n := utf8.DecodeRuneInString(r.rest)
	r.rest = r.rest[n:]
	return c, n, nil
}

// costs counts the work of matching a text.
func (c *compiled) costs(r *Run, s string) error {
	n := (len(s) + 1) * c.size
	if n > maxMatch {
		return errorf("54001", "a regular expression costs too much for a text of %d bytes", len(s))
	}
	return r.step(1 + n/8)
}

// expression compiles a regular expression, once in a run. Go's matches in
// linear time, and lacks what cannot be: back references and lookahead.
func expression(r *Run, p string, fold bool) (*compiled, error) {
	return once(r, expressionKey{p, fold}, func() (*compiled, error) {
		if len(p) > maxExpression {
			return nil, errorf("54000", "a regular expression may have at most %d bytes here", maxExpression)
		}
		flags := "s"
		if fold {
			flags += "i"
		}
		src := "(?" + flags + ":" + goSyntax(p) + ")"
		tree, err := syntax.Parse(src, syntax.Perl)
		if err != nil {
			return nil, errorf("2201B", "invalid regular expression: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		}
		prog, err := syntax.Compile(tree.Simplify())
		if err != nil {
			return nil, errorf("2201B", "invalid regular expression: %v", err)
		}
		if err := r.Took(2 * 128 * len(prog.Inst)); err != nil {
			return nil, err
		}
		c := &compiled{Regexp: regexp.MustCompile(src), size: len(prog.Inst)} // as it was compiled before
		c.next = regexp.MustCompile(`\A(?s:.)(?s:.*?)(` + src + `)`)
		return c, r.step(len(prog.Inst))
	})
}

// goSyntax writes an expression of PostgreSQL as Go's: what differs are the
// escapes for words' ends, and options in front.
func goSyntax(p string) string {
	p = strings.TrimPrefix(p, "***:")
	if rest, ok := strings.CutPrefix(p, "***="); ok {
		return regexp.QuoteMeta(rest)
	}
	if !strings.ContainsRune(p, '\\') {
		return p
	}
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if p[i] != '\\' || i+1 == len(p) {
			b.WriteByte(p[i])
			continue
		}
		i++
		switch p[i] {
		case 'y', 'm', 'M':
			b.WriteString(`\b`)
		case 'Y':
			b.WriteString(`\B`)
		case 'A':
			b.WriteString(`\A`)
		case 'Z':
			b.WriteString(`\z`)
		default:
			b.WriteByte('\\')
			b.WriteByte(p[i])
		}
	}
	return b.String()
}
