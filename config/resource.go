package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The types of resource that fdt itself has.
const (
	TypeSpool    = "spool"
	TypePostgres = "postgres"
	TypeMariaDB  = "mariadb"
)

// Resource is one resource manager that takes part in transactions.
type Resource struct {
	Name string
	Type string
	// Settings are what its section says beside type: a *Spool, *Postgres or *MariaDB, or a pointer to the struct of a
	// type that the program brings along. nil, of such a type, but for [Program].
	Settings any
}

// ResourceType is a type of resource: all that is known of it without running it. By it the sections of its resources
// are read, checked and described to editors.
type ResourceType struct {
	Name    string
	takes   takes
	dialect Dialect
	decides bool // it can keep decisions

	make   func() any                                             // settings with their defaults, a pointer to a struct
	fields func(settings any) []field                             // the keys beside type
	check  func(d *decoder, c *Config, settings any, path string) // what only holds between keys
}

// takes is what a step has for a resource.
type takes int

const (
	takesEither takes = iota // as the step says
	takesSQL
	takesMessages
)

// ownTypes are the types that everybody knows, in the order in which editors are told of them.
func ownTypes() []ResourceType { return []ResourceType{spoolType, postgresType, mariadbType} }

// typed completes a type by its settings.
func typed[S any](t ResourceType, defaults S, fields func(*S) []field, check func(*decoder, *Config, *S, string)) ResourceType {
	t.make = func() any { s := defaults; return &s }
	is := func(settings any) *S { s, _ := settings.(*S); return s } // made by t.make
	t.fields = func(settings any) []field { return fields(is(settings)) }
	t.check = func(d *decoder, c *Config, settings any, path string) { check(d, c, is(settings), path) }
	return t
}

// typeNamed finds a type.
func typeNamed(types []ResourceType, name string) (ResourceType, bool) {
	i := slices.IndexFunc(types, func(t ResourceType) bool { return t.Name == name })
	if i < 0 {
		return ResourceType{}, false
	}
	return types[i], true
}

func namesOf(types []ResourceType) []string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = t.Name
	}
	return names
}

// ofType is the type of a resource as everybody knows it: of one that only the program knows there is nothing to say.
func (r Resource) ofType() ResourceType {
	t, _ := typeNamed(ownTypes(), r.Type)
	return t
}

// Dialect is what the SQL of steps on the resource is read as.
func (r Resource) Dialect() Dialect { return r.ofType().dialect }

// DialsTCP reports whether the workers need the network to reach the resource. Unix sockets and spools need none.
func (r Resource) DialsTCP() bool {
	s, ok := r.Settings.(interface{ dialsTCP() bool })
	return ok && s.dialsTCP()
}

// Pool is how many connections all workers together may have to the resource; 0 if it has none.
func (r Resource) Pool() int {
	if s, ok := r.Settings.(interface{ connections() int }); ok {
		return s.connections()
	}
	return 0
}

// named is what the resource's section names, with keys as paths.
func (r Resource) named() []Named {
	if s, ok := r.Settings.(interface{ named() []Named }); ok {
		return s.named()
	}
	return nil
}

// knowledge is what a reader knows of types of resource.
type knowledge struct {
	types []ResourceType
	all   bool // there are no others
}

// resourceKind reads one resource by its type, and describes those of all types.
func resourceKind(r *Resource, k knowledge) kind {
	return kind{schema: objectSchema(resourceFields(r, k.types, ResourceType{})), read: func(d *decoder, v *value, path string) {
		var of ResourceType
		if i := slices.IndexFunc(v.entries, func(e entry) bool { return e.key.text == "type" }); i >= 0 {
			is := v.entries[i].val
			var known bool
			if of, known = typeNamed(k.types, is.text); !known && !k.all && is.tag == "!!str" && apart(is.text, k.types) == nil {
				r.Type = is.text
				d.unread(v, path)
				return
			}
		}
		d.section(v, path, resourceFields(r, k.types, of))
	}}
}

