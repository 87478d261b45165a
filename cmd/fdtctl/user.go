package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/cli"
	"github.com/fdtserver/fdt/internal/scram"
)

const userUsage = `Usage: fdtctl user add [--reload] USER
       fdtctl user passwd [--reload] USER
       fdtctl user remove [--reload] USER
       fdtctl user list [--json]

Users who log in with a password. The first three change config.d/users.yaml, and
no other file, if the whole configuration is sound then. A password is read twice
from a terminal and once from anything else; what is written proves it and does
not hold it. --reload rolls the configuration out as well, as fdtctl reload does.
`

// usersFile is the file of a configuration that fdtctl user changes.
const usersFile = "config.d/users.yaml"

// userCommand is one fdtctl user at work.
type userCommand struct {
	etc            string // directory of the configuration
	reload, asJSON bool
	stdout, stderr io.Writer
}

// runUser looks after the users of the configuration. It exits 0 if done, 1 if refused or failed, 2 if called wrongly.
func runUser(args []string, stdout, stderr io.Writer) int {
	c := &userCommand{stdout: stdout, stderr: stderr}
	verb := ""
	if len(args) > 0 {
		verb = args[0]
	}
	flags := flag.NewFlagSet("fdtctl user "+verb, flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(stderr, userUsage) }
	flags.StringVar(&c.etc, "etc", own().Etc(), "")
	do, wanted := c.change, 1
	switch verb {
	case "add", "passwd", "remove":
		flags.BoolVar(&c.reload, "reload", false, "")
	case "list":
		flags.BoolVar(&c.asJSON, "json", false, "")
		do, wanted = c.list, 0
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, userUsage)
		return 0
	default:
		fmt.Fprint(stderr, userUsage)
		return 2
	}
	rest, code, done := cli.Parse(flags, args[1:], wanted, stderr)
	if done {
		return code
	}
	return do(verb, strings.Join(rest, ""))
}

// change adds a user, gives it another password, or removes it.
func (c *userCommand) change(verb, name string) int {
	err := config.CheckUser(name)
	if err == nil {
		_, err = c.find(verb, name)
	}
	verifier := ""
	if err == nil && verb != "remove" {
		var password string
		if password, err = askPassword(os.Stdin, c.stderr, name); err == nil {
			verifier = scram.New(password).String()
		}
	}
	if err == nil {
		err = c.write(verb, name, verifier)
	}
	if err != nil {
		return cli.Fail(c.stderr, "user "+verb, err)
	}
	what := map[string]string{"add": "user %s is added to %s", "passwd": "the password of user %s is changed in %s", "remove": "user %s is removed from %s"}[verb]
	fmt.Fprintf(c.stdout, what+"\n", name, c.path())
	if c.reload {
		return runReload(nil, c.stdout, c.stderr)
	}
	fmt.Fprintf(c.stdout, "nothing of that serves before: systemctl reload %s\n", own())
	return 0
}

func (c *userCommand) path() string { return filepath.Join(c.etc, usersFile) }

// find reads the configuration and refuses what cannot be done there to a user: one that stands in another file is left alone.
func (c *userCommand) find(verb, name string) ([]config.Text, error) {
	texts, err := config.Texts(c.etc)
	if err != nil {
		return nil, err
	}
	_, places, fault := config.ParsePlaced(texts) // the fault may be what is mended here: that there is no user
	file, line := places.Written("users." + name)
	switch {
	case file != "" && verb == "add":
		return nil, fmt.Errorf("there is a user %s already, at %s:%d", name, file, line)
	case file == "" && verb != "add" && fault != nil:
		return nil, fault
	case file == "" && verb != "add":
		return nil, fmt.Errorf("there is no user %s in %s", name, c.etc)
	case file != "" && file != c.path():
		return nil, fmt.Errorf("user %s stands at %s:%d, and only %s is changed here: edit it there, with what fdtctl password prints", name, file, line, c.path())
	}
	return texts, nil
}

