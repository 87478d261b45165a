package clients

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/testgolden"
)

// sockets are the servers whose conversations are compared.
const (
	theirs = "/run/postgresql/.s.PGSQL.5432"
	ours   = "/run/fdt/.s.PGSQL.7432"
)

// recorded are clients beyond the tools whose start is recorded.
var recorded = []tool{
	{name: "psql", args: []string{"psql", "-Xc", "SELECT 1"}, cheap: true},
	{name: "psycopg2", args: append(python, "/clients/tools/psycopg_tool.py", "psycopg2")},
	{name: "psycopg 3", args: append(python, "/clients/tools/psycopg_tool.py", "psycopg")},
	{name: "node-postgres", args: append(node, "pg"), cheap: true},
	{name: "PgJDBC", args: []string{"java", "-XX:TieredStopAtLevel=1", "-cp", jars, "/clients/tools/Start.java"}},
	{name: "pgbench", args: []string{"sh", "-c", "echo 'SELECT 1;' | pgbench --no-vacuum --transactions=1 --file=-"}},
}

// reasons are why a message of fdt is not PostgreSQL's; the first that fits holds. Every difference has one.
var reasons = []struct {
	message *regexp.Regexp
	reason  string
}{
	{regexp.MustCompile(`^< ParameterStatus server_version=`), "fdt tells the version of PostgreSQL that it is like, and its own name"},
	{regexp.MustCompile(`^< ParameterStatus TimeZone=`), "the machine's zone is PostgreSQL's default, and UTC is fdt's"},
	{regexp.MustCompile(`^< DataRow "PostgreSQL 15\.`), "so does version()"},
	{regexp.MustCompile(`^< (DataRow × |CommandComplete SELECT )`), "fdt has the types that procedures can take, and PostgreSQL all of its own"},
}

// starts compares the recorded conversations by which the tools start, with PostgreSQL and with fdt, message by message. The golden file has
// the differences, with their reasons. Where PostgreSQL is not the version that fdt is like, it would show that version's differences.
func (m *machine) starts(t *testing.T) {
	const name = "testdata/start.txt"
	golden, err := os.ReadFile(name)
	if err != nil && !*testgolden.Update {
		t.Fatal(err)
	}
	all := slices.Clone(recorded)
	for _, tool := range toolbox {
		if !tool.silent && !tool.newer {
			tool.args = append(slices.Clone(tool.args), "start")
			all = append(all, tool)
		}
	}
	sections := make([]string, len(all))
	t.Run("Tool", func(t *testing.T) {
		for i, tool := range all {
			if !tool.cheap && !everything() { // then the golden file is believed
				sections[i] = section(string(golden), tool.name)
				continue
			}
			t.Run(tool.name, func(t *testing.T) {
				t.Parallel()
				sections[i] = m.compare(t, tool)
			})
		}
	})
	got := "# What differs in the conversations by which tools start: - is PostgreSQL 15, + is fdt.\n" + strings.Join(sections, "")
	if *testgolden.Update && everything() {
		must(t, os.WriteFile(name, []byte(got), 0o644))
	} else if got != string(golden) {
		t.Errorf("%s differs (-update with FDT_CLIENTS=all writes it anew); got:\n%s", name, got)
	}
}

// section is what the golden file has of a tool.
func section(golden, name string) string {
	head := "\n## " + name + ": "
	_, rest, ok := strings.Cut(golden, head)
	if !ok {
		return ""
	}
	if i := strings.Index(rest, "\n## "); i >= 0 {
		rest = rest[:i]
	}
	return head + rest
}

// compare compares those of one tool.
func (m *machine) compare(t *testing.T, tool tool) string {
	t.Helper()
	record := func(socket string) []string {
		account := m.account()
		file := fmt.Sprint("/run/clerk/", account)
		m.play(t, "start", account, append([]string{"/clients/bin/record", socket, file}, tool.args...)...)
		return strings.Split(m.run(t, "cat "+file), "\n")
	}
	var b strings.Builder
	want, got := record(theirs), record(ours)
	for i, l := range want {
		want[i] = version.ReplaceAllString(l, "15.N")
	}
	lines := diff(want, got)
	fmt.Fprintf(&b, "\n## %s: %d messages with PostgreSQL, %d with fdt\n", tool.name, messages(want), messages(got))
	last := ""
	for _, l := range lines { // each has a reason
		why := "no reason is known"
		for _, r := range reasons {
			if r.message.MatchString(l[2:]) {
				why = r.reason
				l = counted.ReplaceAllString(l, "${1}N") // how many there are is no matter
				break
			}
		}
		if why == "no reason is known" {
			t.Errorf("%s: %s", tool.name, l)
		}
		if why != last {
			fmt.Fprintln(&b, "because "+why+":")
			last = why
		}
		fmt.Fprintln(&b, l)
	}
	return b.String()
}

// messages counts them; the other lines begin a connection.
func messages(lines []string) int {
	return len(slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return !strings.HasPrefix(l, "> ") && !strings.HasPrefix(l, "< ") }))
}

// counted is the number of rows in a message about them.
var counted = regexp.MustCompile(`^(. < (?:DataRow × |CommandComplete SELECT ))[0-9]+$`)

// version is PostgreSQL's minor version, with Debian's and the compiler's.
var version = regexp.MustCompile(`15\.[0-9]+( \(Debian [^)]*\))?( on [^"]*)?`)

// diff returns the lines that are in one list alone, in their order.
func diff(want, got []string) []string {
	common := make([][]int, len(want)+1) // length of the longest common part of the rests
	for i := range common {
		common[i] = make([]int, len(got)+1)
	}
	for i := len(want) - 1; i >= 0; i-- {
		for j := len(got) - 1; j >= 0; j-- {
			common[i][j] = max(common[i+1][j], common[i][j+1])
			if want[i] == got[j] {
				common[i][j] = common[i+1][j+1] + 1
			}
		}
	}
	var lines []string
	for i, j := 0, 0; i < len(want) || j < len(got); {
		switch {
		case i < len(want) && j < len(got) && want[i] == got[j]:
			i, j = i+1, j+1
		case j == len(got) || i < len(want) && common[i+1][j] >= common[i][j+1]:
			lines = append(lines, "- "+want[i])
			i++
		default:
			lines = append(lines, "+ "+got[j])
			j++
		}
	}
	return lines
}
