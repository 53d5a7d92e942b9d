package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// farm is a section with a field of every kind that a role may use.
type farm struct {
	Name     string          `yaml:"name"`
	On       bool            `yaml:"on"`
	Weight   int             `yaml:"weight"`
	Port     uint16          `yaml:"port"`
	Every    time.Duration   `yaml:"every"`
	Net      netip.Prefix    `yaml:"net"`
	Color    color           `yaml:"color"`
	Reals    []real          `yaml:"reals"`
	Labels   map[string]int  `yaml:"labels"`
	Check    check           `yaml:"check"`
	Optional *check          `yaml:"optional"`
	Sites    map[string]real `yaml:"sites"`
	Shared   `yaml:",inline"`
	Untold   string // without a tag it is no key
}

func (f *farm) SetDefaults() { *f = farm{Name: "default", Check: check{Path: "lost"}} }

type real struct {
	Addr   netip.Addr `yaml:"addr"`
	Weight int        `yaml:"weight"`
}

func (r *real) SetDefaults() { r.Weight = 1 }

type check struct {
	Path string `yaml:"path"`
}

func (c *check) SetDefaults() { c.Path = "/" }

type Shared struct {
	Note string `yaml:"note"`
}

// place is written as text, or as a mapping when there is more to say.
type place struct {
	City string
	Far  *check `yaml:"far"`
}

func (p *place) UnmarshalText(text []byte) error {
	*p = place{City: string(text)}
	return nil
}

func (*place) Kind() string { return "a city, or a mapping with far" }

// color is a text type of its own.
type color string

func (c *color) UnmarshalText(text []byte) error {
	if *c = color(text); *c != "red" {
		return errors.New("no")
	}
	return nil
}

func (*color) Kind() string { return "a color such as red" }

func decodeFarm(t *testing.T, text string) (farm, error) {
	t.Helper()
	d, err := Parse("node.yml", []byte(text))
	if err != nil {
		return farm{}, err
	}
	var f farm
	d.Decode("farm", &f)
	return f, d.Err()
}

