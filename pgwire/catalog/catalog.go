// Package catalog shows what fdt has as PostgreSQL's pg_catalog and
// information_schema: types, procedures, functions, the relations of these
// schemas themselves, and of a session its user, database, settings and what
// it may see of others. There are no user's tables, so most relations are
// empty.
//
// The columns of the relations, and the rows of pg_type and of functions that
// fdt has, are those of PostgreSQL 15, out of the files in data.
package catalog

import (
	_ "embed"
	"strconv"
	"strings"
	"sync"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/query"
	"github.com/fdtserver/fdt/procedure"
)

// OIDs of what PostgreSQL has not, or numbers at its own will.
const (
	oidCatalog   = 11 // pg_catalog
	oidPublic    = 2200
	oidSchema    = 13207 // information_schema
	oidOwner     = 6171  // pg_database_owner, which owns what is fdt's
	oidDatabase  = 16384
	oidLanguage  = 16385 // of the procedures
	oidProcedure = 16400 // of the first
	oidUsers     = 1 << 30
	oidHeap      = 2
	oidDefault   = 1663 // tablespace pg_default
	oidGlobal    = 1664
	oidLibrary   = 100 // collation default
)

// language is in which the procedures are written.
const language = "fdt"

// Session is what a session shows of itself, and may see of others.
type Session interface {
	User() string
	Database() string
	// Allowed tells whether the user may call a procedure.
	Allowed(p *procedure.Procedure) bool
	Settings() []Setting
	Activity() []Activity
	// Waits tells, by their numbers, which sessions wait for whose locks, or for what else.
	Waits() map[int]Waiting
	// Prepared lists the prepared transactions that the user may settle.
	Prepared(r *query.Run) ([]Prepared, error)
	Statements() []Statement
}

// Setting is a run-time parameter.
type Setting struct {
	Name, Value, Initial, Reset, About string
	Fixed                              bool // cannot be set
}

// Activity is a session. What its viewer may not see is left out.
type Activity struct {
	PID                         int
	User, Database, Application string
	Address, Port               string // of a client on TCP
	Hidden                      bool   // another's, of which no more than its name is shown
	State                       string
	Text                        string // of the query
	// When the session, its transaction, its query and its state began; may be null.
	Started, Transaction, Query, Changed value.Value
}

// Waiting is for whose lock a session waits.
type Waiting struct {
	For   []int  // numbers of sessions that have the lock; 0 for what is none, as a prepared transaction
	Text  string // the same in words, or what else it waits for
	Known bool   // it is a lock, and not only possible
}

// Prepared is a prepared transaction.
type Prepared struct {
	Number              int
	GID, User, Database string
	Since               value.Value
}

// Statement is a prepared statement.
type Statement struct {
	Name   string
	Params []*value.Type
}

// Catalogue answers for one set of procedures. It is not changed once it is
// made, and may be used by many sessions at once.
type Catalogue struct {
	procedures []*procedure.Procedure
	relations  []*query.Relation
	byName     map[string]*query.Relation // with the schema
	byOID      map[uint32]*query.Relation
	types      []row
	pseudo     map[string]string // how the types are printed that no value has, by OID
	functions  []row
	names      map[string][]*query.Function
	procRows   []row // of pg_proc
	procByOID  map[string]row
	procsNamed map[string][]row

	lists struct {
		sync.Mutex
		made map[string][][]value.Value
	}
}

// row is a row of a relation, by column; what is not there is null, or zero
// where null cannot be.
type row map[string]string

//go:embed data/relations.txt
var relationsText string

//go:embed data/types.txt
var typesText string

//go:embed data/functions.txt
var functionsText string

// New makes the catalogue of the procedures.
func New(set *procedure.Set) *Catalogue {
	c := &Catalogue{byName: map[string]*query.Relation{}, byOID: map[uint32]*query.Relation{}, names: map[string][]*query.Function{}}
	c.procByOID, c.procsNamed = map[string]row{}, map[string][]row{}
	c.lists.made = map[string][][]value.Value{}
	for _, name := range set.Names() {
		p, _ := set.Lookup(name)
		c.procedures = append(c.procedures, p)
	}
	c.types = rows(typesText, "oid typname typnamespace typowner typlen typbyval typtype typcategory typispreferred typisdefined typdelim "+
		"typrelid typsubscript typelem typarray typinput typoutput typreceive typsend typmodin typmodout typanalyze typalign typstorage "+
		"typnotnull typbasetype typtypmod typndims typcollation typdefaultbin typdefault typacl")
	c.pseudo = map[string]string{}
	for _, t := range c.types {
		t["typowner"] = number(oidOwner)
		if elem, array := strings.CutPrefix(t["typname"], "_"); array {
			c.pseudo[t["oid"]] = ident(elem) + "[]"
		} else {
			c.pseudo[t["oid"]] = ident(t["typname"])
		}
	}
	c.functions = rows(functionsText, "oid proname prokind proretset proisstrict provolatile pronargdefaults provariadic prorettype proargtypes")
	for line := range strings.Lines(relationsText) {
		c.addRelation(strings.Fields(line))
	}
	c.procRows = c.procs()
	for _, p := range c.procRows {
		c.procByOID[p["oid"]] = p
		c.procsNamed[p["proname"]] = append(c.procsNamed[p["proname"]], p)
	}
	c.addFunctions()
	return c
}

