package mariadb

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/fdtserver/fdt/txn"
)

// Numbers of PostgreSQL's types (pg_type.dat) that MariaDB's results have.
const (
	oidBytea       = 17
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidText        = 25
	oidFloat4      = 700
	oidFloat8      = 701
	oidDate        = 1082
	oidTimestamp   = 1114
	oidTimestamptz = 1184
	oidNumeric     = 1700
)

// types gives each type of a result, by the driver's name, the smallest of PostgreSQL's that holds all its values. A TIME is left out: it
// may be negative and last for weeks.
var types = map[string]uint32{
	"TINYINT": oidInt2, "SMALLINT": oidInt2, "MEDIUMINT": oidInt4, "INT": oidInt4, "BIGINT": oidInt8,
	"UNSIGNED TINYINT": oidInt2, "UNSIGNED SMALLINT": oidInt4, "UNSIGNED MEDIUMINT": oidInt4, "UNSIGNED INT": oidInt8, "UNSIGNED BIGINT": oidNumeric,
	"YEAR": oidInt2, "BIT": oidInt8, "DECIMAL": oidNumeric, "FLOAT": oidFloat4, "DOUBLE": oidFloat8,
	"CHAR": oidText, "VARCHAR": oidText, "TEXT": oidText, "TINYTEXT": oidText, "MEDIUMTEXT": oidText, "LONGTEXT": oidText, "ENUM": oidText, "SET": oidText,
	"BINARY": oidBytea, "VARBINARY": oidBytea, "BLOB": oidBytea, "TINYBLOB": oidBytea, "MEDIUMBLOB": oidBytea, "LONGBLOB": oidBytea, "GEOMETRY": oidBytea,
	"DATE": oidDate, "DATETIME": oidTimestamp, "TIMESTAMP": oidTimestamptz,
}

// take keeps the first value of a row, whose type the driver calls typ. The session's time zone is UTC.
func take(out *txn.Outcome, typ string, value any) {
	if value == nil {
		return
	}
	out.Type = types[typ]
	text := ""
	switch v := value.(type) {
	case []byte:
		text = bytesText(out, v)
	case float32:
		text = strconv.FormatFloat(float64(v), 'g', -1, 32)
	default: // int64, uint64, float64, bool
		text = fmt.Sprint(v)
	}
	out.First = &text
}

// bytesText is the text of what the driver gives as bytes.
func bytesText(out *txn.Outcome, v []byte) string {
	switch out.Type {
	case oidBytea:
		return `\x` + hex.EncodeToString(v)
	case oidInt8: // a BIT: the driver gives integers as numbers
		n := binary.BigEndian.Uint64(append(make([]byte, 8-len(v), 8), v...)) // at most 64 bits
		if n > math.MaxInt64 {
			out.Type = oidNumeric
		}
		return strconv.FormatUint(n, 10)
	case oidDate, oidTimestamp, oidTimestamptz:
		text := string(v)
		if strings.Contains(text, "-00") { // no day of any calendar
			out.Type = 0
			break
		}
		if out.Type == oidTimestamptz {
			text += "+00"
		}
		return text
	}
	return string(v)
}
