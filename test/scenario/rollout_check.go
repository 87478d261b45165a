package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// checks has fdtctl check look at configurations that are sound by themselves and would not serve: what the master or the workers
// cannot read, certificates, databases and statements.
func checks(ctx context.Context, s *Stage) error {
	for _, part := range []func(context.Context, *Stage) error{checkReadable, checkHidden, checkLive} {
		if err := part(ctx, s); err != nil {
			return err
		}
	}
	return s.roll(ctx, settings{})
}

// checked is what fdtctl check --json prints.
type checked struct {
	Valid  bool `json:"valid"`
	Faults []struct {
		File string `json:"file"`
		Line int    `json:"line"`
		What string `json:"what"`
	} `json:"faults"`
	Warnings []struct {
		What string `json:"what"`
	} `json:"warnings"`
}

// faultsOf checks a configuration and returns its faults, a line each.
func (s *Stage) faultsOf(ctx context.Context, flags string) (checked, string, error) {
	out, err := s.quiet(ctx, "fdtctl check --json "+flags+" || true")
	var c checked
	if err == nil {
		if err = json.Unmarshal([]byte(out), &c); err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
	}
	var lines []string
	for _, f := range c.Faults {
		lines = append(lines, fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.What))
	}
	return c, strings.Join(lines, "\n"), err
}

// checkReadable takes from the service what it has to read.
func checkReadable(ctx context.Context, s *Stage) error {
	tls := `{public: {address: "127.0.0.1:7433", auth: cert, tls: {certificate: /etc/fdt/c.pem, key: /etc/fdt/k.pem, client_ca: /etc/fdt/c.pem}}}`
	if err := s.configure(ctx, settings{listen: tls}); err != nil {
		return err
	}
	if _, err := s.must(ctx, `cd /etc/fdt && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=here -days 100 -keyout k.pem -out c.pem 2>/dev/null
		chown root:fdt k.pem c.pem; chmod 0640 c.pem; chmod 0600 k.pem; echo 'session: {statements: 100}' >config.d/60-strange.yaml; chown nobody:nogroup config.d/60-strange.yaml; chmod 0600 config.d/60-strange.yaml`); err != nil {
		return err
	}
	c, text, err := s.faultsOf(ctx, "")
	if err != nil {
		return err
	}
	s.check(!c.Valid && len(c.Faults) == 2 && strings.Contains(text, "/etc/fdt/config.d/60-strange.yaml:0: the master cannot read it: permission denied") &&
		strings.Contains(text, "/etc/fdt/config.d/50-rollout.yaml:4: workers cannot read /etc/fdt/k.pem: permission denied"),
		"fdtctl check as root tells what the master and the workers cannot read, with the place", "%s", text)
	if _, err := s.must(ctx, "rm /etc/fdt/config.d/60-strange.yaml; chmod 0640 /etc/fdt/k.pem"); err != nil {
		return err
	}
	out, err := s.show(ctx, "fdtctl check --live")
	s.check(err == nil && strings.Contains(out, "is valid"), "with the right permissions nothing is wrong", "%s", out)
	out, err = s.show(ctx, "mkdir /tmp/draft && cp -r /etc/fdt/. /tmp/draft && chmod -R go= /tmp/draft && fdtctl check --live /tmp/draft")
	s.check(err == nil && strings.Contains(out, "is valid"), "nor with a draft that nobody but root can read", "%s", out)
	return ctx.Err()
}

// checkHidden names what workers have another directory in place of.
func checkHidden(ctx context.Context, s *Stage) error {
	if _, err := s.must(ctx, "install -d -o fdt -g fdt -m 2770 /tmp/spool /home/spool"); err != nil {
		return err
	}
	if err := s.configure(ctx, settings{resources: "{one: {type: spool, directory: /tmp/spool}, two: {type: spool, directory: /home/spool}, bank: {type: postgres, dsn: \"host=/tmp\"}}"}); err != nil {
		return err
	}
	_, text, err := s.faultsOf(ctx, "")
	if err != nil {
		return err
	}
	s.check(strings.Contains(text, "50-rollout.yaml:4: /tmp/spool: workers do not see it") && strings.Contains(text, "PrivateTmp=") &&
		strings.Contains(text, "50-rollout.yaml:4: /home/spool: workers do not see it") && strings.Contains(text, "ProtectHome=") &&
		strings.Contains(text, "50-rollout.yaml:4: /tmp: workers do not see it"),
		"/tmp and /home are refused with the reason by fdtctl check", "%s", text)
	out, err := s.show(ctx, "fdtctl reload")
	s.check(err != nil && strings.Contains(out, "50-rollout.yaml:4:") && strings.Contains(out, "PrivateTmp=") && strings.Contains(out, "ProtectHome="),
		"and by a reload, at the same place", "%s", out)
	return ctx.Err()
}

// checkLive tries a configuration with a certificate that has ended, a database that is not fit and a statement that is wrong.
func checkLive(ctx context.Context, s *Stage) error {
	c := banks
	c.procedures = `{lookup: {steps: [{on: bank_a, sql: "SELECT 1 FROM nowhere"}]}}`
	c.listen = `{public: {address: "0.0.0.0:7433", auth: cert, tls: {certificate: /etc/fdt/c.pem, key: /etc/fdt/other.pem, client_ca: /etc/fdt/c.pem}}, taken: {address: /run/taken, auth: trust}}`
	c.workers = "{count: 2, threads: 60000}"
	if err := s.configure(ctx, c); err != nil {
		return err
	}
	if _, err := s.must(ctx, `systemd-run --quiet --unit=taken socat UNIX-LISTEN:/run/taken,fork SYSTEM:true && until [ -S /run/taken ]; do sleep 0.1; done
		cd /etc/fdt && openssl genpkey -algorithm ec -pkeyopt ec_paramgen_curve:P-256 -out other.pem && chown root:fdt other.pem && chmod 0640 other.pem; systemctl start postgresql; systemctl stop mariadb`); err != nil {
		return err
	}
	_, text, err := s.faultsOf(ctx, "--live")
	if err != nil {
		return err
	}
	s.check(strings.Contains(text, "50-rollout.yaml:4: ") && strings.Contains(text, "private key does not match"), "fdtctl check --live: a key of another certificate", "%s", text)
	s.check(strings.Contains(text, "50-rollout.yaml:5: resource bank_b is not available"), "a database that is down, at its place", "%s", text)
	s.check(strings.Contains(text, "50-rollout.yaml:6: ") && strings.Contains(text, `"nowhere" does not exist`), "a statement for a table that is not there, at its step", "%s", text)
	s.check(strings.Contains(text, "50-rollout.yaml:1: too few file descriptors: the limit is "), "more threads than the limit of descriptors allows, at their place", "%s", text)
	s.check(strings.Contains(text, "50-rollout.yaml:4: /run/taken is a socket that another process serves"), "a path at which another process accepts", "%s", text)
	_, err = s.must(ctx, "systemctl stop postgresql taken; rm -f /run/taken; rm -r /etc/fdt/*.pem /tmp/spool /home/spool")
	return err
}
