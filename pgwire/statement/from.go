package statement

// tables reads the list of FROM.
func (p *parser) tables() (list []*Table, err error) {
	for {
		t, err := p.joined()
		if err != nil {
			return nil, err
		}
		list = append(list, t)
		if !p.accept(",") {
			return list, nil
		}
	}
}

// joined reads a table and those that are joined to it.
func (p *parser) joined() (*Table, error) {
	done, err := p.nest()
	if err != nil {
		return nil, err
	}
	defer done()
	left, err := p.table()
	if err != nil {
		return nil, err
	}
	return p.joins(left)
}

// joins reads the joins that follow a table.
func (p *parser) joins(left *Table) (*Table, error) {
	for n := 0; ; n++ {
		j := &Join{Kind: "inner", Left: left, At: p.tok.pos}
		if p.word("natural") {
			j.Natural = true
			p.advance()
		}
		switch {
		case p.word("cross") && !j.Natural:
			j.Kind = "cross"
			p.advance()
		case p.word("left", "right", "full"):
			j.Kind = p.tok.text
			p.advance()
			p.accept("outer")
		case p.word("inner"):
			p.advance()
		case !p.word("join"):
			if j.Natural {
				return nil, p.syntax()
			}
			return left, nil
		}
		if err := p.chained(n, "joins"); err != nil {
			return nil, err
		}
		if err := p.expect("join"); err != nil {
			return nil, err
		}
		if err := p.joinedTo(j); err != nil {
			return nil, err
		}
		left = &Table{Join: j, At: j.At}
	}
}

// joinedTo reads the right side of a join and its condition.
func (p *parser) joinedTo(j *Join) (err error) {
	if j.Right, err = p.table(); err != nil || j.Natural || j.Kind == "cross" {
		return err
	}
	if !p.word("on", "using") { // its right side is a join itself
		done, err := p.nest()
		if err != nil {
			return err
		}
		defer done()
		before := p.tok.pos
		if j.Right, err = p.joins(j.Right); err != nil {
			return err
		}
		if p.tok.pos == before {
			return p.syntax()
		}
	}
	if p.accept("using") {
		if j.Using, err = p.names(); err == nil && p.word("as") {
			return &unsupported{"an alias of USING"}
		}
		return err
	}
	if err = p.expect("on"); err != nil {
		return err
	}
	j.On, err = p.expr()
	return err
}

// table reads one table without joins, but for those in parentheses.
func (p *parser) table() (*Table, error) {
	t := &Table{At: p.tok.pos}
	var err error
	switch {
	case p.is("("):
		if t, err = p.parenthesis(); err != nil {
			return nil, err
		}
	case p.word("lateral") && !p.next("lateral"):
		p.advance()
		if t, err = p.table(); err == nil {
			t.Lateral = true
		}
		return t, err
	case p.word("rows") && p.next("from"):
		return nil, &unsupported{"ROWS FROM"}
	default:
		if p.word("only") {
			p.advance()
		}
		if err := p.tableName(t); err != nil {
			return nil, err
		}
	}
	if p.word("tablesample") {
		return nil, &unsupported{"TABLESAMPLE"}
	}
	return t, p.tableAlias(t)
}

// tableName reads a relation, or a function's call.
func (p *parser) tableName(t *Table) (err error) {
	if p.word(constantCalls...) && !p.next("(") {
		t.Func = &Func{Name: p.tok.text, At: p.tok.pos}
		p.advance()
		return nil
	}
	if t.Name, err = p.dotted(); err != nil {
		return err
	}
	if p.is("*") {
		p.advance()
		return nil
	}
	if !p.is("(") {
		return nil
	}
	name, err := p.unqualified(t.Name, t.At)
	if err != nil {
		return err
	}
	t.Name = nil
	t.Func = &Func{Name: name, At: t.At}
	if err := p.callArgs(t.Func); err != nil {
		return err
	}
	if p.word("with") && p.next("ordinality") {
		p.advance()
		p.advance()
		t.Ordinality = true
	}
	return nil
}

// parenthesis reads a query, or joined tables, in parentheses. How many of
// them open is known only behind the last.
func (p *parser) parenthesis() (*Table, error) {
	done, err := p.nest()
	if err != nil {
		return nil, err
	}
	defer done()
	at := p.tok.pos
	p.advance()
	if p.startsQuery() {
		q, err := p.query()
		if err != nil {
			return nil, err
		}
		return &Table{Query: q, At: at}, p.expect(")")
	}
	if !p.is("(") {
		t, err := p.joined()
		if err != nil {
			return nil, err
		}
		return t, p.expect(")")
	}
	t, err := p.parenthesis()
	if err != nil {
		return nil, err
	}
	switch {
	case t.Query != nil && t.Alias == "" && p.word("union", "except", "intersect", "order", "limit", "offset", "fetch"):
		q, err := p.sets(t.Query)
		if err == nil {
			t.Query, err = p.tail(q)
		}
		if err != nil {
			return nil, err
		}
	case t.Query == nil || !p.is(")"):
		if err := p.tableAlias(t); err != nil {
			return nil, err
		}
		if t, err = p.joins(t); err != nil {
			return nil, err
		}
	}
	return t, p.expect(")")
}

// tableAlias reads [AS] name [(columns)].
func (p *parser) tableAlias(t *Table) (err error) {
	as := p.accept("as")
	if as && p.is("(") && t.Func != nil {
		return p.columnDefs(t)
	}
	switch {
	case as:
		t.Alias, err = p.name()
	case p.tok.kind == tokenName, p.tok.kind == tokenWord && !reserved(p.tok.text) && !functionWord(p.tok.text):
		t.Alias, err = p.name()
	default:
		return nil
	}
	if err != nil || !p.is("(") {
		return err
	}
	if t.Func != nil {
		return p.columnDefs(t)
	}
	t.Columns, err = p.names()
	return err
}

// columnDefs reads the names of a function's columns, and their types where it
// leaves them open.
func (p *parser) columnDefs(t *Table) error {
	p.advance()
	for {
		n, err := p.name()
		if err != nil {
			return err
		}
		t.Columns = append(t.Columns, n)
		if !p.is(",") && !p.is(")") {
			c := Cast{At: p.tok.pos}
			if c.Type, c.Mods, err = p.typeName(); err != nil {
				return err
			}
			t.Types = append(t.Types, c)
		}
		if !p.accept(",") {
			return p.expect(")")
		}
	}
}
