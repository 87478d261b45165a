package query

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/fdtserver/fdt/internal/value"
)

// timeRule is an operator of dates, times and intervals.
type timeRule struct {
	op                  string
	left, right, result *value.Type
	do                  func(r *Run, a, b value.Value) (value.Value, error)
}

const dayMicros = 24 * 3600 * 1_000_000

// endless tells whether microseconds stand for infinity.
func endless(us int64) bool { return us == math.MaxInt64 || us == math.MinInt64 }

func shift(sign int) func(r *Run, a, b value.Value) (value.Value, error) {
	return func(r *Run, a, b value.Value) (value.Value, error) {
		s := value.SpanOf(b)
		if sign < 0 {
			s = s.Negate()
		}
		return a.Shift(r.Zone, s)
	}
}

func swapped(do func(r *Run, a, b value.Value) (value.Value, error)) func(r *Run, a, b value.Value) (value.Value, error) {
	return func(r *Run, a, b value.Value) (value.Value, error) { return do(r, b, a) }
}

func addDays(sign int) func(r *Run, a, b value.Value) (value.Value, error) {
	return func(r *Run, a, b value.Value) (value.Value, error) {
		if endless(a.Micros()) {
			return a, nil
		}
		at, err := a.As(value.Timestamp)
		if err != nil {
			return a, err
		}
		n := sign * atoi(b)
		if n > math.MaxInt32 || n < math.MinInt32 {
			return a, errorf("22008", "date out of range")
		}
		if at, err = at.Shift(nil, value.Span{Days: int32(n)}); err != nil {
			return a, errorf("22008", "date out of range")
		}
		return at.As(value.Date)
	}
}

func addClock(sign int64) func(r *Run, a, b value.Value) (value.Value, error) {
	return func(_ *Run, a, b value.Value) (value.Value, error) {
		us := (a.Micros() + sign*(value.SpanOf(b).Micros%dayMicros)) % dayMicros
		if us < 0 {
			us += dayMicros
		}
		return value.Span{Micros: us}.Value().As(value.Time)
	}
}

func difference(_ *Run, a, b value.Value) (value.Value, error) {
	x, y := a.Micros(), b.Micros()
	if endless(x) || endless(y) {
		return a, errorf("22008", "cannot subtract infinite timestamps")
	}
	us := x - y
	if a.Type == value.Time {
		return value.Span{Micros: us}.Value(), nil
	}
	return value.Span{Days: int32(us / dayMicros), Micros: us % dayMicros}.Value(), nil //nolint:gosec // bounded
}

func addSpans(sign int64) func(r *Run, a, b value.Value) (value.Value, error) {
	return func(_ *Run, a, b value.Value) (value.Value, error) {
		x, y := value.SpanOf(a), value.SpanOf(b)
		months, days := int64(x.Months)+sign*int64(y.Months), int64(x.Days)+sign*int64(y.Days)
		us := x.Micros + sign*y.Micros
		if int64(int32(months)) != months || int64(int32(days)) != days { //nolint:gosec // that is the question
			return a, errorf("22008", "interval out of range")
		}
		return value.Span{Months: int32(months), Days: int32(days), Micros: us}.Value(), nil //nolint:gosec // asked before
	}
}

// scale multiplies an interval.
func scaleSpan(a, b value.Value, divide bool) (value.Value, error) {
	s, f := value.SpanOf(a), float(b)
	if divide {
		if f == 0 {
			return a, divisionByZero()
		}
		f = 1 / f
	}
	months, monthRest := math.Modf(float64(s.Months) * f)
	days, dayRest := math.Modf(float64(s.Days) * f)
	more, moreRest := math.Modf(math.Round(monthRest*30*1e6) / 1e6)
	rest := math.Round((dayRest + moreRest) * dayMicros)
	days += more + math.Trunc(rest/dayMicros)
	us := math.Round(float64(s.Micros)*f + math.Mod(rest, dayMicros))
	if math.IsNaN(us) || math.Abs(months) > math.MaxInt32 || math.Abs(days) > math.MaxInt32 || math.Abs(us) > 9e18 {
		return a, errorf("22008", "interval out of range")
	}
	return value.Span{Months: int32(months), Days: int32(days), Micros: int64(us)}.Value(), nil
}

