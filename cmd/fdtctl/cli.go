package main

import "github.com/fdtserver/fdt/internal/cli"

// What all commands have in common, here by short names.
var (
	parse = cli.Parse
	fail  = cli.Fail
	span  = cli.Span
	dash  = cli.Dash
	plain = cli.Plain
)

const anyNumber = cli.AnyNumber
