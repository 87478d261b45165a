package structs

import (
	"database/sql"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/fdtserver/fdt/internal/value"
)

type everything struct {
	Bool       bool
	Small      int16
	Int        int32
	Big        int64
	Count      int `fdt:"n,,default=7"`
	Real       float32
	Double     float64
	Text       string
	Bytes      []byte
	At         time.Time
	Day        time.Time `fdt:",date"`
	Naive      time.Time `fdt:",timestamp"`
	Doc        json.RawMessage
	ID         [16]byte
	Amount     string         `fdt:"amount,numeric,default=1.50"`
	Exact      pgtype.Numeric `fdt:",numeric"`
	List       []int64
	Words      []string `fdt:"words,text[]"`
	AccountID  *int64
	HTTPStatus *string
	Scanned    sql.NullString `fdt:",varchar"`
	Skipped    chan int       `fdt:"-"`
	Embedded
}

type Embedded struct{ Inner string }

func TestRoundTrip(t *testing.T) {
	s, err := Of(reflect.TypeFor[everything]())
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{ // what is not there is null
		"bool": "t", "small": "-32768", "int": "2147483647", "big": "-9223372036854775808", "n": "7", "real": "1.5", "double": "NaN",
		"text": "é\n'", "bytes": `\x00ff`, "at": "2026-01-02 03:04:05.000006+00", "day": "2000-02-29", "naive": "1999-12-31 23:59:59.999999",
		"doc": `{"a": [1, null]}`, "id": "00112233-4455-6677-8899-aabbccddeeff", "amount": "123456789012345678901234567890.10",
		"exact": "-0.00", "list": "{1,-2}", "words": `{a,"b c",NULL}`, "inner": "x",
	}
	in := make([]value.Value, len(s.Fields()))
	for i, f := range s.Fields() {
		in[i] = f.Type.Null()
		text, ok := texts[f.Name]
		if !ok {
			continue
		}
		if f.Name == "words" {
			text = `{a,"b c"}` // a string holds no null
		}
		v, err := f.Type.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		in[i] = v
	}
	var e everything
	if err := s.Set(reflect.ValueOf(&e).Elem(), in); err != nil {
		t.Fatal(err)
	}
	if e.Big != math.MinInt64 || e.AccountID != nil || e.Scanned.Valid || e.Inner != "x" || e.Amount != texts["amount"] || len(e.List) != 2 {
		t.Errorf("%+v", e)
	}
	out, err := s.Get(reflect.ValueOf(e))
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range s.Fields() {
		if out[i] != in[i] {
			t.Errorf("%s: %+v became %+v", f.Name, in[i], out[i])
		}
	}
	if f := s.Fields()[14]; f.Name != "amount" || f.Default == nil || f.Default.Text != "1.50" {
		t.Errorf("%+v", f)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{"FromAccount": "from_account", "ID": "id", "AccountID": "account_id", "HTTPStatus": "http_status", "A1B": "a1_b"} {
		if got := snake(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestRefused(t *testing.T) {
	for want, typ := range map[string]reflect.Type{
		"int is no struct": reflect.TypeFor[int](),
		"field A of struct { A chan int }: say which type a chan int is": reflect.TypeFor[struct{ A chan int }](),
		`there is no type "money"`: reflect.TypeFor[struct {
			A string `fdt:",money"`
		}](),
		`there is no type "void[]"`: reflect.TypeFor[struct {
			A string `fdt:",void[]"`
		}](),
		"chan int cannot hold bigint": reflect.TypeFor[struct {
			A chan int `fdt:",bigint"`
		}](),
		"a name has at most 63 small letters": reflect.TypeFor[struct {
			A int `fdt:"A b"`
		}](),
		"no field of struct { a int } is exported": reflect.TypeFor[struct{ a int }](),
		"field b of struct { A int; b int \"fdt:\\\"c\\\"\" } has a tag, and is not exported": reflect.TypeFor[struct {
			A int
			b int `fdt:"c"`
		}](),
		"there is another field of name a": reflect.TypeFor[struct {
			A int
			B int `fdt:"a"`
		}](),
		`default: invalid input syntax for type bigint: "x"`: reflect.TypeFor[struct {
			A int `fdt:",,default=x"`
		}](),
	} {
		if _, err := Of(typ); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestUnfit(t *testing.T) {
	type one struct {
		At *time.Time
		N  int
	}
	s, err := Of(reflect.TypeFor[one]())
	if err != nil {
		t.Fatal(err)
	}
	var o one
	err = s.Set(reflect.ValueOf(&o).Elem(), []value.Value{value.Timestamptz.Null(), value.Int8.Null()})
	if null, ok := errors.AsType[*Null](err); !ok || null.Error() != "n must not be null" {
		t.Error(err)
	}
	forever, err := value.Timestamptz.Parse("infinity")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Set(reflect.ValueOf(&o).Elem(), []value.Value{forever, value.Int8.Null()}); err == nil || !strings.HasPrefix(err.Error(), "at: ") {
		t.Error(err)
	}
	type text struct{ A string }
	if s, err = Of(reflect.TypeFor[text]()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(reflect.ValueOf(text{"\x00"})); err == nil || !strings.HasPrefix(err.Error(), "a: ") {
		t.Error(err)
	}
}

func TestEncodeFails(t *testing.T) {
	type one struct {
		N json.RawMessage
	}
	s, err := Of(reflect.TypeFor[one]())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(reflect.ValueOf(one{json.RawMessage("{")})); err == nil {
		t.Error("no JSON")
	}
}