func scaledBy(divide bool) func(r *Run, a, b value.Value) (value.Value, error) {
	return func(_ *Run, a, b value.Value) (value.Value, error) { return scaleSpan(a, b, divide) }
}

func daysBetween(_ *Run, a, b value.Value) (value.Value, error) {
	x, y := a.Micros(), b.Micros()
	if endless(x) || endless(y) {
		return a, errorf("22008", "cannot subtract infinite dates")
	}
	return integer(value.Int4, (x-y)/dayMicros), nil
}

// onDay is a date and a time of day as a timestamp.
func onDay(_ *Run, a, b value.Value) (value.Value, error) {
	at, err := a.As(value.Timestamp)
	if err != nil || endless(at.Micros()) {
		return at, err
	}
	return at.Shift(nil, value.Span{Micros: b.Micros()})
}

var timeRules = func() []timeRule {
	var list []timeRule
	for _, t := range []*value.Type{value.Timestamp, value.Timestamptz} {
		list = append(list,
			timeRule{"+", t, value.Interval, t, shift(1)},
			timeRule{"-", t, value.Interval, t, shift(-1)},
			timeRule{"+", value.Interval, t, t, swapped(shift(1))},
			timeRule{"-", t, t, value.Interval, difference})
	}
	return append(list,
		timeRule{"+", value.Date, value.Int4, value.Date, addDays(1)},
		timeRule{"-", value.Date, value.Int4, value.Date, addDays(-1)},
		timeRule{"+", value.Int4, value.Date, value.Date, swapped(addDays(1))},
		timeRule{"-", value.Date, value.Date, value.Int4, daysBetween},
		timeRule{"+", value.Date, value.Time, value.Timestamp, onDay},
		timeRule{"+", value.Time, value.Interval, value.Time, addClock(1)},
		timeRule{"-", value.Time, value.Interval, value.Time, addClock(-1)},
		timeRule{"-", value.Time, value.Time, value.Interval, difference},
		timeRule{"+", value.Interval, value.Interval, value.Interval, addSpans(1)},
		timeRule{"-", value.Interval, value.Interval, value.Interval, addSpans(-1)},
		timeRule{"*", value.Interval, value.Float8, value.Interval, scaledBy(false)},
		timeRule{"*", value.Float8, value.Interval, value.Interval, swapped(scaledBy(false))},
		timeRule{"/", value.Interval, value.Float8, value.Interval, scaledBy(true)},
	)
}()

// temporal finds the rule for an operator: one that fits as it is, or for which
// the types can be converted.
func temporal(op string, l, r *value.Type) *timeRule {
	for _, exact := range []bool{true, false} {
		for i := range timeRules {
			t := &timeRules[i]
			if t.op != op {
				continue
			}
			if t.left == l && t.right == r || !exact && (category(l) == categoryDate || category(r) == categoryDate || l == value.Interval || r == value.Interval) &&
				value.Implicit(l, t.left) && value.Implicit(r, t.right) && l != value.Unknown && r != value.Unknown {
				return t
			}
		}
	}
	return nil
}

// timely computes with dates, times and intervals.
type timely struct {
	rule        *timeRule
	left, right node
	at          int
}

func (n *timely) typ() *value.Type { return n.rule.result }

func (n *timely) eval(f *frame) (value.Value, error) {
	l, r, err := both(f, n.left, n.right)
	if err != nil {
		return l, err
	}
	if l.Null || r.Null {
		return n.rule.result.Null(), nil
	}
	if err := f.run.step(4); err != nil {
		return l, err
	}
	return f.run.made(n.rule.do(f.run, l, r))
}

// moment is a time as a timestamptz.
func moment(t time.Time) value.Value {
	v, _ := value.Timestamptz.Parse(t.UTC().Format("2006-01-02 15:04:05.999999Z"))
	return v
}

