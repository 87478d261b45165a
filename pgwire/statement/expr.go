package statement

import (
	"slices"
	"strings"
)

// How close operators bind, as PostgreSQL's manual has it under "Operator
// Precedence"; those that are not here are as other.
const (
	bindOr = iota + 1
	bindAnd
	bindNot
	bindIs
	bindComparison
	bindBetween
	bindOther
	bindPlus
	bindTimes
	bindPower
	bindAt
	bindCollate
	bindSign
)

// expr reads an expression.
func (p *parser) expr() (Expr, error) {
	done, err := p.nest()
	if err != nil {
		return nil, err
	}
	defer done()
	return p.binding(bindOr)
}

// binding reads an expression of operators that bind at least so close.
func (p *parser) binding(least int) (Expr, error) {
	e, err := p.operand(least)
	for n := 0; err == nil; n++ {
		var next Expr
		if next, err = p.operator(e, least); next == nil {
			return e, err
		}
		if err == nil {
			err = p.chained(n, "operators")
		}
		e = next
	}
	return nil, err
}

// operand reads what begins an expression: an operator in front, or a value.
func (p *parser) operand(least int) (Expr, error) {
	at := p.tok.pos
	switch {
	case p.word("not") && least <= bindNot:
		done, err := p.nest()
		if err != nil {
			return nil, err
		}
		defer done()
		p.advance()
		e, err := p.binding(bindNot)
		return Not{Of: e, At: at}, err
	case p.tok.kind == tokenMark && operatorMark(p.tok.text):
		return p.prefix(at)
	case p.word("operator") && p.next("("):
		done, err := p.nest()
		if err != nil {
			return nil, err
		}
		defer done()
		name, err := p.operatorName()
		if err != nil {
			return nil, err
		}
		e, err := p.binding(bindOther)
		return Op{Name: name, Right: e, At: at}, err
	}
	return p.postfixed()
}

// prefix reads an operator that stands in front, with its operand. The sign of
// a number is the number's.
func (p *parser) prefix(at int) (Expr, error) {
	done, err := p.nest()
	if err != nil {
		return nil, err
	}
	defer done()
	name := p.tok.text
	if _, infix := comparisons[name]; infix || name == "*" || name == "/" || name == "%" || name == "^" {
		return nil, p.syntax()
	}
	p.advance()
	if name != "+" && name != "-" {
		e, err := p.binding(bindOther)
		return Op{Name: name, Right: e, At: at}, err
	}
	e, err := p.binding(bindSign)
	if err != nil {
		return nil, err
	}
	if c, ok := e.(Const); ok && (c.Kind == Integer || c.Kind == Decimal) && !strings.HasPrefix(c.Text, "-") {
		if name == "-" {
			c.Text = "-" + c.Text
		}
		c.At = at
		return c, nil
	}
	return Op{Name: name, Right: e, At: at}, nil
}

// comparisons are the operators that bind as comparisons do.
var comparisons = map[string]bool{"<": true, ">": true, "=": true, "<=": true, ">=": true, "<>": true}

// operatorMark tells whether a mark is an operator, and no punctuation.
func operatorMark(s string) bool { return s != "" && strings.Trim(s, operatorChars) == "" && s != "=>" }

// bindsAt tells how close a mark binds.
func bindsAt(name string) int {
	switch name {
	case "+", "-":
		return bindPlus
	case "*", "/", "%":
		return bindTimes
	case "^":
		return bindPower
	}
	if comparisons[name] {
		return bindComparison
	}
	return bindOther
}

