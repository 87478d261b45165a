package procedure_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// recorder is a resource whose branches write down what they are asked. It is
// not a stand-in for a database: what arrives at a resource is the subject.
type recorder struct {
	name string
	got  []string
	next []txn.Outcome
	err  error

	eager bool // votes with the last statement
}

func (r *recorder) Name() string                             { return r.name }
func (r *recorder) Identity(context.Context) (string, error) { return r.name, nil }
func (r *recorder) Close() error                             { return nil }
func (r *recorder) Fence(context.Context, txn.LogID, uint64) error {
	return nil
}
func (r *recorder) InDoubt(context.Context, txn.LogID) ([]txn.PreparedBranch, error) {
	return nil, nil
}
func (r *recorder) Resolve(context.Context, txn.GID, txn.Decision, txn.Proof) (txn.Resolution, error) {
	return txn.ResolvedDone, nil
}
func (r *recorder) Enlist(context.Context, txn.BranchOptions) (txn.Branch, error) {
	if strings.HasPrefix(r.name, "bank") {
		return bankBranch{branch{r}}, nil
	}
	return branch{r}, nil
}

type branch struct{ r *recorder }

func (branch) Prepare(context.Context, txn.GID) (txn.Vote, error) { return txn.VotePrepared, nil }
func (branch) Proof() txn.Proof                                   { return "" }
func (branch) Commit(context.Context) error                       { return nil }
func (branch) Rollback(context.Context) error                     { return nil }
func (branch) CommitPrepared(context.Context, txn.GID) error      { return nil }
func (branch) RollbackPrepared(context.Context, txn.GID) error    { return nil }
func (branch) Savepoint(context.Context, string) error            { return nil }
func (branch) RollbackTo(context.Context, string) error           { return nil }
func (branch) Release(context.Context, string) error              { return nil }

type bankBranch struct{ branch }

func (b bankBranch) Exec(ctx context.Context, sql string, args []any) (txn.Outcome, error) {
	b.r.got = append(b.r.got, fmt.Sprintf("%s %#v", sql, args))
	if b.r.err != nil {
		return txn.Outcome{}, b.r.err
	}
	if strings.Contains(sql, "wait") {
		<-ctx.Done()
		return txn.Outcome{}, ctx.Err()
	}
	out := b.r.next[0]
	b.r.next = b.r.next[1:]
	return out, nil
}

func (b bankBranch) ExecLast(ctx context.Context, _ txn.GID, last txn.Statement) (out txn.Outcome, voted bool, err error) {
	if !b.r.eager {
		return out, false, nil
	}
	out, err = b.Exec(ctx, "last: "+last.SQL, last.Args)
	return out, err == nil, err
}

const text = `
listen: {local: {address: /run/fdt/s, auth: peer}}
resources:
  outbox: {type: spool, directory: %s}
  bank_a: {type: postgres, dsn: "host=/run/postgresql dbname=a user=fdt"}
  bank_b: {type: mariadb, dsn: "fdt@unix(/run/mysqld/mysqld.sock)/b"}
procedures:
  enqueue:
    parameters: {body: text}
    steps: [{on: outbox, put: "begin :body:: end"}]
  raw:
    parameters: {body: bytea, n: bigint}
    steps: [{on: outbox, put: ":body"}, {on: outbox, put: ":n"}]
  transfer:
    parameters: {src: bigint, amount: numeric, dst: {type: bigint, default: 7}}
    steps:
      - {on: bank_a, sql: "UPDATE a SET b = b - :amount WHERE id = :src AND b >= :amount AND n = ':no' -- :no", rows: 1, else: "insufficient funds", sqlstate: "P0002"}
      - {on: bank_b, sql: "UPDATE a SET b = b + :amount WHERE id = :dst AND :amount > 0", rows: 1}
    allow: [alice]
  types:
    parameters: {a: boolean, b: smallint, c: integer, d: bigint, e: real, f: "double precision", g: numeric, h: text, i: bytea, j: date}
    steps: [{on: bank_a, sql: "SELECT :a, :b, :c, :d, :e, :f, :g, :h, :i, :j"}]
  chain:
    parameters: {id: bigint}
    steps:
      - {on: bank_a, sql: "SELECT b FROM a WHERE id = :id", as: found}
      - {on: bank_a, sql: "UPDATE a SET n = :found", when: found, as: second}
    returns: {found: bigint, second: text}
  patience:
    timeout: 10ms
    steps: [{on: bank_a, sql: "wait"}]
`

