package statement

import (
	"strings"
)

// primary reads a value that is no operator's.
func (p *parser) primary() (Expr, error) {
	at := p.tok.pos
	switch p.tok.kind {
	case tokenString:
		s, err := p.text()
		return Const{Kind: String, Text: s, At: at}, err
	case tokenInteger, tokenDecimal:
		c := Const{Kind: Integer, Text: p.tok.text, At: at}
		if p.tok.kind == tokenDecimal {
			c.Kind = Decimal
		}
		p.advance()
		return c, nil
	case tokenParam:
		return p.param()
	case tokenMark:
		if p.is("(") {
			return p.parenthesized()
		}
	case tokenWord, tokenName:
		return p.named()
	case tokenEnd:
	}
	return nil, p.syntax()
}

// parenthesized reads a query, a row, or an expression.
func (p *parser) parenthesized() (Expr, error) {
	at := p.tok.pos
	p.advance()
	if p.startsQuery() {
		q, err := p.query()
		if err != nil {
			return nil, err
		}
		return Sub{Query: q, At: at}, p.expect(")")
	}
	e, err := p.expr()
	if err != nil {
		return nil, err
	}
	if s, ok := e.(Sub); ok && !s.Array && !s.Exists && p.word("union", "except", "intersect", "order", "limit", "offset", "fetch") {
		q, err := p.sets(s.Query)
		if err == nil {
			s.Query, err = p.tail(q)
		}
		if err != nil {
			return nil, err
		}
		return s, p.expect(")")
	}
	if !p.accept(",") {
		if c, ok := e.(Column); ok { // (t).x is a field
			return p.fieldOf(c)
		}
		return e, p.expect(")")
	}
	rest, err := p.list()
	return Row{Elems: append([]Expr{e}, rest...), At: at}, err
}

// fieldOf closes the parenthesis around a name, and tells a field of it from
// the name alone.
func (p *parser) fieldOf(c Column) (Expr, error) {
	if err := p.expect(")"); err != nil {
		return nil, err
	}
	if !p.is(".") {
		return c, nil
	}
	p.advance()
	f := Field{Of: c, At: p.tok.pos}
	if p.is("*") {
		p.advance()
		return f, nil
	}
	var err error
	f.Name, err = p.label()
	return f, err
}

// constantCalls are the functions that are called without parentheses.
var constantCalls = []string{
	"current_user", "session_user", "user", "current_role", "current_catalog", "current_timestamp", "current_date", "current_time",
	"localtimestamp", "localtime", "current_schema",
}

// named reads what begins with a word.
func (p *parser) named() (Expr, error) {
	at := p.tok.pos
	if p.tok.kind == tokenWord {
		if rule := special(p.tok.text); rule != nil && (reserved(p.tok.text) || p.next("(")) {
			return rule(p, at)
		}
		switch {
		case p.word(constantCalls...) && !p.next("("):
			f := Func{Name: p.tok.text, At: at}
			p.advance()
			if strings.HasSuffix(f.Name, "time") || strings.HasSuffix(f.Name, "timestamp") { // with a precision, which is let pass
				if _, err := p.modifier(); err != nil {
					return nil, err
				}
			}
			return f, nil
		case p.word("interval") && p.ahead(tokenString), p.word("interval") && p.next("("):
			return p.interval()
		}
		if t, ok, err := p.typed(); ok || err != nil {
			return t, err
		}
	}
	list, err := p.columnName()
	if err != nil {
		return nil, err
	}
	if !p.is("(") || list[len(list)-1] == "" {
		return Column{Names: list, At: at}, nil
	}
	name, err := p.unqualified(list, at)
	if err != nil {
		return nil, err
	}
	f := &Func{Name: name, At: at}
	err = p.callArgs(f)
	return *f, err
}

// columnName is dotted, and may end in .*, which is an empty part.
func (p *parser) columnName() ([]string, error) {
	name, err := p.functionName()
	list := []string{name}
	for err == nil && p.is(".") {
		p.advance()
		if p.is("*") {
			p.advance()
			return append(list, ""), nil
		}
		name, err = p.label()
		list = append(list, name)
	}
	return list, err
}

