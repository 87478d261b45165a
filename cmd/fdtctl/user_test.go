package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/scram"
)

// etcOf makes a configuration of files given as name, text, name, text.
func etcOf(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	err := os.Mkdir(dir+"/config.d", 0o750)
	for i := 0; i < len(files); i += 2 {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, files[i]), []byte(files[i+1]), 0o640))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// users runs fdtctl user with a password on its standard input, and returns its exit code and what it says.
func users(t *testing.T, etc, password string, args ...string) (code int, said string) {
	t.Helper()
	withStdin(t, password, func() {
		var out bytes.Buffer
		code = run(append([]string{"user", args[0], "--etc", etc}, args[1:]...), &out, &out)
		said = out.String()
	})
	return code, said
}

// verifierOf is a user's verifier in the configuration; empty if there is none.
func verifierOf(t *testing.T, etc, name string) string {
	t.Helper()
	cfg, err := config.Load(etc)
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Users[name].Verifier
}

// TestUser: a user comes, gets another password, and goes.
func TestUser(t *testing.T) {
	bob := "users: {bob: " + scram.New("x").String() + "}\n"
	etc := etcOf(t, "config.yaml", "drain: {idle: 1s}\n", "config.d/90-more.yaml", bob)
	file := etc + "/config.d/users.yaml"
	if code, said := users(t, etc, "secret\n", "add", "a@b"); code != 0 || said != "user a@b is added to "+file+"\nnothing of that serves before: systemctl reload fdt\n" {
		t.Fatal(code, said)
	}
	first := verifierOf(t, etc, "a@b")
	if _, err := scram.Parse(first); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(text), "secret") || !strings.HasPrefix(string(text), "# Users who log in") {
		t.Errorf("%v: %s", err, text)
	}
	if err := os.WriteFile(file, append([]byte("# mine\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(file, 0o604), os.Chown(file, 0, 7)); err != nil {
		t.Fatal(err)
	}
	if code, said := users(t, etc, "another\n", "passwd", "a@b"); code != 0 || !strings.HasPrefix(said, "the password of user a@b is changed in "+file) {
		t.Fatal(code, said)
	}
	if verifierOf(t, etc, "a@b") == first {
		t.Error("the password is the old one")
	}
	st, err := os.Stat(file)
	if err != nil || st.Mode().Perm() != 0o604 || st.Sys().(*syscall.Stat_t).Gid != 7 {
		t.Errorf("owner and mode are not kept: %v, %v", st, err)
	}
	want := fmt.Sprintf("USER  STANDS AT\na@b   %s:4\nbob   %s/config.d/90-more.yaml:1\n", file, etc)
	if code, said := users(t, etc, "", "list"); code != 0 || said != want {
		t.Errorf("%d %s", code, said)
	}
	if code, said := users(t, etc, "", "list", "--json"); code != 0 || !strings.Contains(said, "\"name\": \"bob\",\n    \"file\": \""+etc+"/config.d/90-more.yaml\",\n    \"line\": 1\n") {
		t.Errorf("%d %s", code, said)
	}
	if code, said := users(t, etc, "", "remove", "a@b"); code != 0 || !strings.HasPrefix(said, "user a@b is removed from "+file) {
		t.Error(code, said)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(text), "# mine\n") || verifierOf(t, etc, "a@b") != "" || verifierOf(t, etc, "bob") == "" {
		t.Errorf("%v: %s", err, text)
	}
	if left, err := filepath.Glob(etc + "/config.d/.*"); err != nil || left != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if code, said := users(t, etcOf(t, "config.yaml", ""), "", "list"); code != 0 || said != "there are no users with a password\n" {
		t.Error(code, said)
	}
}

// TestUserFirst: the user that a listener needs is added though nothing is sound without it, and is not removed.
func TestUserFirst(t *testing.T) {
	etc := etcOf(t, "config.yaml", "listen: {a: {address: \"127.0.0.1:7432\"}}\n")
	if code, said := users(t, etc, "secret\n", "add", "alice"); code != 0 {
		t.Error(said)
	}
	st, err := os.Stat(etc + "/config.d/users.yaml")
	if err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", st, err)
	}
	code, said := users(t, etc, "", "remove", "alice")
	if code != 1 || !strings.Contains(said, "would have faults, so nothing is changed:\n"+etc+"/config.yaml:1:10: scram lets nobody in") || verifierOf(t, etc, "alice") == "" {
		t.Error(code, said)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+etc+"/none")
	if code, said := users(t, etc, "other\n", "passwd", "--reload", "alice"); code != 1 || !strings.Contains(said, "fdtctl reload: the system bus") || strings.Contains(said, "nothing of that serves") {
		t.Error(code, said)
	}
}

// TestUserMakesDirectory: where there is no config.d yet, as in the directory of a further service, it is made, as closed as what it is in.
func TestUserMakesDirectory(t *testing.T) {
	etc := t.TempDir()
	if err := errors.Join(os.WriteFile(etc+"/config.yaml", nil, 0o640), os.Chown(etc, 0, 7), os.Chmod(etc, 0o755)); err != nil {
		t.Fatal(err)
	}
	if code, said := users(t, etc, "secret\n", "add", "alice"); code != 0 || verifierOf(t, etc, "alice") == "" {
		t.Fatal(code, said)
	}
	for name, mode := range map[string]fs.FileMode{"config.d": fs.ModeDir | 0o750, "config.d/users.yaml": 0o640} {
		st, err := os.Stat(filepath.Join(etc, name))
		if err != nil {
			t.Fatal(err)
		}
		if owner, ok := st.Sys().(*syscall.Stat_t); !ok || st.Mode() != mode || owner.Uid != 0 || owner.Gid != 7 {
			t.Errorf("%s: %v, %v", name, st.Mode(), owner)
		}
	}
	if err := errors.Join(os.RemoveAll(etc+"/config.d"), os.Symlink("nowhere", etc+"/config.d")); err != nil {
		t.Fatal(err)
	}
	if code, said := users(t, etc, "secret\n", "add", "alice"); code != 1 || !strings.Contains(said, "config.d: file exists") {
		t.Error(code, said)
	}
}

