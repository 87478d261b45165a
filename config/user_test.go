package config

import (
	"strings"
	"testing"
)

// TestWithUser: one user comes, changes or goes, and nothing else.
func TestWithUser(t *testing.T) {
	for _, c := range []struct{ about, text, name, verifier, want string }{
		{"into nothing", "", "alice", verifierA, "users:\n  alice: A\n"},
		{"below a comment", "# kept", "alice", verifierA, "# kept\nusers:\n  alice: A\n"},
		{"into no users", "users:\n", "alice", verifierA, "users:\n  alice: A\n"},
		{"into none in braces", "users: {}\n", "alice", verifierA, "users:\n  alice: A\n"},
		{"beside others", "# top\n\nusers:\n  # of the shop\n  bob: B # since May\n# end\n", "alice", verifierA, "# top\n\nusers:\n  # of the shop\n  bob: B # since May\n  alice: A\n# end\n"},
		{"in braces", "users: {bob: 'B'}\n", "alice", verifierA, "users: {bob: 'B', alice: 'A'}\n"},
		{"among other keys", "drain: {idle: 1s} # short\nusers:\n  bob: B\n", "alice", verifierA, "drain: {idle: 1s} # short\nusers:\n  bob: B\n  alice: A\n"},
		{"a number", "users: {}\n", "007", verifierA, "users:\n  \"007\": A\n"},
		{"another password", "users:\n  alice: B # hers\n  bob: B\n", "alice", verifierA, "users:\n  alice: A # hers\n  bob: B\n"},
		{"goes", "users:\n  # hers\n  alice: A\n  # his\n  bob: B\n", "alice", "", "users:\n  # his\n  bob: B\n"},
		{"is gone", "users:\n  bob: B\n", "alice", "", "users:\n  bob: B\n"},
		{"the last goes", "users:\n  alice: A\n", "alice", "", "users: {}\n"},
		{"no YAML", "users: {alice", "alice", verifierA, "users: {alice"},
		{"an alias to nothing that can be written", "users: {a: !!binary x}\n? *a\n", "alice", verifierA, "users: {a: !!binary x}\n? *a\n"},
	} {
		spell := strings.NewReplacer("A", verifierA, "B", strings.Replace(verifierA, "4096", "8192", 1))
		if got, want := WithUser(spell.Replace(c.text), c.name, c.verifier), spell.Replace(c.want); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.about, got, want)
		}
	}
}

// TestUsersOfAnyName: every name that the rule allows is a user's, and a verifier that is wrong tells no name that may be a password.
func TestUsersOfAnyName(t *testing.T) {
	for _, name := range []string{"alice", "a.b", "a@b", "jörg", "yes", "*", "pass=hunter2"} {
		cfg, places, err := ParsePlaced([]Text{{"config.yaml", WithUser("", name, verifierA)}})
		if err != nil || cfg.Users[name].Verifier != verifierA {
			t.Errorf("%s: %v, %v", name, cfg, err)
			continue
		}
		if file, line := places.Written("users." + name); file != "config.yaml" || line != 2 {
			t.Errorf("%s stands at %s:%d", name, file, line)
		}
	}
	_, places, err := ParsePlaced([]Text{{"config.yaml", "users:\n  pass=hunter2: x\nlisten: {a: {address: \"1.2.3.4:5\"}}\n"}})
	if err == nil || strings.Contains(Detail(err), canary) || !strings.Contains(err.Error(), "config.yaml:2:17: users: this is no SCRAM-SHA-256 verifier") {
		t.Error(err)
	}
	if file, _ := places.Written("listen.a.backlog"); file != "" {
		t.Errorf("a default stands in %s", file)
	}
	if file, _ := places.Written("drain"); file != "" {
		t.Errorf("a section of defaults stands in %s", file)
	}
}

func TestCheckUser(t *testing.T) {
	if err := CheckUser("a@b"); err != nil {
		t.Error(err)
	}
	if err := CheckUser("a b"); err == nil || !strings.HasPrefix(err.Error(), `"a b": a user's name has`) {
		t.Error(err)
	}
}
