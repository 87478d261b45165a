package main

import (
	"github.com/fdtserver/fdt/internal/cli"
	"github.com/fdtserver/fdt/internal/service"
)

// own is the service that commands are about; run has seen that its name is one.
func own() service.Service {
	s, _ := service.Own()
	return s
}

// What all commands have in common, here by short names.
var (
	parse = cli.Parse
	fail  = cli.Fail
	span  = cli.Span
	dash  = cli.Dash
	plain = cli.Plain
)

const anyNumber = cli.AnyNumber
