package value

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// What PostgreSQL holds (datatype/timestamp.h): dates from the day 0 of the
// Julian calendar, 4714-11-24 BC, to the year 5874897; timestamps to 294276.
const (
	epochJulian = 2451545 // 2000-01-01, the zero of binary dates and times
	epochUnix   = 946684800

	minDay  = -epochJulian
	maxDay  = 2147483494 - epochJulian - 1
	minTime = int64(-211813488000000000) // microseconds
	maxTime = int64(9223371331200000000) - 1

	micro  = int64(1e6)
	daySec = 24 * 60 * 60
	day    = daySec * micro
)

// julian is the Julian day of a date in the proleptic Gregorian calendar; the
// year 0 is 1 BC. The arithmetic is PostgreSQL's date2j.
func julian(y, m, d int) int {
	if m > 2 {
		m, y = m+1, y+4800
	} else {
		m, y = m+13, y+4799
	}
	century := y / 100
	return y*365 - 32167 + y/4 - century + century/4 + 7834*m/256 + d
}

// gregorian is the date of a Julian day that is not negative, PostgreSQL's j2date.
func gregorian(j int) (y, m, d int) {
	n := uint64(j) + 32044 //nolint:gosec // not negative
	quad := n / 146097
	extra := (n-quad*146097)*4 + 3
	n += 60 + quad*3 + extra/146097
	quad = n / 1461
	n -= quad * 1461
	year := n * 4 / 1461
	if year != 0 {
		n = (n+305)%365 + 123
	} else {
		n = (n+306)%366 + 123
	}
	year += quad * 4
	quad = n * 2141 / 65536
	return int(year) - 4800, int((quad+10)%12 + 1), int(n - 7834*quad/256) //nolint:gosec // small
}

// daysIn is the length of a month.
func daysIn(y, m int) int {
	if m == 12 {
		return 31
	}
	return julian(y, m+1, 1) - julian(y, m, 1)
}

// floorDiv divides, and rounds down.
func floorDiv(n, by int64) int64 {
	q := n / by
	if n%by < 0 {
		q--
	}
	return q
}

// formatDay prints the day that is n days after 2000-01-01.
func formatDay(n int64) string {
	s, bc := dayText(n)
	return s + bc
}

func dayText(n int64) (text, bc string) {
	y, m, d := gregorian(int(n) + epochJulian)
	if y <= 0 {
		y, bc = 1-y, " BC"
	}
	return fmt.Sprintf("%04d-%02d-%02d", y, m, d), bc
}

// formatClock prints microseconds since midnight.
func formatClock(us int64) string {
	s := fmt.Sprintf("%02d:%02d:%02d", us/(3600*micro), us/(60*micro)%60, us/micro%60)
	if f := us % micro; f != 0 {
		s += strings.TrimRight(fmt.Sprintf(".%06d", f), "0")
	}
	return s
}

// formatMoment prints microseconds since 2000-01-01.
func formatMoment(us int64, zone string) string {
	n := floorDiv(us, day)
	text, bc := dayText(n)
	return text + " " + formatClock(us-n*day) + zone + bc
}

// formatIn prints microseconds since 2000-01-01 UTC as the time in a zone, with its offset.
func formatIn(us int64, loc *time.Location) string {
	offset := offsetAt(floorDiv(us, micro)+epochUnix, loc)
	return formatMoment(us+offset*micro, formatOffset(offset))
}

// formatOffset prints seconds east of Greenwich as PostgreSQL's ISO style does: +HH, with minutes and seconds if there are any.
func formatOffset(offset int64) string {
	sign := byte('+')
	if offset < 0 {
		sign, offset = '-', -offset
	}
	s := fmt.Sprintf("%c%02d", sign, offset/3600)
	if rest := offset % 3600; rest != 0 {
		s += fmt.Sprintf(":%02d", rest/60)
		if rest%60 != 0 {
			s += fmt.Sprintf(":%02d", rest%60)
		}
	}
	return s
}

// offsetAt is how many seconds the zone is east of Greenwich at a moment, in seconds since 1970.
func offsetAt(unix int64, loc *time.Location) int64 {
	if loc == nil {
		return 0
	}
	_, offset := time.Unix(unix, 0).In(loc).Zone()
	return int64(offset)
}

// offsetOf is offsetAt for a moment given as the time in the zone itself. Of a time that the clocks pass over it takes the offset from
// before, of one that they show twice the one from after: PostgreSQL's DetermineTimeZoneOffset.
func offsetOf(local int64, loc *time.Location) int64 {
	if loc == nil {
		return 0
	}
	past := time.Unix(local-daySec, 0).In(loc)
	_, before := past.Zone()
	_, end := past.ZoneBounds()
	if end.IsZero() {
		return int64(before)
	}
	_, after := end.Zone()
	asBefore, asAfter, boundary := local-int64(before), local-int64(after), end.Unix()
	switch {
	case asBefore < boundary && asAfter < boundary:
		return int64(before)
	case asBefore > boundary && asAfter >= boundary:
		return int64(after)
	case asBefore > asAfter: // passed over
		return int64(before)
	}
	return int64(after)
}

// Binary forms of infinity.
const (
	noEnd       = math.MaxInt64
	noBeginning = math.MinInt64
)
