package value

import (
	"io/fs"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // where the system has no zoneinfo
)

// zoneinfo is where the system keeps the zones; Debian's package tzdata keeps
// them up to date, and PostgreSQL there reads the same.
const zoneinfo = "/usr/share/zoneinfo"

// zones holds the zones that were asked for, by their name: at most those that exist.
var zones sync.Map // string to *time.Location

// Zone finds a time zone by what PostgreSQL's setting TimeZone takes: a name of
// the IANA's database in any case, or a number of hours east of Greenwich.
// It returns the zone and the name by which PostgreSQL shows it. The error is
// an *[Error] with the SQLSTATE 22023.
func Zone(name string) (*time.Location, string, error) {
	if loc, ok := zones.Load(name); ok { // as it is with every value of a session that has set it
		return loc.(*time.Location), name, nil //nolint:errcheck // there is nothing else in it
	}
	if loc, shown, ok := fixed(name); ok {
		return loc, shown, nil
	}
	return zone(name)
}

func zone(name string) (*time.Location, string, error) {
	names := zoneNames()
	full, ok := names[strings.ToLower(name)]
	switch {
	case name == "" || name == "Local" || !ok && len(names) > 0: // Local is Go's own name
	case ok:
		return load(full, name)
	default: // there is only what the program brings along, where Go finds names as they are written
		if loc, full, err := load(name, name); err == nil {
			return loc, full, nil
		}
		return load(strings.ToUpper(name), name) // UTC, which SQL folds to utc
	}
	return nil, "", noZone(name)
}

// load finds a zone by its full name, and keeps it; asked is for the error.
func load(full, asked string) (*time.Location, string, error) {
	if loc, ok := zones.Load(full); ok {
		return loc.(*time.Location), full, nil //nolint:errcheck // there is nothing else in it
	}
	loc, err := time.LoadLocation(full)
	if err != nil {
		return nil, "", noZone(asked)
	}
	zones.Store(full, loc)
	return loc, full, nil
}

func noZone(name string) error {
	return errorf("22023", "invalid value for parameter \"TimeZone\": %q", name)
}

// zoneNames are the names of the system's zones, by their lower case; those
// that were there when the first was asked for, so that a name which is none
// costs nothing.
var zoneNames = sync.OnceValue(func() map[string]string { return namesBelow(zoneinfo) })

func namesBelow(root string) map[string]string {
	names := map[string]string{}
	_ = fs.WalkDir(os.DirFS(root), ".", func(path string, e fs.DirEntry, err error) error { // what cannot be read has no zones
		switch {
		case err != nil || path == "right": // right counts leap seconds, which PostgreSQL refuses too
			return fs.SkipDir
		case !e.IsDir():
			names[strings.ToLower(path)] = path
		}
		return nil
	})
	return names
}

// posix is a zone by POSIX's rules without summer time, as Java's drivers send
// it: a name and the hours west of Greenwich.
var posix = regexp.MustCompile(`^(<[A-Za-z0-9:+-]+>|[A-Za-z]+)([+-]?)([0-9]{1,3})(?::([0-9]{1,2}))?(?::([0-9]{1,2}))?$`)

// fixed reads a zone that is always at one distance from Greenwich: a number of
// hours east, which PostgreSQL shows in the form of POSIX, or that form itself.
func fixed(name string) (loc *time.Location, shown string, ok bool) {
	if m := posix.FindStringSubmatch(name); m != nil {
		h, _ := strconv.Atoi(m[3])
		min, _ := strconv.Atoi("0" + m[4])
		sec, _ := strconv.Atoi("0" + m[5])
		if h >= maxHours || min > 59 || sec > 60 {
			return nil, "", false
		}
		west := h*3600 + min*60 + sec
		if m[2] == "-" {
			west = -west
		}
		return time.FixedZone(m[1], -west), strings.ToUpper(name), true
	}
	if m := interval.FindStringSubmatch(name); m != nil {
		east, ok := eastward(m)
		if !ok {
			return nil, "", false
		}
		return at(east)
	}
	hours, err := strconv.ParseFloat(strings.TrimLeft(name, white), 64)
	if err != nil || !(math.Abs(hours) < maxHours) || strings.ContainsAny(name, "_xX") {
		return nil, "", false
	}
	return at(int64(hours * 3600))
}

// at is the zone so many seconds east.
func at(east int64) (loc *time.Location, shown string, ok bool) {
	here := formatOffset(east)
	return time.FixedZone(here, int(east)), "<" + here + ">" + map[byte]string{'+': "-", '-': "+"}[here[0]] + here[1:], true
}

// interval is a distance from Greenwich as SET TIME ZONE INTERVAL has it: hours, minutes and seconds, of which those below the field behind it
// do not count, or a number of that field, and else of seconds.
var interval = regexp.MustCompile(`(?i)^INTERVAL '\s*([+-]?)([0-9]{1,7})(?::([0-9]{1,2}))?(?::([0-9]{1,2}))?\s*'( HOUR)?( MINUTE)?$`)

// eastward reads what interval has found, in seconds.
func eastward(m []string) (east int64, ok bool) {
	n, _ := strconv.ParseInt(m[2], 10, 64)
	switch clock, hour, minute := m[3] != "", m[5] != "", m[6] != ""; {
	case clock:
		least, _ := strconv.ParseInt(m[3], 10, 64)
		sec, _ := strconv.ParseInt("0"+m[4], 10, 64)
		if least > 59 || sec > 60 {
			return 0, false
		}
		east = n * 3600
		if !hour {
			east += least * 60
		}
		if !hour && !minute {
			east += sec
		}
	case minute:
		east = n * 60
	case hour:
		east = n * 3600
	default:
		east = n
	}
	if m[1] == "-" {
		east = -east
	}
	return east, -maxHours*3600 < east && east < maxHours*3600
}

// maxHours is a week, beyond which POSIX has no zones.
const maxHours = 168
