package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/neighbour"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/snapshot"
	"github.com/fdtserver/fdt/internal/unit"
)

// generator writes the units of one service.
type generator struct {
	root    string
	service service.Service
	stderr  io.Writer
}

func (g generator) run(dir string) int {
	status := 0
	serving, leaving, err := g.choose()
	if errors.Is(err, errGone) {
		return 0
	}
	if err != nil {
		g.complain(err)
		status = 1
	}
	if len(serving) == 0 {
		return 1
	}
	err = errors.Join(unit.WriteAll(g.service, dir, serving, leaving), unit.WriteTemplates(g.service, filepath.Join(g.root, unit.Packaged), dir))
	if err != nil {
		g.complain(err)
		status = 1
	}
	return status
}

// choose returns the configurations that count, and what had to be passed over for them: those whose listeners
// are to be open, and those whose workers only drain.
func (g generator) choose() (serving, leaving []*config.Config, err error) {
	dir := snapshot.Dir(filepath.Join(g.root, g.service.Run()))
	state, err := dir.ReadState()
	live := state.Live()
	known := err == nil
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	} else if err != nil {
		// What vanishes from the output is closed by systemd, so rather too much than too little.
		var also error
		live, also = dir.Generations()
		err = errors.Join(err, also)
	}
	for _, gen := range live {
		c, fault := dir.Load(gen)
		if fault != nil {
			err = errors.Join(err, fmt.Errorf("the configuration of generation %d is not accepted any more: %w", gen, fault))
			c, fault = dir.LoadResolved(gen)
		}
		switch {
		case fault != nil:
			err = errors.Join(err, fmt.Errorf("and what it meant is not known, so its listeners close: %w", fault))
		case known && slices.Contains(state.Draining, gen):
			leaving = append(leaving, c)
		default:
			serving = append(serving, c)
		}
	}
	if len(serving) > 0 {
		return serving, leaving, err
	}
	c, fault := g.boot()
	if c != nil {
		serving = append(serving, c)
	}
	return serving, leaving, errors.Join(err, fault)
}

// errGone: a further service that does not serve was taken away, and its state tells of it until the host goes down.
var errGone = errors.New("there is no such service any more")

// boot returns what to serve when nothing serves yet.
func (g generator) boot() (*config.Config, error) {
	etc := filepath.Join(g.root, g.service.Etc())
	if _, err := os.Stat(etc); errors.Is(err, fs.ErrNotExist) && g.service != service.Default {
		return nil, errGone
	}
	c, err := g.load(etc)
	if err == nil {
		return c, nil
	}
	c, fault := g.load(filepath.Join(g.root, g.service.LastGood()))
	if fault != nil {
		return nil, errors.Join(errors.New("the configuration is faulty and there is no last good one, so there are no listeners"), err, fault)
	}
	return c, errors.Join(errors.New("the configuration is faulty, the last good one is used, from "+g.service.LastGood()), err)
}

// load reads a configuration, which must not have what is another service's.
func (g generator) load(dir string) (*config.Config, error) {
	c, err := config.Load(dir)
	if err == nil {
		err = neighbour.Refuse(g.root, g.service, c)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// The kernel takes ten lines from one writer in five seconds, printk_devkmsg of its parameters, and about a
// thousand bytes for each, printk(9).
const (
	mostLines = 8
	lineBytes = 900
)

// complain tells the kernel's log, which is all that there is at this time, or else standard error: the most
// important first, one line each, without the quoted lines of the files.
func (g generator) complain(err error) {
	out := g.stderr
	if kmsg, err := os.OpenFile(filepath.Join(g.root, "dev/kmsg"), os.O_WRONLY|os.O_APPEND|syscall.O_NONBLOCK, 0); err == nil {
		defer kmsg.Close()
		out = kmsg
	}
	var lines []string
	for line := range strings.Lines(err.Error()) {
		if !strings.HasPrefix(line, " ") {
			line = strings.TrimSuffix(line, "\n")
			lines = append(lines, line[:min(len(line), lineBytes)])
		}
	}
	if more := len(lines) - mostLines; more > 0 {
		lines = append(lines[:mostLines], fmt.Sprintf("and %d more; fdtctl check shows them", more))
	}
	for _, line := range lines {
		fmt.Fprintf(out, "%sfdt-generator: %s\n", levelError, line)
	}
}