// operator reads an operator behind an expression, with what follows it; nil
// if there is none that binds as close.
func (p *parser) operator(left Expr, least int) (Expr, error) {
	at := p.tok.pos
	if p.tok.kind == tokenMark {
		if !operatorMark(p.tok.text) {
			return nil, nil
		}
		name := p.tok.text
		bind := bindsAt(name)
		if bind < least {
			return nil, nil
		}
		p.advance()
		return p.right(left, name, bind, at)
	}
	if p.tok.kind != tokenWord {
		return nil, nil
	}
	switch p.tok.text {
	case "or", "and":
		return p.logic(left, least, at)
	case "is", "isnull", "notnull":
		if least > bindIs || p.word("is") && !p.next("not", "null", "true", "false", "unknown", "distinct", "document", "normalized") {
			return nil, nil // it may be a column's name
		}
		return p.is3(left, at)
	case "not", "between", "in", "like", "ilike", "similar":
		if least > bindBetween || p.word("not") && !p.next("between", "in", "like", "ilike", "similar") {
			return nil, nil
		}
		return p.between(left, at)
	case "operator":
		if least > bindOther || !p.next("(") {
			return nil, nil
		}
		name, err := p.operatorName()
		if err != nil {
			return nil, err
		}
		return p.right(left, name, bindOther, at)
	case "at":
		if least > bindAt || !p.next("time") {
			return nil, nil
		}
		if err := p.expect("at", "time", "zone"); err != nil {
			return nil, err
		}
		zone, err := p.binding(bindAt + 1)
		return Func{Name: "timezone", Args: []Arg{{Value: zone}, {Value: left}}, At: at}, err
	case "collate":
		if least > bindCollate {
			return nil, nil
		}
		p.advance()
		name, err := p.qualified()
		if err == nil && !slices.Contains([]string{"default", "C", "POSIX", "ucs_basic"}, name) {
			err = p.lex.errorf(at, "42704", "collation %q for encoding \"UTF8\" does not exist", name)
		}
		return Collate{Of: left}, err
	}
	return nil, nil
}

// right reads the right side of an operator: ANY, ALL or an expression.
func (p *parser) right(left Expr, name string, bind, at int) (Expr, error) {
	if name == "!=" {
		name = "<>"
	}
	if p.word("any", "some", "all") && p.next("(") {
		a := Any{Left: left, Op: name, All: p.word("all"), At: at}
		p.advance()
		p.advance()
		var err error
		if p.startsQuery() {
			a.Query, err = p.query()
		} else {
			a.Array, err = p.expr()
		}
		if s, ok := a.Array.(Sub); ok && !s.Array && !s.Exists {
			a.Array, a.Query = nil, s.Query
		}
		if err != nil {
			return nil, err
		}
		return a, p.expect(")")
	}
	e, err := p.binding(bind + 1)
	if err == nil && bind == bindComparison && p.tok.kind == tokenMark && comparisons[p.tok.text] {
		err = p.syntax() // they do not associate
	}
	return Op{Name: name, Left: left, Right: e, At: at}, err
}

// operatorName reads OPERATOR(schema.op), of which the parenthesis is met.
func (p *parser) operatorName() (string, error) {
	p.advance()
	p.advance() // (
	for p.tok.kind == tokenWord || p.tok.kind == tokenName {
		p.advance()
		if err := p.expect("."); err != nil {
			return "", err
		}
	}
	if p.tok.kind != tokenMark || !operatorMark(p.tok.text) {
		return "", p.syntax()
	}
	name := p.tok.text
	p.advance()
	return name, p.expect(")")
}

// logic reads all that AND, or OR, joins to an expression, as one.
func (p *parser) logic(left Expr, least, at int) (Expr, error) {
	word, bind := p.tok.text, bindAnd
	if word == "or" {
		bind = bindOr
	}
	if bind < least {
		return nil, nil
	}
	l := Logic{Or: word == "or", Args: []Expr{left}, At: at}
	for p.accept(word) {
		e, err := p.binding(bind + 1)
		if err != nil {
			return nil, err
		}
		l.Args = append(l.Args, e)
	}
	return l, nil
}

