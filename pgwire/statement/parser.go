package statement

import (
	"slices"
	"strconv"
	"strings"

	"github.com/fdtserver/fdt/internal/bulk"
)

// maxDepth bounds how deep expressions nest, so that foreign text cannot grow
// the stack.
const maxDepth = 64

// Meter is told, as a text is parsed, how many more bytes of memory the text
// and what was parsed of it may hold. Its error ends the parsing. It is called at least once for
// every few hundred tokens, so that it can tell, too, that the time is up.
type Meter func(bytes int) error

// tokenCost bounds the memory in bytes of what is parsed and planned of one token, besides
// its text: a node of an expression, and its place in a list that grows.
const tokenCost = 256

// metering is after how many bytes the meter is told.
const metering = 64 << 10

// parser holds one token of lookahead.
type parser struct {
	lex   lexer
	tok   token
	err   error // of the lexer, or the meter
	depth int
	meter Meter
	taken int // bytes of which the meter was not told
}

// unsupported is thrown out of the grammar at valid SQL that is not served.
type unsupported struct{ what string }

func (u *unsupported) Error() string { return u.what }

// Parse splits a query text at its semicolons and parses every statement.
// Empty statements are left out; a text of nothing but white space, comments
// and semicolons gives none. As in PostgreSQL, one statement that does not
// parse spoils the whole text. The time that it takes grows with the length of
// the text, and not faster. The error is an *[Error].
func Parse(text string) ([]Statement, error) { return ParseMetered(text, nil) }

// ParseMetered is Parse with a meter, whose error it returns as it is.
func ParseMetered(text string, meter Meter) ([]Statement, error) {
	p := &parser{lex: lexer{src: text}, meter: meter, taken: len(text)}
	list, err := p.all()
	if e, ok := err.(*Error); ok && e.at >= 0 { //nolint:errorlint // made here, never wrapped
		e.Position = Position(text, e.at)
	}
	if err == nil {
		err = p.tell()
	}
	if err != nil {
		return nil, err
	}
	return list, nil
}

// all parses the statements of the text.
func (p *parser) all() ([]Statement, error) {
	p.advance()
	var list []Statement
	for {
		for p.is(";") {
			p.advance()
		}
		if p.tok.kind == tokenEnd {
			return list, p.err
		}
		s, err := p.one()
		if err != nil {
			return nil, err
		}
		list = bulk.Add(list, s)
	}
}

// one parses a statement up to its semicolon or the end.
func (p *parser) one() (Statement, error) {
	s, err := p.statement()
	if err == nil && !p.ended() {
		err = p.syntax()
	}
	if u, ok := err.(*unsupported); ok { //nolint:errorlint // made here, never wrapped
		s, err = Unsupported{What: u.what}, nil
		for !p.ended() {
			p.advance()
		}
	}
	if p.err != nil {
		return nil, p.err
	}
	return s, err
}

func (p *parser) ended() bool { return p.tok.kind == tokenEnd || p.is(";") }

// advance goes on to the next token. Text that holds none ends there, and what
// is wrong with it is the error of the whole.
func (p *parser) advance() {
	t, err := p.lex.next()
	p.taken += tokenCost + len(t.text)
	if err == nil && p.taken >= metering {
		err = p.tell()
	}
	if err != nil && p.err == nil {
		p.err = err
	}
	if p.err != nil {
		t = token{kind: tokenEnd, pos: p.lex.pos}
	}
	p.tok = t
}

// tell tells the meter what was taken.
func (p *parser) tell() error {
	taken := p.taken
	p.taken = 0
	if p.meter == nil {
		return nil
	}
	return p.meter(taken)
}

// syntax is PostgreSQL's complaint about the current token.
func (p *parser) syntax() error {
	if p.err != nil {
		return p.err
	}
	if p.tok.kind == tokenEnd {
		return p.lex.errorf(p.tok.pos, codeSyntax, "syntax error at end of input")
	}
	return p.lex.errorf(p.tok.pos, codeSyntax, `syntax error at or near "%s"`, p.lex.src[p.tok.pos:p.tok.end])
}

// is tells whether the current token is that operator or punctuation.
func (p *parser) is(mark string) bool { return p.tok.kind == tokenMark && p.tok.text == mark }

// word tells whether the current token is one of these keywords.
func (p *parser) word(words ...string) bool {
	return p.tok.kind == tokenWord && slices.Contains(words, p.tok.text)
}

// accept passes over the token if it is one of these keywords or marks.
func (p *parser) accept(texts ...string) bool {
	ok := (p.tok.kind == tokenWord || p.tok.kind == tokenMark) && slices.Contains(texts, p.tok.text)
	if ok {
		p.advance()
	}
	return ok
}

// expect demands keywords or marks, one after the other.
func (p *parser) expect(texts ...string) error {
	for _, text := range texts {
		if !p.accept(text) {
			return p.syntax()
		}
	}
	return nil
}

