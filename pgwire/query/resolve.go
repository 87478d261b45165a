package query

import (
	"slices"
	"strings"

	"github.com/fdtserver/fdt/internal/value"
	"github.com/fdtserver/fdt/pgwire/statement"
)

// args plans the arguments of a call.
func (pl *Planner) args(s *scope, f statement.Func) ([]node, error) {
	list := make([]node, len(f.Args))
	for i, a := range f.Args {
		if a.Name != "" {
			return nil, errorf("0A000", "fdt takes arguments by name for its procedures alone").at(f.At)
		}
		var err error
		if list[i], err = pl.expr(s, a.Value); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// function plans a call in an expression.
func (pl *Planner) function(s *scope, f statement.Func) (node, error) {
	if f.Over != nil {
		return pl.window(s, f)
	}
	if _, ok := aggregates[f.Name]; ok {
		return pl.aggregate(s, f)
	}
	if f.Star || f.Distinct || f.OrderBy != nil || f.Filter != nil {
		return nil, errorf("42809", "%s is not an aggregate function", f.Name).at(f.At)
	}
	switch f.Name {
	case "coalesce", "greatest", "least", "nullif":
		return pl.chosen(s, f)
	}
	sets := s.setsOK
	args, err := pl.args(s, f)
	if err != nil {
		return nil, err
	}
	n, err := pl.resolve(f, args)
	if err != nil {
		return nil, err
	}
	c, ok := n.(*call)
	if !ok || c.fn.Set == nil {
		return n, nil
	}
	if !sets {
		return nil, errorf("0A000", "set-returning functions are not allowed here").at(f.At)
	}
	if len(args) > 0 && slices.ContainsFunc(args, func(n node) bool { sl, ok := n.(*slot); return ok && sl.set }) {
		return nil, errorf("0A000", "fdt does not nest set-returning functions").at(f.At)
	}
	return s.setSlot(c), nil
}

// chosen plans what chooses one of its arguments.
func (pl *Planner) chosen(s *scope, f statement.Func) (node, error) {
	args, err := pl.args(s, f)
	if err != nil {
		return nil, err
	}
	if f.Name == "nullif" {
		if len(args) != 2 {
			return nil, pl.undefined(f, args)
		}
		as := comparable(known(args[0]), known(args[1]))
		if as == nil {
			return nil, noOperator("=", args[0], args[1]).at(f.At)
		}
		t := as
		if l, r := known(args[0]), known(args[1]); l == value.Name || whole(l) && whole(r) || floating(l) && floating(r) {
			t = l // an operator takes both as they are
		}
		if args[0], err = pl.coerce(args[0], t); err == nil {
			args[1], err = pl.coerce(args[1], as)
		}
		return &nullif{args[0], args[1], as}, err
	}
	if len(args) == 0 {
		return nil, errorf("42601", "syntax error at or near \")\"").at(f.At)
	}
	t, err := pl.together(upper(f.Name), args)
	if err != nil {
		return nil, place(err, f.At)
	}
	if f.Name == "coalesce" {
		return &coalesce{t, args}, nil
	}
	return &extreme{t, f.Name == "least", args}, nil
}

func whole(t *value.Type) bool { return t == value.Int2 || t == value.Int4 || t == value.Int8 }

func floating(t *value.Type) bool { return t == value.Float4 || t == value.Float8 }

// signature is a call as errors name it.
func signature(name string, list []*value.Type) string {
	names := make([]string, len(list))
	for i, t := range list {
		names[i] = t.Name
	}
	return name + "(" + strings.Join(names, ", ") + ")"
}

func (pl *Planner) undefined(f statement.Func, args []node) error {
	return errorf("42883", "function %s does not exist", signature(f.Name, types(args))).at(f.At).hint(pl.Hint)
}

// candidate is a function that a call may mean, with the types of all its
// arguments.
type candidate struct {
	fn    *Function
	args  []*value.Type
	exact int
	best  int // arguments whose type is the preferred one
}

// resolve finds the function that a call means, and converts its arguments:
// PostgreSQL's manual, "Functions" in "Type Conversion".
func (pl *Planner) resolve(f statement.Func, args []node) (node, error) {
	list := functions[f.Name]
	if pl.Catalogue != nil {
		list = append(slices.Clone(list), pl.Catalogue.Functions(f.Name)...)
	}
	var found []candidate
	for _, fn := range list {
		if c, ok := fits(fn, args, f.Variadic); ok {
			found = append(found, c)
		}
	}
	if len(found) == 0 {
		if t, ok := value.Lookup(f.Name); ok && len(args) == 1 && castable(known(args[0]), t) { // a cast that is written as a call
			return pl.coerce(args[0], t)
		}
		return nil, pl.undefined(f, args)
	}
	c, ok := choose(found, args)
	if !ok {
		return nil, errorf("42725", "function %s is not unique", signature(f.Name, types(args))).at(f.At).
			hint("Could not choose a best candidate function. You might need to add explicit type casts.")
	}
	return pl.bind(c, f, args)
}

// fits tells whether a function takes the arguments.
func fits(fn *Function, args []node, variadic bool) (c candidate, ok bool) {
	want := fn.Args
	switch {
	case fn.Variadic && variadic:
		last := want[len(want)-1]
		want = append(slices.Clone(want[:len(want)-1]), arrayOfType(last))
	case variadic:
		return c, false
	case fn.Variadic && len(args) >= len(want):
		want = append(slices.Clone(want), slices.Repeat(want[len(want)-1:], len(args)-len(want))...)
	}
	if len(args) > len(want) || len(args) < len(want)-fn.Optional {
		return c, false
	}
	c = candidate{fn: fn, args: slices.Clone(want[:len(args)])}
	elem := elementType(c.args, args)
	for i, n := range args {
		t := known(n)
		switch c.args[i] {
		case Any:
			if c.args[i] = t; t == value.Unknown && !constantNode(n) {
				c.args[i] = value.Text
			}
			continue
		case AnyElement:
			if elem == nil {
				elem = value.Text
			}
			c.args[i] = elem
		case AnyArray:
			if elem == nil || elem.Array == nil {
				return c, false
			}
			c.args[i] = elem.Array
		}
		to := c.args[i]
		switch {
		case t == to:
			c.exact++
		case !value.Implicit(t, to) && !(t.Reg() && to == value.OID):
			return c, false
		}
		if preferred(to) && category(t) == category(to) {
			c.best++
		}
	}
	return c, true
}

func arrayOfType(t *value.Type) *value.Type {
	switch {
	case t == AnyElement, t == Any:
		return AnyArray
	case t.Array != nil:
		return t.Array
	}
	return t
}

// elementType is what AnyElement stands for in a call.
func elementType(want []*value.Type, args []node) *value.Type {
	var elem *value.Type
	for i, n := range args {
		t := known(n)
		switch {
		case t == value.Unknown:
			continue
		case want[i] == AnyArray:
			t = t.ElementType()
		case want[i] != AnyElement:
			continue
		}
		if t == nil {
			return nil
		}
		if elem == nil || value.Implicit(elem, t) {
			elem = t
		}
	}
	return elem
}

// choose picks the best of several.
func choose(list []candidate, args []node) (candidate, bool) {
	most := func(by func(candidate) int) {
		top := 0
		for _, c := range list {
			top = max(top, by(c))
		}
		list = slices.DeleteFunc(list, func(c candidate) bool { return by(c) < top })
	}
	most(func(c candidate) int { return c.exact })
	if len(list) > 1 {
		most(func(c candidate) int { return c.best })
	}
	if len(list) > 1 { // a plain constant is a string where it can be one
		for i, n := range args {
			if known(n) != value.Unknown {
				continue
			}
			isText := func(c candidate) bool { return i < len(c.args) && stringy(c.args[i]) }
			if slices.ContainsFunc(list, isText) {
				list = slices.DeleteFunc(list, func(c candidate) bool { return !isText(c) })
			}
			if len(list) > 1 && slices.ContainsFunc(list, func(c candidate) bool { return i < len(c.args) && preferred(c.args[i]) }) {
				list = slices.DeleteFunc(list, func(c candidate) bool { return i >= len(c.args) || !preferred(c.args[i]) })
			}
		}
	}
	if len(list) > 1 { // and else of the type that the others are of
		var of *value.Type
		for _, n := range args {
			if t := known(n); t != value.Unknown {
				of = t
			}
		}
		all := slices.DeleteFunc(slices.Clone(list), func(c candidate) bool { return !slices.Contains(c.args, of) || len(args) == 0 })
		if len(all) == 1 {
			list = all
		}
	}
	if len(list) > 1 { // and one that names its types before one for any
		most(func(c candidate) int {
			if slices.ContainsFunc(c.fn.Args, func(t *value.Type) bool { return t == Any || t == AnyElement || t == AnyArray }) {
				return 0
			}
			return 1
		})
	}
	return list[0], len(list) == 1
}

func constantNode(n node) bool {
	_, ok := n.(literal)
	return ok
}

// bind converts the arguments of a call to what the function takes.
func (pl *Planner) bind(c candidate, f statement.Func, args []node) (node, error) {
	n := &call{fn: c.fn, t: c.fn.Result, args: args, at: f.At}
	for i := range args {
		var err error
		if args[i], err = pl.coerce(args[i], c.args[i]); err != nil {
			return nil, err
		}
	}
	elem := elementType(c.fn.padded(len(args), f.Variadic), args)
	if elem == nil {
		elem = value.Text
	}
	switch n.t {
	case AnyElement:
		n.t = elem
	case AnyArray:
		if n.t = elem.Array; n.t == nil {
			return nil, errorf("42704", "could not find array type for data type %s", elem.Name).at(f.At)
		}
	}
	if n.t == nil {
		n.t = value.Record
	}
	if f.Variadic && c.fn.Variadic {
		return &spread{n}, pl.Meter(planCost)
	}
	pl.uses = pl.uses || c.fn.Volatile
	return n, pl.Meter(planCost)
}

// padded are the declared types of so many arguments.
func (fn *Function) padded(n int, variadic bool) []*value.Type {
	want := slices.Clone(fn.Args)
	if fn.Variadic && variadic {
		want[len(want)-1] = arrayOfType(want[len(want)-1])
	}
	for fn.Variadic && len(want) < n {
		want = append(want, want[len(want)-1])
	}
	return want[:n]
}

// spread calls a function with an array's elements as its last arguments.
type spread struct{ *call }

func (n *spread) eval(f *frame) (value.Value, error) {
	list, null, err := n.arguments(f)
	if err != nil {
		return value.Value{}, err
	}
	last := list[len(list)-1]
	if null || last.Null {
		return n.t.Null(), nil
	}
	rest, err := f.run.elements(last)
	if err != nil {
		return value.Value{}, err
	}
	return f.run.made(n.fn.Call(f.run, append(list[:len(list)-1], rest...)))
}
