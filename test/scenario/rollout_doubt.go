package scenario

import (
	"context"
	"fmt"
	"strings"
)

// spare is a second spool, and a procedure that writes to it.
func spare(directory string) settings {
	return settings{
		resources:  "{spare: {type: spool, directory: " + directory + "}}",
		procedures: `{keep: {parameters: {body: text}, steps: [{on: spare, put: ":body"}]}}`,
	}
}

// doubt takes a resource away, and then another store for it, while a transaction waits there; and settles that with the service
// stopped.
func doubt(ctx context.Context, s *Stage) error {
	const dir = "/var/lib/fdt/spare"
	if _, err := s.must(ctx, fmt.Sprintf("install -d -o fdt -g fdt -m 2770 %s %s-2", dir, dir)); err != nil {
		return err
	}
	if err := s.roll(ctx, spare(dir)); err != nil {
		return err
	}
	c, err := s.psql(ctx)
	if err != nil {
		return err
	}
	if _, err := c.do("BEGIN; CALL keep('kept'); PREPARE TRANSACTION 'held';"); err != nil {
		return err
	}
	if err := c.kill(); err != nil {
		return err
	}
	for _, step := range []struct {
		what   string
		config settings
		reason string
	}{
		{"a resource taken away", settings{}, `resource "spare" is not configured, and transactions wait there: "held"`},
		{"a resource pointed to another store", spare(dir + "-2"), `resource "spare" is `},
	} {
		if err := s.configure(ctx, step.config); err != nil {
			return err
		}
		if err := s.refusedRollout(ctx, step.what+" while a transaction is in doubt there", step.reason); err != nil {
			return err
		}
	}
	if err := s.configure(ctx, spare(dir)); err != nil {
		return err
	}
	if _, err := s.must(ctx, "systemctl stop fdt"); err != nil {
		return err
	}
	out, err := s.show(ctx, "fdtctl txn show --json held; fdtctl txn resolve --all")
	s.check(err != nil && strings.Contains(out, `"state": "prepared"`) && strings.Contains(out, "held: in doubt: waits for the decision of its coordinator, user peer:root"),
		"with the service stopped fdtctl shows what the resource says, and resolve --all what stays open", "%s", lastLine(out))
	out, err = s.show(ctx, "fdtctl txn resolve --all --rollback && fdtctl txn forget held && fdtctl txn resolve --all && ls "+dir+"/prepared "+dir+"/new")
	s.check(err == nil && strings.Contains(out, "held: aborted (operator)") && strings.Contains(out, "Nothing waits") && !strings.Contains(out, "fdt1-"),
		"with the service stopped fdtctl decides by explicit word, and nothing is left", "%s", lastLine(out))
	if _, err := s.must(ctx, "systemctl start fdt"); err != nil {
		return err
	}
	if err := s.serves(ctx); err != nil {
		return err
	}
	err = s.roll(ctx, settings{})
	s.check(err == nil, "a resource without open transactions can be taken away", "%v", err)
	return nil
}
