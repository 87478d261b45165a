package test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/bed"
	"github.com/fdtserver/fdt/internal/testwait"
)

// guidePath is the operator's guide as it lies in the source; the package has it in /usr/share/doc/fdt.
const guidePath = "../docs/operator.md"

// A passage is one fenced block of the guide.
type passage struct {
	line    int
	section string // the heading above it
	kind    string // console, text, or the language of a file
	about   string // the rest of the fence's line: where a file goes, exit=N, skip="why"
	text    []string
}

// passages reads the guide. What is no fenced block, and would be shown as one, is a fault: nobody would run it.
func passages(t *testing.T) (all []passage) {
	t.Helper()
	text, err := os.ReadFile(guidePath)
	if err != nil {
		t.Fatal(err)
	}
	section, open := "", false
	for i, line := range strings.Split(string(text), "\n") {
		switch {
		case strings.HasPrefix(line, "```") && open:
			open = false
		case strings.HasPrefix(line, "```"):
			kind, about, _ := strings.Cut(line[3:], " ")
			all, open = append(all, passage{line: i + 1, section: section, kind: kind, about: about}), true
		case open:
			last := &all[len(all)-1]
			last.text = append(last.text, line)
		case strings.HasPrefix(line, "#"):
			section = strings.TrimLeft(line, "# ")
		case strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "\t"):
			t.Errorf("%s:%d: a block by indentation, which is not run; use a fence", guidePath, i+1)
		}
	}
	if open {
		t.Errorf("%s: the last block has no end", guidePath)
	}
	return all
}

// A command is a line that root types, with what it prints.
type guided struct {
	line    int
	command string
	prints  []string
}

func (p passage) commands(t *testing.T) (all []guided) {
	t.Helper()
	for i, line := range p.text {
		switch {
		case strings.HasPrefix(line, "# "):
			all = append(all, guided{line: p.line + 1 + i, command: line[2:]})
		case len(all) == 0:
			t.Errorf("%s:%d: output without a command", guidePath, p.line+1+i)
		default:
			last := &all[len(all)-1]
			last.prints = append(last.prints, line)
		}
	}
	return all
}

var (
	number = regexp.MustCompile(`[0-9]+`)
	spaces = regexp.MustCompile(` +`)
	alone  = regexp.MustCompile(`^[0-9]+$`)
)

// printed is what matches the output that the guide shows: … stands for anything, alone on a line for any lines. A number stands for any,
// unless it is all of the line; so do spaces.
func printed(lines []string) *regexp.Regexp {
	if len(lines) == 0 {
		return regexp.MustCompile("")
	}
	var b strings.Builder
	b.WriteString(`(?s)^`)
	for _, line := range lines {
		if line == "…" {
			b.WriteString(`(?:.*\n)?`)
			continue
		}
		p := regexp.QuoteMeta(strings.TrimSpace(line))
		if !alone.MatchString(line) {
			p = number.ReplaceAllString(p, `[0-9]+`)
		}
		b.WriteString(` *` + strings.ReplaceAll(spaces.ReplaceAllString(p, ` +`), "…", `[^\n]*`) + ` *\n`)
	}
	return regexp.MustCompile(b.String() + `$`)
}

func TestGuideOutput(t *testing.T) {
	for _, c := range []struct {
		shown, said string
		is          bool
	}{
		{"generation 4: 2/2 workers", "generation 17: 3/4 workers\n", true},
		{"997", "992\n", false},
		{"…\norders  reachable  …", "first\nsecond\norders   reachable   3s\n", true},
		{"…\norders  reachable  …", "orders reachable 3s\nmore\n", false},
		{"one\n…\ntwo", "one\ntwo\n", true},
		{"", "anything\n", true},
	} {
		var lines []string
		if c.shown != "" {
			lines = strings.Split(c.shown, "\n")
		}
		if got := printed(lines).MatchString(c.said); got != c.is {
			t.Errorf("%q is taken for %q: %v", c.said, c.shown, got)
		}
	}
}

// filed tells where a block goes that is a file; empty if it is none.
func (p passage) filed() string {
	if slices.Contains([]string{"yaml", "ini", "sh"}, p.kind) {
		return p.about
	}
	return ""
}

var skipped = regexp.MustCompile(`^skip="(\w+( \S+){3,})"$`)

