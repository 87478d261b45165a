package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// site is the container with fdt installed, as seen from inside.
type site struct {
	databases bool // they are set up
}

// Where fdt's configuration and the worker's settings of a measure go.
const (
	configFile = "/etc/fdt/config.d/50-bench.yaml"
	dropIn     = "/etc/systemd/system/fdt-worker@.service.d/90-bench.conf"
	scratch    = "/var/lib/bench" // on the disk
)

// shell runs a script that has to succeed, and returns what it printed.
func (s *site) shell(ctx context.Context, script string) (string, error) {
	c := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	c.WaitDelay = time.Second
	out, err := c.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(out), fmt.Errorf("%.80s…: %w: %s%s", strings.Join(strings.Fields(script), " "), err, out, exit.Stderr)
	}
	return string(out), err
}

// write writes a file with the directories it needs.
func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// serve has fdt serve with this configuration beside the installed one and, unless they are empty, these settings of the worker's
// unit. It returns when only workers of the new generation are left.
func (s *site) serve(ctx context.Context, config, service string) error {
	if service != "" {
		service = "[Service]\n" + service
	}
	if err := errors.Join(write(configFile, config), write(dropIn, service)); err != nil {
		return err
	}
	if _, err := s.shell(ctx, "chgrp fdt "+configFile+"; systemctl daemon-reload; systemctl start fdt; fdtctl reload"); err != nil {
		return err
	}
	return s.settled(ctx)
}

// program is the setting that makes the worker another program.
func program(command string) string { return "ExecStart=\nExecStart=" + inside + "/" + command + "\n" }

// settled waits until the workers of earlier generations have gone.
func (s *site) settled(ctx context.Context) error {
	_, err := s.shell(ctx, `
		for i in {1..200}; do
			[ -n "$(systemctl list-units --plain --no-legend --state=activating,deactivating 'fdt-worker@*')" ] || exit 0
			sleep 0.1
		done
		systemctl list-units 'fdt-worker@*'; exit 1`)
	return err
}

// workers are the processes that serve.
func (s *site) workers(ctx context.Context) ([]int, error) {
	out, err := s.shell(ctx, `
		systemctl show -P MainPID $(systemctl list-units --plain --no-legend --state=active 'fdt-worker@*' | awk '{print $1}')`)
	if err != nil {
		return nil, err
	}
	var pids []int
	for word := range strings.FieldsSeq(out) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}
