package value

import (
	"encoding/binary"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// Faults of a part of a date or time.
var (
	errSyntax = errors.New("not the form of a date or time")
	errRange  = errors.New("field out of range")
	errOffset = errors.New("time zone displacement out of range")
	errZone   = errors.New("no such time zone")
)

// fault is PostgreSQL's complaint about the text s.
func (t *Type) fault(s string, err error) error {
	switch {
	case errors.Is(err, errRange):
		return errorf("22008", "date/time field value out of range: %q", s)
	case errors.Is(err, errOffset):
		return errorf("22009", "time zone displacement out of range: %q", s)
	case errors.Is(err, errZone):
		return errorf("22023", "time zone not recognized: %q", s)
	}
	return errorf("22007", "invalid input syntax for type %s: %q", t.Name, s)
}

// number reads decimal digits; what no int32 holds is out of range.
func digits(s string) (int, error) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, errSyntax
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0, errRange
	}
	return int(n), nil
}

// displacement reads +HH, +HH:MM, +HH:MM:SS or +HHMM as seconds east of
// Greenwich: PostgreSQL's DecodeTimezone.
func displacement(s string) (int64, error) {
	parts := strings.Split(s[1:], ":")
	var n [3]int
	if len(parts) > 3 {
		return 0, errSyntax
	}
	for i, part := range parts {
		var err error
		if n[i], err = digits(part); err != nil {
			return 0, errSyntax
		}
	}
	if len(parts) == 1 && len(s) > 3 {
		n[0], n[1] = n[0]/100, n[0]%100
	}
	if n[0] > 15 || n[1] > 59 || n[2] > 59 {
		return 0, errOffset
	}
	offset := int64(n[0]*3600 + n[1]*60 + n[2])
	if s[0] == '-' {
		offset = -offset
	}
	return offset, nil
}

// clock reads HH:MM[:SS[.ffffff]] as microseconds, rounding what is finer to
// the nearest, halves to even.
func clock(s string) (int64, error) {
	rest, fraction, point := strings.Cut(s, ".")
	parts := strings.Split(rest, ":")
	if len(parts) < 2 || len(parts) > 3 || strings.Trim(fraction, "0123456789") != "" {
		return 0, errSyntax
	}
	if point && len(parts) == 2 { // minutes and seconds, as in DecodeTime
		parts = append([]string{"0"}, parts...)
	}
	var n [3]int
	for i, part := range parts {
		var err error
		if n[i], err = digits(part); err != nil {
			return 0, err
		}
	}
	f, _ := strconv.ParseFloat("0."+fraction+"0", 64) // digits only
	if n[0] > 24 || n[1] > 59 || n[2] > 60 {
		return 0, errRange
	}
	us := int64(n[0]*3600+n[1]*60+n[2])*micro + int64(math.RoundToEven(f*float64(micro)))
	if us > day {
		return 0, errRange
	}
	return us, nil
}

// reading is a date with an optional time, as it was written.
type reading struct {
	day    int64 // since 2000-01-01
	us     int64 // since midnight
	zoned  bool
	offset int64 // if zoned and zone is nil
	zone   *time.Location
}

// read reads YYYY-MM-DD, then perhaps T or white space, a time and a zone, and
// perhaps BC: the forms of ISO 8601, of those that PostgreSQL takes.
func read(s string) (r reading, err error) {
	in := strings.Trim(s, white)
	bc := false
	if n := len(in) - 3; n > 0 && strings.IndexByte(white, in[n]) >= 0 && (strings.EqualFold(in[n+1:], "BC") || strings.EqualFold(in[n+1:], "AD")) {
		bc = in[n+1] == 'B' || in[n+1] == 'b'
		in = strings.TrimRight(in[:n], white)
	}
	date, rest := in, ""
	if i := strings.IndexAny(in, white+"Tt"); i >= 0 {
		date, rest = in[:i], in[i+1:]
		if strings.IndexByte(white, in[i]) >= 0 {
			rest = strings.TrimLeft(rest, white)
		}
		if rest == "" {
			return r, errSyntax
		}
	}
	if r.day, err = readDay(date, bc); err != nil || rest == "" {
		return r, err
	}
	end := strings.IndexFunc(rest, func(c rune) bool { return (c < '0' || c > '9') && c != ':' && c != '.' })
	if end < 0 {
		end = len(rest)
	}
	if r.us, err = clock(rest[:end]); err != nil {
		return r, err
	}
	return r, r.readZone(strings.TrimLeft(rest[end:], white))
}