// goTime is a date or a timestamp as Go has it, a timestamptz in the zone.
func goTime(r *Run, v value.Value) time.Time {
	us := v.Micros()
	t := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	t = t.Add(time.Duration(us%dayMicros)*time.Microsecond).AddDate(0, 0, int(us/dayMicros))
	if v.Type == value.Timestamptz && r.Zone != nil {
		return t.In(r.Zone)
	}
	return t
}

// timeParts are the fields of date_part and extract of what has a date.
func timePart(r *Run, field string, v value.Value) (value.Value, bool, error) {
	if v.Type == value.Time {
		switch field {
		case "epoch":
			n, err := quotient(readDecimal(strconv.FormatInt(v.Micros(), 10)), readDecimal("1000000"), 6).value()
			return n, true, err
		case "hour", "minute", "second", "milliseconds", "microseconds":
		default:
			return value.Value{}, false, nil
		}
	}
	t := goTime(r, v)
	us := int64(t.Second())*1_000_000 + int64(t.Nanosecond()/1000)
	number := func(n int) (value.Value, bool, error) {
		return value.Value{Type: value.Numeric, Text: strconv.Itoa(n)}, true, nil
	}
	micros := func(us int64, scale int) (value.Value, bool, error) {
		v, err := quotient(readDecimal(strconv.FormatInt(us, 10)), readDecimal("1"+strings.Repeat("0", scale)), scale).value()
		return v, true, err
	}
	year, week := t.ISOWeek()
	switch field {
	case "year":
		if y := t.Year(); y <= 0 {
			return number(y - 1)
		}
		return number(t.Year())
	case "month":
		return number(int(t.Month()))
	case "day":
		return number(t.Day())
	case "dow":
		return number(int(t.Weekday()))
	case "isodow":
		return number((int(t.Weekday())+6)%7 + 1)
	case "doy":
		return number(t.YearDay())
	case "week":
		return number(week)
	case "isoyear":
		return number(year)
	case "quarter":
		return number((int(t.Month())-1)/3 + 1)
	case "decade":
		return number(int(math.Floor(float64(t.Year()) / 10)))
	case "century":
		return number((t.Year()-1)/100 + 1)
	case "millennium":
		return number((t.Year()-1)/1000 + 1)
	case "epoch":
		return micros(v.Micros()+946684800*1_000_000, 6)
	case "hour":
		return number(t.Hour())
	case "minute":
		return number(t.Minute())
	case "second":
		return micros(us, 6)
	case "milliseconds":
		return micros(us, 3)
	case "microseconds":
		return number(int(us))
	case "timezone", "timezone_hour", "timezone_minute":
		if v.Type != value.Timestamptz {
			break
		}
		_, offset := t.Zone()
		switch field {
		case "timezone_hour":
			offset /= 3600
		case "timezone_minute":
			offset = offset % 3600 / 60
		}
		return number(offset)
	}
	return value.Value{}, false, nil
}

// spanPart is the same of an interval.
func spanPart(field string, v value.Value) (value.Value, bool, error) {
	s := value.SpanOf(v)
	number := func(n int64) (value.Value, bool, error) {
		return value.Value{Type: value.Numeric, Text: strconv.FormatInt(n, 10)}, true, nil
	}
	micros := func(us int64, scale int) (value.Value, bool, error) {
		v, err := quotient(readDecimal(strconv.FormatInt(us, 10)), readDecimal("1"+strings.Repeat("0", scale)), scale).value()
		return v, true, err
	}
	switch field {
	case "year":
		return number(int64(s.Months / 12))
	case "month":
		return number(int64(s.Months % 12))
	case "day":
		return number(int64(s.Days))
	case "quarter":
		return number(int64(s.Months%12/3 + 1))
	case "decade":
		return number(int64(s.Months / 120))
	case "century":
		return number(int64(s.Months / 1200))
	case "millennium":
		return number(int64(s.Months / 12000))
	case "hour":
		return number(s.Micros / 3_600_000_000)
	case "minute":
		return number(s.Micros / 60_000_000 % 60)
	case "second":
		return micros(s.Micros%60_000_000, 6)
	case "milliseconds":
		return micros(s.Micros%60_000_000, 3)
	case "microseconds":
		return number(s.Micros % 60_000_000)
	case "epoch":
		days := float64(s.Months/12)*365.25 + float64(s.Months%12)*30 + float64(s.Days)
		return micros(int64(days*dayMicros)+s.Micros, 6)
	}
	return value.Value{}, false, nil
}