// special are the words that have a grammar of their own.
func special(word string) func(*parser, int) (Expr, error) {
	switch word {
	case "null":
		return func(p *parser, at int) (Expr, error) {
			p.advance()
			return Const{Kind: Null, At: at}, nil
		}
	case "true", "false":
		return func(p *parser, at int) (Expr, error) {
			c := Const{Kind: Bool, Text: p.tok.text, At: at}
			p.advance()
			return c, nil
		}
	case "cast":
		return (*parser).castCall
	case "array":
		return (*parser).array
	case "case":
		return (*parser).caseWhen
	case "exists":
		return (*parser).exists
	case "row":
		return (*parser).row
	case "extract":
		return (*parser).extract
	case "substring":
		return (*parser).substring
	case "trim":
		return (*parser).trim
	case "position":
		return (*parser).position
	case "overlay", "xmlelement", "xmlforest", "xmlparse", "xmlserialize", "xmlroot", "xmlpi", "xmlexists", "normalize", "grouping":
		return func(*parser, int) (Expr, error) { return nil, &unsupported{strings.ToUpper(word)} }
	}
	return nil
}

func (p *parser) castCall(int) (Expr, error) {
	if err := p.expect("cast", "("); err != nil {
		return nil, err
	}
	e, err := p.expr()
	if err != nil {
		return nil, err
	}
	if err := p.expect("as"); err != nil {
		return nil, err
	}
	c := Cast{Of: e, At: p.tok.pos}
	if c.Type, c.Mods, err = p.typeName(); err != nil {
		return nil, err
	}
	return c, p.expect(")")
}

func (p *parser) caseWhen(at int) (Expr, error) {
	p.advance()
	c := Case{At: at}
	var err error
	if !p.word("when") {
		if c.Of, err = p.expr(); err != nil {
			return nil, err
		}
	}
	for p.accept("when") {
		var w When
		if w.If, err = p.expr(); err != nil {
			return nil, err
		}
		if err = p.expect("then"); err != nil {
			return nil, err
		}
		if w.Then, err = p.expr(); err != nil {
			return nil, err
		}
		c.Whens = append(c.Whens, w)
	}
	if c.Whens == nil {
		return nil, p.syntax()
	}
	if p.accept("else") {
		if c.Else, err = p.expr(); err != nil {
			return nil, err
		}
	}
	return c, p.expect("end")
}

func (p *parser) exists(at int) (Expr, error) {
	p.advance()
	p.advance() // (
	q, err := p.query()
	if err != nil {
		return nil, err
	}
	return Sub{Query: q, Exists: true, At: at}, p.expect(")")
}

func (p *parser) row(at int) (Expr, error) {
	p.advance()
	p.advance() // (
	r := Row{At: at}
	if p.accept(")") {
		return r, nil
	}
	var err error
	r.Elems, err = p.list()
	return r, err
}

// extract reads EXTRACT(field FROM source).
func (p *parser) extract(at int) (Expr, error) {
	p.advance()
	p.advance() // (
	if p.tok.kind != tokenWord && p.tok.kind != tokenString && p.tok.kind != tokenName {
		return nil, p.syntax()
	}
	field := Const{Kind: String, Text: p.tok.text, At: p.tok.pos}
	p.advance()
	if err := p.expect("from"); err != nil {
		return nil, err
	}
	e, err := p.expr()
	if err != nil {
		return nil, err
	}
	return Func{Name: "extract", Args: []Arg{{Value: field}, {Value: e}}, At: at}, p.expect(")")
}

// substring reads SUBSTRING(text FROM n FOR n) and SUBSTRING(text, n, n).
func (p *parser) substring(at int) (Expr, error) {
	f := &Func{Name: "substring", At: at}
	p.advance()
	p.advance() // (
	for n := 0; n < 3; n++ {
		e, err := p.expr()
		if err != nil {
			return nil, err
		}
		f.Args = append(f.Args, Arg{Value: e})
		if n == 0 && p.word("for") { // from the first character on
			f.Args = append(f.Args, Arg{Value: Const{Kind: Integer, Text: "1", At: p.tok.pos}})
			n++
		}
		if !p.accept(",", "from", "for") {
			break
		}
	}
	return *f, p.expect(")")
}