// is3 reads IS and what it asks.
func (p *parser) is3(left Expr, at int) (Expr, error) {
	if p.word("isnull", "notnull") {
		e := Is{Of: left, What: "null", Not: p.word("notnull"), At: at}
		p.advance()
		return e, nil
	}
	p.advance()
	not := p.accept("not")
	switch {
	case p.word("null", "true", "false", "unknown"):
		e := Is{Of: left, What: p.tok.text, Not: not, At: at}
		p.advance()
		return e, nil
	case p.word("distinct"):
		if err := p.expect("distinct", "from"); err != nil {
			return nil, err
		}
		e, err := p.binding(bindIs + 1)
		return DistinctFrom{Left: left, Right: e, Not: not, At: at}, err
	case p.word("document", "normalized", "of"):
		return nil, &unsupported{"IS " + strings.ToUpper(p.tok.text)}
	}
	return nil, p.syntax()
}

// between reads [NOT] BETWEEN, IN and LIKE.
func (p *parser) between(left Expr, at int) (Expr, error) {
	not := p.accept("not")
	word := p.tok.text
	p.advance()
	switch word {
	case "between":
		b := Between{Of: left, Not: not, At: at, Symmetric: p.accept("symmetric")}
		p.accept("asymmetric")
		var err error
		if b.Low, err = p.binding(bindOther); err == nil {
			if err = p.expect("and"); err == nil {
				b.High, err = p.binding(bindOther)
			}
		}
		return b, err
	case "in":
		return p.in(left, not, at)
	case "similar":
		return nil, &unsupported{"SIMILAR TO"}
	}
	op := map[string]string{"like": "~~", "ilike": "~~*"}[word]
	if not {
		op = "!" + op
	}
	if p.word("any", "some", "all") && p.next("(") {
		return p.right(left, op, bindBetween, at)
	}
	e, err := p.binding(bindOther)
	if err == nil && p.accept("escape") {
		var with Expr
		with, err = p.binding(bindOther)
		e = Func{Name: "like_escape", Args: []Arg{{Value: e}, {Value: with}}, At: at}
	}
	return Op{Name: op, Left: left, Right: e, At: at}, err
}

func (p *parser) in(left Expr, not bool, at int) (Expr, error) {
	i := In{Of: left, Not: not, At: at}
	if err := p.expect("("); err != nil {
		return nil, err
	}
	var err error
	if p.startsQuery() {
		if i.Query, err = p.query(); err != nil {
			return nil, err
		}
		return i, p.expect(")")
	}
	if i.List, err = p.list(); err != nil {
		return nil, err
	}
	if s, ok := i.List[0].(Sub); ok && len(i.List) == 1 && !s.Array && !s.Exists {
		i.List, i.Query = nil, s.Query
	}
	return i, nil
}

// postfixed reads a value with its casts, subscripts and fields.
func (p *parser) postfixed() (Expr, error) {
	loose := p.is("(") || p.tok.kind == tokenParam // what an array's element and a field may be taken of
	e, err := p.primary()
	if _, ok := e.(Column); ok {
		loose = true
	}
	for n := 0; err == nil; n++ {
		at := p.tok.pos
		switch {
		case p.is("::"):
			p.advance()
			c := Cast{Of: e, At: p.tok.pos}
			c.Type, c.Mods, err = p.typeName()
			e, loose = c, false
		case p.is("[") && loose:
			e, err = p.subscript(e, at)
		case p.is(".") && loose:
			p.advance()
			f := Field{Of: e, At: p.tok.pos}
			if p.is("*") {
				p.advance()
			} else {
				f.Name, err = p.label()
			}
			e = f
		default:
			return e, nil
		}
		if err == nil && n >= maxDepth {
			err = p.lex.errorf(at, codeTooComplex, "more than %d casts in a row", maxDepth)
		}
	}
	return nil, err
}

func (p *parser) subscript(of Expr, at int) (Expr, error) {
	p.advance()
	i := Index{Of: of, At: at}
	var err error
	if !p.is(":") {
		if i.Low, err = p.expr(); err != nil {
			return nil, err
		}
	}
	if p.is(":") {
		i.Slice = true
		p.advance()
		if !p.is("]") {
			if i.Top, err = p.expr(); err != nil {
				return nil, err
			}
		}
	}
	return i, p.expect("]")
}
