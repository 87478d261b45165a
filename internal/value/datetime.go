package value

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// epoch is the zero of PostgreSQL's binary dates and times.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// Bounds of what PostgreSQL holds that this package holds too: years 1 to
// 9999. BC and later years are refused as out of range.
const (
	minYear = 1
	maxYear = 9999
)

const (
	formatDay = "2006-01-02"
	micro     = int64(1e6)
	day       = 24 * 60 * 60 * micro
)

// Faults of a part of a date or time.
var (
	errSyntax = errors.New("not the form of a date or time")
	errRange  = errors.New("field out of range")
	errZone   = errors.New("time zone displacement out of range")
)

// fault is PostgreSQL's complaint about the text s.
func (t *Type) fault(s string, err error) error {
	switch {
	case errors.Is(err, errRange):
		return errorf("22008", "date/time field value out of range: %q", s)
	case errors.Is(err, errZone):
		return errorf("22009", "time zone displacement out of range: %q", s)
	}
	return errorf("22007", "invalid input syntax for type %s: %q", t.Name, s)
}

// cutZone splits an offset such as Z, +02, -03:30 or +0530 from a time.
func cutZone(s string) (rest string, offset time.Duration, err error) {
	for _, utc := range []string{"Z", "UTC"} {
		if n := len(s) - len(utc); n >= 0 && strings.EqualFold(s[n:], utc) {
			return strings.TrimRight(s[:n], " "), 0, nil
		}
	}
	i := strings.LastIndexAny(s, "+-")
	if i <= 0 {
		return s, 0, nil
	}
	digits := strings.ReplaceAll(s[i+1:], ":", "")
	if len(digits) == 1 || len(digits) == 3 {
		digits = "0" + digits
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || len(digits) > 6 || len(digits)%2 != 0 {
		return "", 0, errSyntax
	}
	for l := len(digits); l < 6; l += 2 {
		n *= 100
	}
	if n/10000 > 15 || n/100%100 > 59 || n%100 > 59 {
		return "", 0, errZone
	}
	offset = time.Duration(n/10000)*time.Hour + time.Duration(n/100%100)*time.Minute + time.Duration(n%100)*time.Second //nolint:gosec // small
	if s[i] == '-' {
		offset = -offset
	}
	return strings.TrimRight(s[:i], " "), offset, nil
}

// clock reads HH:MM[:SS[.ffffff]] as microseconds, rounding what is finer.
func clock(s string) (int64, error) {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return 0, errSyntax
	}
	second, fraction := "0", ""
	if len(parts) == 3 {
		second, fraction, _ = strings.Cut(parts[2], ".")
	}
	h, err1 := strconv.ParseUint(parts[0], 10, 8)
	m, err2 := strconv.ParseUint(parts[1], 10, 8)
	sec, err3 := strconv.ParseUint(second, 10, 8)
	if err1 != nil || err2 != nil || err3 != nil || strings.Trim(fraction, "0123456789") != "" {
		return 0, errSyntax
	}
	f, _ := strconv.ParseFloat("0."+fraction+"0", 64) // digits only
	us := int64(h*3600+m*60+sec)*micro + int64(math.Round(f*float64(micro)))
	if h > 24 || m > 59 || sec > 60 || us > day {
		return 0, errRange
	}
	return us, nil
}

func special(s string) (string, bool) {
	switch in := strings.ToLower(strings.Trim(s, white)); in {
	case "infinity", "-infinity":
		return in, true
	case "epoch":
		return "1970-01-01 00:00:00", true
	}
	return "", false
}

// moment reads a date with an optional time; zoned takes the offset into
// account, otherwise it is read and dropped as PostgreSQL does.
func (t *Type) moment(s string, zoned bool) (time.Time, error) {
	in := strings.Trim(s, white)
	datePart, timePart := in, ""
	if i := strings.IndexAny(in, " Tt"); i >= 0 {
		datePart, timePart = in[:i], strings.TrimLeft(in[i+1:], " ")
	}
	y, rest, ok1 := strings.Cut(datePart, "-")
	mo, d, ok2 := strings.Cut(rest, "-")
	year, err1 := strconv.ParseUint(y, 10, 31)
	month, err2 := strconv.ParseUint(mo, 10, 8)
	dom, err3 := strconv.ParseUint(d, 10, 8)
	if !ok1 || !ok2 || err1 != nil || err2 != nil || err3 != nil || len(y) < 3 {
		return time.Time{}, t.fault(s, errSyntax)
	}
	date := time.Date(int(year), time.Month(month), int(dom), 0, 0, 0, 0, time.UTC)            //nolint:gosec // bounded above
	if year < minYear || year > maxYear || month < 1 || month > 12 || date.Day() != int(dom) { //nolint:gosec // bounded above
		return time.Time{}, t.fault(s, errRange)
	}
	if timePart == "" {
		return date, nil
	}
	timePart, offset, err := cutZone(timePart)
	if err != nil {
		return time.Time{}, t.fault(s, err)
	}
	us, err := clock(timePart)
	if err != nil {
		return time.Time{}, t.fault(s, err)
	}
	if !zoned {
		offset = 0
	}
	date = date.Add(time.Duration(us)*time.Microsecond - offset)
	if date.Year() < minYear || date.Year() > maxYear {
		return time.Time{}, t.fault(s, errRange)
	}
	return date, nil
}