// plan returns what is to stand in the file, once the whole configuration with that has no fault.
func (c *userCommand) plan(verb, name, verifier string) (string, error) {
	texts, err := c.find(verb, name)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(texts, func(t config.Text) bool { return t.Name == c.path() })
	if i < 0 {
		i = len(texts)
		texts = append(texts, config.Text{Name: c.path(), Text: "# Users who log in with a password, as \"fdtctl user\" writes them.\n"})
	}
	texts[i].Text = config.WithUser(texts[i].Text, name, verifier)
	if _, err = config.Parse(texts); err != nil {
		return "", fmt.Errorf("the configuration would have faults, so nothing is changed:\n%w", err)
	}
	return texts[i].Text, nil
}

// write changes the file: one fdtctl at a time, and so that at any moment, a power cut included, there is the old text or the new.
func (c *userCommand) write(verb, name, verifier string) (err error) {
	dir, err := os.Open(filepath.Dir(c.path()))
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeDirectory(filepath.Dir(c.path())); err == nil {
			dir, err = os.Open(filepath.Dir(c.path()))
		}
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	err = os.NewSyscallError("flock", unix.Flock(int(dir.Fd()), unix.LOCK_EX))
	text := ""
	if err == nil {
		text, err = c.plan(verb, name, verifier)
	}
	if err == nil {
		err = replaceFile(c.path(), text, dir)
	}
	if err == nil {
		err = dir.Sync()
	}
	return err
}

// makeDirectory makes a directory of a configuration for the user and the group of the one that it is in, and for nobody else.
func makeDirectory(name string) error {
	st, err := os.Stat(filepath.Dir(name))
	if err != nil {
		return err
	}
	owner, _ := st.Sys().(*syscall.Stat_t)
	if err = os.Mkdir(name, 0o700); err != nil {
		return err // also of one that another has made just now, who is at it
	}
	return errors.Join(os.Chown(name, int(owner.Uid), int(owner.Gid)), os.Chmod(name, 0o750))
}

// replaceFile puts a text in the place of a file in dir, with its owner and mode; a new one is for root and the directory's group, as all
// of the configuration is.
func replaceFile(name, text string, dir *os.File) error {
	st, err := os.Lstat(name)
	mode := fs.FileMode(0o640)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		st, err = dir.Stat()
	case err == nil && !st.Mode().IsRegular():
		err = fmt.Errorf("%s is not a regular file, and is not replaced by one", name)
	case err == nil:
		mode = st.Mode().Perm()
	}
	if err != nil {
		return err
	}
	owner, _ := st.Sys().(*syscall.Stat_t)
	temp := filepath.Join(dir.Name(), "."+filepath.Base(name)+".new") // which no reader of the configuration takes for a part of it
	_ = os.Remove(temp)                                               // of one that was killed
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chown(int(owner.Uid), int(owner.Gid)), f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return nil
}

// listed is one user of the configuration, as JSON.
type listed struct {
	Name string `json:"name"`
	File string `json:"file"`
	Line int    `json:"line"`
}

// list prints the users of the whole configuration, with the places where they stand.
func (c *userCommand) list(string, string) int {
	cfg, places, err := config.LoadPlaced(c.etc)
	if err != nil {
		return cli.Fail(c.stderr, "user list", err)
	}
	users, rows := []listed{}, [][]string{{"USER", "STANDS AT"}}
	for _, name := range slices.Sorted(maps.Keys(cfg.Users)) {
		file, line := places.Written("users." + name)
		users = append(users, listed{name, file, line})
		rows = append(rows, []string{name, fmt.Sprintf("%s:%d", file, line)})
	}
	if c.asJSON {
		return printJSON("user list", users, c.stdout, c.stderr)
	}
	if len(users) == 0 {
		fmt.Fprintln(c.stdout, "there are no users with a password")
		return 0
	}
	fmt.Fprint(c.stdout, table(rows, math.MaxInt))
	return 0
}