// readDay reads YYYY-MM-DD. A year has three digits at least: with fewer
// PostgreSQL takes it for a day or a month.
func readDay(s string, bc bool) (int64, error) {
	parts := strings.Split(s, "-")
	if len(parts) != 3 || len(parts[0]) < 3 || len(parts[1]) > 2 || len(parts[2]) > 2 {
		return 0, errSyntax
	}
	var n [3]int
	for i, part := range parts {
		var err error
		if n[i], err = digits(part); err != nil {
			return 0, err
		}
	}
	y, m, d := n[0], n[1], n[2]
	if y < 1 || y > 6_000_000 || m < 1 || m > 12 || d < 1 {
		return 0, errRange
	}
	if bc {
		y = 1 - y
	}
	if y < -4800 || d > daysIn(y, m) {
		return 0, errRange
	}
	n64 := int64(julian(y, m, d) - epochJulian)
	if n64 < minDay || n64 > maxDay {
		return 0, errRange
	}
	return n64, nil
}

// readZone reads what stands behind the time: an offset, Z, or the full name of
// a zone.
func (r *reading) readZone(s string) (err error) {
	switch {
	case s == "":
		return nil
	case s[0] == '+' || s[0] == '-':
		r.zoned = true
		r.offset, err = displacement(s)
		return err
	case strings.EqualFold(s, "Z"), strings.EqualFold(s, "UTC"), strings.EqualFold(s, "GMT"):
		r.zoned = true
		return nil
	case !strings.Contains(s, "/") || (s[0]|0x20) < 'a' || (s[0]|0x20) > 'z': // an abbreviation, of which each server may have its own
		return errSyntax
	}
	r.zoned = true
	if r.zone, _, err = zone(s); err != nil {
		return errZone
	}
	return nil
}

// special reads the words that are no date.
func special(s string) (us int64, ok bool) {
	switch strings.ToLower(strings.Trim(s, white)) {
	case "infinity":
		return noEnd, true
	case "-infinity":
		return noBeginning, true
	case "epoch":
		return -epochUnix * micro, true
	}
	return 0, false
}

// endless prints infinity.
func endless(us int64) (string, bool) {
	switch us {
	case noEnd:
		return "infinity", true
	case noBeginning:
		return "-infinity", true
	}
	return "", false
}

func parseDate(t *Type, s string) (string, error) {
	if us, ok := special(s); ok {
		return dateOf(us), nil
	}
	r, err := read(s)
	if err != nil {
		return "", t.fault(s, err)
	}
	return formatDay(r.day), nil
}

// dateOf prints the day of a time since 2000-01-01, or infinity.
func dateOf(us int64) string {
	if text, ok := endless(us); ok {
		return text
	}
	return formatDay(floorDiv(us, day))
}

// timestampOf prints a time since 2000-01-01 that is in no zone, or infinity.
func timestampOf(us int64) string {
	if text, ok := endless(us); ok {
		return text
	}
	return formatMoment(us, "")
}

// moment prints a time since 2000-01-01 UTC as timestamptz in a zone, nil for
// UTC, or infinity.
func moment(us int64, loc *time.Location) string {
	if text, ok := endless(us); ok {
		return text
	}
	return formatIn(us, loc)
}

// readTimestamp reads a timestamp as microseconds since 2000-01-01; a zone is read and
// passed over.
func readTimestamp(t *Type, s string) (int64, error) {
	if us, ok := special(s); ok {
		return us, nil
	}
	r, err := read(s)
	if err != nil {
		return 0, t.fault(s, err)
	}
	return r.at(t, s, 0)
}

