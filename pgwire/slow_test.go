package pgwire_test

import (
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/pgwire"
)

// TestCallsLogged tells of slow calls or of all, one line each, with what an operator looks for and no value, and of none where that is
// not asked for.
func TestCallsLogged(t *testing.T) {
	line := regexp.MustCompile(`msg="(a call was slow|a call has ended)" user=alice listener=\S+ remote=\S+ session=\d+ statement=(".*?"|\S+)( procedure=\S+)? ` +
		`duration=\S+s sqlstate=(\S+) gid=(\S*) rows=(\d+) message_id=(\S+)\n`)
	talk := func(t *testing.T, set func(*pgwire.Server)) (lines []string, j *journal, f *fdt) {
		j = &journal{}
		f = newFDT(t, bank{}, func(f *fdt, _ *config.Config) {
			f.wire.Logger = slog.New(slog.NewTextHandler(j, nil))
			set(f.wire)
		})
		c := f.connect("alice")
		c.want("CALL enqueue('secret')", "C CALL", "Z I")
		c.want("BEGIN; CALL enqueue('secret'); COMMIT", "C BEGIN", "C CALL", "C COMMIT", "Z I")
		c.want("CALL enqueue(NULL)", "E ERROR 22004 body is null, which a message cannot hold", "Z I")
		c.want("BEGIN; CALL enqueue('secret'); PREPARE TRANSACTION 'here'", "C BEGIN", "C CALL", "C PREPARE TRANSACTION", "Z I")
		c.want("COMMIT PREPARED 'here'", "C COMMIT PREPARED", "Z I")
		c.want("ROLLBACK PREPARED 'nowhere'", `E ERROR 42704 prepared transaction with identifier "nowhere" does not exist`, "Z I")
		c.want("BEGIN; SELECT enqueue(NULL)", "C BEGIN", "E ERROR 22004 body is null, which a message cannot hold", "Z E")
		c.want("COMMIT", "C ROLLBACK", "Z I")
		c.want("SELECT 1", "T ?column?:23/4/0", "D 1", "C SELECT 1", "Z I")
		c.want("COMMIT", "N WARNING 25P01 there is no transaction in progress", "C COMMIT", "Z I")
		// Calls outside of a block end with the request, and as it ends.
		c.want("CALL enqueue('secret'); CALL enqueue('secret')", "C CALL", "C CALL", "Z I")
		c.want("CALL enqueue('secret'); SELECT 1/0", "C CALL", "E ERROR 22012 division by zero", "Z I")
		c.want("CALL enqueue('secret'); BEGIN", "C CALL", "C BEGIN", "Z T")
		c.want("ROLLBACK", "C ROLLBACK", "Z I")
		for _, m := range line.FindAllStringSubmatch(j.String(), -1) {
			lines = append(lines, strings.Join([]string{m[2] + m[3], m[4], map[bool]string{true: "gid", false: "-"}[strings.HasPrefix(m[5], "fdt1-")], m[6]}, " "))
		}
		if strings.Contains(j.String(), "secret") {
			t.Errorf("a value is in the log:\n%s", j)
		}
		return lines, j, f
	}
	want := []string{
		"CALL procedure=enqueue 00000 gid 0", "CALL procedure=enqueue 00000 gid 0", "COMMIT 00000 gid 0", "CALL procedure=enqueue 22004 gid 0",
		"CALL procedure=enqueue 00000 gid 0", `"PREPARE TRANSACTION" 00000 - 0`, `"COMMIT PREPARED" 00000 - 0`, `"ROLLBACK PREPARED" 42704 - 0`,
		"SELECT procedure=enqueue 22004 gid 0", "ROLLBACK 00000 gid 0",
		"CALL procedure=enqueue 00000 gid 0", "CALL procedure=enqueue 00000 gid 0", "CALL procedure=enqueue 22012 gid 0",
		"CALL procedure=enqueue 00000 gid 0", "ROLLBACK 00000 gid 0",
	}
	for name, c := range map[string]struct {
		set  func(*pgwire.Server)
		says string
	}{
		"slow": {func(s *pgwire.Server) { s.SlowCall = time.Nanosecond }, "a call was slow"},
		"all":  {func(s *pgwire.Server) { s.SlowCall, s.CallRate = time.Hour, 100 }, "a call has ended"},
	} {
		t.Run(name, func(t *testing.T) {
			lines, j, _ := talk(t, c.set)
			if !slices.Equal(lines, want) || strings.Count(j.String(), c.says) != len(want) {
				t.Errorf("%s\nwant\n%s\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"), j)
			}
		})
	}
	for name, set := range map[string]func(*pgwire.Server){"off": func(*pgwire.Server) {}, "none": func(s *pgwire.Server) { s.SlowCall = time.Hour }} {
		t.Run(name, func(t *testing.T) {
			if lines, j, _ := talk(t, set); len(lines) > 0 {
				t.Error(j)
			}
		})
	}
}

// TestCallsLost tells of a call whose client has gone before its transaction has ended.
func TestCallsLost(t *testing.T) {
	j := &journal{}
	f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) {
		f.wire.CallRate, f.wire.Logger = 100, slog.New(slog.NewTextHandler(j, nil))
	})
	c := f.connect("alice")
	c.front.Send(&pgproto3.Parse{Query: "CALL enqueue('x')"})
	c.front.Send(&pgproto3.Bind{})
	c.front.Send(&pgproto3.Execute{})
	c.front.Send(&pgproto3.Flush{})
	if err := c.front.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 3 { // Parse, Bind and Execute
		if _, err := c.front.Receive(); err != nil {
			t.Fatal(err)
		}
	}
	c.conn.Close()
	testwait.Until(t, "it is told", func() bool { return strings.Contains(j.String(), "procedure=enqueue") })
	if !strings.Contains(j.String(), "sqlstate=08006") {
		t.Error(j)
	}
}

// TestCallsBounded leaves out what is more than so many lines a second, and says how many.
func TestCallsBounded(t *testing.T) {
	j := &journal{}
	f := newFDT(t, bank{}, func(f *fdt, _ *config.Config) {
		f.wire.CallRate, f.wire.Logger = 1, slog.New(slog.NewTextHandler(j, nil))
	})
	c := f.connect("alice")
	testwait.Until(t, "a line says how many it stands for", func() bool {
		for i := range 100 {
			c.want(fmt.Sprintf("CALL enqueue('%d')", i), "C CALL", "Z I")
		}
		return strings.Contains(j.String(), "left_out=")
	})
}
