package statement

import (
	"strings"
)

// maxChain bounds how many operators, casts, joins or other things that nest
// to the left follow each other.
const maxChain = 500

// nest counts a level of nesting, as long as what it returns is not called.
func (p *parser) nest() (func(), error) {
	p.depth++
	if p.depth > maxDepth {
		p.depth--
		return nil, p.lex.errorf(p.tok.pos, codeTooComplex, "expressions nest deeper than %d", maxDepth)
	}
	return func() { p.depth-- }, nil
}

// chained refuses the nth of a chain.
func (p *parser) chained(n int, what string) error {
	if n >= maxChain {
		return p.lex.errorf(p.tok.pos, codeTooComplex, "more than %d %s in a row", maxChain, what)
	}
	return nil
}

// queryStatement parses a whole query.
func (p *parser) queryStatement() (Statement, error) {
	s, err := p.query()
	if err != nil {
		return nil, err
	}
	return s, nil
}

// startsQuery tells whether a query begins here, but for parentheses.
func (p *parser) startsQuery() bool { return p.word("select", "values", "with", "table") }

// query reads a query with its WITH, ORDER BY and limits.
func (p *parser) query() (*Select, error) {
	done, err := p.nest()
	if err != nil {
		return nil, err
	}
	defer done()
	var with []CTE
	recursive := false
	if p.accept("with") {
		recursive = p.accept("recursive")
		if with, err = p.with(); err != nil {
			return nil, err
		}
	}
	first, err := p.simple()
	if err != nil {
		return nil, err
	}
	s, err := p.sets(first)
	if err != nil {
		return nil, err
	}
	if s, err = p.tail(s); err == nil && with != nil {
		if s.With != nil {
			s = &Select{Terms: []Term{{Query: s}}}
		}
		s.With, s.Recursive = with, recursive
	}
	return s, err
}

// closed tells whether a query has an end of its own already.
func (s *Select) closed() bool { return s.OrderBy != nil || s.Limit != nil || s.Offset != nil }