// fields are other names of fields.
var fields = map[string]string{
	"years": "year", "y": "year", "months": "month", "mon": "month", "days": "day", "d": "day", "hours": "hour", "h": "hour",
	"minutes": "minute", "min": "minute", "m": "minute", "seconds": "second", "sec": "second", "s": "second", "weeks": "week", "w": "week",
	"millisecond": "milliseconds", "ms": "milliseconds", "microsecond": "microseconds", "us": "microseconds",
}

// part is extract(field from v).
func part(r *Run, args []value.Value) (value.Value, error) {
	field := strings.ToLower(args[0].Text)
	if f, ok := fields[field]; ok {
		field = f
	}
	v := args[1]
	var out value.Value
	var ok bool
	var err error
	switch {
	case v.Type == value.Interval:
		out, ok, err = spanPart(field, v)
	case v.Type != value.Time && endless(v.Micros()):
		if field == "epoch" || field == "year" {
			out, err = value.Numeric.Parse(v.Text)
			return out, err
		}
		return value.Numeric.Null(), nil
	default:
		out, ok, err = timePart(r, field, v)
	}
	if err == nil && !ok {
		err = noUnit(field, args[0].Text, v)
	}
	return out, err
}

// units are all that PostgreSQL knows; a type that has not one of them says so.
var units = map[string]bool{
	"year": true, "month": true, "day": true, "dow": true, "isodow": true, "doy": true, "week": true, "isoyear": true, "quarter": true, "decade": true,
	"century": true, "millennium": true, "epoch": true, "hour": true, "minute": true, "second": true, "milliseconds": true, "microseconds": true,
	"timezone": true, "timezone_hour": true, "timezone_minute": true,
}

func noUnit(unit, text string, v value.Value) error {
	if units[unit] {
		return errorf("0A000", "unit %q not supported for type %s", text, v.Type.Name)
	}
	return errorf("22023", "unit %q not recognized for type %s", text, v.Type.Name)
}

// truncateTime is date_trunc.
func truncateTime(r *Run, args []value.Value) (value.Value, error) {
	field := strings.ToLower(args[0].Text)
	if f, ok := fields[field]; ok {
		field = f
	}
	v := args[1]
	if endless(v.Micros()) {
		return v, nil
	}
	t := goTime(r, v)
	y, m, d := t.Date()
	loc := t.Location()
	switch field {
	case "microseconds":
		return v, nil
	case "milliseconds":
		t = t.Truncate(time.Millisecond)
	case "second":
		t = t.Truncate(time.Second)
	case "minute":
		t = time.Date(y, m, d, t.Hour(), t.Minute(), 0, 0, loc)
	case "hour":
		t = time.Date(y, m, d, t.Hour(), 0, 0, 0, loc)
	case "day":
		t = time.Date(y, m, d, 0, 0, 0, 0, loc)
	case "week":
		t = time.Date(y, m, d-(int(t.Weekday())+6)%7, 0, 0, 0, 0, loc)
	case "month":
		t = time.Date(y, m, 1, 0, 0, 0, 0, loc)
	case "quarter":
		t = time.Date(y, (m-1)/3*3+1, 1, 0, 0, 0, 0, loc)
	case "year":
		t = time.Date(y, 1, 1, 0, 0, 0, 0, loc)
	case "decade":
		t = time.Date(y-y%10, 1, 1, 0, 0, 0, 0, loc)
	case "century":
		t = time.Date((y-1)/100*100+1, 1, 1, 0, 0, 0, 0, loc)
	case "millennium":
		t = time.Date((y-1)/1000*1000+1, 1, 1, 0, 0, 0, 0, loc)
	default:
		return v, noUnit(field, args[0].Text, v)
	}
	if v.Type == value.Timestamp {
		return value.Timestamp.Parse(t.Format("2006-01-02 15:04:05.999999"))
	}
	return moment(t), nil
}
