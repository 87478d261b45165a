package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// TestEffective: what is shown is a configuration, which means the same as the one it is of, and has every line's origin.
func TestEffective(t *testing.T) {
	for about, texts := range map[string][]Text{
		"nothing":    {{"config.yaml", ""}},
		"nulls":      {{"config.yaml", "workers:\nusers:\nmetrics: {}\n"}},
		"everything": {{"config.yaml", everything}},
		"two files":  {{"config.yaml", "listen: {a: {address: /run/a}}\n"}, {"config.d/b.yaml", "listen: {b: {address: /run/b, auth: trust}}\n"}},
		"odd values": {{"config.yaml", "resources: {o: {type: spool, directory: /o}}\nprocedures:\n  p:\n    parameters: {a: {type: text, default: \"x # y\\nz\"}}\n    steps:\n      - on: o\n        put: |\n          :a\n\n          b\n"}},
	} {
		want, places, err := ParsePlaced(texts)
		if err != nil {
			t.Fatalf("%s: %v", about, err)
		}
		var shown strings.Builder
		for _, s := range places.Effective() {
			text := s.Text
			if s.Value == Hidden {
				secret := places.d.places[s.Path].text
				if name, of := strings.CutPrefix(s.Path, "users."); of {
					secret = want.Users[name].Verifier
				}
				text = strings.TrimSuffix(text, `"`+Hidden+`"`) + fmt.Sprintf("%q", secret)
			}
			shown.WriteString(text + " # " + s.File + "\n")
			if strings.Contains(s.Text, "\n") || (s.File == "") != (s.Line == 0) {
				t.Errorf("%s: %+v", about, s)
			}
		}
		got, err := Parse([]Text{{"shown", strings.ReplaceAll(shown.String(), "group: root ", "#")}}) // the same, for a socket
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v:\n%s\nis\n%+v\nand not\n%+v", about, err, shown.String(), got, want)
		}
	}
}

// TestEffectivePlaces: each line has its place, or none if it is a default, and what may be a secret is hidden.
func TestEffectivePlaces(t *testing.T) {
	_, places, err := ParsePlaced([]Text{
		{"config.yaml", "drain: {idle: 1s}\nresources: {o: {type: spool, directory: /o}, d: {type: postgres, dsn: host=/x}}\nprocedures:\n  p:\n    steps:\n      - {on: o, put: x}\n"},
		{"config.d/a.yaml", "drain:\n  timeout: 1m\nusers: {alice: " + verifierA + "}\nlisten: {l: {address: [/run/l], auth: trust}}\n"},
	})
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]string{}
	for _, s := range places.Effective() {
		lines[s.Path] = fmt.Sprintf("%s|%v|%s:%d", s.Text, s.Value, s.File, s.Line)
	}
	for path, want := range map[string]string{
		"drain":                    "drain:|<nil>|config.yaml:1",
		"drain.idle":               "  idle: 1s|1s|config.yaml:1",
		"drain.timeout":            "  timeout: 1m|1m|config.d/a.yaml:2",
		"drain.generations":        "  generations: 3|3|:0",
		"listen.l.address[0]":      "      - /run/l|/run/l|config.d/a.yaml:4",
		"listen.l.mode":            "    mode: 0660|0660|:0",
		"listen.l.group":           "    group: fdt-client|fdt-client|:0",
		"resources.d.dsn":          "    dsn: \"********\"|********|config.yaml:2",
		"resources.d.pool":         "    pool: 32|32|:0",
		"procedures.p.steps[0].on": "      - on: o|o|config.yaml:6",
		"users.alice":              "  alice: \"********\"|********|config.d/a.yaml:3",
		"metrics":                  "metrics: {}|map[]|:0",
		"workers.count":            "  count: auto|auto|:0",
	} {
		if lines[path] != want {
			t.Errorf("%s is\n%s, not\n%s", path, lines[path], want)
		}
	}
}
