package statement

import "strings"

func (p *parser) set() (Statement, error) {
	local := p.word("local")
	scoped := local || p.word("session")
	if scoped {
		session := !local
		p.advance()
		if session && p.word("characteristics") {
			if err := p.expect("characteristics", "as", "transaction"); err != nil {
				return nil, err
			}
			m, err := p.modes(true)
			return SetTransaction{Session: true, Modes: m}, err
		}
	}
	if p.word("transaction") && !(scoped && !local) {
		p.advance()
		if p.word("snapshot") {
			return nil, &unsupported{"SET TRANSACTION SNAPSHOT"}
		}
		m, err := p.modes(true)
		return SetTransaction{Modes: m}, err
	}
	if p.word("constraints") {
		return nil, &unsupported{"SET CONSTRAINTS"}
	}
	return p.setting(local)
}

// special are the settings that SET, SHOW and RESET also take in words.
func (p *parser) special() (name string, err error) {
	switch {
	case p.word("time"):
		return "timezone", p.expect("time", "zone")
	case p.word("transaction"):
		return "transaction_isolation", p.expect("transaction", "isolation", "level")
	case p.word("session"):
		return "session_authorization", p.expect("session", "authorization")
	}
	name, err = p.name()
	for err == nil && p.is(".") {
		p.advance()
		var part string
		part, err = p.label()
		name += "." + part
	}
	return lower(name), err
}

func (p *parser) setting(local bool) (Statement, error) {
	short := "" // settings that take their value without TO
	switch {
	case p.word("time"):
		short = "timezone"
		if err := p.expect("time", "zone"); err != nil {
			return nil, err
		}
	case p.word("names", "schema", "role", "authorization"):
		short = map[string]string{"names": "client_encoding", "schema": "search_path", "role": "role",
			"authorization": "session_authorization"}[p.tok.text]
		p.advance()
	}
	s := Set{Name: short, Local: local}
	if short == "" {
		name, err := p.special()
		if err != nil {
			return nil, err
		}
		s.Name = name
	}
	if !p.accept("to", "=") && short == "" {
		return nil, p.syntax()
	}
	if short == "client_encoding" && p.ended() { // SET NAMES alone is the default
		return s, nil
	}
	return p.values(s)
}

func (p *parser) values(s Set) (Statement, error) {
	if p.word("default") || p.word("local") && s.Name == "timezone" {
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
	case p.word("interval"):
		return "", &unsupported{"an interval as a time zone"}
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