// TestGuide: each block of the guide is one that TestGuideCommands runs or writes, or says why not; and what the text names is there:
// keys of the configuration, metrics, and every alert of the package.
func TestGuide(t *testing.T) {
	ran := 0
	for _, p := range passages(t) {
		switch {
		case p.kind == "console" && skipped.MatchString(p.about):
		case p.kind == "console" && (p.about == "" || regexp.MustCompile(`^exit=[1-9]$`).MatchString(p.about)):
			if p.about != "" && len(p.commands(t)) != 1 {
				t.Errorf("%s:%d: which of the commands fails?", guidePath, p.line)
			}
			ran += len(p.commands(t))
		case p.kind == "text" && p.about == "":
			for _, line := range p.text {
				if strings.HasPrefix(line, "# ") || strings.HasPrefix(line, "$ ") {
					t.Errorf("%s:%d: a command in a text is not run: %s", guidePath, p.line, line)
				}
			}
		case strings.HasPrefix(p.filed(), "/etc/"):
		default:
			t.Errorf("%s:%d: a block that no test runs: ```%s %s", guidePath, p.line, p.kind, p.about)
		}
	}
	if ran < 80 {
		t.Errorf("%d commands", ran)
	}

	text := read(t, guidePath)
	for pattern, page := range map[string]string{
		"`((?:listen|session|workers|drain|reload|transaction|resources|procedures|metrics|log)\\.[A-Za-z_.]+)": "fdt.yaml.5",
		"(fdt_[a-z_]+_[a-z]+)`": "fdt-metrics.8",
	} {
		found := regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1)
		if len(found) == 0 {
			t.Errorf("nothing is like %s", pattern)
		}
		known := read(t, "../docs/man/"+page)
		for _, name := range found {
			if !strings.Contains(known, strings.ReplaceAll(name[1], "_", "_")) {
				t.Errorf("the guide names %s, of which %s knows nothing", name[1], page)
			}
		}
	}
	for _, alert := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(read(t, "../packaging/prometheus/fdt.rules.yml"), -1) {
		if !strings.Contains(text, "| `"+alert[1]+"` |") {
			t.Errorf("the guide does not say what to do about %s", alert[1])
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `(Fdt\\w+)`").FindAllStringSubmatch(text, -1) {
		if !strings.Contains(read(t, "../packaging/prometheus/fdt.rules.yml"), "alert: "+row[1]+"\n") {
			t.Errorf("there is no alert %s", row[1])
		}
	}
	for _, link := range regexp.MustCompile(`\]\(#([^)]*)\)`).FindAllStringSubmatch(text, -1) {
		if !slices.ContainsFunc(strings.Split(text, "\n"), func(line string) bool { return strings.HasPrefix(line, "#") && anchor(line) == link[1] }) {
			t.Errorf("a link leads nowhere: #%s", link[1])
		}
	}
}

// anchor is what a heading is linked by.
func anchor(heading string) string {
	kept := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(strings.TrimLeft(heading, "# ")), "")
	return strings.ReplaceAll(kept, " ", "-")
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestGuideCommands does what the guide says, in its order, on a machine with the databases that Debian has.
func TestGuideCommands(t *testing.T) {
	t.Parallel()
	path := deb(t, "FDT_DEB")
	for _, release := range releases() {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			g := guide{boot(t, bed.Options{Release: release, Databases: true}), filepath.Base(path)}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			g.write("/var/tmp/"+g.deb, string(data))
			g.must(`mkdir -p /etc/fdt/config.d && echo 'APT::Install-Recommends "false";' >/etc/apt/apt.conf.d/99-test`)
			g.write("/etc/fdt/config.d/05-test.yaml", "reload: {settle: 0s, ready_timeout: 2m}\n") // no rollout takes longer than it must
			section := ""
			for _, p := range passages(t) {
				if p.section != section {
					section = p.section
					g.prepare(section)
				}
				g.follow(p)
			}
			if shipped, err := g.bed.ReadFile(t.Context(), "/usr/share/doc/fdt/operator.md"); err != nil || string(shipped) != read(t, guidePath) {
				t.Errorf("the package's guide is %d bytes, %v", len(shipped), err)
			}
			g.finish()
		})
	}
}

// guide is a machine on which somebody follows the guide.
type guide struct {
	machine
	deb string
}

// prepare does what the guide takes to be so before a section: by other people, by certbot, or by a clone.
func (g guide) prepare(section string) {
	g.Helper()
	const left = `psql -q -h /run/fdt -p 7432 -c BEGIN -c "CALL buy(90, 'bolt', 1)" -c "PREPARE TRANSACTION 'order-90'" && systemctl stop fdt && `
	script := map[string]string{
		"Move to another disk or machine": "install -d -m 2751 -g fdt /srv/disk",
		"Clone":                           left + "cd /var/lib/fdt && cp -a txn copy && rm -r txn && mv copy txn && systemctl start fdt",
		"Certificates": `mkdir -p /etc/letsencrypt/live/db.example.org /etc/letsencrypt/renewal-hooks/deploy && cd /etc/letsencrypt/live/db.example.org &&
			openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=db.example.org -days 30 -keyout privkey.pem -out fullchain.pem 2>&1 &&
			echo '*:*:*:alice:` + alicesPassword + `' >~/.pgpass && chmod 600 ~/.pgpass`,
	}[section]
	if script != "" {
		g.must(script)
	}
	if section == "Upgrades, and the way back" {
		repack(g.machine, g.deb)
	}
}