// name reads an identifier.
func (p *parser) name() (string, error) {
	if p.tok.kind == tokenWord && functionWords[p.tok.text] {
		return "", p.syntax()
	}
	return p.functionName()
}

// functionName reads what may name a function or a type.
func (p *parser) functionName() (string, error) {
	if p.tok.kind != tokenName && (p.tok.kind != tokenWord || reserved(p.tok.text)) {
		return "", p.syntax()
	}
	s := p.tok.text
	p.advance()
	return s, nil
}

// text reads a string constant.
func (p *parser) text() (string, error) {
	if p.tok.kind != tokenString {
		return "", p.syntax()
	}
	s := p.tok.text
	p.advance()
	return s, nil
}

// words are all reserved key words of PostgreSQL (appendix C) that may stand
// where the grammar wants a name.
var words = set(` all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create ` +
	`current_catalog current_date current_role current_time current_timestamp current_user default deferrable desc ` +
	`distinct do else end except false fetch for foreign from grant group having in initially intersect into lateral ` +
	`leading limit localtime localtimestamp not null offset on only or order placing primary references returning ` +
	`select session_user some symmetric table then to trailing true union unique user using variadic when where window with `)

func reserved(word string) bool { return words[word] }

// set is the words of a text.
func set(text string) map[string]bool {
	words := map[string]bool{}
	for word := range strings.FieldsSeq(text) {
		words[word] = true
	}
	return words
}

// functionWords are the key words that may name a function or a type, and
// nothing else.
var functionWords = set(` authorization binary collation concurrently cross current_schema freeze full ilike inner is isnull join left ` +
	`like natural notnull outer overlaps right similar tablesample verbose `)

// statements maps a statement's first keyword to the rest of its grammar.
func (p *parser) statement() (Statement, error) {
	if p.startsQuery() || p.is("(") {
		return p.queryStatement()
	}
	if p.tok.kind != tokenWord {
		return nil, p.syntax()
	}
	first := p.tok.text
	rule, ok := rules(first)
	if !ok {
		if commands[first] {
			return nil, &unsupported{strings.ToUpper(first)}
		}
		return nil, p.syntax()
	}
	p.advance()
	return rule(p)
}

// commands are SQL's other statements: valid, and not for fdt.
var commands = set(` alter analyze analyse checkpoint cluster comment copy create delete do drop execute explain ` +
	`grant import insert listen load lock merge notify reassign refresh reindex revoke security truncate update vacuum `)

func rules(first string) (func(*parser) (Statement, error), bool) {
	switch first {
	case "begin":
		return func(p *parser) (Statement, error) { return p.begin(false) }, true
	case "start":
		return func(p *parser) (Statement, error) { return p.begin(true) }, true
	case "commit", "end":
		return func(p *parser) (Statement, error) { return p.commit(first == "commit") }, true
	case "rollback", "abort":
		return func(p *parser) (Statement, error) { return p.rollback(first == "rollback") }, true
	case "savepoint":
		return (*parser).savepoint, true
	case "release":
		return (*parser).release, true
	case "prepare":
		return (*parser).prepare, true
	case "call":
		return (*parser).call, true
	case "set":
		return (*parser).set, true
	case "show":
		return (*parser).show, true
	case "reset":
		return (*parser).reset, true
	case "discard":
		return (*parser).discard, true
	case "deallocate":
		return (*parser).deallocate, true
	case "unlisten":
		return (*parser).unlisten, true
	case "declare":
		return (*parser).declare, true
	case "fetch", "move":
		return func(p *parser) (Statement, error) { return p.fetch(first == "move") }, true
	case "close":
		return (*parser).closeCursor, true
	}
	return nil, false
}

func (p *parser) begin(start bool) (Statement, error) {
	if start {
		if err := p.expect("transaction"); err != nil {
			return nil, err
		}
	} else {
		p.accept("work", "transaction")
	}
	m, err := p.modes(false)
	return Begin{Start: start, Modes: m}, err
}

// modes reads transaction modes; commas between them may be left out.
func (p *parser) modes(needed bool) (m Modes, err error) {
	for n := 0; ; n++ {
		if n > 0 {
			needed = p.accept(",")
		}
		if p.ended() && !needed {
			return m, nil
		}
		if err := p.mode(&m); err != nil {
			return m, err
		}
	}
}

func (p *parser) mode(m *Modes) error {
	yes, no := true, false
	switch {
	case p.word("isolation"):
		if err := p.expect("isolation", "level"); err != nil {
			return err
		}
		level, err := p.isolation()
		m.Isolation = &level
		return err
	case p.word("read"):
		p.advance()
		m.ReadOnly = &no
		if p.word("only") {
			m.ReadOnly = &yes
			p.advance()
			return nil
		}
		return p.expect("write")
	case p.word("not"):
		m.Deferrable = &no
		return p.expect("not", "deferrable")
	}
	m.Deferrable = &yes
	return p.expect("deferrable")
}

