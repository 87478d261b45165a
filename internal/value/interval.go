package value

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Span is an interval: months and days are counted apart, as their lengths
// differ.
type Span struct {
	Months, Days int32
	Micros       int64
}

// units are the names of interval's units, in singular and in plural.
var units = func() map[string]Span {
	const hour = 3600 * micro
	m := map[string]Span{}
	for names, s := range map[string]Span{
		"us usec usecs usecond useconds microsecond microseconds": {Micros: 1},
		"ms msec msecs msecond mseconds millisecond milliseconds": {Micros: 1000},
		"s sec secs second seconds":                               {Micros: micro},
		"m min mins minute minutes":                               {Micros: 60 * micro},
		"h hr hrs hour hours":                                     {Micros: hour},
		"d day days":                                              {Days: 1},
		"w week weeks":                                            {Days: 7},
		"mon mons month months":                                   {Months: 1},
		"y yr yrs year years":                                     {Months: 12},
		"dec decs decade decades":                                 {Months: 120},
		"c cent century centuries":                                {Months: 1200},
		"mil mils millennium millennia":                           {Months: 12000},
	} {
		for _, n := range strings.Fields(names) {
			m[n] = s
		}
	}
	return m
}()

// parseInterval reads numbers with units, clocks, years-months, and ISO 8601's
// designators.
func parseInterval(t *Type, s string) (string, error) {
	span, ok := readInterval(strings.ToLower(strings.Trim(s, white)))
	if !ok {
		return "", errorf("22007", "invalid input syntax for type interval: %q", s)
	}
	return span.String(), nil
}

func readInterval(s string) (span Span, ok bool) {
	if iso, found := strings.CutPrefix(s, "p"); found {
		return readISO(iso)
	}
	s = strings.TrimPrefix(s, "@")
	words := strings.Fields(spaced(s))
	ago := len(words) > 0 && words[len(words)-1] == "ago"
	if ago {
		words = words[:len(words)-1]
	}
	if len(words) == 0 {
		return span, false
	}
	for len(words) > 0 {
		w := words[0]
		words = words[1:]
		switch {
		case strings.Contains(w, ":"):
			us, negative, good := readClock(w)
			if !good {
				return span, false
			}
			if negative {
				us = -us
			}
			if ok = span.add(Span{Micros: us}, 1); !ok {
				return span, false
			}
		case strings.Contains(strings.TrimLeft(w, "+-"), "-"):
			y, m, _ := strings.Cut(strings.TrimLeft(w, "+-"), "-")
			years, err1 := strconv.ParseInt(y, 10, 32)
			months, err2 := strconv.ParseInt(m, 10, 32)
			if err1 != nil || err2 != nil || months > 11 || years > math.MaxInt32/12-1 {
				return span, false
			}
			n := years*12 + months
			if strings.HasPrefix(w, "-") {
				n = -n
			}
			span.Months += int32(n) //nolint:gosec // bounded
		default:
			n, err := strconv.ParseFloat(w, 64)
			if err != nil || strings.ContainsAny(w, "xpni") {
				return span, false
			}
			unit := Span{Micros: micro}
			if len(words) > 0 && units[words[0]] != (Span{}) {
				unit = units[words[0]]
				words = words[1:]
			} else if len(words) > 0 && strings.Contains(words[0], ":") {
				unit = Span{Days: 1}
			} else if len(words) > 0 {
				return span, false
			}
			if !span.add(unit, n) {
				return span, false
			}
		}
	}
	if ago {
		span = span.Negate()
	}
	return span, true
}

// spaced puts a space between a number and a unit that stand together.
func spaced(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if i > 0 && c >= 'a' && c <= 'z' && (digitByte(s[i-1]) || s[i-1] == '.') {
			b.WriteByte(' ')
		}
		if c == '_' {
			c = '?'
		}
		b.WriteByte(c)
	}
	return b.String()
}

