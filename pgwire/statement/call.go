package statement

import "strings"

// callArgs reads the arguments of a call in their parentheses, of which the
// first is met, and what may follow those of an aggregate.
func (p *parser) callArgs(f *Func) error {
	p.advance() // (
	switch {
	case p.is("*"):
		p.advance()
		f.Star = true
		if err := p.expect(")"); err != nil {
			return err
		}
	case p.is(")"):
		p.advance()
	default:
		f.Distinct = p.accept("distinct")
		if !f.Distinct {
			p.accept("all")
		}
		if err := p.argList(f); err != nil {
			return err
		}
		var err error
		if f.OrderBy, err = p.orderBy(nil); err != nil {
			return err
		}
		if err := p.expect(")"); err != nil {
			return err
		}
	}
	return p.aggregated(f)
}

// argList reads arguments up to what ends them.
func (p *parser) argList(f *Func) error {
	for {
		start := p.tok.pos
		if p.accept("variadic") {
			f.Variadic = true
		}
		a, err := p.arg()
		if err != nil {
			return err
		}
		if a.Name == "" && len(f.Args) > 0 && f.Args[len(f.Args)-1].Name != "" {
			return p.lex.errorf(start, codeSyntax, "positional argument cannot follow named argument")
		}
		if len(f.Args) == MaxArguments {
			return p.lex.errorf(f.At, codeArguments, "cannot pass more than %d arguments to a function", MaxArguments)
		}
		f.Args = append(f.Args, a)
		if f.Variadic || !p.accept(",") {
			return nil
		}
	}
}

// arg reads value, or name => value, or the older name := value.
func (p *parser) arg() (Arg, error) {
	if (p.tok.kind == tokenName || p.tok.kind == tokenWord && !reserved(p.tok.text)) && p.next("=>", ":=") {
		name := p.tok.text
		p.advance()
		p.advance()
		v, err := p.expr()
		return Arg{Name: name, Value: v}, err
	}
	v, err := p.expr()
	return Arg{Value: v}, err
}

// aggregated reads FILTER, WITHIN GROUP and OVER.
func (p *parser) aggregated(f *Func) (err error) {
	if p.word("within") && p.next("group") {
		return &unsupported{"WITHIN GROUP"}
	}
	if p.word("filter") && p.next("(") {
		p.advance()
		p.advance()
		if err = p.expect("where"); err != nil {
			return err
		}
		if f.Filter, err = p.expr(); err != nil {
			return err
		}
		if err = p.expect(")"); err != nil {
			return err
		}
	}
	if !p.word("over") {
		return nil
	}
	p.advance()
	if !p.is("(") {
		return &unsupported{"WINDOW"}
	}
	p.advance()
	f.Over = &Window{}
	if p.word("partition") {
		if err = p.expect("partition", "by"); err != nil {
			return err
		}
		for more := true; more; more = p.accept(",") {
			e, err := p.expr()
			if err != nil {
				return err
			}
			f.Over.Partition = append(f.Over.Partition, e)
		}
	}
	if f.Over.OrderBy, err = p.orderBy(nil); err != nil {
		return err
	}
	if p.word("rows", "range", "groups") {
		return &unsupported{"a window's frame"}
	}
	return p.expect(")")
}

// unqualified joins the parts of a name that stands at a place; of schemas pg_catalog goes unsaid,
// and public, which is the only other.
func (p *parser) unqualified(list []string, at int) (string, error) {
	if len(list) > maxParts {
		return "", p.lex.errorf(at, codeSyntax, "improper qualified name (too many dotted names): %s", strings.Join(list, "."))
	}
	if len(list) > 1 && (list[0] == "pg_catalog" || list[0] == "public") {
		list = list[1:]
	}
	return strings.Join(list, "."), nil
}