const alicesPassword = "correct-horse-battery"

// mean puts in the place of what the guide leaves open what it is on this machine.
func (g guide) mean(text string) string {
	for word, is := range map[string]func() string{
		"fdt_VERSION_amd64.deb": func() string { return g.deb },
		"fdt_NEXT_amd64.deb":    func() string { return "newer.deb" },
		"/dev/disk/by-label/fdt": func() string {
			return "--bind /srv/disk" // a container has no disks
		},
		"GENERATION": func() string {
			return g.must("fdtctl status --json | sed -n 's/^  \"generation\": \\([0-9]*\\),$/\\1/p'")
		},
		"SESSION": func() string {
			return g.must("fdtctl sessions --json | sed -n 's/.*\"id\": \\([0-9]*\\),$/\\1/p' | tail -n 1")
		},
		"LOG": func() string {
			return g.must("fdtctl txn list 2>&1 | sed -n 's/^The transaction log \\([^ ]*\\) .*/\\1/p'")
		},
		"BRANCH": func() string { return g.must(`runuser -u postgres -- psql -tAc "SELECT gid FROM pg_prepared_xacts"`) },
		"XID":    func() string { return g.must(`mariadb -N -e "XA RECOVER FORMAT='SQL'" | cut -f 4`) },
	} {
		if word := regexp.MustCompile(`(^|[^A-Za-z_])` + regexp.QuoteMeta(word) + `\b`); word.MatchString(text) {
			text = word.ReplaceAllString(text, "${1}"+strings.ReplaceAll(is(), "$", "$$"))
		}
	}
	return text
}

// looks are commands that change nothing, and so may be given again until they tell what they should.
var looks = regexp.MustCompile(`^(fdtctl (status|ready|sessions|procedures|txn (list|show|resolve))|curl|journalctl|systemctl (status|show))\b`)

// follow does what a block says.
func (g guide) follow(p passage) {
	g.Helper()
	if path := p.filed(); path != "" {
		g.must("mkdir -p " + filepath.Dir(path))
		g.write(path, strings.Join(p.text, "\n")+"\n")
		return
	}
	if p.kind != "console" || strings.HasPrefix(p.about, "skip=") {
		return
	}
	for _, c := range p.commands(g.T) {
		g.give(c, strings.TrimPrefix(p.about, "exit="))
	}
}

// give gives a command, which has to exit as told, and print what the guide shows.
func (g guide) give(c guided, code string) {
	g.Helper()
	if code == "" {
		code = "0"
	}
	script := g.mean(c.command)
	if strings.HasPrefix(script, "fdtctl user add") {
		script = "printf '%s\\n' " + alicesPassword + " | " + script
	}
	if strings.HasPrefix(script, "fdtctl sessions") {
		g.connect() // the guide takes somebody to be there
	}
	for end := time.Now().Add(testwait.Patience); ; {
		var want strings.Builder
		for _, line := range c.prints {
			want.WriteString(g.mean(line) + "\n")
		}
		out, err := g.try("cd /var/tmp; code=0; { " + script + "; } 2>&1 || code=$?; echo exit=$code")
		if err != nil {
			g.Fatal(err)
		}
		said, status, _ := strings.Cut("\n"+out, "\nexit=")
		said = strings.TrimPrefix(said, "\n")
		if said != "" {
			said += "\n"
		}
		var lines []string
		if want.Len() > 0 {
			lines = strings.Split(strings.TrimSuffix(want.String(), "\n"), "\n")
		}
		if status == code && printed(lines).MatchString(said) {
			return
		}
		if !looks.MatchString(script) || time.Now().After(end) {
			g.Errorf("%s:%d: %s\nexit status %s, not %s, and printed\n%swhich is not\n%s", guidePath, c.line, script, status, code, said, want.String())
			return
		}
		if err := g.pause(); err != nil {
			g.Fatal(err)
		}
	}
}

// pause is between two looks.
func (g guide) pause() error {
	select {
	case <-g.Context().Done():
		return fmt.Errorf("the test ends: %w", g.Context().Err())
	case <-time.After(100 * time.Millisecond):
		return nil
	}
}
