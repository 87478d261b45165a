package pgwire

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fdtserver/fdt/internal/value"
)

// ServerVersion is what server_version reports: drivers choose by it what
// they may send.
const ServerVersion = "15.0 (fdt)"

func oneOf(list ...string) func(string) (string, bool) {
	return func(v string) (string, bool) {
		i := slices.IndexFunc(list, func(s string) bool { return strings.EqualFold(s, v) })
		if i < 0 {
			return "", false
		}
		return list[i], true
	}
}

// boolean takes what begins only one of the words, as PostgreSQL's parse_bool.
func boolean(v string) (string, bool) {
	v = strings.ToLower(v)
	for _, word := range [...]struct{ text, least, means string }{
		{"true", "t", "on"}, {"yes", "y", "on"}, {"on", "on", "on"}, {"1", "1", "on"},
		{"false", "f", "off"}, {"no", "n", "off"}, {"off", "of", "off"}, {"0", "0", "off"},
	} {
		if strings.HasPrefix(word.text, v) && strings.HasPrefix(v, word.least) {
			return word.means, true
		}
	}
	return "", false
}

func onOnly(v string) (string, bool) {
	b, ok := boolean(v)
	return b, ok && b == "on"
}

func integer(low, high int) func(string) (string, bool) {
	return func(v string) (string, bool) {
		n, err := strconv.Atoi(strings.TrimSpace(v))
		return strconv.Itoa(n), err == nil && n >= low && n <= high
	}
}

// encoding takes UTF-8 under all its names and nothing else. Of a name only
// ASCII's letters and digits count, as for PostgreSQL's clean_encoding_name:
// clients write it with dashes, and in quotes.
func encoding(v string) (string, bool) {
	if v == "UNICODE" { // whose name PostgreSQL keeps as it is, for old clients
		return v, true
	}
	switch strings.Map(func(c rune) rune {
		switch {
		case 'A' <= c && c <= 'Z':
			return c + 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			return c
		}
		return -1
	}, v) {
	case "utf8", "unicode":
		return "UTF8", true
	}
	return "", false
}

// dateStyle takes ISO with any order of day and month, as only ISO is printed.
func dateStyle(v string) (string, bool) {
	order := "MDY"
	for part := range strings.SplitSeq(v, ",") {
		switch p := strings.ToUpper(strings.TrimSpace(part)); p {
		case "ISO":
		case "MDY", "DMY", "YMD":
			order = p
		case "US", "NONEURO", "NONEUROPEAN":
			order = "MDY"
		case "EURO", "EUROPEAN":
			order = "DMY"
		default:
			return "", false
		}
	}
	return "ISO, " + order, true
}

// timeZone takes what value.Zone knows.
func timeZone(v string) (string, bool) {
	_, shown, err := value.Zone(v)
	return shown, err == nil
}

// zone is the session's time zone; nil is UTC.
func (se *session) zone() *time.Location {
	name := se.settings.get("timezone")
	if name == "UTC" {
		return nil
	}
	loc, _, _ := value.Zone(name) // checked when set
	return loc
}

// period takes milliseconds, or a number with PostgreSQL's unit, and keeps
// milliseconds.
func period(v string) (string, bool) {
	d, ok := parsePeriod(v)
	return strconv.FormatInt(d.Milliseconds(), 10), ok
}

func parsePeriod(v string) (time.Duration, bool) {
	v = strings.TrimSpace(v)
	number := strings.TrimRight(v, "abcdefghijklmnopqrstuvwxyz ")
	if strings.ContainsAny(number, "_xXpPiI") { // Go's own forms
		return 0, false
	}
	unit, ok := map[string]time.Duration{
		"": time.Millisecond, "us": time.Microsecond, "ms": time.Millisecond, "s": time.Second,
		"min": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
	}[strings.TrimSpace(v[len(number):])]
	n, err := strconv.ParseFloat(number, 64)
	n = math.RoundToEven(n * float64(unit) / float64(time.Millisecond)) // PostgreSQL counts whole milliseconds
	return time.Duration(n) * time.Millisecond, ok && err == nil && n >= 0 && n <= math.MaxInt32
}

var isolations = []string{"serializable", "repeatable read", "read committed", "read uncommitted"}