func digitByte(c byte) bool { return c >= '0' && c <= '9' }

// add adds n units. What is left of months is days of thirty to a month, and
// of days is hours, as interval_in has it.
func (s *Span) add(unit Span, n float64) bool {
	if math.IsNaN(n) || math.Abs(n) > 1e15 {
		return false
	}
	whole, fraction := math.Modf(n)
	months := float64(unit.Months) * n
	days, us := float64(unit.Days)*whole, 0.0
	if unit.Months > 0 {
		var part float64
		months, part = math.Modf(months)
		if math.Abs(part) > 1e-9 {
			if unit.Months == 1 {
				var rest float64
				days, rest = math.Modf(math.Round(part*30*1e9) / 1e9)
				us = math.Round(rest * float64(day))
			} else {
				months += math.Round(part)
			}
		}
	}
	us += math.Round(fraction*float64(unit.Days)*float64(day)) + math.Round(float64(unit.Micros)*n)
	if unit.Days == 7 {
		d, rest := math.Modf(fraction * 7)
		days += d
		us = math.Round(rest * float64(day))
	}
	months, days, us = months+float64(s.Months), days+float64(s.Days), us+float64(s.Micros)
	if math.Abs(months) > math.MaxInt32 || math.Abs(days) > math.MaxInt32 || math.Abs(us) > 9e18 {
		return false
	}
	*s = Span{int32(months), int32(days), int64(us)}
	return true
}

// readClock reads [-]hh:mm[:ss[.f]], of any number of hours.
func readClock(s string) (us int64, negative, ok bool) {
	s, negative = strings.CutPrefix(strings.TrimPrefix(s, "+"), "-")
	parts := strings.Split(s, ":")
	if len(parts) > 3 {
		return 0, false, false
	}
	h, err1 := strconv.ParseUint(parts[0], 10, 31)
	m, err2 := strconv.ParseUint(parts[1], 10, 31)
	if err1 != nil || err2 != nil || m > 59 {
		return 0, false, false
	}
	seconds := 0.0
	if len(parts) == 3 {
		if strings.Trim(parts[2], "0123456789.") != "" {
			return 0, false, false
		}
		var err error
		if seconds, err = strconv.ParseFloat(parts[2], 64); err != nil || seconds >= 61 {
			return 0, false, false
		}
	}
	return int64(h*3600+m*60)*micro + int64(math.Round(seconds*float64(micro))), negative, true //nolint:gosec // 31 bits
}

// readISO reads what follows P in ISO 8601's form with designators.
func readISO(s string) (span Span, ok bool) {
	days, clock, timed := strings.Cut(s, "t")
	if s == "" || timed && clock == "" {
		return span, false
	}
	for i, part := range []string{days, clock} {
		names := []map[byte]string{{'y': "y", 'm': "mon", 'w': "w", 'd': "d"}, {'h': "h", 'm': "m", 's': "s"}}[i]
		for part != "" {
			n := strings.IndexFunc(part, func(r rune) bool { return r >= 'a' && r <= 'z' })
			if n < 1 || names[part[n]] == "" {
				return span, false
			}
			f, err := strconv.ParseFloat(part[:n], 64)
			if err != nil || !span.add(units[names[part[n]]], f) {
				return span, false
			}
			part = part[n+1:]
		}
	}
	return span, true
}

// Negate is the interval the other way round.
func (s Span) Negate() Span { return Span{-s.Months, -s.Days, -s.Micros} }

