package query

import (
	"math"
	"time"

	"github.com/fdtserver/fdt/internal/value"
)

func atNow(t *value.Type) *Function {
	return fn(t, func(r *Run, _ []value.Value) (value.Value, error) { return moment(r.Now).AsIn(r.Zone, t) })
}

var clockNow = fn(value.Timestamptz, func(*Run, []value.Value) (value.Value, error) { return moment(time.Now()), nil })

var timeFunctions = map[string][]*Function{
	"now":                   one(atNow(value.Timestamptz)),
	"current_timestamp":     one(atNow(value.Timestamptz)),
	"transaction_timestamp": one(atNow(value.Timestamptz)),
	"statement_timestamp":   one(atNow(value.Timestamptz)),
	"clock_timestamp":       one(clockNow),
	"localtimestamp":        one(atNow(value.Timestamp)),
	"current_date":          one(atNow(value.Date)),
	"localtime":             one(atNow(value.Time)),
	"extract":               parts(value.Numeric),
	"date_part":             parts(value.Float8),
	"date_trunc":            {fn(value.Timestamptz, truncateTime, value.Text, value.Timestamptz), fn(value.Timestamp, truncateTime, value.Text, value.Timestamp)},
	"timezone":              {fn(value.Timestamp, atZone, value.Text, value.Timestamptz), fn(value.Timestamptz, atZone, value.Text, value.Timestamp)},
	"to_timestamp":          one(fn(value.Timestamptz, toTimestamp, value.Float8)),
	"make_date":             one(fn(value.Date, makeDate, value.Int4, value.Int4, value.Int4)),
	"isfinite":              {fn(value.Bool, finite, value.Timestamptz), fn(value.Bool, finite, value.Timestamp), fn(value.Bool, finite, value.Date)},
}

func parts(result *value.Type) []*Function {
	var list []*Function
	for _, t := range []*value.Type{value.Timestamptz, value.Timestamp, value.Interval, value.Date, value.Time} {
		list = append(list, fn(result, func(r *Run, args []value.Value) (value.Value, error) {
			v, err := part(r, args)
			if err != nil {
				return v, err
			}
			return v.As(result)
		}, value.Text, t))
	}
	return list
}

func atZone(_ *Run, args []value.Value) (value.Value, error) {
	loc, _, err := value.Zone(args[0].Text)
	if err != nil {
		return args[1], errorf("22023", "time zone %q not recognized", args[0].Text)
	}
	to := value.Timestamp
	if args[1].Type == value.Timestamp {
		to = value.Timestamptz
	}
	return args[1].AsIn(loc, to)
}

func toTimestamp(_ *Run, args []value.Value) (value.Value, error) {
	s := float(args[0])
	if !(s > -2e11 && s < 9.2e12) {
		return value.Timestamptz.Parse(map[bool]string{true: "infinity", false: "-infinity"}[s > 0])
	}
	epoch, _ := value.Timestamptz.Parse("1970-01-01 00:00:00+00")
	return epoch.Shift(nil, value.Span{Micros: int64(math.RoundToEven(s * 1e6))})
}

func makeDate(_ *Run, args []value.Value) (value.Value, error) {
	y, m, d := atoi(args[0]), atoi(args[1]), atoi(args[2])
	if y < 1 || y > 9999 || m < 1 || m > 12 || d < 1 || d > time.Date(y, time.Month(m)+1, 0, 0, 0, 0, 0, time.UTC).Day() {
		return args[0], errorf("22008", "date field value out of range: %d-%02d-%02d", y, m, d)
	}
	return value.Date.Parse(time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC).Format("2006-01-02"))
}

func finite(_ *Run, args []value.Value) (value.Value, error) {
	return boolean(!endless(args[0].Micros())), nil
}