// rows reads what PostgreSQL's COPY wrote.
func rows(text, columns string) []row {
	names := strings.Fields(columns)
	var list []row
	for line := range strings.Lines(text) {
		r := row{}
		for i, v := range strings.Split(strings.TrimSuffix(line, "\n"), "\t") {
			if v != `\N` {
				r[names[i]] = v
			}
		}
		list = append(list, r)
	}
	return list
}

// addRelation adds one of data/relations.txt: schema, name, OID, kind, and its
// columns, with a ! behind those that are never null.
func (c *Catalogue) addRelation(f []string) {
	oid, _ := strconv.ParseUint(f[2], 10, 32) // the file is checked by a test
	r := &query.Relation{Schema: f[0], Name: f[1], OID: uint32(oid)}
	for _, col := range f[4:] {
		col, notNull := strings.CutSuffix(col, "!")
		name, typ, _ := strings.Cut(col, ":")
		r.Columns = append(r.Columns, query.Column{Name: name, Type: typeNamed(typ), NotNull: notNull})
	}
	r.Rows = func(run *query.Run) ([][]value.Value, error) { return c.read(r, run) }
	c.relations = append(c.relations, r)
	c.byName[r.Schema+"."+r.Name] = r
	c.byOID[r.OID] = r
}

// typeNamed finds a type by pg_type.typname.
func typeNamed(name string) *value.Type {
	if name == "char" {
		return value.Char
	}
	if elem, ok := strings.CutPrefix(name, "_"); ok {
		if elem == "pg_statistic" {
			return value.Record.Array
		}
		return typeNamed(elem).Array
	}
	t, _ := value.Lookup(name) // data/relations.txt has no other
	return t
}

// Relation finds a relation; without a schema in pg_catalog.
func (c *Catalogue) Relation(schema, name string) (*query.Relation, bool) {
	if schema == "" {
		schema = "pg_catalog"
	}
	r, ok := c.byName[schema+"."+name]
	return r, ok
}

// Functions are those of the catalogue by a name.
func (c *Catalogue) Functions(name string) []*query.Function { return c.names[name] }

// read makes the rows of a relation. What is the same for all sessions is made
// once.
func (c *Catalogue) read(r *query.Relation, run *query.Run) ([][]value.Value, error) {
	key := r.Schema + "." + r.Name
	if make, ok := fixed[key]; ok {
		c.lists.Lock()
		defer c.lists.Unlock()
		list, ok := c.lists.made[key]
		if !ok {
			list = tuples(r, make(c))
			c.lists.made[key] = list
		}
		return list, nil
	}
	make, ok := ofSession[key]
	if !ok {
		return nil, nil
	}
	list, err := make(c, run)
	if err != nil {
		return nil, err
	}
	out := tuples(r, list)
	for _, t := range out {
		bytes := 48
		for _, v := range t {
			bytes += 40 + len(v.Text)
		}
		if err := run.Took(bytes); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// tuples makes values of rows.
func tuples(r *query.Relation, list []row) [][]value.Value {
	out := make([][]value.Value, len(list))
	for i, from := range list {
		t := make([]value.Value, len(r.Columns))
		for j, col := range r.Columns {
			text, ok := from[col.Name]
			switch {
			case !ok && !col.NotNull:
				t[j] = col.Type.Null()
			case !ok:
				t[j] = zero(col.Type)
			default:
				t[j] = value.Value{Type: col.Type, Text: text}
			}
		}
		out[i] = t
	}
	return out
}

// zero is what stands in a column that is never null and has nothing to say.
func zero(t *value.Type) value.Value {
	text := ""
	switch {
	case t == value.Bool:
		text = "f"
	case t == value.Int2, t == value.Int4, t == value.Int8, t == value.OID, t == value.XID, t.Reg(), t == value.Float4, t == value.Float8:
		text = "0"
	}
	return value.Value{Type: t, Text: text}
}

func session(r *query.Run) Session {
	s, _ := r.Host.(Session) // pgwire gives nothing else
	return s
}

func number(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// userOID numbers a user: of a name always the same, and below 2³¹.
func userOID(name string) string {
	if name == "pg_database_owner" {
		return number(oidOwner)
	}
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return number(oidUsers | h&(oidUsers-1))
}

// procedureOID numbers the procedures in the order of their names.
func procedureOID(i int) uint32 { return oidProcedure + uint32(i) } //nolint:gosec // few

// procedureOf is the procedure of an OID.
func (c *Catalogue) procedureOf(oid uint64) (*procedure.Procedure, bool) {
	if oid < oidProcedure || oid >= oidProcedure+uint64(len(c.procedures)) {
		return nil, false
	}
	return c.procedures[oid-oidProcedure], true
}
