package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/fdtserver/fdt/internal/cli"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/service"
)

// serviceOption says before the command which service it is about.
const serviceOption = "--service"

// forService takes --service NAME from the beginning of a command line, for this process and those that it starts: the service that all else is
// about. Without it that is the one of the environment.
func forService(args []string) (rest []string, err error) {
	rest = args
	if len(args) > 0 {
		option, name, given := strings.Cut(args[0], "=")
		if option == serviceOption || option == serviceOption[1:] {
			rest = args[1:]
			if !given && len(rest) == 0 {
				return nil, errors.New("--service takes the name of a service")
			}
			if !given {
				name, rest = rest[0], rest[1:]
			}
			_ = os.Setenv(service.Env, name) // cannot fail: no argument has a zero byte
		}
	}
	_, err = service.Own()
	return rest, err
}

// own is the service that commands are about; run has seen that its name is one.
func own() service.Service {
	s, _ := service.Own()
	return s
}

// What all commands have in common, here by short names.
var (
	parse = cli.Parse
	span  = cli.Span
	dash  = cli.Dash
	plain = cli.Plain
)

// fail prints why a command has failed, with what would have helped, and returns its exit code.
func fail(stderr io.Writer, what string, err error) int {
	return cli.Fail(stderr, what, forRoot(err, os.Geteuid()))
}

// forRoot says of what was denied to a user that it is for root.
func forRoot(err error, uid int) error {
	if uid != 0 && (errors.Is(err, fs.ErrPermission) || errors.Is(err, control.ErrDenied)) {
		return fmt.Errorf("this is for root: %w", err)
	}
	return err
}

const anyNumber = cli.AnyNumber