// trim reads TRIM([LEADING | TRAILING | BOTH] [characters] FROM text).
func (p *parser) trim(at int) (Expr, error) {
	p.advance()
	p.advance() // (
	f := Func{Name: "btrim", At: at}
	switch {
	case p.accept("both"):
	case p.accept("leading"):
		f.Name = "ltrim"
	case p.accept("trailing"):
		f.Name = "rtrim"
	}
	if p.accept("from") {
		list, err := p.list()
		for _, e := range list {
			f.Args = append(f.Args, Arg{Value: e})
		}
		return f, err
	}
	e, err := p.expr()
	if err != nil {
		return nil, err
	}
	f.Args = []Arg{{Value: e}}
	switch {
	case p.accept("from"):
		of, err := p.expr()
		if err != nil {
			return nil, err
		}
		f.Args = []Arg{{Value: of}, {Value: e}}
	case p.accept(","):
		with, err := p.expr()
		if err != nil {
			return nil, err
		}
		f.Args = append(f.Args, Arg{Value: with})
	}
	return f, p.expect(")")
}

// position reads POSITION(part IN text).
func (p *parser) position(at int) (Expr, error) {
	p.advance()
	p.advance() // (
	part, err := p.binding(bindOther)
	if err != nil {
		return nil, err
	}
	if err := p.expect("in"); err != nil {
		return nil, err
	}
	of, err := p.binding(bindOther)
	if err != nil {
		return nil, err
	}
	return Func{Name: "position", Args: []Arg{{Value: of}, {Value: part}}, At: at}, p.expect(")")
}

// typed tries type 'text'; if it is none, the parser stands where it stood.
func (p *parser) typed() (Expr, bool, error) {
	if !p.next("(", ".", "precision", "varying", "with", "without", "[") && !p.ahead(tokenString) {
		return nil, false, nil
	}
	before := *p
	c := Cast{At: p.tok.pos}
	var err error
	c.Type, c.Mods, err = p.typeName()
	if err == nil && p.tok.kind == tokenString {
		at := p.tok.pos
		s, err := p.text()
		c.Of = Const{Kind: String, Text: s, At: at}
		return c, true, err
	}
	*p = before
	return nil, false, nil //nolint:nilerr // not a type: something else may fit
}

// interval reads INTERVAL 'text' [fields]. A field gives its unit to a number
// that has none; how many fields there are is the text's own affair.
func (p *parser) interval() (Expr, error) {
	c := Cast{Type: "interval", At: p.tok.pos}
	p.advance()
	if _, err := p.modifier(); err != nil {
		return nil, err
	}
	at := p.tok.pos
	s, err := p.text()
	if err != nil {
		return nil, err
	}
	unit := ""
	for p.word("year", "month", "day", "hour", "minute", "second") {
		unit = p.tok.text
		p.advance()
		if _, err := p.modifier(); err != nil {
			return nil, err
		}
		if !p.accept("to") {
			break
		}
	}
	if unit != "" && strings.Trim(s, "+-.0123456789 ") == "" {
		s += " " + unit
	}
	c.Of = Const{Kind: String, Text: s, At: at}
	return c, nil
}

// array reads ARRAY[…] or ARRAY(query).
func (p *parser) array(at int) (Expr, error) {
	p.advance()
	if p.is("(") {
		p.advance()
		q, err := p.query()
		if err != nil {
			return nil, err
		}
		return Sub{Query: q, Array: true, At: at}, p.expect(")")
	}
	if !p.is("[") {
		return nil, p.syntax()
	}
	return p.elements(at)
}

// elements reads the elements of an array in their brackets; those of its rows
// need no ARRAY of their own.
func (p *parser) elements(at int) (Expr, error) {
	done, err := p.nest()
	if err != nil {
		return nil, err
	}
	defer done()
	p.advance()
	a := Array{At: at}
	for !p.is("]") {
		var e Expr
		if p.is("[") {
			e, err = p.elements(p.tok.pos)
		} else {
			e, err = p.expr()
		}
		if err != nil {
			return nil, err
		}
		a.Elems = append(a.Elems, e)
		if !p.is(",") {
			break
		}
		if p.advance(); p.is("]") {
			return nil, p.syntax()
		}
	}
	return a, p.expect("]")
}
