package value

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestZone compares names of zones with what PostgreSQL makes of them.
func TestZone(t *testing.T) {
	pg := oracle(t)
	for _, name := range []string{
		"UTC", "utc", "america/new_york", "Europe/Berlin", "EST5EDT", "EST", "GMT0", "Etc/GMT+5", "Zulu",
		"Nonsense/Zone", "", "Local", "right/UTC", "../UTC", "/etc/localtime", "America", "zone.tab", "tzdata.zi", "America/", "x", "Europe/Berlin ",
		"-5", "5.5", "+0", "0", "-0.25", "167", "168", "-168", " 5", "1e1", "nan", "inf", "--5", "167.99",
		"GMT+05:30", "gmt-5", "<+0530>-05:30", "ABC3", "ABC3:60", "ABC168", "A1", "AB-1", "UTC+", "<x", "UTC+3:4:5:6",
	} {
		r := pg.ExecParams(t.Context(), "SELECT set_config('TimeZone', $1, false), to_char(timestamptz '2026-07-01 12:00:00Z', 'YYYY-MM-DD HH24:MI:SS')", [][]byte{[]byte(name)}, nil, nil, nil).Read()
		loc, shown, err := Zone(name)
		if r.Err != nil {
			if e, ok := errors.AsType[*Error](err); !ok || e.Code != "22023" || !strings.Contains(r.Err.Error(), "22023") {
				t.Errorf("%q: %q, %v; PostgreSQL %v", name, shown, err, r.Err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v; PostgreSQL shows %s", name, err, r.Rows[0][0])
			continue
		}
		at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC).In(loc).Format(time.DateTime)
		if shown != string(r.Rows[0][0]) || at != string(r.Rows[0][1]) {
			t.Errorf("%q: %s, %s; PostgreSQL %s, %s", name, shown, at, r.Rows[0][0], r.Rows[0][1])
		}
		if _, again, err := Zone(shown); err != nil || again != shown {
			t.Errorf("%q is shown as %s, which is %s, %v", name, shown, again, err)
		}
	}
}

// What PostgreSQL takes for a zone and nobody means.
func TestOddZones(t *testing.T) {
	for _, name := range []string{"0x5", "5 ", "<>5", "5ABC", "1_0"} {
		if _, shown, err := Zone(name); err == nil {
			t.Errorf("%q is %s", name, shown)
		}
	}
}

// TestOffsets compares times of many zones, at and around their changes, with PostgreSQL's.
func TestOffsets(t *testing.T) {
	pg := oracle(t)
	r := rand.New(rand.NewPCG(*seed, 2))
	all := slices.Sorted(maps.Keys(zoneNames()))
	all = slices.DeleteFunc(all, func(name string) bool { _, _, err := Zone(name); return err != nil })
	for range *literals / 20 {
		loc, name, err := Zone(all[r.IntN(len(all))])
		must(t, err)
		must(t, pg.Exec(t.Context(), "SET TimeZone = '"+name+"'").Close())
		for range 20 {
			unix := r.Int64N(12_000_000_000) - 5_000_000_000 // 1811 to 2191
			if _, end := time.Unix(unix, 0).In(loc).ZoneBounds(); !end.IsZero() && r.IntN(4) > 0 {
				unix = end.Unix() + r.Int64N(4*3600) - 2*3600
			}
			text := time.Unix(unix, 0).In(loc).Format(time.DateTime) // which may stand for another moment, or for none
			answer := pg.ExecParams(t.Context(), "SELECT $1::timestamptz", [][]byte{[]byte(text)}, nil, nil, nil).Read()
			must(t, answer.Err)
			v, err := Timestamptz.ParseIn(loc, text)
			if got := string(v.AppendIn(loc, nil, false)); err != nil || got != string(answer.Rows[0][0]) {
				t.Errorf("%s in %s: %s, %v; PostgreSQL has %s", text, name, got, err, answer.Rows[0][0])
			}
		}
	}
}

// Without the system's zones those that the program brings along are found by their exact names.
func TestZoneAlone(t *testing.T) {
	system := zoneNames
	defer func() { zoneNames = system }()
	zoneNames = func() map[string]string { return namesBelow("/nonexistent") }
	zones.Clear() // of those that other tests have asked for
	for name, want := range map[string]string{"Pacific/Pitcairn": "Pacific/Pitcairn", "pacific/pitcairn": "", "utc": "UTC", "Nonsense/Zone": "", "Local": "", "": ""} {
		if _, shown, err := Zone(name); (err == nil) != (want != "") || shown != want {
			t.Errorf("%q: %q, %v", name, shown, err)
		}
	}
}