// TestUserRefused: what cannot be done changes nothing, and no password is asked for.
func TestUserRefused(t *testing.T) {
	other := "workers: {count: 1}\nusers:\n  bob: " + scram.New("x").String() + "\n"
	for about, c := range map[string]struct {
		files []string
		args  string
		says  string
	}{
		"there already":          {[]string{"config.yaml", other}, "add bob", "there is a user bob already, at ETC/config.yaml:3"},
		"not there":              {[]string{"config.yaml", other}, "passwd alice", "there is no user alice in ETC"},
		"elsewhere, passwd":      {[]string{"config.yaml", other}, "passwd bob", "user bob stands at ETC/config.yaml:3, and only ETC/config.d/users.yaml is changed here"},
		"elsewhere, remove":      {[]string{"config.yaml", other}, "remove bob", "user bob stands at ETC/config.yaml:3"},
		"no name":                {[]string{"config.yaml", other}, "add a:b", `"a:b": a user's name has at most 63 bytes`},
		"no configuration":       {nil, "add alice", "ETC/config.yaml: no such file"},
		"no configuration, list": {nil, "list", "ETC/config.yaml: cannot be read"},
		"broken":                 {[]string{"config.yaml", "workers: {"}, "remove alice", "ETC/config.yaml:1:1: this is not YAML"},
	} {
		etc := etcOf(t, c.files...)
		code, said := users(t, etc, "", strings.Fields(c.args)...)
		if want := strings.ReplaceAll(c.says, "ETC", etc); code != 1 || !strings.Contains(said, want) {
			t.Errorf("%s: %d %s, want %s", about, code, said, want)
		}
		if _, err := os.Stat(etc + "/config.d/users.yaml"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", about, err)
		}
	}
	for about, c := range map[string]struct{ text, password, says string }{
		"a broken file of users":  {"users: {alice: hunter2", "secret\n", "ETC/config.d/users.yaml:1:1: this is not YAML"},
		"a fault elsewhere in it": {"users: {alice: hunter2}\n", "secret\n", "ETC/config.d/users.yaml:1:16: users.alice: this is no SCRAM-SHA-256 verifier"},
		"no password":             {"", "", "read the password: EOF"},
	} {
		etc := etcOf(t, "config.yaml", "", "config.d/users.yaml", c.text)
		code, said := users(t, etc, c.password, "add", "bob")
		if want := strings.ReplaceAll(c.says, "ETC", etc); code != 1 || !strings.Contains(said, want) || strings.Contains(said, "hunter2") {
			t.Errorf("%s: %d %s, want %s", about, code, said, want)
		}
		if text, err := os.ReadFile(etc + "/config.d/users.yaml"); err != nil || string(text) != c.text {
			t.Errorf("%s: %v: %s", about, err, text)
		}
	}
	for args, c := range map[string]struct {
		code int
		says string
	}{
		"user":               {2, "Usage: fdtctl user add"},
		"user ad alice":      {2, "Usage: fdtctl user add"},
		"user help":          {0, "Usage: fdtctl user add"},
		"user add":           {2, "0 arguments given, 1 wanted"},
		"user list alice":    {2, "1 arguments given, 0 wanted"},
		"user add -h":        {0, "Usage: fdtctl user add"},
		"user list --reload": {2, "not defined"},
	} {
		var out bytes.Buffer
		if code := run(strings.Fields(args), &out, &out); code != c.code || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: %d %s", args, code, out.String())
		}
	}
}

// TestUserFile: what is no file of its own is not replaced, and what fails leaves nothing behind.
func TestUserFile(t *testing.T) {
	etc := etcOf(t, "config.yaml", "")
	c := &userCommand{etc: etc}
	if err := os.Symlink("/dev/null", c.path()); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(etc + "/config.d")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := replaceFile(c.path(), "", dir); err == nil || !strings.Contains(err.Error(), "is not a regular file, and is not replaced by one") {
		t.Error(err)
	}
	if err := replaceFile(etc+"/none/users.yaml", "", dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if left, err := filepath.Glob(etc + "/config.d/.*"); err != nil || left != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := os.RemoveAll(etc); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(c.path(), "", dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := c.write("add", "alice", scram.New("x").String()); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestUsersAtOnce: of several that are added at the same time, none is lost.
func TestUsersAtOnce(t *testing.T) {
	etc := etcOf(t, "config.yaml", "")
	c := &userCommand{etc: etc}
	verifier := scram.New("x").String()
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if err := c.write("add", fmt.Sprint("user", i), verifier); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	cfg, err := config.Load(etc)
	if err != nil || len(cfg.Users) != 20 {
		t.Errorf("%v, %v", cfg, err)
	}
	if err := c.write("add", "user1", verifier); err == nil || !strings.Contains(err.Error(), "there is a user user1 already") {
		t.Error(err)
	}
}