// apart tells whether a name can be one of a type of the program's own: one that is like a known one is rather a slip of the pen.
func apart(name string, types []ResourceType) error {
	if like := Suggest(name, namesOf(types)); like != "" {
		return fmt.Errorf("%q is too much like %q to be told from it with a slip of the pen", name, like)
	}
	return plainName.quoting(name)
}

// unread remembers where the keys of a section stand, which others know, and tells nothing of them.
func (d *decoder) unread(v *value, path string) {
	d.remember(path, v)
	for i := range v.entries {
		e := &v.entries[i]
		d.remember(join(path, e.key.text), &e.val)
		if e.key.text != "type" {
			e.val.hide()
		}
	}
}

// Foreign tells whether there are resources of types that only the workers' program knows, which has not read this.
func (c *Config) Foreign() bool {
	for _, r := range c.Resources {
		if r.Settings == nil {
			return true
		}
	}
	return false
}

// resourceFields are the keys of resources of all types, of which those of one type are read into r. That the others have no
// place there, and which are missing, is told by resources.
func resourceFields(r *Resource, types []ResourceType, of ResourceType) []field {
	fields := []field{{key: "type", required: true, kind: choice(&r.Type, namesOf(types)...), doc: "What it is."}}
	docs := map[string][][2]string{} // of a key: types, and what they say
	for _, t := range types {
		settings := t.make()
		if t.Name == of.Name {
			r.Settings = settings
		}
		for _, f := range t.fields(settings) {
			f.required = false
			said := docs[f.key]
			if last := len(said) - 1; last >= 0 && said[last][1] == f.doc {
				said[last][0] += ", " + t.Name
			} else {
				docs[f.key] = append(said, [2]string{t.Name, f.doc})
			}
			i := slices.IndexFunc(fields, func(known field) bool { return known.key == f.key })
			switch {
			case i < 0:
				fields = append(fields, f)
			case t.Name == of.Name:
				fields[i] = f
			}
		}
	}
	for i := range fields[1:] {
		f := &fields[1+i]
		var doc []string
		for _, said := range docs[f.key] {
			doc = append(doc, said[0]+": "+said[1])
		}
		f.doc = strings.Join(doc, " ")
	}
	return fields
}

// resources checks each resource against its type.
func (d *decoder) resources(c *Config) {
	types := d.knows().types
	for _, name := range slices.Sorted(maps.Keys(c.Resources)) {
		r, path := c.Resources[name], "resources."+name
		t, known := typeNamed(types, r.Type)
		if !known {
			continue
		}
		own := t.fields(r.Settings)
		for _, f := range resourceFields(new(Resource), types, t)[1:] {
			i := slices.IndexFunc(own, func(o field) bool { return o.key == f.key })
			switch given := d.places[path+"."+f.key] != nil; {
			case given && i < 0:
				d.at(path+"."+f.key, "leave it out", "a %s has no %s", r.Type, f.key)
			case !given && i >= 0 && own[i].required:
				d.at(path, "", "a %s needs the key %q", r.Type, f.key)
			}
		}
		t.check(d, c, r.Settings, path)
	}
	d.decider(c)
}

// decider checks who keeps decisions.
func (d *decoder) decider(c *Config) {
	if all, one := c.Cluster.Decider, c.Transaction.Decider; all != "" && one != "" && all != one {
		d.at("transaction.decider", "leave it out", "cluster.decider is %s, and keeps the decisions, too", all)
		return
	}
	path, name := "transaction.decider", c.Transaction.Decider
	if c.Cluster.Decider != "" {
		path, name = "cluster.decider", c.Cluster.Decider
		c.Transaction.Decider = name
	}
	switch r, ok := c.Resources[name]; {
	case name == "", ok && r.Type == "": // the latter is a fault by itself
	case !ok:
		d.at(path, didYouMean(name, slices.Collect(maps.Keys(c.Resources))), "there is no resource %q", name)
	case !r.ofType().decides:
		d.at(path, "name a postgres, or leave it out", "%s is a %s, which cannot keep decisions", name, r.Type)
	}
}
