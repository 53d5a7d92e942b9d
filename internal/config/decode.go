package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Defaulter is a config struct that fills in its documented defaults before the file's values are laid over them. The
// structs inside it get their own defaults after it, and so override what it sets in them.
type Defaulter interface{ SetDefaults() }

// Decode fills the struct that v points to from the section and returns the section's Cursor, for Validate. Keys are
// those of the yaml tags. An absent section leaves v with its defaults. Complaints are collected in the Doc.
func (d *Doc) Decode(section string, v any) Cursor {
	at := Cursor{doc: d, node: d.root}.Key(section)
	val := reflect.ValueOf(v).Elem()
	if !d.Has(section) {
		setDefaults(val)
		return at
	}
	d.decode(at, val)
	return at
}

var (
	durationType  = reflect.TypeFor[time.Duration]()
	unmarshalText = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func (d *Doc) decode(at Cursor, v reflect.Value) {
	n := at.node
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		// `lb:` with nothing under it means the defaults for a struct, and is a slip everywhere else
		if v.Kind() == reflect.Struct || v.Kind() == reflect.Pointer {
			if v.Kind() == reflect.Pointer {
				v.Set(reflect.New(v.Type().Elem()))
				v = v.Elem()
			}
			setDefaults(v)
			return
		}
		at.misread("no value; give one or remove the key")
		return
	}
	switch {
	case v.Type() == durationType:
		d.decodeDuration(at, v)
	case v.CanAddr() && v.Addr().Type().Implements(unmarshalText) && !d.asMapping(at, v):
		d.decodeText(at, v)
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(at, v.Elem())
	case v.Kind() == reflect.Struct:
		d.decodeStruct(at, v)
	case v.Kind() == reflect.Slice:
		d.decodeSlice(at, v)
	case v.Kind() == reflect.Map:
		d.decodeMap(at, v)
	default:
		d.decodeScalar(at, v)
	}
}

// asMapping says whether a value that may be written as text is written as a mapping: a struct with keys may be either.
func (d *Doc) asMapping(at Cursor, v reflect.Value) bool {
	return at.node.Kind == yaml.MappingNode && v.Kind() == reflect.Struct && len(fieldNames(v.Type())) > 0
}

func (d *Doc) decodeStruct(at Cursor, v reflect.Value) {
	setDefaults(v)
	if at.node.Kind != yaml.MappingNode {
		at.misread("want a mapping with keys such as %s", strings.Join(fieldNames(v.Type()), ", "))
		return
	}
	names := fieldNames(v.Type())
	seen := map[string]bool{}
	for i := 0; i+1 < len(at.node.Content); i += 2 {
		k := at.node.Content[i]
		name := k.Value
		if seen[name] {
			continue // refuseDuplicates has said so
		}
		seen[name] = true
		i := slices.Index(names, name)
		if i < 0 {
			d.refuseUnknown("key", at, k, names)
			continue
		}
		d.decode(at.Key(name), v.FieldByIndex(fieldIndex(v.Type(), name)))
	}
}

func (d *Doc) decodeSlice(at Cursor, v reflect.Value) {
	if at.node.Kind != yaml.SequenceNode {
		at.misread("want a list; write it as [a, b] or as lines that begin with a dash")
		return
	}
	s := reflect.MakeSlice(v.Type(), len(at.node.Content), len(at.node.Content))
	for i := range at.node.Content {
		d.decode(at.Index(i), s.Index(i))
	}
	v.Set(s)
}

func (d *Doc) decodeMap(at Cursor, v reflect.Value) {
	if at.node.Kind != yaml.MappingNode {
		at.misread("want a mapping from names to values")
		return
	}
	m := reflect.MakeMap(v.Type())
	for i := 0; i+1 < len(at.node.Content); i += 2 {
		name := at.node.Content[i].Value
		e := reflect.New(v.Type().Elem()).Elem()
		d.decode(at.Key(name), e)
		m.SetMapIndex(reflect.ValueOf(name).Convert(v.Type().Key()), e)
	}
	v.Set(m)
}

func (d *Doc) decodeDuration(at Cursor, v reflect.Value) {
	s, ok := scalar(at, "a duration such as 500ms or 5s")
	if !ok {
		return
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil && s != "0" {
		at.misread("%s has no unit; write %ss for seconds or %sms for milliseconds", s, s, s)
		return
	}
	t, err := time.ParseDuration(s)
	if err != nil {
		at.misread("%q is no duration; write one such as 500ms or 5s", s)
		return
	}
	v.SetInt(int64(t))
}

func (d *Doc) decodeText(at Cursor, v reflect.Value) {
	kind := textKind(v.Type())
	s, ok := scalar(at, kind)
	if !ok {
		return
	}
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
		at.misread("%q is not %s", s, kind)
	}
}