// String prints the interval with IntervalStyle postgres.
func (s Span) String() string {
	var b strings.Builder
	before := false // a part that is negative
	part := func(n int32, unit string) {
		if n == 0 {
			return
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		if before && n > 0 {
			b.WriteByte('+')
		}
		fmt.Fprintf(&b, "%d %s", n, unit)
		if n != 1 {
			b.WriteByte('s')
		}
		before = n < 0
	}
	part(s.Months/12, "year")
	part(s.Months%12, "mon")
	part(s.Days, "day")
	if s.Micros != 0 || b.Len() == 0 {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		us := s.Micros
		if us < 0 {
			b.WriteByte('-')
			us = -us
		} else if before {
			b.WriteByte('+')
		}
		b.WriteString(formatClock(us))
	}
	return b.String()
}

// SpanOf is the interval that a value is.
func SpanOf(v Value) Span {
	s, _ := readInterval(v.Text) // canonical
	return s
}

// Value is the interval as a value.
func (s Span) Value() Value { return Value{Type: Interval, Text: s.String()} }

func encodeInterval(dst []byte, text string) []byte {
	s, _ := readInterval(text)                                  // canonical
	dst = binary.BigEndian.AppendUint64(dst, uint64(s.Micros))  //nolint:gosec // two's complement
	dst = binary.BigEndian.AppendUint32(dst, uint32(s.Days))    //nolint:gosec // two's complement
	return binary.BigEndian.AppendUint32(dst, uint32(s.Months)) //nolint:gosec // two's complement
}

func decodeInterval(_ *Type, src []byte) (string, error) {
	s := Span{
		Micros: int64(binary.BigEndian.Uint64(src)),      //nolint:gosec // two's complement
		Days:   int32(binary.BigEndian.Uint32(src[8:])),  //nolint:gosec // two's complement
		Months: int32(binary.BigEndian.Uint32(src[12:])), //nolint:gosec // two's complement
	}
	if s.Micros == math.MinInt64 {
		return "", errorf("22008", "interval out of range")
	}
	return s.String(), nil
}

// Shift adds an interval to a timestamp, in a zone for one with time zone, nil
// for UTC: months first, then days, both by the calendar. The error is an
// *[Error].
func (v Value) Shift(loc *time.Location, s Span) (Value, error) {
	zoned := v.Type == Timestamptz
	us, _ := readMoment(v.Type, v.Text, nil) // canonical
	if !zoned {
		us, _ = readTimestamp(v.Type, v.Text)
	}
	if _, ok := endless(us); ok {
		return v, nil
	}
	if s.Months != 0 || s.Days != 0 {
		offset := int64(0)
		if zoned {
			offset = offsetAt(floorDiv(us, micro)+epochUnix, loc) * micro
		}
		local := us + offset
		n := floorDiv(local, day)
		clock := local - n*day
		y, m, d := gregorian(int(n) + epochJulian)
		months := y*12 + m - 1 + int(s.Months)
		y, m = int(floorDiv(int64(months), 12)), months-int(floorDiv(int64(months), 12))*12+1
		if y < -4713 || y > 294277 {
			return Value{}, errorf("22008", "timestamp out of range")
		}
		d = min(d, daysIn(y, m))
		n = int64(julian(y, m, d)-epochJulian) + int64(s.Days)
		if n < minTime/day-1 || n > maxTime/day+1 {
			return Value{}, errorf("22008", "timestamp out of range")
		}
		us = n*day + clock
		if zoned {
			us -= offsetOf(floorDiv(us, micro)+epochUnix, loc) * micro
		}
	}
	sum := us + s.Micros
	if (s.Micros > 0) != (sum > us) && s.Micros != 0 || sum < minTime || sum > maxTime {
		return Value{}, errorf("22008", "timestamp out of range")
	}
	if zoned {
		return Value{Type: v.Type, Text: moment(sum, nil)}, nil
	}
	return Value{Type: v.Type, Text: timestampOf(sum)}, nil
}

// Micros is a date or timestamp as microseconds since 2000-01-01, a time as
// those since midnight; those of infinity are the ends of int64.
func (v Value) Micros() int64 {
	var us int64
	switch v.Type {
	case Time:
		us, _ = clock(v.Text)
	case Timestamptz:
		us, _ = readMoment(v.Type, v.Text, nil)
	default:
		us, _ = readTimestamp(Timestamp, v.Text)
	}
	return us
}
