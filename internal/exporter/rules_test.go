package exporter

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// shipped is what the package has for Prometheus and Grafana.
const shipped = "../../packaging/prometheus"

// promtool runs Prometheus' own check.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v (it is in Debian's prometheus)\n%s", strings.Join(args, " "), err, out)
	}
}

// TestRules: Prometheus takes the alert rules, and those fire, and do not, for what the exporter tells of a fdt that is well, ill or gone.
func TestRules(t *testing.T) {
	rules, err := filepath.Abs(filepath.Join(shipped, "fdt.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", rules)
	promtool(t, "test", "rules", filepath.Join("testdata", "alerts.yml"))
}

var named = regexp.MustCompile(`\bfdt_[a-z_]+\b`)

// TestShippedNames: each metric in the rules and on the dashboard is one of the exporter's.
func TestShippedNames(t *testing.T) {
	known := map[string]bool{}
	for _, d := range descs {
		name := regexp.MustCompile(`fqName: "([a-z_]+)"`).FindStringSubmatch(d.String())[1]
		known[name], known[name+"_bucket"] = true, true
	}
	for _, file := range []string{"fdt.rules.yml", "dashboard.json"} {
		text, err := os.ReadFile(filepath.Join(shipped, file))
		if err != nil {
			t.Fatal(err)
		}
		names := named.FindAllString(string(text), -1)
		for _, name := range names {
			if !known[name] {
				t.Errorf("%s: there is no %s", file, name)
			}
		}
		if len(names) < 10 {
			t.Errorf("%s names %d metrics", file, len(names))
		}
	}
	text, err := os.ReadFile(filepath.Join(shipped, "dashboard.json"))
	var board struct {
		Panels []struct {
			Targets []struct{ Expr string }
		}
	}
	if err == nil {
		err = json.Unmarshal(text, &board)
	}
	if err != nil || len(board.Panels) == 0 {
		t.Fatal(len(board.Panels), err)
	}
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			expr, _ := json.Marshal(strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(target.Expr))
			rules.WriteString("      - {record: a:b, expr: " + string(expr) + "}\n")
		}
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", "--lint=none", file)
}
