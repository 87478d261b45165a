package statement

import "strings"

// query parses what follows SELECT. Whatever is more than fdt serves is
// unsupported, not a syntax error: the whole of SQL's grammar is not here.
func (p *parser) query() (Statement, error) {
	s, err := p.selection()
	if err == nil && !p.ended() {
		return nil, &unsupported{"this query"}
	}
	e, ok := err.(*Error) //nolint:errorlint // made here, never wrapped
	if ok && e.Code == codeSyntax && p.tok.kind != tokenEnd && e.Position == position(p.lex.src, p.tok.pos) {
		return nil, &unsupported{"this query"} // the token is sound, it is the grammar here that ends
	}
	return s, err
}

func (p *parser) selection() (Statement, error) {
	var s Select
	p.accept("all")
	for {
		item, err := p.item()
		if err != nil {
			return nil, err
		}
		s.Items = append(s.Items, item)
		if !p.accept(",") {
			break
		}
	}
	if !p.accept("from") {
		return s, nil
	}
	from, err := p.from()
	if err != nil {
		return nil, err
	}
	s.From = from
	if s.Where, err = p.where(); err != nil {
		return nil, err
	}
	s.OrderBy, err = p.orderBy()
	return s, err
}

func (p *parser) item() (Item, error) {
	if p.is("*") {
		p.advance()
		return Item{}, nil
	}
	e, err := p.expr()
	if err != nil {
		return Item{}, err
	}
	alias, err := p.alias()
	return Item{Expr: e, Alias: alias}, err
}

// alias reads [AS] name.
func (p *parser) alias() (string, error) {
	if p.accept("as") {
		return p.label()
	}
	if p.tok.kind == tokenName || p.tok.kind == tokenWord && !reserved(p.tok.text) {
		return p.label()
	}
	return "", nil
}

func (p *parser) from() (*From, error) {
	pos := position(p.lex.src, p.tok.pos)
	name, err := p.qualified()
	if err != nil {
		return nil, err
	}
	f := &From{Relation: name}
	if p.is("(") {
		args, err := p.args()
		if err != nil {
			return nil, err
		}
		f.Relation, f.Func = "", &Func{Name: name, Args: args, Position: pos}
	}
	f.Alias, err = p.alias()
	return f, err
}

func (p *parser) where() (list []Condition, err error) {
	for ok := p.accept("where"); ok; ok = p.accept("and") {
		c, err := p.condition()
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

func (p *parser) condition() (c Condition, err error) {
	if c.Left, err = p.expr(); err != nil {
		return c, err
	}
	switch {
	case p.is("="), p.is("<>"), p.word("like"):
		c.Op = p.tok.text
	case p.is("!="):
		c.Op = "<>"
	default:
		return c, &unsupported{"this condition"}
	}
	p.advance()
	c.Right, err = p.expr()
	return c, err
}

func (p *parser) orderBy() (list []Order, err error) {
	if !p.word("order") {
		return nil, nil
	}
	if err := p.expect("order", "by"); err != nil {
		return nil, err
	}
	for {
		var o Order
		if o.Column, err = p.name(); err != nil {
			return nil, err
		}
		o.Desc = p.word("desc")
		p.accept("asc", "desc")
		list = append(list, o)
		if !p.accept(",") {
			return list, nil
		}
	}
}

// args reads the arguments of a call in their parentheses.
func (p *parser) args() ([]Arg, error) {
	if err := p.expect("("); err != nil {
		return nil, err
	}
	if p.is(")") {
		p.advance()
		return nil, nil
	}
	var list []Arg
	for {
		start := p.tok.pos
		a, err := p.arg()
		if err != nil {
			return nil, err
		}
		if a.Name == "" && len(list) > 0 && list[len(list)-1].Name != "" {
			return nil, p.lex.errorf(start, codeSyntax, "positional argument cannot follow named argument")
		}
		list = append(list, a)
		if p.accept(",") {
			continue
		}
		if p.tok.kind == tokenMark && !p.is(")") && !p.is(";") {
			return nil, &unsupported{"an operator in an argument"}
		}
		return list, p.expect(")")
	}
}

// arg reads value, or name => value, or the older name := value.
func (p *parser) arg() (Arg, error) {
	if p.word("variadic") {
		return Arg{}, &unsupported{"VARIADIC"}
	}
	if p.tok.kind == tokenName || p.tok.kind == tokenWord {
		before := *p
		name := p.tok.text
		p.advance()
		if p.accept("=>", ":=") {
			v, err := p.expr()
			return Arg{Name: name, Value: v}, err
		}
		*p = before
	}
	v, err := p.expr()
	return Arg{Value: v}, err
}

// expr reads a primary and its casts.
func (p *parser) expr() (Expr, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, p.lex.errorf(p.tok.pos, codeTooComplex, "expressions nest deeper than %d", maxDepth)
	}
	defer func() { p.depth-- }()
	e, err := p.primary()
	for n := 0; err == nil && p.is("::"); n++ {
		if n == maxDepth {
			return nil, p.lex.errorf(p.tok.pos, codeTooComplex, "more than %d casts in a row", maxDepth)
		}
		p.advance()
		var t string
		t, err = p.typeName()
		e = Cast{Of: e, Type: t}
	}
	return e, err
}

func (p *parser) primary() (Expr, error) {
	switch p.tok.kind {
	case tokenString:
		s, err := p.text()
		return Const{Kind: String, Text: s}, err
	case tokenInteger, tokenDecimal:
		return p.number("")
	case tokenParam:
		return p.param()
	case tokenMark:
		return p.marked()
	case tokenWord, tokenName:
		return p.named()
	case tokenEnd:
	}
	return nil, p.syntax()
}

func (p *parser) number(sign string) (Expr, error) {
	c := Const{Kind: Integer, Text: sign + p.tok.text}
	if p.tok.kind == tokenDecimal {
		c.Kind = Decimal
	}
	p.advance()
	return c, nil
}

// marked reads a parenthesis or a signed number. A sign binds looser than a
// cast: -1::int8 is -(1::int8), which for a number is the same.
func (p *parser) marked() (Expr, error) {
	switch {
	case p.is("("):
		p.advance()
		e, err := p.expr()
		if err != nil {
			return nil, err
		}
		if p.tok.kind == tokenMark && !p.is(")") && !p.is(";") {
			return nil, &unsupported{"an operator"}
		}
		return e, p.expect(")")
	case p.is("-"), p.is("+"):
		sign := strings.TrimPrefix(p.tok.text, "+")
		p.advance()
		if p.tok.kind != tokenInteger && p.tok.kind != tokenDecimal {
			return nil, &unsupported{"an operator"}
		}
		return p.number(sign)
	}
	return nil, p.syntax()
}

// named reads what begins with a word: a constant, CAST, a function, a typed
// constant as in int8 '5', or a column.
func (p *parser) named() (Expr, error) {
	if p.tok.kind == tokenWord {
		switch p.tok.text {
		case "null":
			p.advance()
			return Const{Kind: Null}, nil
		case "true", "false":
			c := Const{Kind: Bool, Text: p.tok.text}
			p.advance()
			return c, nil
		case "cast":
			return p.cast()
		case "current_user", "session_user", "user", "current_role", "current_catalog", "current_timestamp":
			f := Func{Name: p.tok.text, Position: position(p.lex.src, p.tok.pos)}
			p.advance()
			return f, nil
		case "array":
			return p.array()
		case "case", "not", "exists", "interval", "row":
			return nil, &unsupported{"an expression with " + strings.ToUpper(p.tok.text)}
		}
		if t, ok, err := p.typed(); ok || err != nil {
			return t, err
		}
	}
	pos := position(p.lex.src, p.tok.pos)
	name, err := p.qualified()
	if err != nil {
		return nil, err
	}
	if p.is("(") {
		args, err := p.funcArgs()
		return Func{Name: name, Args: args, Position: pos}, err
	}
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		name = name[i+1:] // x.gid
	}
	return Column{Name: name}, nil
}