func TestDecode(t *testing.T) {
	defaults := farm{Name: "default", Check: check{"/"}}
	for name, tc := range map[string]struct {
		text string
		want func(*farm)
	}{
		"absent section": {"other: {}", func(*farm) {}},
		"empty section":  {"farm:", func(*farm) {}},
		"scalars": {"farm: {name: smtp, on: true, weight: -3, port: 65535, every: 1.5s, net: 192.0.2.0/24, color: red, note: inline}",
			func(f *farm) {
				f.Name, f.On, f.Weight, f.Port, f.Every = "smtp", true, -3, 65535, 1500*time.Millisecond
				f.Net, f.Color, f.Note = netip.MustParsePrefix("192.0.2.0/24"), "red", "inline"
			}},
		"zero without a unit": {"farm: {every: 0}", func(*farm) {}},
		"number as a name":    {"farm: {name: 25}", func(f *farm) { f.Name = "25" }},
		"list": {"farm:\n  reals:\n    - {addr: 192.0.2.1}\n    - addr: 2001:db8::1\n      weight: 5\n", func(f *farm) {
			f.Reals = []real{{netip.MustParseAddr("192.0.2.1"), 1}, {netip.MustParseAddr("2001:db8::1"), 5}}
		}},
		"maps": {"farm: {labels: {a: 1, b: 2}, sites: {east: {}, west: {weight: 2}}}", func(f *farm) {
			f.Labels, f.Sites = map[string]int{"a": 1, "b": 2}, map[string]real{"east": {Weight: 1}, "west": {Weight: 2}}
		}},
		"nested":         {"farm: {check: {path: /health}}", func(f *farm) { f.Check.Path = "/health" }},
		"pointer":        {"farm: {optional: {}}", func(f *farm) { f.Optional = &check{"/"} }},
		"pointer, empty": {"farm: {optional: }", func(f *farm) { f.Optional = &check{"/"} }},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decodeFarm(t, tc.text)
			if err != nil {
				t.Fatal(err)
			}
			want := defaults
			tc.want(&want)
			if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
				cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestComplaints(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"empty":                       {"", "1: empty; write at least one section, such as `lb:` or `mail:` in a node file"},
		"comment only":                {"# nothing\n", "1: empty; write at least one section, such as `lb:` or `mail:` in a node file"},
		"null":                        {"---\n", "2: want a mapping of sections at the top, such as `lb:` or `mail:` in a node file"},
		"list at the top":             {"- a\n", "1: want a mapping of sections at the top, such as `lb:` or `mail:` in a node file"},
		"two documents":               {"farm:\n---\nfarm:\n", "2: a second YAML document; a file has one, so remove this `---` or what follows it"},
		"indentation":                 {"a: 1\nfarm:\n  name: b\n on: true\nb: 2\n", "4: not YAML: did not find expected key; let this line begin below the other keys of its block"},
		"open bracket":                {"farm:\n  name: [a\n  on: true\n", "2: not YAML: did not find expected ',' or ']'; close the bracket, and put a comma between entries"},
		"open quote":                  {"farm:\n  name: \"a\n  on: true\n", "2: not YAML: found unexpected end of stream; close the quotes"},
		"tab":                         {"farm:\n\tname: a\n", "2: not YAML: found character that cannot start any token; indent with spaces, not tabs, and put text that begins with a sign such as @ or % in quotes"},
		"no space after the colon":    {"farm:\n  on:true\n  name: a\n", "3: not YAML: mapping values are not allowed in this context; end each key with a colon and a space, also on the line above, put a space after a dash, and quotes around text with a colon in it"},
		"entry's keys below the dash": {"farm:\n  reals:\n    - addr: 192.0.2.1\n    weight: 2\n", "4: not YAML: did not find expected '-' indicator; let the keys of a list entry begin below the key that follows the dash"},
		"no colon":                    {"farm:\n  name: a\n  on\n", "3: not YAML: could not find expected ':'; write `key: value`, with a space after the colon"},
		"syntax, document 2":          {"farm:\n---\nfarm: [\n", "3: not YAML: did not find expected node content"},
		"unknown key":                 {"farm:\n  nmae: a\n", `2: farm.nmae: unknown key; did you mean "name"?`},
		"quite unknown key":           {"farm: {check: {timeout: 3}}", "1: farm.check.timeout: unknown key; known here: path"},
		"field without a tag":         {"farm: {untold: 1}", "1: farm.untold: unknown key; known here: name, on, weight, port, every, net, color, reals, labels, check, optional, sites, note"},
		"key twice":                   {"farm:\n  name: a\n  name: b\n", "3: farm.name: given twice, first on line 2; keep one"},
		"section twice":               {"farm:\nfarm:\n", "2: farm: given twice, first on line 1; keep one"},
		"twice in a list":             {"farm:\n  reals:\n    - weight: 1\n      weight: 2\n", "4: farm.reals[0].weight: given twice, first on line 3; keep one"},
		"anchor":                      {"farm: &f {}\n", "1: farm: YAML anchors and aliases are not taken; write the value out"},
		"alias":                       {"farm:\n  name: *f\n", "2: not YAML: unknown anchor 'f' referenced"},
		"merge":                       {"farm:\n  <<: {name: a}\n", "2: farm.<<: unknown key; known here: name, on, weight, port, every, net, color, reals, labels, check, optional, sites, note"},
		"tag":                         {"farm:\n  name: !!binary aGk=\n", "2: farm.name: YAML tags are not taken; remove !!binary"},
		"composed key":                {"farm:\n  labels:\n    ? [a, b]\n    : 1\n", "3: farm.labels: a key is a plain word; write `key: value`"},
		"no unit":                     {"farm: {every: 5}", "1: farm.every: 5 has no unit; write 5s for seconds or 5ms for milliseconds"},
		"wrong unit":                  {"farm: {every: 5 days}", `1: farm.every: "5 days" is no duration; write one such as 500ms or 5s`},
		"duration as a list":          {"farm: {every: [5s]}", "1: farm.every: want a duration such as 500ms or 5s"},
		"bool":                        {"farm: {on: yes}", `1: farm.on: "yes" is neither true nor false`},
		"int":                         {"farm: {weight: 1.5}", `1: farm.weight: "1.5" is no whole number`},
		"uint negative":               {"farm: {port: -1}", `1: farm.port: "-1" is no whole number from 0 to 65535`},
		"uint large":                  {"farm: {port: 65536}", `1: farm.port: "65536" is no whole number from 0 to 65535`},
		"address":                     {"farm: {reals: [{addr: 192.0.2}]}", `1: farm.reals[0].addr: "192.0.2" is not an IP address such as 203.0.113.10`},
		"prefix":                      {"farm: {net: 192.0.2.0}", `1: farm.net: "192.0.2.0" is not a prefix such as 203.0.113.0/24`},
		"own text type":               {"farm: {color: blue}", `1: farm.color: "blue" is not a color such as red`},
		"scalar for struct":           {"farm: 5", "1: farm: want a mapping with keys such as name, on, weight, port, every, net, color, reals, labels, check, optional, sites, note"},
		"scalar for list":             {"farm: {reals: 192.0.2.1}", "1: farm.reals: want a list; write it as [a, b] or as lines that begin with a dash"},
		"scalar for map":              {"farm: {labels: a}", "1: farm.labels: want a mapping from names to values"},
		"map for scalar":              {"farm: {name: {a: b}}", "1: farm.name: want text"},
		"no value":                    {"farm:\n  name:\n", "2: farm.name: no value; give one or remove the key"},
		"all of them, in the order of the file": {"farm:\n  weight: x\n  on: x\n  name: a\n  name: b\n",
			"2: farm.weight: \"x\" is no whole number\nnode.yml:3: farm.on: \"x\" is neither true nor false\nnode.yml:5: farm.name: given twice, first on line 4; keep one"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodeFarm(t, tc.text)
			if err == nil {
				t.Fatal("no complaint")
			}
			if diff := cmp.Diff("node.yml:"+tc.want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestTextOrMapping(t *testing.T) {
	for text, want := range map[string]struct {
		place place
		err   string
	}{
		"at: Oslo\n":                {place{City: "Oslo"}, ""},
		"at: {far: {path: /x}}\n":   {place{City: "home", Far: &check{"/x"}}, ""},
		"at: {far: {}}\n":           {place{City: "home", Far: &check{"/"}}, ""},
		"other: 1\n":                {place{City: "home"}, ""},
		"at: [Oslo]\n":              {place{City: "home"}, "node.yml:1: at: want a city, or a mapping with far"},
		"at: {fra: {path: /x}}\n":   {place{City: "home"}, `node.yml:1: at.fra: unknown key; did you mean "far"?`},
		"at: {far: {path: [/x]}}\n": {place{City: "home", Far: &check{"/"}}, "node.yml:1: at.far.path: want text"},
	} {
		d, err := Parse("node.yml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		got := place{City: "home"}
		d.Decode("at", &got)
		said := ""
		if err := d.Err(); err != nil {
			said = err.Error()
		}
		if diff := cmp.Diff(want.place, got); diff != "" || said != want.err {
			t.Errorf("%s says %q, want %q; (-want +got):\n%s", text, said, want.err, diff)
		}
	}
}

func TestNoFollowOnComplaints(t *testing.T) {
	d, err := Parse("node.yml", []byte("farm:\n  nmae: a\n  every: 5\n  reals: {addr: 192.0.2.1}\n  port: 1\n  note: b\n  noote: c\nlabs:\n"))
	if err != nil {
		t.Fatal(err)
	}
	d.KnownSections("farm", "lab")
	var f farm
	var lab string
	d.Decode("lab", &lab).Errorf("from Validate")
	at := d.Decode("farm", &f)
	for _, c := range []Cursor{at.Key("note"), at.Key("name"), at.Key("every"), at.Key("reals"), at.Key("reals").Index(0).Key("addr"), at.Key("port"), at.Key("ever")} {
		c.Errorf("from Validate")
	}
	want := `node.yml:1: farm.ever: from Validate
node.yml:2: farm.nmae: unknown key; did you mean "name"?
node.yml:3: farm.every: 5 has no unit; write 5s for seconds or 5ms for milliseconds
node.yml:4: farm.reals: want a list; write it as [a, b] or as lines that begin with a dash
node.yml:5: farm.port: from Validate
node.yml:6: farm.note: from Validate
node.yml:7: farm.noote: unknown key; did you mean "note"?
node.yml:8: labs: unknown section; did you mean "lab"?`
	if diff := cmp.Diff(want, d.Err().Error()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSections(t *testing.T) {
	d, err := Parse("node.yml", []byte("lb:\ngss:\nrih:\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"lb", "gss", "rih"}, d.Sections()); diff != "" {
		t.Errorf("sections (-want +got):\n%s", diff)
	}
	if !d.Has("gss") || d.Has("mail") {
		t.Error("Has does not know the sections")
	}
	d.KnownSections("lb", "rhi", "gss")
	if want := `node.yml:3: rih: unknown section; did you mean "rhi"?`; d.Err() == nil || d.Err().Error() != want {
		t.Errorf("complaint is %v, want %s", d.Err(), want)
	}
}

func TestCursorLines(t *testing.T) {
	d, err := Parse("node.yml", []byte(`farm:
  name: |
    first

    third
  color: >
    folded
    text
  reals:
    - addr: 192.0.2.1
    - weight: 2
      addr: 192.0.2.2
  check: {path: /}
`))
	if err != nil {
		t.Fatal(err)
	}
	var f farm
	at := d.Decode("farm", &f)
	d.problems, d.misread = nil, nil // farm is read for its lines only
	for _, c := range []Cursor{
		at, at.Key("name"), at.Key("name").Line(1), at.Key("name").Line(3), at.Key("color"), at.Key("color").Line(2), at.Key("reals"),
		at.Key("reals").Index(0), at.Key("reals").Index(1).Key("addr"), at.Key("reals").Index(1).Key("port"), at.Key("reals").Index(2),
		at.Key("check").Key("path"), at.Key("every"),
	} {
		c.Errorf("here")
	}
	var got []string
	for _, p := range d.problems {
		got = append(got, fmt.Sprintf("%d %s", p.Line, p.Path))
	}
	want := []string{
		"1 farm", "2 farm.name", "3 farm.name", "5 farm.name", "6 farm.color", "6 farm.color", "9 farm.reals",
		"10 farm.reals[0]", "12 farm.reals[1].addr", "11 farm.reals[1].port", "9 farm.reals[2]",
		"13 farm.check.path", "1 farm.every",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}
}

func TestHas(t *testing.T) {
	d, err := Parse("node.yml", []byte("farm: {weight: 0, reals: [{addr: 192.0.2.1}]}"))
	if err != nil {
		t.Fatal(err)
	}
	at := d.Decode("farm", &farm{})
	real := at.Key("reals").Index(0)
	if !at.Has("weight") || at.Has("name") || at.Has("addr") || !real.Has("addr") || at.Key("weight").Has("weight") || (Cursor{}).Has("weight") {
		t.Error("a key that is there is not seen, or one that is not")
	}
}

func TestCheck(t *testing.T) {
	err := Check("farm", func(at Cursor) { at.Key("reals").Index(1).Line(2).Errorf("%d is too much", 5) })
	if want := "farm:1: reals[1]: 5 is too much"; err == nil || err.Error() != want {
		t.Errorf("complaint is %v, want %s", err, want)
	}
	if err := Check("farm", func(Cursor) {}); err != nil {
		t.Errorf("complaint is %v, want none", err)
	}
	Cursor{}.Key("a").Index(0).Errorf("goes nowhere")
}

func TestNearest(t *testing.T) {
	known := []string{"timeout", "interval", "intervalls", "imap"}
	for name, want := range map[string]string{
		"timeout": "timeout", "timeut": "timeout", "tiemout": "timeout", "timer": "", "intervals": "interval", "ip": "", "": "",
	} {
		if got := Nearest(name, known); got != want {
			t.Errorf("nearest to %q is %q, want %q", name, got, want)
		}
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.yml")
	if _, err := Load(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file gives %v", err)
	}
	if err := os.WriteFile(path, []byte("farm: {name: smtp}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Load(path)
	if err != nil || !d.Has("farm") {
		t.Errorf("Load gives %v, %v", d, err)
	}
	if err := os.WriteFile(path, []byte("farm: "+strings.Repeat("a", MaxSize)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.HasPrefix(err.Error(), path+":1: larger than") {
		t.Errorf("a file that is too large gives %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, text := range []string{
		"farm: {name: smtp, on: true, weight: -3, port: 65535, every: 1.5s, net: 192.0.2.0/24, color: red}\n",
		"farm:\n  reals:\n    - {addr: 192.0.2.1}\n  labels: {a: 1}\n  optional:\n  sites: {east: {}}\n",
		"farm: &f\n  <<: *f\n", "? [a]\n: b\n", "farm: !!map\n---\n", "farm:\n  name: |\n    a\n", "a: [\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		last := strings.Count(strings.ReplaceAll(text, "\r", "\n"), "\n") + 2
		d, err := Parse("node.yml", []byte(text))
		if err != nil {
			if p, ok := errors.AsType[Problem](err); !ok || p.Line < 1 || p.Line > last {
				t.Errorf("%#v is no problem of a text with fewer than %d lines", err, last)
			}
			return
		}
		var v farm
		at := d.Decode("farm", &v)
		at.Key("reals").Index(0).Key("addr").Errorf("here")
		at.Key("name").Errorf("here")
		for _, p := range d.problems {
			if p.Line < 1 || p.Text == "" {
				t.Errorf("%#v has no line or text", p)
			}
		}
	})
}
