package config

import (
	"errors"
	"strings"
	"testing"
)

// canary is a secret in every place where one may be, or where somebody may have put it by mistake.
const canary = "hunter2"

// leaks are faulty configurations with a secret. What is told of them tells it to nobody.
var leaks = map[string]string{
	"a password in the place of a verifier":  "users: {alice: hunter2}",
	"in quotes":                              `users: {alice: "hunter2", bob: 'hunter2 '}`,
	"as a number":                            "users: {alice: 123, bob: hunter2}",
	"in a mapping":                           "users: {alice: {password: hunter2}}",
	"in a list":                              "users: {alice: [hunter2]}",
	"instead of all users":                   "users: alice hunter2",
	"in a list of users":                     "users: [alice, hunter2]",
	"without a space":                        "users: {alice:hunter2}",
	"without a space, before another fault":  "users: {alice:hunter2}\ndrian: 1",
	"beside another fault":                   "{workers: {count: 0}, users: {alice: hunter2}}",
	"before another fault":                   "{users: {alice: hunter2}, workers: {count: 0}}",
	"over several lines":                     "users:\n  alice: |\n    hunter2\n    hunter2: x\n  bob: \"x\n   hunter2\"\nworkers: {count: 0}",
	"twice":                                  "users: {alice: hunter2}\nworkers: {}\nusers: {bob: hunter2}",
	"with an anchor":                         "users: {alice: &hunter2 hunter2}",
	"as an alias":                            "users: {alice: *hunter2}",
	"as an alias that leads somewhere":       "users: {alice: &a hunter2, bob: *a}",
	"with a tag":                             "users: {alice: !hunter2 hunter2}",
	"merged":                                 "users: {<<: {alice: hunter2}}",
	"in a key that is a mapping":             "users: {{alice: hunter2}: x}",
	"in a second document":                   "users: {}\n--- {users: {alice: hunter2}}",
	"in a second document, below":            "users: {}\n---\nusers:\n  alice: hunter2",
	"as the whole file":                      "hunter2",
	"misspelt":                               `resources: {a: {type: postgres, dsn: "host=/run", pasword: hunter2}}`,
	"misspelt above":                         "user: {alice: hunter2}",
	"as a key":                               `resources: {a: {type: postgres, dsn: "host=/run", pass=hunter2}}`,
	"in a connection string":                 `resources: {a: {type: postgres, dsn: "host=/run password=hunter2"}}`,
	"in one, quoted":                         `resources: {a: {type: postgres, dsn: "host=/run password='x hunter2'", pool: 0}}`,
	"in one, escaped":                        `resources: {a: {type: postgres, dsn: "host=/run password=x\\ hunter2", pool: 0}}`,
	"in one, misspelt":                       `resources: {a: {type: postgres, dsn: "host=/run pass=hunter2", pool: 0}}`,
	"in a URL":                               `resources: {a: {type: postgres, dsn: "postgres://fdt:x/@hunter2@db/a"}}`,
	"in a URL of MariaDB":                    `resources: {a: {type: mariadb, dsn: "fdt:x/@hunter2@tcp(db)/a"}}`,
	"in a URL in the place of a resource":    `resources: {a: "postgres://fdt:hunter2@db/a"}`,
	"in a URL in the place of all resources": `resources: "postgres://fdt:hunter2@db/a"`,
	"in a URL in the place of a name":        `resources: {"postgres://fdt:hunter2@db/a": {}}`,
	"in a URL in the place of a name, given twice": "resources: {\"fdt:hunter2\": {}, \"fdt:hunter2\": {}}",
	"in a list of connection strings":              `resources: {a: {type: postgres, dsn: ["host=/run password=hunter2"]}}`,
	"in the place of its file":                     `resources: {a: {type: postgres, dsn: "host=/run", password_file: hunter2}}`,
	"in the place of its file, with a slash":       `resources: {a: {type: postgres, dsn: "host=/run", password_file: //hunter2}}`,
	"a key in the place of its file":               "listen: {a: {address: \"1.2.3.4:5\", tls: {certificate: /c, key: \"-----BEGIN hunter2\"}}}",
	"in what is no YAML":                           "users: {alice: hunter2",
	"in what is no YAML, by a colon":               "users:\n  alice: hunter2: x",
	"in what is no YAML, over lines":               "users:\n  alice: \"x\n  hunter2: y\n\"z\n",
	"in what is no YAML, behind a tab":             "users:\n\talice: hunter2",
	"in a second document that is no YAML":         "users: {}\n---\nusers: {alice: hunter2",
	"with a comment":                               "users:\n  alice: x # was hunter2\n",
	"behind a comment of several lines":            "users:\n  alice: x\n  # hunter2\n\n  # hunter2\n  bob: y",
}

// told is all that is told of a configuration's faults; empty if it has none.
func told(text string) string {
	_, err := new(decoder).decode([]*source{{name: "config.yaml", text: text}})
	faults, ok := errors.AsType[Faults](err)
	if !ok {
		return ""
	}
	return Detail(err) + err.Error() + faults.Detail()
}

func TestSecretsAreNotTold(t *testing.T) {
	for name, text := range leaks {
		said := told(text)
		if said == "" || strings.Contains(said, canary) {
			t.Errorf("%s: of\n%s\nis said\n%s", name, text, said)
		}
	}
}

// TestSecretsInTornFiles cuts each of them off at every byte, and puts what means something to YAML between any two.
func TestSecretsInTornFiles(t *testing.T) {
	for name, text := range leaks {
		at := strings.Index(text, canary)
		for i := range len(text) {
			torn := []string{text[:i]}
			if i < at { // later than that it would change the secret itself, too
				for _, c := range []string{"'", `"`, ": ", "\n", "{", "]", ", ", " #", "&", "*", "\t"} {
					torn = append(torn, text[:i]+c+text[i:])
				}
			}
			for _, text := range torn {
				if said := told(text); strings.Contains(said, canary) {
					t.Errorf("%s: of\n%s\nis said\n%s", name, text, said)
				}
			}
		}
	}
}

// TestDetail: an error tells no line of a file unless it is asked to, also where it is wrapped.
func TestDetail(t *testing.T) {
	dir := write(t, "config.yaml", "workers: {count: 0}\n")
	_, err := Load(dir)
	if err == nil || strings.Contains(err.Error(), "^") || !strings.Contains(err.Error(), "config.yaml:1:18: workers.count: ") {
		t.Errorf("told is %v", err)
	}
	wrapped := errors.Join(errors.New("first"), err)
	if got := Detail(wrapped); !strings.HasPrefix(got, "first\n") || !strings.Contains(got, "    1 | workers: {count: 0}\n      |                  ^") {
		t.Errorf("in detail it is\n%s", got)
	}
	if got := Detail(errors.New("other")); got != "other" {
		t.Errorf("another error is %q", got)
	}
}