// at is the moment of the reading at an offset.
func (r *reading) at(t *Type, s string, offset int64) (int64, error) {
	if r.day > maxTime/day+1 { // no int64 holds it
		return 0, t.fault(s, errRange)
	}
	hi := r.day*daySec - offset + r.us/micro // seconds, which cannot overflow
	if hi < floorDiv(minTime, micro) || hi > floorDiv(maxTime, micro) {
		return 0, t.fault(s, errRange)
	}
	return hi*micro + r.us%micro, nil
}

// readMoment reads a timestamptz as microseconds since 2000-01-01 UTC; without a
// zone it is a time in loc, nil for UTC.
func readMoment(t *Type, s string, loc *time.Location) (int64, error) {
	if us, ok := special(s); ok {
		return us, nil
	}
	r, err := read(s)
	if err != nil {
		return 0, t.fault(s, err)
	}
	offset := r.offset
	if r.zone != nil {
		loc = r.zone
	}
	if !r.zoned || r.zone != nil {
		offset = offsetOf(r.day*daySec+r.us/micro+epochUnix, loc)
	}
	return r.at(t, s, offset)
}

func parseTimestamp(t *Type, s string) (string, error) {
	us, err := readTimestamp(t, s)
	if err != nil {
		return "", err
	}
	return timestampOf(us), nil
}

func parseTimestamptz(t *Type, s string, loc *time.Location) (string, error) {
	us, err := readMoment(t, s, loc)
	if err != nil {
		return "", err
	}
	return moment(us, nil), nil
}

func encodeDate(dst []byte, s string) []byte {
	var n int32
	switch s {
	case "infinity":
		n = math.MaxInt32
	case "-infinity":
		n = math.MinInt32
	default:
		r, _ := read(s)
		n = int32(r.day) //nolint:gosec // canonical
	}
	return binary.BigEndian.AppendUint32(dst, uint32(n)) //nolint:gosec // two's complement
}

func decodeDate(t *Type, src []byte) (string, error) {
	n := int32(binary.BigEndian.Uint32(src)) //nolint:gosec // two's complement
	switch {
	case n == math.MaxInt32:
		return "infinity", nil
	case n == math.MinInt32:
		return "-infinity", nil
	case n < minDay || n > maxDay:
		return "", errorf("22008", "%s out of range", t.Name)
	}
	return formatDay(int64(n)), nil
}

func encodeTimestamp(dst []byte, s string) []byte {
	us, _ := readMoment(nil, s, nil)                      // canonical
	return binary.BigEndian.AppendUint64(dst, uint64(us)) //nolint:gosec // two's complement
}

// decodeMicros reads a binary time since 2000-01-01.
func decodeMicros(src []byte) (int64, error) {
	us := int64(binary.BigEndian.Uint64(src)) //nolint:gosec // two's complement
	if us != noEnd && us != noBeginning && (us < minTime || us > maxTime) {
		return 0, errorf("22008", "timestamp out of range")
	}
	return us, nil
}

func decodeTimestamp(_ *Type, src []byte) (string, error) {
	us, err := decodeMicros(src)
	if err != nil {
		return "", err
	}
	return timestampOf(us), nil
}

func decodeTimestamptz(_ *Type, src []byte) (string, error) {
	us, err := decodeMicros(src)
	if err != nil {
		return "", err
	}
	return moment(us, nil), nil
}

// parseTime reads a time; an offset behind it is read and passed over.
func parseTime(t *Type, s string) (string, error) {
	in := strings.Trim(s, white)
	if i := strings.IndexAny(in, "+-"); i > 0 {
		if _, err := displacement(in[i:]); err != nil {
			return "", t.fault(s, err)
		}
		in = strings.TrimRight(in[:i], white)
	}
	us, err := clock(in)
	if err != nil {
		return "", t.fault(s, err)
	}
	return formatClock(us), nil
}

func encodeTime(dst []byte, s string) []byte {
	us, _ := clock(s)                                     // canonical
	return binary.BigEndian.AppendUint64(dst, uint64(us)) //nolint:gosec // at most one day
}

func decodeTime(t *Type, src []byte) (string, error) {
	us := binary.BigEndian.Uint64(src)
	if us > uint64(day) {
		return "", errorf("22008", "%s out of range", t.Name)
	}
	return formatClock(int64(us)), nil //nolint:gosec // at most one day
}
