package pgwire_test

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/testdb"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/pgwire"
)

// TestSettingsTable holds the table of settings in fdt-worker(8) against what is answered to each: that it is applied, has a
// single value and refuses others, has no effect and says so, or cannot be set.
func TestSettingsTable(t *testing.T) {
	page, err := os.ReadFile("../docs/man/fdt-worker.8")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), ".Sh SETTINGS\n")
	table, _, _ = strings.Cut(table, "\n.Sh ")
	documented := map[string]string{}
	effect := ""
	for line := range strings.Lines(table) {
		if e, ok := strings.CutPrefix(line, ".It Em "); ok {
			effect = strings.TrimSpace(e)
		} else if effect != "" {
			for _, name := range regexp.MustCompile(`^\.Li ([A-Za-z_.]+)`).FindAllStringSubmatch(line, -1) {
				documented[name[1]] = effect
			}
		}
	}
	f := newFDT(t, bank{})
	for _, s := range pgwire.Settings() {
		if got := documented[s.Name]; got != s.Effect {
			t.Errorf("%s: it is %s, and documented as %q", s.Name, s.Effect, got)
		}
		delete(documented, s.Name)
		c := f.connect("a")
		value := s.Initial
		if s.Effect == "without effect" {
			switch {
			case s.Name == "extra_float_digits":
				value = "0"
			case s.Initial == "on":
				value = "off"
			case s.Initial == "off":
				value = "on"
			default:
				value += "x"
			}
			c.want("SET "+s.Name+" = '"+value+"'", `N WARNING 01000 parameter "`+s.Name+`" has no effect in fdt`, "C SET", "Z I")
			c.want("SET client_min_messages = error; SET "+s.Name+" = '"+value+"'", "C SET", "C SET", "Z I")
			continue
		}
		got := strings.Join(c.query("SET "+s.Name+" = '"+value+"'"), ", ")
		want := "C SET, Z I"
		if s.Effect == "fixed" {
			want = `E ERROR 55P02 parameter "` + s.Name + `" cannot be changed, Z I`
		}
		if strings.HasPrefix(s.Name, "transaction_") && s.Name != "transaction_timeout" { // the transaction's own
			continue
		}
		if got != want {
			t.Errorf("%s: %s", s.Name, got)
		}
		if s.Effect == "of one value" {
			if got := c.query("SET " + s.Name + " = 'nonsense'"); !strings.HasPrefix(got[0], "E ERROR 22023 ") {
				t.Errorf("%s: %s", s.Name, got)
			}
		}
	}
	for name := range documented {
		t.Errorf("%s is documented, and not known", name)
	}
	// Also what comes at the start is answered.
	c := f.connect("a", "options", "-c geqo=off -c lock_timeout=5s", "application_name", "J\u00e4ger\x01"+strings.Repeat("x", 100))
	if hello := strings.Join(c.hello, ", "); !strings.Contains(hello, `N WARNING 01000 parameter "geqo" has no effect in fdt`) || strings.Contains(hello, "lock_timeout") {
		t.Error(hello)
	}
	if got := c.param("application_name"); !strings.HasPrefix(got, "J??ger?xxx") || len(got) != 63 {
		t.Error(got)
	}
}

// TestClientLimits shows that a client's own limits hold where they are stricter than the configuration's, and no others.
func TestClientLimits(t *testing.T) {
	f := newFDT(t, withBank(t), func(f *fdt, _ *config.Config) { f.limits.Transaction = time.Hour })
	c := f.connect("a")
	c.want("SET idle_session_timeout = 50", "C SET", "Z I")
	c.answers("silence", c.read(), "E FATAL 57P05 terminating connection due to idle-session timeout", "closed")

	c = f.connect("a")
	c.want("SET idle_session_timeout = 50; BEGIN; CALL enqueue('x')", "C SET", "C BEGIN", "C CALL", "Z T") // not in a transaction
	c.want("SET LOCAL transaction_timeout = '50ms'", "C SET", "Z T")
	c.answers("late", c.read(), "E FATAL 25P04 terminating connection due to transaction timeout", "closed")
	testwait.Until(t, "rolled back", func() bool { return f.staged() == 0 })

	f = newFDT(t, withBank(t), func(f *fdt, _ *config.Config) { f.limits.Transaction = 50 * time.Millisecond })
	c = f.connect("a", "options", "-c transaction_timeout=1h")
	c.want("BEGIN", "C BEGIN", "Z T")
	c.answers("late", c.read(), "E FATAL 25P04 terminating connection due to transaction timeout", "closed")
}

const lockProcedures = `
  add:
    parameters: {id: bigint, amount: bigint}
    steps: [{on: bank, sql: "UPDATE account SET balance = balance + :amount WHERE id = :id"}]
`

// TestLockTimeout shows that a wait for a lock ends alike in both databases: with 55P03 after the client's lock_timeout, where
// that is stricter than the configuration's, and else with 40P01.
func TestLockTimeout(t *testing.T) {
	my, err := testdb.StartMariaDB()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := my.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(my.Database(t.Context(), "bank"), my.Exec(t.Context(), "bank",
		"CREATE TABLE account (id bigint PRIMARY KEY, balance bigint NOT NULL) ENGINE=InnoDB", "INSERT INTO account VALUES (1, 0)")); err != nil {
		t.Fatal(err)
	}
	pg := withBank(t)
	pg.procedures = lockProcedures
	if err := postgresql(t).Exec(t.Context(), "bank", "INSERT INTO account VALUES (1, 0)"); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]bank{"PostgreSQL": pg, "MariaDB": {"mariadb", my.DSN("fdt", "bank"), lockProcedures}} {
		for _, c := range []struct{ configured, own, want string }{
			{"1s", "1h", "40P01"}, {"1s", "0", "40P01"}, {"1h", "1s", "55P03"}, {"0s", "1s", "55P03"},
		} {
			t.Run(name+" "+c.configured+" "+c.own, func(t *testing.T) {
				f := newFDT(t, b, func(f *fdt, _ *config.Config) { f.limits.Lock, _ = time.ParseDuration(c.configured) })
				holder, waiter := f.connect("a"), f.connect("a", "options", "-c lock_timeout="+c.own)
				holder.want("BEGIN; CALL add(1, 1)", "C BEGIN", "C CALL", "Z T")
				got := waiter.query("CALL add(1, 1)")
				if !strings.HasPrefix(got[0], "E ERROR "+c.want+" ") {
					t.Errorf("%q", got)
				}
			})
		}
	}
}