// reported are the settings that ParameterStatus tells, in order.
var reported = func() []string {
	var list []string
	for key, s := range catalog {
		if s.report {
			list = append(list, key)
		}
	}
	slices.Sort(list)
	return list
}()

// values are settings that differ from their defaults, by name in lower case.
type values map[string]string

// settings are a session's run-time parameters. What a transaction sets is
// taken back when it is rolled back, also to a savepoint: for that the older
// values are kept, one for each setting that changes between two savepoints.
type settings struct {
	startup values // from the startup packet: what RESET goes back to
	session values // survive a commit
	local   values // SET LOCAL: until the transaction ends
	open    bool   // there is a transaction
	undo    []older
	latest  map[string]int // the last place in undo at which a setting is; nil while there are few
	saved   []mark
	told    map[string]string // what ParameterStatus last told, where it differs from the initial value
	bytes   int               // that all this is taken for
}

// older is what a setting was.
type older struct {
	key            string
	session, local *string // nil: not set
}

// mark is a savepoint.
type mark struct {
	name string
	at   int // length of undo when it was set
}

func (s *settings) get(key string) string {
	for _, v := range [...]values{s.local, s.session, s.startup} {
		if value, ok := v[key]; ok {
			return value
		}
	}
	return catalog[key].initial
}

// parse checks a value for a setting and brings it to its canonical form.
func parseSetting(name string, list []string) (key, value string, err error) {
	key = strings.ToLower(name)
	value = strings.Join(list, ", ")
	if len(list) > 1 && key != "datestyle" && key != "search_path" {
		return "", "", errorf("22023", "SET %s takes only one argument", name)
	}
	s, ok := catalog[key]
	if !ok {
		if strings.ContainsRune(key, '.') { // a client's own
			return key, value, nil
		}
		return "", "", unknownSetting(name)
	}
	if s.fixed {
		return "", "", errorf("55P02", "parameter %q cannot be changed", s.name)
	}
	if s.check != nil {
		if value, ok = s.check(value); !ok {
			f := errorf("22023", "invalid value for parameter %q: %q", s.name, strings.Join(list, ", "))
			if s.about != "" {
				_ = f.hint("%s", s.about)
			}
			return "", "", f
		}
	}
	return key, value, nil
}

// sets checks a value for a setting, sets it if it may be set, and warns if that does nothing.
func (se *session) sets(name string, list []string, local bool) (value string, err error) {
	key, value, err := parseSetting(name, list)
	if err != nil {
		return "", err
	}
	se.settings.set(key, value, local)
	se.ineffective(key, value)
	return value, se.spend(0)
}

func unknownSetting(name string) error {
	return errorf("42704", "unrecognized configuration parameter %q", name)
}

func (s *settings) set(key, value string, local bool) {
	key, value = strings.Clone(key), strings.Clone(value) // the text that they are parts of may be long
	s.note(key)
	if local {
		s.put(&s.local, key, &value)
		return
	}
	s.put(&s.session, key, &value)
	s.put(&s.local, key, nil)
}

// put sets a value in one layer; nil takes it out.
func (s *settings) put(layer *values, key string, value *string) {
	if old, ok := (*layer)[key]; ok {
		s.bytes -= settingCost + len(key) + len(old)
		delete(*layer, key)
	}
	if value == nil {
		return
	}
	if *layer == nil {
		*layer = values{}
	}
	(*layer)[key] = *value
	s.bytes += settingCost + len(key) + len(*value)
}

// note keeps what a setting is, if that was not done since the last savepoint.
func (s *settings) note(key string) {
	since := 0
	if n := len(s.saved); n > 0 {
		since = s.saved[n-1].at
	}
	if !s.open || s.noted(key, since) {
		return
	}
	o := older{key: key, session: pointer(s.session, key), local: pointer(s.local, key)}
	if s.latest != nil {
		s.latest[key] = len(s.undo)
	}
	s.undo = append(s.undo, o)
	s.bytes += o.size()
}

// few is how many older values are looked through one by one.
const few = 8

