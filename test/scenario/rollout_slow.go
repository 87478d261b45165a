package scenario

import (
	"context"
	"strings"
)

// slowCalls has the journal tell of calls that take as long as the configuration says, in fields of their own.
func slowCalls(ctx context.Context, s *Stage) error {
	const file = "/etc/fdt/config.d/60-log.yaml"
	if _, err := s.must(ctx, "echo 'log: {slow: 1ms}' >"+file+" && systemctl reload fdt && "+psql+` -c "CALL enqueue('slow')"`); err != nil {
		return err
	}
	if _, err := until(ctx, "the journal tells", func() (bool, error) {
		out, err := s.quiet(ctx, "journalctl -o json FDT_PROCEDURE=enqueue FDT_USER=root FDT_SQLSTATE=00000 -n 1")
		return strings.Contains(out, `"MESSAGE":"a call was slow`) && strings.Contains(out, `"FDT_DURATION":"`) && strings.Contains(out, `"FDT_GID":"fdt1-`) &&
			strings.Contains(out, `"FDT_REMOTE":"unix:uid=0,pid=`) && strings.Contains(out, `"FDT_LISTENER":"`), err
	}); err != nil {
		return err
	}
	// All calls, with one that is an end of a transaction, and no value of any.
	if _, err := s.must(ctx, "echo 'log: {calls: all}' >"+file+" && systemctl reload fdt && "+psql+
		` -c "BEGIN; CALL enqueue('unseen'); PREPARE TRANSACTION 'logged'" -c "ROLLBACK PREPARED 'logged'"`); err != nil {
		return err
	}
	if _, err := until(ctx, "the journal tells of all calls", func() (bool, error) {
		out, err := s.quiet(ctx, "journalctl -o json MESSAGE_ID=18e37e734dbc45e994be8b2d4214449b FDT_GID=logged; "+
			"journalctl -o json MESSAGE_ID=18e37e734dbc45e994be8b2d4214449b FDT_STATEMENT=CALL -n 1; journalctl -o json -u 'fdt-worker@*' | grep -c unseen || true")
		return strings.Contains(out, `"FDT_STATEMENT":"CALL"`) && strings.Contains(out, `"FDT_STATEMENT":"PREPARE TRANSACTION"`) &&
			strings.Contains(out, `"FDT_STATEMENT":"ROLLBACK PREPARED"`) && strings.Contains(out, `"FDT_GID":"logged"`) &&
			strings.Contains(out, `"FDT_SESSION":"`) && strings.Contains(out, `"FDT_ROWS":"0"`) && strings.HasSuffix(strings.TrimSpace(out), "\n0"), err
	}); err != nil {
		return err
	}
	out, err := s.show(ctx, "journalctl -o cat MESSAGE_ID=5dcc58e59b0243328e3ab09ef7bc2e4e -n 1; rm "+file+" && systemctl reload fdt")
	s.check(err == nil && strings.Contains(out, "a call was slow: user=root "), "the journal tells of slow calls", "%s", grep(out, "slow"))
	_, err = s.settled(ctx)
	return err
}