type bench struct {
	oneCall    bool
	set        *procedure.Set
	bank, mary *recorder
	session    *txn.Session
	outbox     string
}

func setup(t *testing.T) *bench {
	t.Helper()
	dir := t.TempDir()
	b := &bench{outbox: filepath.Join(dir, "outbox"), bank: &recorder{name: "bank_a"}, mary: &recorder{name: "bank_b"}}
	for _, d := range []string{"outbox", "log", "claims", "etc"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "etc", "config.yaml"), fmt.Appendf(nil, text, b.outbox), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(filepath.Join(dir, "etc"))
	if err != nil {
		t.Fatal(err)
	}
	if b.set, err = procedure.Compile(cfg); err != nil {
		t.Fatal(err)
	}
	sp, err := spool.Open("outbox", b.outbox)
	if err != nil {
		t.Fatal(err)
	}
	m, err := txn.Open(t.Context(), txn.Options{LogDir: filepath.Join(dir, "log"), ClaimDir: filepath.Join(dir, "claims"),
		MachineID: "0123456789abcdef0123456789abcdef", Resources: []txn.Resource{sp, b.bank, b.mary}})
	if err != nil {
		t.Fatal(err)
	}
	b.session = m.NewSession(txn.Principal{User: "alice"})
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := errors.Join(b.session.Close(ctx), m.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
	return b
}

// call runs a procedure in a transaction that is committed if it succeeds.
func (b *bench) call(t *testing.T, name string, args ...procedure.Arg) ([]value.Value, error) {
	t.Helper()
	p, ok := b.set.Lookup(name)
	if !ok {
		t.Fatalf("no procedure %s", name)
	}
	bound, err := p.Bind(nil, args)
	if err != nil {
		return nil, err
	}
	if err := b.session.Begin(t.Context(), txn.TxOptions{OneCall: b.oneCall}); err != nil {
		t.Fatal(err)
	}
	var row []value.Value
	err = p.Run(t.Context(), b.session, nil, bound, func(r []value.Value) error { row = r; return nil })
	if err != nil {
		if rerr := b.session.Rollback(t.Context()); rerr != nil {
			t.Fatal(rerr)
		}
		return nil, err
	}
	return row, b.session.Commit(t.Context())
}

func plain(s string) procedure.Arg {
	return procedure.Arg{Value: value.Value{Type: value.Unknown, Text: s}}
}

func typed(typ *value.Type, s string) procedure.Arg {
	return procedure.Arg{Value: value.Value{Type: typ, Text: s}}
}

func named(name, s string) procedure.Arg {
	a := plain(s)
	a.Name = name
	return a
}

func first(s string) txn.Outcome { return txn.Outcome{Rows: 1, First: &s} }

func TestPut(t *testing.T) {
	b := setup(t)
	for _, args := range [][]procedure.Arg{{plain("hello")}, {named("body", ":body")}} {
		if _, err := b.call(t, "enqueue", args...); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.call(t, "raw", plain(`\x00ff`), plain("5")); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(b.outbox, "new"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		body, err := os.ReadFile(filepath.Join(b.outbox, "new", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(body))
	}
	slices.Sort(got)
	if want := []string{"\x00\xff", "5", "begin :body: end", "begin hello: end"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	_, err = b.call(t, "enqueue", procedure.Arg{Value: value.Text.Null()})
	fails(t, err, "22004", "body is null, which a message cannot hold", "Step 1 of procedure enqueue, on outbox.")
}

func fails(t *testing.T, err error, code, message, detail string) {
	t.Helper()
	e, ok := errors.AsType[*procedure.Error](err)
	if !ok || e.SQLState() != code || e.Error() != message || e.Detail != detail {
		t.Errorf("%#v (%v), want %s %s %s", e, err, code, message, detail)
	}
}

func TestSQL(t *testing.T) {
	b := setup(t)
	b.bank.next = []txn.Outcome{{Rows: 1}, {Rows: 0}, {Rows: 1}}
	b.mary.next = []txn.Outcome{{Rows: 1}, {Rows: 2}}
	args := []procedure.Arg{plain("1"), named("amount", "2.50")}
	if _, err := b.call(t, "transfer", args...); err != nil {
		t.Fatal(err)
	}
	want := []string{`UPDATE a SET b = b - $1 WHERE id = $2 AND b >= $1 AND n = ':no' -- :no []interface {}{"2.50", 1}`}
	if !slices.Equal(b.bank.got, want) {
		t.Errorf("%q", b.bank.got)
	}
	want = []string{`UPDATE a SET b = b + ? WHERE id = ? AND ? > 0 []interface {}{"2.50", 7, "2.50"}`}
	if !slices.Equal(b.mary.got, want) {
		t.Errorf("%q", b.mary.got)
	}
	_, err := b.call(t, "transfer", args...)
	fails(t, err, "P0002", "insufficient funds", "Step 1 of procedure transfer, on bank_a.")
	_, err = b.call(t, "transfer", args...)
	fails(t, err, "P0001", "2 rows instead of 1", "Step 2 of procedure transfer, on bank_b.")
	b.bank.err = errors.New("the disk is on fire")
	_, err = b.call(t, "transfer", args...)
	if !errors.Is(err, b.bank.err) || !strings.Contains(err.Error(), "step 1 of procedure transfer, on bank_a: ") {
		t.Error(err)
	}
}

// TestLast: in a call of which COMMIT follows, a branch votes with the last step there, if another resource takes part.
func TestLast(t *testing.T) {
	b := setup(t)
	b.bank.eager, b.mary.eager, b.oneCall = true, true, true
	one := txn.Outcome{Rows: 1}
	b.bank.next, b.mary.next = []txn.Outcome{one, one, first("5"), one, one}, []txn.Outcome{one, {Rows: 2}}
	args := []procedure.Arg{plain("1"), named("amount", "2.50")}
	if _, err := b.call(t, "transfer", args...); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*recorder{b.bank, b.mary} {
		if len(r.got) != 1 || !strings.HasPrefix(r.got[0], "last: UPDATE") {
			t.Errorf("%s: %q", r.name, r.got)
		}
	}
	_, err := b.call(t, "transfer", args...)
	fails(t, err, "P0001", "2 rows instead of 1", "Step 2 of procedure transfer, on bank_b.")
	b.bank.got = nil
	if _, err := b.call(t, "chain", plain("1")); err != nil {
		t.Fatal(err)
	}
	b.oneCall, b.mary.next = false, []txn.Outcome{one}
	if _, err := b.call(t, "transfer", args...); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(b.bank.got); strings.Contains(got, "last") {
		t.Errorf("alone, or in a block: %s", got)
	}
}

func TestArguments(t *testing.T) {
	b := setup(t)
	b.bank.next = []txn.Outcome{{}, {}}
	var args []procedure.Arg
	for _, s := range []string{"t", "1", "2", "3", "1.5", "2.5", "4.50", "x", `\x01`, "2020-02-03"} {
		args = append(args, plain(s))
	}
	if _, err := b.call(t, "types", args...); err != nil {
		t.Fatal(err)
	}
	for i := range args {
		args[i] = procedure.Arg{Value: value.Unknown.Null()}
	}
	if _, err := b.call(t, "types", args...); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 []interface {}{true, 1, 2, 3, 1.5, 2.5, "4.50", "x", []uint8{0x1}, "2020-02-03"}`,
		`SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 []interface {}{interface {}(nil), interface {}(nil), interface {}(nil), interface {}(nil), interface {}(nil), interface {}(nil), interface {}(nil), interface {}(nil), interface {}(nil), interface {}(nil)}`,
	}
	if !slices.Equal(b.bank.got, want) {
		t.Errorf("%q", b.bank.got)
	}
}

func TestChain(t *testing.T) {
	b := setup(t)
	for _, c := range []struct {
		found txn.Outcome
		row   string // found, second
		steps int
	}{
		{first("5"), "5 done", 2},
		{txn.Outcome{}, "NULL NULL", 1},
		{first("0"), "0 NULL", 1},
		{txn.Outcome{Rows: 1, First: new("0.00"), Type: value.Numeric.OID}, "0 NULL", 1},
		{txn.Outcome{Rows: 1, First: new("4.50"), Type: value.Numeric.OID}, "5 done", 2},
		{txn.Outcome{Rows: 1, First: new("f"), Type: value.Bool.OID}, "", 0},
	} {
		b.bank.got = nil
		b.bank.next = []txn.Outcome{c.found, first("done")}
		row, err := b.call(t, "chain", plain("1"))
		if c.row == "" { // there is no cast from boolean to bigint
			fails(t, err, "22P02", `invalid input syntax for type bigint: "f"`, "")
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, v := range row {
			if v.Null {
				v.Text = "NULL"
			}
			got = append(got, v.Text)
		}
		if s := strings.Join(got, " "); s != c.row || len(b.bank.got) != c.steps {
			t.Errorf("%s after %d steps, want %s after %d", s, len(b.bank.got), c.row, c.steps)
		}
	}
	b.bank.next = []txn.Outcome{{Rows: 1, First: new("x"), Type: value.Int4.OID}}
	_, err := b.call(t, "chain", plain("1"))
	fails(t, err, "22P02", `invalid input syntax for type integer: "x"`, "Step 1 of procedure chain, on bank_a.")
	b.bank.next = []txn.Outcome{first("x"), first("y")}
	_, err = b.call(t, "chain", plain("1"))
	fails(t, err, "22P02", `invalid input syntax for type bigint: "x"`, "")
}

func TestTimeout(t *testing.T) {
	b := setup(t)
	_, err := b.call(t, "patience")
	fails(t, err, "57014", "canceling statement due to the timeout of procedure patience (10ms)", "")
}

func TestSet(t *testing.T) {
	b := setup(t)
	if got := strings.Join(b.set.Names(), " "); got != "chain enqueue patience raw transfer types" {
		t.Error(got)
	}
	p, _ := b.set.Lookup("transfer")
	if got := p.Signature(); got != "transfer(src bigint, amount numeric, dst bigint DEFAULT 7)" || p.Name() != "transfer" {
		t.Error(got)
	}
	if !p.Allowed("alice") || p.Allowed("bob") {
		t.Error("allow: is not kept")
	}
	if len(p.Params()) != 3 || p.Columns() != nil {
		t.Error("parameters or columns")
	}
	chain, _ := b.set.Lookup("chain")
	if want := []procedure.Column{{Name: "found", Type: value.Int8}, {Name: "second", Type: value.Text}}; !reflect.DeepEqual(chain.Columns(), want) {
		t.Error(chain.Columns())
	}
	if !chain.Allowed("bob") {
		t.Error("a procedure without allow: is everybody's")
	}
	if _, ok := b.set.Lookup("nonsense"); ok {
		t.Error("nonsense")
	}
	const hint = "It is called as transfer(src bigint, amount numeric, dst bigint DEFAULT 7). You might need to add explicit type casts."
	for want, args := range map[string][]procedure.Arg{
		"transfer()":        nil,
		"transfer(unknown)": {plain("1")},
		"transfer(unknown, unknown, unknown, unknown)":  {plain("1"), plain("2"), plain("3"), plain("4")},
		"transfer(unknown, src => unknown)":             {plain("1"), named("src", "1")},
		"transfer(nope => unknown)":                     {named("nope", "1")},
		"transfer(unknown, amount => double precision)": {plain("1"), {Name: "amount", Value: value.Value{Type: value.Float8, Text: "1"}}},
	} {
		_, err := p.Bind(nil, args)
		e, ok := errors.AsType[*procedure.Error](err)
		if !ok || e.Code != "42883" || e.Message != "procedure "+want+" does not exist" || e.Hint != hint {
			t.Errorf("%s: %#v", want, e)
		}
	}
	if _, err := p.Match([]string{""}, []*value.Type{nil}); err == nil || err.Error() != "procedure transfer(unknown) does not exist" {
		t.Error(err)
	}
	if _, err := p.Bind(nil, []procedure.Arg{plain("x"), named("amount", "1")}); err == nil {
		t.Error("x is no bigint")
	}
	if _, err := p.Bind(nil, []procedure.Arg{typed(value.Int2, "1"), named("amount", "1")}); err != nil {
		t.Error(err)
	}
}

// TestDisagreement compiles what config would have refused.
func TestDisagreement(t *testing.T) {
	bad := "x"
	resources := map[string]config.Resource{"o": {Name: "o", Type: config.TypeSpool}, "p": {Name: "p", Type: config.TypePostgres}}
	for want, p := range map[string]config.Procedure{
		`procedure p: parameter a: unknown type "t"`:                                    {Parameters: []config.Parameter{{Name: "a", Type: "t"}}},
		`procedure p: parameter a: default: invalid input syntax for type integer: "x"`: {Parameters: []config.Parameter{{Name: "a", Type: "integer", Default: &bad}}},
		`procedure p: result a: unknown type "t"`:                                       {Returns: []config.Parameter{{Name: "a", Type: "t"}}},
		`procedure p: result a: no such parameter or step`:                              {Returns: []config.Parameter{{Name: "a", Type: "text"}}},
		`procedure p: step 1: no resource "x"`:                                          {Steps: []config.Step{{On: "x"}}},
		`procedure p: step 1: when: no value "x"`:                                       {Steps: []config.Step{{On: "o", When: "x"}}},
		`procedure p: step 1: put: no value "x"`:                                        {Steps: []config.Step{{On: "o", Put: ":x"}}},
		`procedure p: step 1: sql: no value "x"`:                                        {Steps: []config.Step{{On: "p", SQL: ":x"}}},
		`procedure p: step 1: the ' at byte 1 is never closed`:                          {Steps: []config.Step{{On: "p", SQL: "'"}}},
	} {
		_, err := procedure.Compile(&config.Config{Resources: resources, Procedures: map[string]config.Procedure{"p": p}})
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	// Resources that are not what the configuration says.
	b := setup(t)
	set, err := procedure.Compile(&config.Config{
		Resources: map[string]config.Resource{"bank_a": {Type: config.TypeSpool}, "outbox": {Type: config.TypePostgres}, "gone": {Type: config.TypeSpool}},
		Procedures: map[string]config.Procedure{
			"put": {Steps: []config.Step{{On: "bank_a", Put: "x"}}}, "sql": {Steps: []config.Step{{On: "outbox", SQL: "x"}}},
			"gone": {Steps: []config.Step{{On: "gone", Put: "x"}}},
			"rows": {Steps: []config.Step{{On: "outbox", SQL: "x", Many: true}}}, "none": {Steps: []config.Step{{On: "gone", Put: "x", Many: true}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.set = set
	for name, want := range map[string]string{
		"put": "resource bank_a takes no messages", "sql": "resource outbox takes no SQL", "gone": `no such resource: "gone"`,
		"rows": "resource outbox takes no SQL of which there are rows", "none": `no such resource: "gone"`,
	} {
		if _, err := b.call(t, name); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