func parseDate(t *Type, s string) (string, error) {
	if sp, ok := special(s); ok {
		return strings.TrimSuffix(sp, " 00:00:00"), nil
	}
	m, err := t.moment(s, false)
	if err != nil {
		return "", err
	}
	return m.Format(formatDay), nil
}

func formatMoment(m time.Time) string {
	return m.Format("2006-01-02 15:04:05.999999")
}

func parseTimestamp(t *Type, s string) (string, error) {
	if sp, ok := special(s); ok {
		return sp, nil
	}
	m, err := t.moment(s, false)
	if err != nil {
		return "", err
	}
	return formatMoment(m), nil
}

func parseTimestamptz(t *Type, s string) (string, error) {
	if sp, ok := special(s); ok {
		if strings.HasSuffix(sp, "infinity") {
			return sp, nil
		}
		return sp + "+00", nil
	}
	m, err := t.moment(s, true)
	if err != nil {
		return "", err
	}
	return formatMoment(m) + "+00", nil
}

func encodeDate(dst []byte, s string) []byte {
	var n int32
	switch s {
	case "infinity":
		n = math.MaxInt32
	case "-infinity":
		n = math.MinInt32
	default:
		m, _ := time.Parse(formatDay, s)
		n = int32(m.Sub(epoch) / (24 * time.Hour)) //nolint:gosec // years 1 to 9999
		if m.Before(epoch.AddDate(-250, 0, 0)) || m.After(epoch.AddDate(250, 0, 0)) {
			n = int32((m.Unix() - epoch.Unix()) / 86400) //nolint:gosec // a Duration holds 292 years only
		}
	}
	return binary.BigEndian.AppendUint32(dst, uint32(n)) //nolint:gosec // two's complement
}

func decodeDate(t *Type, src []byte) (string, error) {
	n := int32(binary.BigEndian.Uint32(src)) //nolint:gosec // two's complement
	switch n {
	case math.MaxInt32:
		return "infinity", nil
	case math.MinInt32:
		return "-infinity", nil
	}
	m := time.Unix(epoch.Unix()+int64(n)*86400, 0).UTC()
	if m.Year() < minYear || m.Year() > maxYear {
		return "", errorf("22008", "%s out of range", t.Name)
	}
	return m.Format(formatDay), nil
}

func encodeTimestamp(dst []byte, s string) []byte {
	var n int64
	switch s {
	case "infinity":
		n = math.MaxInt64
	case "-infinity":
		n = math.MinInt64
	default:
		m, _ := time.Parse("2006-01-02 15:04:05.999999", strings.TrimSuffix(s, "+00"))
		n = m.UnixMicro() - epoch.UnixMicro()
	}
	return binary.BigEndian.AppendUint64(dst, uint64(n)) //nolint:gosec // two's complement
}

func decodeTimestamp(t *Type, src []byte) (string, error) {
	n := int64(binary.BigEndian.Uint64(src)) //nolint:gosec // two's complement
	switch n {
	case math.MaxInt64:
		return "infinity", nil
	case math.MinInt64:
		return "-infinity", nil
	}
	if n > math.MaxInt64-epoch.UnixMicro() {
		return "", errorf("22008", "timestamp out of range")
	}
	m := time.UnixMicro(n + epoch.UnixMicro()).UTC()
	if m.Year() < minYear || m.Year() > maxYear {
		return "", errorf("22008", "%s out of range", t.Name)
	}
	return formatMoment(m), nil
}

func decodeTimestamptz(t *Type, src []byte) (string, error) {
	s, err := decodeTimestamp(t, src)
	if err != nil || strings.HasSuffix(s, "infinity") {
		return s, err
	}
	return s + "+00", nil
}

func formatClock(us int64) string {
	s := fmt.Sprintf("%02d:%02d:%02d", us/(3600*micro), us/(60*micro)%60, us/micro%60)
	if f := us % micro; f != 0 {
		s += strings.TrimRight(fmt.Sprintf(".%06d", f), "0")
	}
	return s
}

func parseTime(t *Type, s string) (string, error) {
	us, err := clock(strings.Trim(s, white))
	if err != nil {
		return "", t.fault(s, err)
	}
	return formatClock(us), nil
}

func encodeTime(dst []byte, s string) []byte {
	us, _ := clock(s)
	return binary.BigEndian.AppendUint64(dst, uint64(us)) //nolint:gosec // at most one day
}

func decodeTime(t *Type, src []byte) (string, error) {
	us := binary.BigEndian.Uint64(src)
	if us > uint64(day) {
		return "", errorf("22008", "%s out of range", t.Name)
	}
	return formatClock(int64(us)), nil //nolint:gosec // at most one day
}
