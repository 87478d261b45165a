package statement

import (
	"slices"
	"strings"
)

// set reads what follows SET: the modes of a transaction, or a setting, for the session or, behind LOCAL, until the transaction ends.
func (p *parser) set() (Statement, error) {
	local := false
	if p.word("local", "session") && !p.next("to", "=", ".", "authorization", "characteristics") {
		local = p.word("local")
		p.advance()
	}
	switch {
	case p.word("session") && p.next("characteristics"):
		if err := p.expect("session", "characteristics", "as", "transaction"); err != nil {
			return nil, err
		}
		m, err := p.modes(true)
		return SetTransaction{Session: true, Modes: m}, err
	case p.word("transaction") && p.next("snapshot"):
		return nil, &unsupported{"SET TRANSACTION SNAPSHOT"}
	case p.word("transaction") && p.next("isolation", "read", "not", "deferrable"):
		p.advance()
		m, err := p.modes(true)
		return SetTransaction{Modes: m}, err
	case p.word("constraints") && !p.next("to", "=", "."):
		return nil, &unsupported{"SET CONSTRAINTS"}
	}
	return p.setting(local)
}

// next tells whether one of these keywords or marks follows the current token.
func (p *parser) next(texts ...string) bool {
	ahead := *p
	ahead.advance()
	return (ahead.tok.kind == tokenWord || ahead.tok.kind == tokenMark) && slices.Contains(texts, ahead.tok.text)
}

// ahead tells whether a token of the kind follows the current one.
func (p *parser) ahead(k kind) bool {
	ahead := *p
	ahead.advance()
	return ahead.tok.kind == k
}

// special are the settings that SET, SHOW and RESET also take in words.
func (p *parser) special() (name string, err error) {
	switch {
	case p.word("time") && p.next("zone"):
		return "timezone", p.expect("time", "zone")
	case p.word("transaction") && p.next("isolation"):
		return "transaction_isolation", p.expect("transaction", "isolation", "level")
	case p.word("session") && p.next("authorization"):
		return "session_authorization", p.expect("session", "authorization")
	}
	return p.variable()
}

// variable reads the name of a setting, with points in it if it is a client's own.
func (p *parser) variable() (string, error) {
	name, err := p.name()
	list := []string{name}
	for err == nil && p.is(".") {
		p.advance()
		name, err = p.name()
		list = append(list, name)
	}
	return lower(strings.Join(list, ".")), err
}

func (p *parser) setting(local bool) (Statement, error) {
	s := Set{Local: local}
	named := !p.next("to", "=", ".") // else it is a setting of that name
	switch {
	case named && p.word("time"):
		s.Name = "timezone"
		if err := p.expect("time", "zone"); err != nil {
			return nil, err
		}
	case named && p.word("session"):
		s.Name = "session_authorization"
		if err := p.expect("session", "authorization"); err != nil {
			return nil, err
		}
	case named && p.word("names"):
		s.Name = "client_encoding"
		p.advance()
		if p.ended() {
			return s, nil // SET NAMES alone is the default
		}
	case named && p.word("schema", "role"):
		s.Name = map[string]string{"schema": "search_path", "role": "role"}[p.tok.text]
		p.advance()
	default:
		var err error
		if s.Name, err = p.variable(); err != nil {
			return nil, err
		}
		if !p.accept("to", "=") {
			return nil, p.syntax()
		}
		return p.values(s)
	}
	return p.single(s)
}

// single reads the one value of a setting that takes it without TO.
func (p *parser) single(s Set) (Statement, error) {
	switch {
	case p.word("default") && s.Name != "role" && s.Name != "search_path", p.word("local") && s.Name == "timezone":
		p.advance()
		return s, nil
	case p.tok.kind != tokenString && (s.Name == "client_encoding" || s.Name == "search_path"),
		p.word("zone", "local", "time") && s.Name == "timezone",
		p.tok.kind != tokenString && p.tok.kind != tokenWord && p.tok.kind != tokenName && s.Name != "timezone":
		return nil, p.syntax()
	case p.word("interval") && (p.next("(") || p.ahead(tokenString)):
		v, err := p.zoneInterval()
		s.Values = []string{v}
		return s, err
	}
	v, err := p.value()
	s.Values = []string{v}
	return s, err
}

// zoneInterval reads INTERVAL 'text' HOUR TO MINUTE, of which the last field says what a plain number counts, and INTERVAL(0) 'text'. It
// returns what the setting takes for that.
func (p *parser) zoneInterval() (string, error) {
	p.advance()
	precision := p.accept("(")
	if precision {
		if p.tok.kind != tokenInteger {
			return "", p.syntax()
		}
		p.advance()
		if err := p.expect(")"); err != nil {
			return "", err
		}
	}
	text, err := p.text()
	v := "INTERVAL '" + text + "'"
	if err != nil || precision || p.ended() {
		return v, err
	}
	first := p.tok
	last := p.tok.text
	if !p.accept("year", "month", "day", "hour", "minute", "second") {
		return "", p.syntax()
	}
	if p.accept("to") {
		if last = p.tok.text; !p.accept("month", "hour", "minute", "second") {
			return "", p.syntax()
		}
	}
	if first.text != "hour" && first.text != "minute" || last != "hour" && last != "minute" {
		return "", p.lex.errorf(first.pos, codeSyntax, "time zone interval must be HOUR or HOUR TO MINUTE")
	}
	return v + " " + strings.ToUpper(last), nil
}

func (p *parser) values(s Set) (Statement, error) {
	if p.word("default") {
		p.advance()
		return s, nil
	}
	for {
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		s.Values = append(s.Values, v)
		if !p.accept(",") {
			return s, nil
		}
	}
}

// value reads one value of a setting: a word, a string or a signed number.
func (p *parser) value() (string, error) {
	sign := ""
	switch {
	case p.is("-"), p.is("+"):
		sign = strings.TrimPrefix(p.tok.text, "+")
		p.advance()
		if p.tok.kind != tokenInteger && p.tok.kind != tokenDecimal {
			return "", p.syntax()
		}
	case p.tok.kind == tokenWord && reserved(p.tok.text) && !p.word("true", "false", "on"):
		return "", p.syntax()
	case p.tok.kind == tokenEnd, p.tok.kind == tokenMark, p.tok.kind == tokenParam:
		return "", p.syntax()
	}
	v := sign + p.tok.text
	p.advance()
	return v, nil
}

func (p *parser) show() (Statement, error) {
	if p.word("all") {
		p.advance()
		return Show{Name: "all"}, nil
	}
	name, err := p.special()
	return Show{Name: name}, err
}

func (p *parser) reset() (Statement, error) {
	if p.word("all") {
		p.advance()
		return Reset{Name: "all"}, nil
	}
	name, err := p.special()
	return Reset{Name: name}, err
}

func (p *parser) discard() (Statement, error) {
	if !p.word("all", "plans", "sequences", "temp", "temporary") {
		return nil, p.syntax()
	}
	what := strings.TrimSuffix(p.tok.text, "orary")
	p.advance()
	return Discard{What: what}, nil
}

func (p *parser) deallocate() (Statement, error) {
	if p.word("prepare") {
		p.advance()
		if p.ended() {
			return Deallocate{Name: "prepare"}, nil
		}
	}
	if p.word("all") {
		p.advance()
		return Deallocate{}, nil
	}
	name, err := p.name()
	return Deallocate{Name: name}, err
}
