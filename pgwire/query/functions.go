package query

import "github.com/fdtserver/fdt/internal/value"

// functions are those that need nothing but their arguments.
var functions = func() map[string][]*Function {
	m := map[string][]*Function{}
	for _, list := range []map[string][]*Function{textFunctions, mathFunctions, timeFunctions, arrayFunctions, jsonFunctions} {
		for name, fns := range list {
			m[name] = append(m[name], fns...)
		}
	}
	return m
}()

type body = func(r *Run, args []value.Value) (value.Value, error)

// fn makes a function of so many types.
func fn(result *value.Type, do body, args ...*value.Type) *Function {
	return &Function{Args: args, Result: result, Call: do}
}

// set makes a function that returns a set.
func set(result *value.Type, do func(r *Run, args []value.Value) ([][]value.Value, error), args ...*value.Type) *Function {
	return &Function{Args: args, Result: result, Set: do}
}

func (fn *Function) optional(n int) *Function { fn.Optional = n; return fn }

func (fn *Function) lax() *Function { fn.Lax = true; return fn }

func (fn *Function) variadic() *Function { fn.Variadic = true; return fn }

// each makes one function for each of the types, which is its argument's and
// its result's.
func each(do body, types ...*value.Type) []*Function {
	var list []*Function
	for _, t := range types {
		list = append(list, fn(t, do, t))
	}
	return list
}