// funcArgs is args, and knows count(*).
func (p *parser) funcArgs() ([]Arg, error) {
	before := *p
	p.advance()
	if p.is("*") {
		p.advance()
		return nil, p.expect(")")
	}
	*p = before
	return p.args()
}

func (p *parser) cast() (Expr, error) {
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
	t, err := p.typeName()
	if err != nil {
		return nil, err
	}
	return Cast{Of: e, Type: t}, p.expect(")")
}

// typed tries type 'text'; if it is none, the parser stands where it stood.
func (p *parser) typed() (Expr, bool, error) {
	before := *p
	t, err := p.typeName()
	if err == nil && p.tok.kind == tokenString {
		s, err := p.text()
		return Cast{Of: Const{Kind: String, Text: s}, Type: t}, true, err
	}
	*p = before
	return nil, false, nil //nolint:nilerr // not a type: something else may fit
}

// array reads ARRAY[…].
func (p *parser) array() (Expr, error) {
	p.advance()
	if !p.is("[") {
		return nil, &unsupported{"an expression with ARRAY"}
	}
	return p.elements()
}

// elements reads the elements of an array in their brackets; those of its rows
// need no ARRAY of their own.
func (p *parser) elements() (Expr, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, p.lex.errorf(p.tok.pos, codeTooComplex, "expressions nest deeper than %d", maxDepth)
	}
	defer func() { p.depth-- }()
	p.advance()
	var a Array
	for !p.is("]") {
		read := p.expr
		if p.is("[") {
			read = p.elements
		}
		e, err := read()
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
	if p.tok.kind == tokenMark && !p.is("]") && !p.is(";") && !p.is(")") {
		return nil, &unsupported{"an operator in an array"}
	}
	return a, p.expect("]")
}

// second are the words that continue a type's name of several words.
var second = map[string][]string{
	"double":    {"precision"},
	"character": {"varying"},
	"char":      {"varying"},
	"bit":       {"varying"},
	"timestamp": {"with time zone", "without time zone"},
	"time":      {"with time zone", "without time zone"},
}

// typeName reads the name of a type; a length or precision is checked for its
// form and forgotten, as no procedure's parameter has one.
func (p *parser) typeName() (string, error) {
	name, err := p.qualified()
	if err != nil {
		return "", err
	}
	if err := p.modifier(); err != nil {
		return "", err
	}
	for _, more := range second[name] {
		ws := strings.Fields(more)
		if !p.word(ws[0]) {
			continue
		}
		if err := p.expect(ws...); err != nil {
			return "", err
		}
		name += " " + more
		if err := p.modifier(); err != nil {
			return "", err
		}
		break
	}
	for p.is("[") {
		p.advance()
		if p.tok.kind == tokenInteger {
			p.advance()
		}
		if err := p.expect("]"); err != nil {
			return "", err
		}
		name = strings.TrimSuffix(name, "[]") + "[]"
	}
	return name, nil
}

// modifier reads (n) or (p, s).
func (p *parser) modifier() error {
	if !p.is("(") {
		return nil
	}
	for first := true; first || p.is(","); first = false {
		p.advance()
		if p.tok.kind != tokenInteger {
			return p.syntax()
		}
		p.advance()
	}
	return p.expect(")")
}