func (p *parser) isolation() (string, error) {
	if p.word("serializable") {
		p.advance()
		return "serializable", nil
	}
	if p.word("repeatable") {
		return "repeatable read", p.expect("repeatable", "read")
	}
	if err := p.expect("read"); err != nil {
		return "", err
	}
	if p.word("committed") {
		p.advance()
		return "read committed", nil
	}
	return "read uncommitted", p.expect("uncommitted")
}

func (p *parser) commit(prepared bool) (Statement, error) {
	if prepared && p.word("prepared") {
		p.advance()
		gid, err := p.text()
		return CommitPrepared{GID: gid}, err
	}
	chain, err := p.chain()
	return Commit{Chain: chain}, err
}

// chain reads [WORK | TRANSACTION] [AND [NO] CHAIN].
func (p *parser) chain() (bool, error) {
	p.accept("work", "transaction")
	return p.andChain()
}

func (p *parser) andChain() (bool, error) {
	if !p.accept("and") {
		return false, nil
	}
	no := p.accept("no")
	return !no, p.expect("chain")
}

func (p *parser) rollback(full bool) (Statement, error) {
	if full && p.word("prepared") {
		p.advance()
		gid, err := p.text()
		return RollbackPrepared{GID: gid}, err
	}
	p.accept("work", "transaction")
	if full && p.word("to") {
		p.advance()
		name, err := p.afterSavepoint()
		return RollbackTo{Name: name}, err
	}
	chain, err := p.andChain()
	return Rollback{Chain: chain}, err
}

// afterSavepoint reads [SAVEPOINT] name; savepoint itself may be the name.
func (p *parser) afterSavepoint() (string, error) {
	if p.word("savepoint") {
		p.advance()
		if p.ended() {
			return "savepoint", nil
		}
	}
	return p.name()
}

func (p *parser) savepoint() (Statement, error) {
	name, err := p.name()
	return Savepoint{Name: name}, err
}

func (p *parser) release() (Statement, error) {
	name, err := p.afterSavepoint()
	return Release{Name: name}, err
}

func (p *parser) prepare() (Statement, error) {
	if !p.word("transaction") {
		if p.tok.kind == tokenWord || p.tok.kind == tokenName {
			return nil, &unsupported{"PREPARE of a statement in SQL"}
		}
		return nil, p.syntax()
	}
	p.advance()
	gid, err := p.text()
	return Prepare{GID: gid}, err
}

func (p *parser) call() (Statement, error) {
	f := &Func{At: p.tok.pos}
	var err error
	if f.Name, err = p.qualified(); err != nil {
		return nil, err
	}
	if !p.is("(") {
		return nil, p.syntax()
	}
	if err = p.callArgs(f); err != nil {
		return nil, err
	}
	if f.Star || f.Distinct || f.OrderBy != nil || f.Filter != nil || f.Over != nil {
		return nil, p.lex.errorf(f.At, "42809", "%s is not an aggregate function", f.Name)
	}
	return Call{Func: *f}, nil
}

// qualified reads a name with an optional schema, of which only pg_catalog
// goes unsaid; fdt has no schemas, and public means none too.
func (p *parser) qualified() (string, error) {
	at := p.tok.pos
	list, err := p.dotted()
	if err != nil {
		return "", err
	}
	return p.unqualified(list, at)
}

// dotted reads the parts of a name.
func (p *parser) dotted() ([]string, error) {
	name, err := p.functionName()
	list := []string{name}
	for err == nil && p.is(".") {
		p.advance()
		name, err = p.label()
		list = append(list, name)
	}
	return list, err
}

// label reads a name that may also be a reserved word, as after a point or AS.
func (p *parser) label() (string, error) {
	if p.tok.kind != tokenName && p.tok.kind != tokenWord {
		return "", p.syntax()
	}
	s := p.tok.text
	p.advance()
	return s, nil
}

// unlisten reads UNLISTEN; nothing can be listened to here.
func (p *parser) unlisten() (Statement, error) {
	if p.accept("*") {
		return Nothing{Tag: "UNLISTEN"}, nil
	}
	_, err := p.name()
	return Nothing{Tag: "UNLISTEN"}, err
}

// number checks that a parameter's number fits the protocol.
func (p *parser) param() (Expr, error) {
	n, err := strconv.Atoi(p.tok.text)
	if err != nil || n < 1 || n > 65535 {
		return nil, p.lex.errorf(p.tok.pos, "42P02", "there is no parameter $%s", p.tok.text)
	}
	at := p.tok.pos
	p.advance()
	return Param{N: n, At: at}, nil
}
