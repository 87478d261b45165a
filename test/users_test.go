package test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/bed"
)

// TestUsers: what an operator does about users with passwords by fdtctl alone, until they get in, and do not any more.
func TestUsers(t *testing.T) {
	t.Parallel()
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			m := installed(t, bed.Options{Release: release})
			m.Run("Come", usersCome)
			m.Run("Go", usersGo)
			m.Run("Configuration", configuration)
			m.Run("Procedures", procedures)
			m.Run("Completion", completion)
			m.Run("Proxied", proxied)
			m.finish()
		})
	}
}

// login has a user with a password call a procedure over TCP.
func login(user, password string) string {
	return "PGPASSWORD=" + password + " psql -X -h 127.0.0.1 -p 7432 -U " + user + ` fdt -v ON_ERROR_STOP=1 -c "CALL enqueue('in')" 2>&1`
}

func usersCome(m machine) {
	if out, err := m.try("echo secret | fdtctl user add alice 2>&1"); err != nil || out != "user alice is added to /etc/fdt/config.d/users.yaml\nnothing of that serves before: systemctl reload fdt" {
		m.Fatal(err, out)
	}
	if got := m.must("stat -c '%a %U %G' /etc/fdt/config.d/users.yaml; ls -A /etc/fdt/config.d; grep -c secret /etc/fdt/config.d/users.yaml || true"); got != "640 root fdt\n10-quick.yaml\nusers.yaml\n0" {
		m.Error(got)
	}
	m.configure("50-listen", `listen: {public: {address: "127.0.0.1:7432"}}`)
	m.must("systemctl reload fdt")
	m.must(login("alice", "secret"))
	out := m.must("echo other | fdtctl user passwd --reload alice 2>&1")
	if !strings.HasPrefix(out, "the password of user alice is changed in /etc/fdt/config.d/users.yaml\n") || !strings.Contains(out, " serves") || strings.Contains(out, "systemctl reload") {
		m.Error(out)
	}
	m.must(login("alice", "other"))
	if out, err := m.try(login("alice", "secret")); err == nil {
		m.Errorf("the old password lets in: %s", out)
	}
}

func usersGo(m machine) {
	if out, err := m.try("fdtctl user remove alice 2>&1"); err == nil || !strings.Contains(out, "/etc/fdt/config.d/50-listen.yaml:1:") {
		m.Error("the last user that a listener needs is gone: ", out)
	}
	m.must("echo secret | fdtctl user add --reload bob && fdtctl user remove --reload alice")
	if got := m.must("fdtctl user list"); got != "USER  STANDS AT\nbob   /etc/fdt/config.d/users.yaml:3" {
		m.Error(got)
	}
	m.must(login("bob", "secret"))
	if out, err := m.try(login("alice", "other")); err == nil {
		m.Errorf("who was removed gets in: %s", out)
	}
}

// configuration: what is shown says where it comes from, tells no secret, and means what the files mean.
func configuration(m machine) {
	shown := m.must("fdtctl config show")
	for _, want := range []string{"bob: \"********\"", "# /etc/fdt/config.d/users.yaml:3\n", "# /etc/fdt/config.d/50-listen.yaml:1\n", "  count: 2                                  # /etc/fdt/config.d/10-quick.yaml:2\n", "  timeout: 10m                              # default\n"} {
		if !strings.Contains(shown, want) {
			m.Errorf("there is no %q in\n%s", want, shown)
		}
	}
	if strings.Contains(shown, "SCRAM") {
		m.Error(shown)
	}
	m.must(`mkdir /root/shown && fdtctl config show | sed "s|bob: .*|bob: $(fdtctl password x <<<secret | cut -d' ' -f2)|" >/root/shown/config.yaml
		diff <(fdtctl config show | sed 's/ *# .*//' | sort) <(fdtctl config show /root/shown | sed 's/ *# .*//' | sort)`)
	m.must("fdtctl config show --json | python3 -m json.tool >/dev/null")
}

// procedures: calls of workers that live, and of those that have ended, are counted, errors apart.
func procedures(m machine) {
	row := func() []string {
		lines := strings.Split(m.must("fdtctl procedures"), "\n")
		return strings.Fields(strings.Replace(lines[len(lines)-1], "body text", "body", 1))
	}
	before := row()
	m.must(login("bob", "secret"))
	m.must("systemctl reload fdt")
	after := row()
	if len(after) != 6 || after[0] != "enqueue(body)" || after[2] != "0" || after[4] != "everybody" || after[5] != "/etc/fdt/config.yaml:23" {
		m.Error(after)
	}
	n, err := strconv.Atoi(before[1])
	if err != nil || after[1] != strconv.Itoa(n+1) {
		m.Errorf("%v; then %v", before, after)
	}
}

// completion: bash finds the package's file where it looks, and completes what is there by what fdtctl knows; the overview is a page.
func completion(m machine) {
	complete := func(words ...string) string {
		return m.must("source /usr/share/bash-completion/completions/fdtctl; COMP_WORDS=(fdtctl '" + strings.Join(words, "' '") +
			"') COMP_CWORD=" + strconv.Itoa(len(words)) + "; _fdtctl; echo \"${COMPREPLY[@]}\"; complete -p fdtctl")
	}
	const known = "\ncomplete -F _fdtctl fdtctl"
	for got, want := range map[string]string{
		complete("proc"):                "procedures",
		complete("user", "passwd", ""):  "bob",
		complete("decider", "init", ""): "outbox",
		complete("reload", "--t"):       "--timeout",
	} {
		if got != want+known {
			m.Errorf("%q, not %q", got, want)
		}
	}
	m.must("test -s /usr/share/zsh/vendor-completions/_fdtctl -a -s /usr/share/fish/vendor_completions.d/fdtctl.fish -a -s /usr/share/man/man7/fdt.7.gz")
	if out := m.must("fdtctl statsu 2>&1 || true; fdtctl status --jsno 2>&1 || true; fdtctl help drain"); !strings.Contains(out, `did you mean "status"?`) || !strings.Contains(out, "did you mean --json?") || !strings.Contains(out, "-within") {
		m.Error(out)
	}
}
