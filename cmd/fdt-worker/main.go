// Fdt-worker is one worker of fdt's default server, see fdt-worker(8): the
// framework of package fdt with no code of its own, so that all it does is what
// the configuration says.
package main

import "github.com/fdtserver/fdt"

var version = "devel" // set by the linker

func main() { fdt.Main(fdt.Version(version)) }
