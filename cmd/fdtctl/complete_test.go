package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fdtserver/fdt/internal/scram"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/testcover"
	"github.com/fdtserver/fdt/internal/testwait"
)

// asFdtctl in the environment has this test's binary be fdtctl, for shells that complete a command line.
const asFdtctl = "FDT_TEST_AS_FDTCTL"

func TestMain(m *testing.M) {
	if os.Getenv(asFdtctl) != "" {
		testcover.Exit(m, program())
	}
	os.Exit(m.Run())
}

// TestComplete: what may come next, by the words before it.
func TestComplete(t *testing.T) {
	etc := etcOf(t, "config.yaml", "resources: {outbox: {type: spool, directory: /o}}\nusers: {alice: "+scram.New("x").String()+"}\n")
	run := snapshot.Dir(t.TempDir())
	if err := run.WriteState(snapshot.State{Next: 8, Applied: 7, Draining: []int{5}}); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := errors.Join(os.MkdirAll(root+"/etc/fdt/shop", 0o755), os.WriteFile(root+"/etc/fdt/shop/config.yaml", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	c := completer{root, etc, run, func(_ context.Context, all bool) []string {
		if all {
			return []string{"over"}
		}
		return []string{"order-1", "order 2", "$(x)", "1_2_3"}
	}}
	for line, want := range map[string]string{
		"re":                          "ready reload resume",
		"xyz":                         "",
		"--":                          "--service",
		"--service ":                  "shop",
		"--service x":                 "",
		"hel":                         "help",
		"help dr":                     "drain",
		"help drain ":                 "",
		"txn-":                        "",
		"txn-unit ":                   "",
		"reload ":                     "--wait-drained --timeout --json",
		"reload --w":                  "--wait-drained",
		"reload --timeout ":           "",
		"reload --timeout 3s -":       "--wait-drained --json",
		"reload --timeout=3s -":       "--wait-drained --json",
		"reload -json -":              "--wait-drained --timeout",
		"reload now ":                 "",
		"reload --nothing ":           "",
		"drain ":                      "5 7",
		"drain 5":                     "5",
		"drain 5 --":                  "--now --within --json",
		"txn re":                      "resolve rebind",
		"txn show ":                   "order-1 1_2_3",
		"txn commit --json ord":       "order-1",
		"txn rollback order-1 ":       "--json",
		"txn forget ":                 "over --json --all --before",
		"pause ":                      "outbox --timeout --json --all",
		"resume --all ":               "--json",
		"txn adopt --f":               "--force",
		"txn forget --a":              "--all",
		"txn forget --all --before 1": "",
		"txn rebind ":                 "outbox",
		"decider init --print out":    "outbox",
		"user ":                       "add passwd remove list",
		"user passwd ":                "alice",
		"user list ":                  "--json",
		"password a":                  "alice",
		"check ":                      ":directories --schema",
		"check -":                     "--live --json --quiet --schema",
		"config sh":                   "show",
		"config show /":               ":directories",
	} {
		var got []string
		for _, s := range c.candidates(strings.Split(line, " ")) {
			word, _, _ := strings.Cut(s, "\t")
			got = append(got, word)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("after %q comes %q, not %s", line, got, want)
		}
	}
	if got := (completer{root, etc + "/none", run + "/none", nil}).candidates([]string{"drain", ""}); got != nil {
		t.Error(got)
	}
	if got := c.candidates(nil); got != nil {
		t.Error(got)
	}
	var out bytes.Buffer
	if code := runComplete([]string{"--", "dra"}, &out, &out); code != 0 || out.String() != "drain\tshorten the deadline of an old generation\n" {
		t.Error(code, out.String())
	}
	t.Setenv(service.Env, "") // and after the test as it was
	out.Reset()
	if code := runComplete([]string{"--", "--service", "shop", "config", "sh"}, &out, &out); code != 0 || out.String() != "show\t\n" || own().Name() != "shop" {
		t.Error(code, out.String(), own())
	}
}

// TestCompleteEverything: every command that people call is offered, and every option that it has.
func TestCompleteEverything(t *testing.T) {
	for _, cmd := range commands() {
		if cmd.hidden {
			continue
		}
		if len(forms(cmd)) == 0 {
			t.Errorf("%s has no form", cmd.name)
		}
		var help bytes.Buffer
		cmd.run([]string{"--help"}, &help, &help)
		offered := "\n" + strings.Join(completer{"/nowhere", "/nowhere", "/nowhere", nil}.candidates([]string{cmd.name, "-"}), "\n")
		for line := range strings.Lines(help.String()) {
			option, defaults := strings.CutPrefix(line, "  -") // of flag.PrintDefaults
			option, _, _ = strings.Cut(strings.TrimSpace(option), " ")
			option, _, _ = strings.Cut(option, "\t")
			if defaults && option != "etc" && option != "run" && cmd.name != "drain" && !strings.Contains(offered, "\n--"+option+"\t") {
				t.Errorf("%s --%s is not offered: %q", cmd.name, option, offered)
			}
		}
	}
}

// shellTest makes a directory with an fdtctl that is this test's binary, and returns its path and the completion files'.
func shellTest(t *testing.T) (bin, files string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	files, err = filepath.Abs("../../packaging/completion")
	if err != nil {
		t.Fatal(err)
	}
	bin = t.TempDir()
	script := "#!/bin/sh\n" + asFdtctl + "=1 exec " + self + " \"$@\"\n"
	if err := os.WriteFile(bin+"/fdtctl", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return bin, files
}

// typed has an interactive shell on a terminal run a script, and then what is typed, until that says what is wanted.
func typed(t *testing.T, bin string, shell []string, script, keys, want string) {
	t.Helper()
	master, slave := terminal(t)
	cmd := exec.CommandContext(t.Context(), shell[0], shell[1:]...)
	cmd.Env = []string{"PATH=" + bin + ":/usr/bin:/bin", "TERM=vt100", "HOME=" + bin, "LANG=C.UTF-8"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	_ = slave.Close() // so that the reader ends with the shell
	said := make(chan string, 100)
	go func() {
		defer close(said)
		buffer := make([]byte, 4096)
		for {
			n, err := master.Read(buffer)
			if err != nil {
				return
			}
			said <- string(buffer[:n])
		}
	}()
	until := func(text string) {
		t.Helper()
		all := ""
		for !strings.Contains(all, text) {
			s := testwait.For(t, "the shell says "+text, said)
			if all += s; s == "" {
				t.Fatalf("%s ended before it said %q: %q", shell[0], text, all)
			}
		}
	}
	if _, err := master.WriteString(script + "; echo ready$((1+1))\n"); err != nil {
		t.Fatal(err)
	}
	until("ready2")
	if _, err := master.WriteString(keys); err != nil {
		t.Fatal(err)
	}
	until(want)
}

// TestCompleteInShells: the files of the package make shells complete commands, options and directories.
func TestCompleteInShells(t *testing.T) {
	bin, files := shellTest(t)
	if err := errors.Join(os.Mkdir(bin+"/conf", 0o755), os.WriteFile(bin+"/conf/config.yaml", []byte("drain: {idle: 77s}\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ about, keys, want string }{
		{"a command", "fdtctl versi\t\n", "fdtctl devel"},
		{"an option", "fdtctl version --js\t\n", `"version": "devel"`},
		{"a directory", "fdtctl config sh\t " + bin + "/con\t\n", "idle: 77s"},
	} {
		t.Run("bash/"+c.about, func(t *testing.T) {
			typed(t, bin, []string{"bash", "--norc", "--noprofile", "-i"}, "source "+files+"/fdtctl.bash", c.keys, c.want)
		})
		t.Run("zsh/"+c.about, func(t *testing.T) {
			typed(t, bin, []string{"zsh", "-f", "-i"}, "fpath=("+files+" $fpath); autoload -Uz compinit; compinit -u -D", c.keys, c.want)
		})
	}
	for line, want := range map[string]string{
		"fdtctl versi":                 "version\tprint the version\n",
		"fdtctl version --":            "--json\n",
		"fdtctl config ":               "show\n",
		"fdtctl check " + bin + "/con": bin + "/conf/",
	} {
		t.Run("fish", func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "fish", "--no-config", "-c", "source "+files+"/fdtctl.fish; complete -C '"+line+"'")
			cmd.Env = []string{"PATH=" + bin + ":/usr/bin:/bin", "HOME=" + bin, "LANG=C.UTF-8"}
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.HasPrefix(string(out), want) {
				t.Errorf("after %q comes %q, %v", line, out, err)
			}
		})
	}
}
