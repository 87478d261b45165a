package statement

import (
	"strconv"
	"strings"
)

// second are the words that continue a type's name of several words.
var second = map[string][]string{
	"double":    {"precision"},
	"character": {"varying"},
	"char":      {"varying"},
	"bit":       {"varying"},
	"timestamp": {"with time zone", "without time zone"},
	"time":      {"with time zone", "without time zone"},
}

// typeName reads the name of a type, with its length, precision or scale.
// Character alone is of one (PostgreSQL's manual, 8.3).
func (p *parser) typeName() (name string, mods []int, err error) {
	if name, err = p.typeBase(); err != nil {
		return "", nil, err
	}
	if mods, err = p.modifier(); err != nil {
		return "", nil, err
	}
	for _, more := range second[name] {
		ws := strings.Fields(more)
		if !p.word(ws[0]) || len(ws) > 1 && !p.next(ws[1]) {
			continue
		}
		if err := p.expect(ws...); err != nil {
			return "", nil, err
		}
		name += " " + more
		if mods == nil {
			mods, err = p.modifier()
		}
		break
	}
	switch {
	case mods == nil && (name == "character" || name == "char"):
		mods = []int{1}
	case name == "float" && len(mods) == 1 && mods[0] >= 1 && mods[0] <= 53: // binary digits
		name = "double precision"
		if mods[0] <= 24 {
			name = "real"
		}
		mods = nil
	}
	for err == nil && p.is("[") {
		p.advance()
		if p.tok.kind == tokenInteger {
			p.advance()
		}
		err = p.expect("]")
		name = strings.TrimSuffix(name, "[]") + "[]"
	}
	return name, mods, err
}

// typeBase reads a type's name. PostgreSQL's "char" is another type than char,
// and keeps its quotes.
func (p *parser) typeBase() (string, error) {
	at, quoted := p.tok.pos, p.tok.kind == tokenName
	name, err := p.functionName()
	list := []string{name}
	for err == nil && p.is(".") {
		p.advance()
		quoted = p.tok.kind == tokenName
		name, err = p.label()
		list = append(list, name)
	}
	if err != nil {
		return "", err
	}
	if last := len(list) - 1; quoted && list[last] == "char" {
		list[last] = `"char"`
	} else if list[last] == "char" && last > 0 { // pg_catalog.char is that one too
		list[last] = `"char"`
	}
	return p.unqualified(list, at)
}

// modifier reads (n) or (p, s); nil if there is none.
func (p *parser) modifier() (mods []int, err error) {
	for next := p.is("("); next; next = p.is(",") {
		p.advance()
		sign := ""
		if p.is("-") {
			sign = "-"
			p.advance()
		}
		if p.tok.kind != tokenInteger {
			return nil, p.syntax()
		}
		n, err := strconv.ParseInt(sign+p.tok.text, 10, 32)
		if err != nil {
			return nil, p.syntax()
		}
		mods = append(mods, int(n))
		p.advance()
	}
	if mods == nil {
		return nil, nil
	}
	return mods, p.expect(")")
}
