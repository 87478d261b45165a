package pgwire_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A moment that a client gives without an offset, as a constant, a parameter or a value of another type, is a time in its session's zone, and comes
// back in it. Messages have it in UTC.
func TestZoneOfCalls(t *testing.T) {
	f := newFDT(t, bank{procedures: `
  moment:
    parameters: {t: timestamptz, list: {type: "timestamptz[]", default: "{}"}}
    steps: [{on: outbox, put: ":t :list"}]
    returns: {t: timestamptz, list: "timestamptz[]"}
  day:
    parameters: {t: timestamptz}
    steps: [{on: outbox, put: "day"}]
    returns: {t: date}
`})
	c := f.connect("a", "timezone", "America/New_York")
	if zone := c.param("TimeZone"); zone != "America/New_York" {
		t.Errorf("the session begins in %s", zone)
	}
	const (
		there = "2026-07-01 12:00:00-04"
		utc   = "2026-07-01 16:00:00+00"
	)
	for _, call := range []string{
		"CALL moment('2026-07-01 12:00', '{2026-01-01 12:00}')",
		"CALL moment('2026-07-01 12:00'::timestamp, ARRAY['2026-01-01 12:00'::timestamp])",
		"CALL moment('2026-07-01 16:00Z', '{\"2026-01-01 17:00Z\"}')",
	} {
		if got, want := c.query(call), "D "+there+`|{"2026-01-01 12:00:00-05"}`; !slices.Contains(got, want) {
			t.Errorf("%s: %q, want %s", call, got, want)
		}
	}
	if got := c.query("CALL day('2026-07-01 02:00Z')"); !slices.Contains(got, "D 2026-06-30") {
		t.Errorf("the day in New York: %q", got)
	}
	c.want("SET TimeZone = 'UTC'", "C SET", "S TimeZone=UTC", "Z I")
	if got := c.query("CALL moment('2026-07-01 12:00')"); !slices.Contains(got, "D 2026-07-01 12:00:00+00|{}") {
		t.Errorf("in UTC: %q", got)
	}
	message := utc + ` {"2026-01-01 17:00:00+00"}`
	f.delivered(message, message, message, "day", "2026-07-01 12:00:00+00 {}")

	hello := f.connect("a", "timezone", "Nonsense/Zone").hello
	if len(hello) == 0 || !strings.HasPrefix(hello[len(hello)-2], `E FATAL 22023 invalid value for parameter "TimeZone"`) {
		t.Errorf("a startup in no zone: %q", hello)
	}

	// By a driver, in text and in binary.
	config, err := pgx.ParseConfig("host=" + f.dir + " port=7432 user=a dbname=db sslmode=disable timezone=Asia/Kathmandu")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	var text string
	if err := conn.QueryRow(t.Context(), "SELECT $1::timestamptz::text", "2026-07-01 12:00").Scan(&text); err != nil || text != "2026-07-01 12:00:00+05:45" {
		t.Errorf("by pgx: %s, %v", text, err)
	}
}