// noted tells whether undo has the setting at since or behind.
func (s *settings) noted(key string, since int) bool {
	if len(s.undo) <= few {
		return slices.ContainsFunc(s.undo[since:], func(o older) bool { return o.key == key })
	}
	if s.latest == nil {
		s.latest = map[string]int{}
		for at, o := range s.undo {
			s.latest[o.key] = at
		}
	}
	at, ok := s.latest[key]
	return ok && at >= since && at < len(s.undo) && s.undo[at].key == key // else it was taken back
}

func pointer(v values, key string) *string {
	if value, ok := v[key]; ok {
		return &value
	}
	return nil
}

// size bounds the memory in bytes of what is kept.
func (o older) size() int {
	n := settingCost + len(o.key)
	for _, value := range [...]*string{o.session, o.local} {
		if value != nil {
			n += len(*value)
		}
	}
	return n
}

// back takes back what was set since undo had the length.
func (s *settings) back(to int) {
	for n := len(s.undo) - 1; n >= to; n-- {
		o := s.undo[n]
		s.put(&s.session, o.key, o.session)
		s.put(&s.local, o.key, o.local)
		s.bytes -= o.size()
	}
	s.undo = s.undo[:to]
}

func (s *settings) reset(key string) {
	s.note(key)
	s.put(&s.session, key, nil)
	s.put(&s.local, key, nil)
}

// resetAll takes everything back to what the startup packet asked for, but for
// the modes of the transaction.
func (s *settings) resetAll() {
	for _, layer := range [...]values{s.session, s.local} {
		for key := range layer {
			if !strings.HasPrefix(key, "transaction_") {
				s.reset(key)
			}
		}
	}
}

// begin notes where to go back to; within a transaction it does nothing.
func (s *settings) begin() { s.open = true }

// end ends the transaction.
func (s *settings) end(committed bool) {
	if !s.open {
		return
	}
	s.release(0)
	if !committed {
		s.back(0)
	}
	for key := range s.local {
		s.put(&s.local, key, nil)
	}
	for _, o := range s.undo {
		s.bytes -= o.size()
	}
	s.open, s.latest = false, nil
	if s.undo = s.undo[:0]; cap(s.undo) > few {
		s.undo = nil
	}
}

// fail takes back what was set since the last savepoint.
func (s *settings) fail() {
	to := 0
	if n := len(s.saved); n > 0 {
		to = s.saved[n-1].at
	}
	s.back(to)
}

// depth returns how many savepoints are set.
func (s *settings) depth() int { return len(s.saved) }

func (s *settings) savepoint(name string) {
	s.saved = append(s.saved, mark{name, len(s.undo)})
	s.bytes += savepointCost + len(name)
}

// find returns the index of the innermost savepoint of the name, or -1.
func (s *settings) find(name string) int {
	i := len(s.saved) - 1
	for i >= 0 && s.saved[i].name != name {
		i--
	}
	return i
}

// release forgets the savepoints from the index on.
func (s *settings) release(from int) {
	for _, m := range s.saved[from:] {
		s.bytes -= savepointCost + len(m.name)
	}
	s.saved = s.saved[:from]
}

// rollbackTo takes back what was set since the savepoint at the index, which
// stays.
func (s *settings) rollbackTo(at int) {
	s.back(s.saved[at].at)
	s.release(at + 1)
}

// changed calls tell for every reported setting whose value the client does
// not know yet.
func (s *settings) changed(tell func(name, value string)) {
	if len(s.session) == 0 && len(s.local) == 0 && len(s.told) == 0 {
		return
	}
	for _, key := range reported {
		value := s.get(key)
		known, ok := s.told[key]
		if !ok {
			known = s.initially(key)
		}
		if value == known {
			continue
		}
		if s.told == nil {
			s.told = map[string]string{}
		}
		s.told[key] = value
		tell(catalog[key].name, value)
	}
}

// initially is the value with which the session began.
func (s *settings) initially(key string) string {
	if v, ok := s.startup[key]; ok {
		return v
	}
	return catalog[key].initial
}

// milliseconds is the value of a setting that holds a period; zero is none.
func (s *settings) milliseconds(key string) time.Duration {
	n, _ := strconv.ParseInt(s.get(key), 10, 64) // checked when set
	return time.Duration(n) * time.Millisecond
}
