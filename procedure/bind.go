package procedure

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/txn"
)

// result is what a statement returned, with the type that its resource gave
// it. What is of no type that PostgreSQL's clients know stays a text that may
// become anything.
func result(out txn.Outcome) (value.Value, error) {
	t, ok := value.ByOID(out.Type)
	if !ok || t == value.Void || t.System {
		t = value.Unknown
	}
	if out.First == nil {
		return t.Null(), nil
	}
	return t.Parse(*out.First)
}

// args are what is bound to the placeholders.
func (st *step) args(values map[string]value.Value) ([]any, error) {
	args := make([]any, len(st.binds))
	for i, name := range st.binds {
		v := values[name]
		var err error
		if st.dialect == config.DialectMariaDB {
			args[i], err = foreign(name, v)
		} else {
			args[i] = argument(v)
		}
		if err != nil {
			return nil, err
		}
	}
	return args, nil
}

// argument is a value as the drivers of databases take it.
func argument(v value.Value) any {
	if v.Null {
		return nil
	}
	switch v.Type {
	case value.Bool:
		return v.Text == "t"
	case value.Int2, value.Int4, value.Int8:
		n, _ := strconv.ParseInt(v.Text, 10, 64) // canonical
		return n
	case value.Float8, value.Float4:
		f, _ := strconv.ParseFloat(v.Text, 64) // canonical
		return f
	case value.Bytea:
		b, _ := hex.DecodeString(v.Text[2:]) // canonical
		return b
	}
	return v.Text
}

// foreign is argument for MariaDB, which writes times in another way and has no
// infinities. A moment is given as its time in UTC, the zone of fdt's sessions.
func foreign(name string, v value.Value) (any, error) {
	if v.Null {
		return nil, nil
	}
	switch v.Type {
	case value.Numeric, value.Float4, value.Float8:
		if strings.ContainsAny(v.Text, "NI") { // NaN and Infinity
			return nil, unfit("22003", name, v)
		}
		if v.Type == value.Float4 { // MariaDB compares as DOUBLE
			f, _ := strconv.ParseFloat(v.Text, 32) // canonical
			return f, nil
		}
	case value.Date, value.Timestamp, value.Timestamptz:
		if v.Text[4] != '-' || strings.HasSuffix(v.Text, "BC") { // beyond the year 9999, or infinity
			return nil, unfit("22008", name, v)
		}
		return strings.TrimSuffix(v.Text, "+00"), nil
	}
	return argument(v), nil
}

func unfit(code, name string, v value.Value) error {
	return &Error{Code: code, Message: fmt.Sprintf("%s is %s, which MariaDB has no %s for", name, v.Text, v.Type)}
}
