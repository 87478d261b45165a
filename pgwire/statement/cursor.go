package statement

import (
	"math"
	"strconv"
)

// Cursors, of which the statements are those of PostgreSQL's manual.
type (
	// Declare is DECLARE name CURSOR FOR query.
	Declare struct {
		Name   string
		Binary bool
		Hold   bool // outlives its transaction's commit
		Query  Statement

		Scroll, NoScroll        bool // goes back, or must not
		Insensitive, Asensitive bool // to later changes, of which a cursor here sees none
	}
	// Fetch is FETCH, and for Move MOVE.
	Fetch struct {
		Name  string
		Move  bool
		From  Origin
		Count int64 // of rows, or the row's number; AllRows is ALL
	}
	// Close is CLOSE name; an empty name is ALL.
	Close struct{ Name string }
)

// Origin is from where, and whither, a [Fetch] counts.
type Origin uint8

// The origins of a Fetch; a negative count turns Forward and Backward around.
const (
	Forward Origin = iota
	Backward
	Absolute // from the first row on, or if negative from the last one back
	Relative // one row, from the current one
)

// AllRows is the count of FETCH ALL, as PostgreSQL's FETCH_ALL.
const AllRows = math.MaxInt64

func (Declare) statement() {}
func (Fetch) statement()   {}
func (Close) statement()   {}

func (p *parser) declare() (Statement, error) {
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	d := Declare{Name: name}
	for {
		switch {
		case p.accept("binary"):
			d.Binary = true
			continue
		case p.accept("insensitive"):
			d.Insensitive = true
			continue
		case p.accept("asensitive"):
			d.Asensitive = true
			continue
		case p.accept("scroll"):
			d.Scroll = true
			continue
		case p.accept("no"):
			if err := p.expect("scroll"); err != nil {
				return nil, err
			}
			d.NoScroll = true
			continue
		}
		break
	}
	if err := p.expect("cursor"); err != nil {
		return nil, err
	}
	if d.Hold = p.accept("with"); d.Hold || p.accept("without") {
		if err := p.expect("hold"); err != nil {
			return nil, err
		}
	}
	if err := p.expect("for"); err != nil {
		return nil, err
	}
	d.Query, err = p.queryStatement()
	return d, err
}

// fetch is the rest of FETCH and MOVE.
func (p *parser) fetch(move bool) (Statement, error) {
	f := Fetch{Move: move, Count: 1}
	err := p.direction(&f)
	if err == nil && f.Name == "" {
		_ = p.accept("from", "in")
		f.Name, err = p.name()
	}
	return f, err
}

// direction reads where a FETCH goes, and the cursor's name where that is one of the words by which a direction begins.
func (p *parser) direction(f *Fetch) (err error) {
	if p.counts() {
		f.Count, err = p.count()
		return err
	}
	if !p.word("next", "prior", "first", "last", "absolute", "relative", "forward", "backward", "all") {
		return nil
	}
	word := p.tok.text
	p.advance()
	if p.ended() && word != "all" {
		f.Name = word
		return nil
	}
	switch word {
	case "prior":
		f.From = Backward
	case "first":
		f.From = Absolute
	case "last":
		f.From, f.Count = Absolute, -1
	case "all":
		f.Count = AllRows
	case "absolute", "relative":
		f.From = map[string]Origin{"absolute": Absolute, "relative": Relative}[word]
		f.Count, err = p.count()
	case "forward", "backward":
		f.From = map[string]Origin{"forward": Forward, "backward": Backward}[word]
		if p.counts() {
			f.Count, err = p.count()
		} else if p.accept("all") {
			f.Count = AllRows
		}
	}
	return err
}

// counts tells whether a whole number, which may have a sign, is next.
func (p *parser) counts() bool { return p.is("+") || p.is("-") || p.tok.kind == tokenInteger }

// count reads one. PostgreSQL takes one that does not fit 32 bits for another kind of number.
func (p *parser) count() (int64, error) {
	minus := p.is("-")
	_ = p.accept("+", "-")
	n, err := strconv.ParseInt(p.tok.text, 10, 32)
	if p.tok.kind != tokenInteger || err != nil {
		return 0, p.syntax()
	}
	p.advance()
	if minus {
		n = -n
	}
	return n, nil
}

func (p *parser) closeCursor() (Statement, error) {
	if p.accept("all") {
		return Close{}, nil
	}
	name, err := p.name()
	return Close{Name: name}, err
}