// textKind says in words what a value of the type looks like; a type of our own says it by a Kind method.
func textKind(t reflect.Type) string {
	switch t.String() {
	case "netip.Addr":
		return "an IP address such as 203.0.113.10"
	case "netip.Prefix":
		return "a prefix such as 203.0.113.0/24"
	case "netip.AddrPort":
		return "an address and port such as 203.0.113.10:25 or [2001:db8::1]:25"
	}
	if k, ok := reflect.New(t).Interface().(interface{ Kind() string }); ok {
		return k.Kind()
	}
	return "a " + t.Name()
}

func (d *Doc) decodeScalar(at Cursor, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if s, ok := scalar(at, "text"); ok {
			v.SetString(s)
		}
	case reflect.Bool:
		s, ok := scalar(at, "true or false")
		if ok && s != "true" && s != "false" {
			at.misread("%q is neither true nor false", s)
			return
		}
		v.SetBool(s == "true")
	case reflect.Int, reflect.Int64, reflect.Int32:
		if s, ok := scalar(at, "a whole number"); ok {
			i, err := strconv.ParseInt(s, 10, v.Type().Bits())
			if err != nil {
				at.misread("%q is no whole number", s)
				return
			}
			v.SetInt(i)
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if s, ok := scalar(at, "a whole number"); ok {
			bits := v.Type().Bits()
			u, err := strconv.ParseUint(s, 10, bits)
			if err != nil {
				at.misread("%q is no whole number from 0 to %d", s, uint64(1)<<(bits-1)<<1-1)
				return
			}
			v.SetUint(u)
		}
	default:
		panic(fmt.Sprintf("config: %s has a field of type %s, which no node file can hold", at.path, v.Type()))
	}
}

// scalar gives the text of a single value, or reports that something else stands there.
func scalar(at Cursor, want string) (string, bool) {
	if at.node.Kind != yaml.ScalarNode {
		at.misread("want %s", want)
		return "", false
	}
	return at.node.Value, true
}

func setDefaults(v reflect.Value) {
	if v.CanAddr() {
		if df, ok := v.Addr().Interface().(Defaulter); ok {
			df.SetDefaults()
		}
	}
	if v.Kind() != reflect.Struct {
		return
	}
	// nested structs have defaults of their own even when the file does not name them
	for i := range v.NumField() {
		f := v.Field(i)
		if f.Kind() == reflect.Struct && f.CanSet() && v.Type().Field(i).Tag.Get("yaml") != "-" && f.CanAddr() {
			if !f.Addr().Type().Implements(unmarshalText) {
				setDefaults(f)
			}
		}
	}
}

// fieldNames lists a struct's keys in the order of its declaration; `yaml:",inline"` structs give theirs.
func fieldNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case opts == "inline":
			names = append(names, fieldNames(f.Type)...)
		case name != "" && name != "-":
			names = append(names, name)
		}
	}
	return names
}

func fieldIndex(t reflect.Type, key string) []int {
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if opts == "inline" {
			if sub := fieldIndex(f.Type, key); sub != nil {
				return append([]int{i}, sub...)
			}
		} else if name == key {
			return []int{i}
		}
	}
	return nil
}

// refuseUnknown reports a key of the mapping that is none of the known ones, with the nearest as a suggestion.
func (d *Doc) refuseUnknown(what string, mapping Cursor, key *yaml.Node, known []string) {
	meant := Nearest(key.Value, known)
	if meant == "" {
		d.add(key.Line, join(mapping.path, key.Value), fmt.Sprintf("unknown %s; known here: %s", what, strings.Join(known, ", ")))
		return
	}
	d.add(key.Line, join(mapping.path, key.Value), fmt.Sprintf("unknown %s; did you mean %q?", what, meant))
	if !slices.Contains(keys(mapping.node), meant) {
		d.misread = append(d.misread, join(mapping.path, meant)) // that it is missing need not be said
	}
}

// Nearest gives the known name that is at most two edits away from name, or "".
func Nearest(name string, known []string) string {
	best, at := "", 3
	for _, k := range known {
		if d := distance(name, k); d < at && d < len(name) {
			best, at = k, d
		}
	}
	return best
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := prev
			if a[i] != b[j] {
				cost++
			}
			prev = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