// tail reads what may stand behind a query's body.
func (p *parser) tail(s *Select) (*Select, error) {
	if s.closed() && p.word("order", "limit", "offset", "fetch") { // its own stands in parentheses
		s = &Select{Terms: []Term{{Query: s}}}
	}
	var err error
	if s.OrderBy, err = p.orderBy(s.OrderBy); err != nil {
		return nil, err
	}
	for {
		switch {
		case p.word("limit") && s.Limit == nil:
			p.advance()
			if p.accept("all") {
				s.Limit = Const{Kind: Null}
				continue
			}
			s.Limit, err = p.expr()
		case p.word("offset") && s.Offset == nil:
			p.advance()
			s.Offset, err = p.expr()
			p.accept("row", "rows")
		case p.word("fetch") && s.Limit == nil:
			s.Limit, err = p.fetchFirst()
		case p.word("for"):
			return nil, &unsupported{"FOR UPDATE and its like"}
		default:
			return s, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// fetchFirst reads FETCH FIRST n ROWS ONLY.
func (p *parser) fetchFirst() (limit Expr, err error) {
	p.advance()
	if !p.accept("first", "next") {
		return nil, p.syntax()
	}
	limit = Const{Kind: Integer, Text: "1"}
	if !p.word("row", "rows") {
		if limit, err = p.primary(); err != nil {
			return nil, err
		}
	}
	if !p.accept("row", "rows") {
		return nil, p.syntax()
	}
	if p.word("with") {
		return nil, &unsupported{"FETCH … WITH TIES"}
	}
	return limit, p.expect("only")
}

func (p *parser) with() (list []CTE, err error) {
	for {
		var c CTE
		if c.Name, err = p.name(); err != nil {
			return nil, err
		}
		if p.is("(") {
			if c.Columns, err = p.names(); err != nil {
				return nil, err
			}
		}
		if err = p.expect("as"); err != nil {
			return nil, err
		}
		if p.word("not") {
			p.advance()
		}
		p.accept("materialized")
		if err = p.expect("("); err != nil {
			return nil, err
		}
		if p.word("insert", "update", "delete", "merge") {
			return nil, &unsupported{"WITH of a statement that writes"}
		}
		if c.Query, err = p.query(); err != nil {
			return nil, err
		}
		if err = p.expect(")"); err != nil {
			return nil, err
		}
		list = append(list, c)
		if !p.accept(",") {
			if p.word("insert", "update", "delete", "merge") {
				return nil, &unsupported{strings.ToUpper(p.tok.text)}
			}
			return list, nil
		}
	}
}

// names reads a list of names in parentheses.
func (p *parser) names() (list []string, err error) {
	if err := p.expect("("); err != nil {
		return nil, err
	}
	for {
		n, err := p.name()
		if err != nil {
			return nil, err
		}
		if len(list) == MaxColumns {
			return nil, p.lex.errorf(-1, codeColumns, "target lists can have at most %d entries", MaxColumns)
		}
		list = append(list, n)
		if !p.accept(",") {
			return list, p.expect(")")
		}
	}
}

// sets reads what UNION, EXCEPT and INTERSECT join to a first query.
func (p *parser) sets(first *Select) (*Select, error) {
	first, err := p.intersected(first)
	if err != nil || !p.word("union", "except") {
		return first, err
	}
	s := &Select{Terms: []Term{{Query: first}}}
	for p.word("union", "except") {
		t := Term{Op: p.tok.text}
		p.advance()
		t.All = p.accept("all")
		if !t.All {
			p.accept("distinct")
		}
		q, err := p.simple()
		if err == nil {
			t.Query, err = p.intersected(q)
		}
		if err != nil {
			return nil, err
		}
		s.Terms = append(s.Terms, t)
	}
	return s, nil
}

// intersected reads the INTERSECTs, which bind closer.
func (p *parser) intersected(first *Select) (*Select, error) {
	if !p.word("intersect") {
		return first, nil
	}
	s := &Select{Terms: []Term{{Query: first}}}
	for p.word("intersect") {
		t := Term{Op: p.tok.text}
		p.advance()
		t.All = p.accept("all")
		if !t.All {
			p.accept("distinct")
		}
		var err error
		if t.Query, err = p.simple(); err != nil {
			return nil, err
		}
		s.Terms = append(s.Terms, t)
	}
	return s, nil
}

// simple reads SELECT, VALUES, TABLE, or a query in parentheses.
func (p *parser) simple() (*Select, error) {
	switch {
	case p.is("("):
		p.advance()
		s, err := p.query()
		if err != nil {
			return nil, err
		}
		return s, p.expect(")")
	case p.accept("values"):
		return p.valuesList()
	case p.accept("table"):
		t := &Table{At: p.tok.pos}
		var err error
		t.Name, err = p.dotted()
		return &Select{Items: []Item{{}}, From: []*Table{t}}, err
	case p.accept("select"):
		return p.selection()
	}
	return nil, p.syntax()
}

func (p *parser) valuesList() (*Select, error) {
	var s Select
	for {
		at := p.tok.pos
		if err := p.expect("("); err != nil {
			return nil, err
		}
		row, err := p.list()
		if err != nil {
			return nil, err
		}
		if len(s.Values) > 0 && len(s.Values[0]) != len(row) {
			return nil, p.lex.errorf(at+1, codeSyntax, "VALUES lists must all be the same length")
		}
		s.Values = append(s.Values, row)
		if !p.accept(",") {
			return &s, nil
		}
	}
}

// list reads expressions up to a closing parenthesis.
func (p *parser) list() (list []Expr, err error) {
	for {
		e, err := p.expr()
		if err != nil {
			return nil, err
		}
		list = append(list, e)
		if !p.accept(",") {
			return list, p.expect(")")
		}
	}
}

// selection reads what follows SELECT.
func (p *parser) selection() (*Select, error) {
	var s Select
	var err error
	switch {
	case p.accept("all"):
	case p.accept("distinct"):
		s.Distinct = true
		if p.accept("on") {
			if err := p.expect("("); err != nil {
				return nil, err
			}
			if s.On, err = p.list(); err != nil {
				return nil, err
			}
		}
	}
	if s.Items, err = p.items(); err != nil {
		return nil, err
	}
	if p.word("into") {
		return nil, &unsupported{"SELECT INTO"}
	}
	if p.accept("from") {
		if s.From, err = p.tables(); err != nil {
			return nil, err
		}
	}
	if p.accept("where") {
		if s.Where, err = p.expr(); err != nil {
			return nil, err
		}
	}
	if p.word("group") {
		if s.GroupBy, err = p.groupBy(); err != nil {
			return nil, err
		}
	}
	if p.accept("having") {
		if s.Having, err = p.expr(); err != nil {
			return nil, err
		}
	}
	if p.word("window") {
		return nil, &unsupported{"WINDOW"}
	}
	return &s, nil
}

// items reads the columns of a query; there may be none.
func (p *parser) items() (list []Item, err error) {
	if p.ended() || p.is(")") || p.word("from", "where", "group", "having", "union", "except", "intersect", "order", "limit", "offset", "into") {
		return nil, nil
	}
	for {
		item, err := p.item()
		if err != nil {
			return nil, err
		}
		if len(list) == MaxColumns {
			return nil, p.lex.errorf(-1, codeColumns, "target lists can have at most %d entries", MaxColumns)
		}
		list = append(list, item)
		if !p.accept(",") {
			return list, nil
		}
	}
}

func (p *parser) groupBy() ([]Expr, error) {
	if err := p.expect("group", "by"); err != nil {
		return nil, err
	}
	p.accept("all", "distinct")
	var list []Expr
	for {
		if p.word("rollup", "cube") && p.next("(") || p.word("grouping") && p.next("sets") {
			return nil, &unsupported{"grouping sets"}
		}
		e, err := p.expr()
		if err != nil {
			return nil, err
		}
		list = append(list, e)
		if !p.accept(",") {
			return list, nil
		}
	}
}

func (p *parser) item() (Item, error) {
	if p.is("*") {
		i := Item{At: p.tok.pos}
		p.advance()
		return i, nil
	}
	e, err := p.expr()
	if err != nil {
		return Item{}, err
	}
	if c, ok := e.(Column); ok && c.Names[len(c.Names)-1] == "" { // t.*
		return Item{Table: c.Names[:len(c.Names)-1], At: c.At}, nil
	}
	alias, err := p.alias()
	return Item{Expr: e, Alias: alias}, err
}

// neverBare are the key words that name a column only behind AS.
var neverBare = set(` array as char character create day except fetch filter for from grant group having hour intersect into isnull limit ` +
	`minute month notnull offset on order over overlaps precision returning second to union varying where window with within without year `)

// alias reads [AS] name.
func (p *parser) alias() (string, error) {
	if p.accept("as") {
		return p.label()
	}
	if p.tok.kind == tokenName || p.tok.kind == tokenWord && !neverBare[p.tok.text] {
		return p.label()
	}
	return "", nil
}

func functionWord(word string) bool { return functionWords[word] }

// orderBy reads ORDER BY, if it is there; else it is what it was.
func (p *parser) orderBy(before []Order) (list []Order, err error) {
	if !p.word("order") {
		return before, nil
	}
	if err := p.expect("order", "by"); err != nil {
		return nil, err
	}
	for {
		var o Order
		if o.Expr, err = p.expr(); err != nil {
			return nil, err
		}
		if p.word("using") {
			return nil, &unsupported{"ORDER BY … USING"}
		}
		o.Desc = p.word("desc")
		p.accept("asc", "desc")
		if p.accept("nulls") {
			first := p.word("first")
			if !p.accept("first", "last") {
				return nil, p.syntax()
			}
			o.NullsFirst = &first
		}
		list = append(list, o)
		if !p.accept(",") {
			return list, nil
		}
	}
}
