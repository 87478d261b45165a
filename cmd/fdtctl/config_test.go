package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/scram"
)

// TestConfigShow: every line has its origin, secrets are hidden, and what is shown is a configuration.
func TestConfigShow(t *testing.T) {
	verifier := scram.New("x").String()
	etc := etcOf(t, "config.yaml", "drain: {idle: 1s}\nresources: {a: {type: postgres, dsn: host=/run/secret}}\n", "config.d/users.yaml", "users:\n  alice: "+verifier+"\n")
	var out bytes.Buffer
	if code := run([]string{"config", "show", etc}, &out, &out); code != 0 {
		t.Fatal(code, out.String())
	}
	for _, want := range []string{
		"drain:                                      # ETC/config.yaml:1\n",
		"  timeout: 10m                              # default\n",
		"  idle: 1s                                  # ETC/config.yaml:1\n",
		"  count: auto                               # default, here ",
		"    dsn: \"********\"                         # ETC/config.yaml:2\n",
		"  alice: \"********\"                         # ETC/config.d/users.yaml:2\n",
		"    address: /run/fdt/.s.PGSQL.7432         # default\n",
	} {
		if !strings.Contains(out.String(), strings.ReplaceAll(want, "ETC", etc)) {
			t.Errorf("there is no %q in\n%s", want, out.String())
		}
	}
	shown := strings.ReplaceAll(out.String(), "alice: \"********\"", "alice: "+verifier)
	shown = strings.ReplaceAll(shown, "dsn: \"********\"", "dsn: host=/run/secret")
	if cfg, err := config.Parse([]config.Text{{Name: "shown", Text: shown}}); err != nil || cfg.Users["alice"].Verifier != verifier {
		t.Errorf("%v:\n%s", err, shown)
	}
	if strings.Contains(out.String(), "SCRAM") || strings.Contains(out.String(), "/run/secret") {
		t.Errorf("a secret is told:\n%s", out.String())
	}

	out.Reset()
	if code := run([]string{"config", "show", "--json", etc}, &out, &out); code != 0 {
		t.Fatal(code, out.String())
	}
	var all []setting
	if err := json.Unmarshal(out.Bytes(), &all); err != nil {
		t.Fatal(err)
	}
	byPath := map[string]setting{}
	for _, s := range all {
		byPath[s.Path] = s
	}
	for path, want := range map[string]setting{
		"drain.idle":         {"drain.idle", "1s", etc + "/config.yaml", 1},
		"drain.generations":  {"drain.generations", 3.0, "", 0},
		"users.alice":        {"users.alice", "********", etc + "/config.d/users.yaml", 2},
		"listen.local.group": {"listen.local.group", "root", "", 0},
	} {
		if byPath[path] != want {
			t.Errorf("%s is %+v", path, byPath[path])
		}
	}
	if _, ok := byPath["drain"]; ok {
		t.Error("a section has no value of its own")
	}
}

// TestConfigUsage holds exit codes.
func TestConfigUsage(t *testing.T) {
	etc := etcOf(t, "config.yaml", "users: {alice: hunter2}\n")
	for args, c := range map[string]struct {
		code int
		says string
	}{
		"config":               {2, "Usage: fdtctl config show"},
		"config shwo":          {2, "Usage: fdtctl config show"},
		"config show a b":      {2, "Usage: fdtctl config show"},
		"config help":          {0, "Usage: fdtctl config show"},
		"config show -h":       {0, "Usage: fdtctl config show"},
		"config show --yaml":   {2, "not defined"},
		"config show " + etc:   {1, "fdtctl config show: " + etc + "/config.yaml:1:16: users.alice: this is no SCRAM-SHA-256 verifier"},
		"config show /nowhere": {1, "/nowhere/config.yaml"},
	} {
		var out bytes.Buffer
		if code := run(strings.Fields(args), &out, &out); code != c.code || !strings.Contains(out.String(), c.says) || strings.Contains(out.String(), "hunter2") {
			t.Errorf("fdtctl %s: exit %d: %s", args, code, out.String())
		}
	}
}
