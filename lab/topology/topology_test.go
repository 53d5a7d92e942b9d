package topology

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anycastle/internal/config"
)

func TestLoadMergesAsContainerlab(t *testing.T) {
	got, err := Load("testdata/two.clab.yml")
	if err != nil {
		t.Fatal(err)
	}
	want := &Topology{
		Name: "two",
		Nodes: []Node{{
			Name:  "one",
			Group: "east",
			Cmd:   []string{"anycastle", "lb", "--config", "/etc/any castle.yml"},
			Exec:  [][]string{{"first"}, {"second"}, {"third", "one"}},
			Binds: []Bind{
				{Source: "one.yml", Target: "/etc/anycastle/node.yml"},
				{Source: "/srv/strong", Target: "/etc/x"},
			},
			Env: map[string]string{"A": "weak", "B": "kind", "C": "node"},

			Labels: map[string]string{"rack": "2"},
		}, {
			Name: "two",
			Cmd:  []string{"sleep", "1"},
			Exec: [][]string{{"first"}, {"second"}},
			Binds: []Bind{
				{Source: "two.yml", Target: "/etc/anycastle/node.yml"},
				{Source: "weak", Target: "/etc/x", ReadOnly: true},
			},
			Env: map[string]string{"A": "weak", "B": "kind"},

			Labels: map[string]string{"rack": "1", "anycastle-disk": "96M"},
			Disk:   96 << 20,
		}},
		Links: []Link{
			{A: Endpoint{"one", "eth0"}, B: Endpoint{"two", "eth0"}, MTU: DefaultMTU},
			{A: Endpoint{"one", "eth1"}, B: Endpoint{"one", "eth2"}, MTU: 1500},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"one"}, got.Group("east")); diff != "" {
		t.Errorf("group east (-want +got):\n%s", diff)
	}
}

// valid is a topology to break: each case replaces one piece of it.
const valid = `name: two
topology:
  defaults: {kind: linux}
  nodes:
    one: {}
    two:
  links:
    - endpoints: ["one:eth1", "two:eth1"]
`

var refusals = []struct {
	name     string
	old, new string
	want     string
}{
	{"no lab name", "name: two\n", "", `:1: name: no name; give one`},
	{"lab name", "name: two", "name: a/b", `:1: name: "a/b" is no name; use up to 63`},
	{"section", "name: two", "name: two\nmgmt: {}", ":2: mgmt: unknown section"},
	{"topology key", "  nodes:", "  groups: {}\n  nodes:", ":4: topology.groups: unknown key"},
	{"node key", "one: {}", "one: {ports: [a]}", ":5: topology.nodes.one.ports: unknown key"},
	{"no kind", "{kind: linux}", "{}", "topology.nodes.one: no kind; write `kind: linux`"},
	{"kind", "one: {}", "one: {kind: bridge}", `:5: topology.nodes.one.kind: the lab cannot build kind "bridge"; use linux`},
	{"kinds", "  nodes:", "  kinds: {bridge: {}}\n  nodes:", "topology.kinds.bridge: the lab knows the kind linux alone; remove"},
	{"network mode", "one: {}", "one: {network-mode: host}", `one.network-mode: the lab cannot give a node network mode "host"; use none`},
	{"no nodes", "    one: {}\n    two:\n", "    {}\n", ":4: topology.nodes: no nodes; name at least two"},
	{"duplicate node", "    two:\n", "    two:\n    one: {}\n", ":7: topology.nodes.one: given twice, first on line 5; keep one"},
	{"node name", "one: {}", `"o e": {}`, `"o e" is no name; use up to 63`},
	{"reserved node", "one: {}", "host: {}", `containerlab keeps the name "host"`},
	{"reserved node in upper case", "one: {}", "Host: {}", `containerlab keeps the name "Host"`},
	{"no links", "  links:\n    - endpoints: [\"one:eth1\", \"two:eth1\"]\n", "", ":2: topology.links: no links"},
	{"one endpoint", `, "two:eth1"`, "", "has two endpoints, this one has 1; write"},
	{"unknown node", `"two:eth1"`, `"too:eth1"`, `:8: topology.links[0].endpoints[1]: no node "too"; did you mean "two"?`},
	{"link to the host", `"two:eth1"`, `"host:eth1"`, `the lab cannot build links to "host"; join two nodes`},
	{"interface used twice", `"two:eth1"`, `"one:eth1"`, "one:eth1 is already an end of links[0]; use another"},
	{"interface name too long", "two:eth1", "two:sixteen-letters-", `"sixteen-letters-" is longer than the 15 characters`},
	{"interface name", "two:eth1", "two:a/b", "has a character that the kernel refuses; use"},
	{"loopback", "two:eth1", "two:lo", `the kernel keeps the name "lo" for itself; use`},
	{"management interface", "two:eth1", "two:eth0", "containerlab keeps eth0 for management; use eth1"},
	{"no interface", "two:eth1", "two", `"two" is no endpoint; write it as node:interface`},
	{"link type", "    - endpoints", "    - type: veth\n      endpoints", "topology.links[0].type: unknown key"},
	{"mtu", `"two:eth1"]`, "\"two:eth1\"]\n      mtu: 12", "links[0].mtu: no pair of interfaces can have an MTU of 12; use"},
	{"bind without target", "one: {}", "one: {binds: [a]}", `one.binds[0]: "a" is no bind; write it as`},
	{"bind option", "one: {}", `one: {binds: ["a:/b:z"]}`, `bind option "z" is not known here; use ro or rw`},
	{"bind from elsewhere", "one: {}", `one: {binds: ["../a:/b"]}`, `"../a" lies outside the topology's folder; move`},
	{"bind from home", "one: {}", `one: {binds: ["~/a:/b"]}`, `"~/a" lies outside the topology's folder; move`},
	{"bind on root", "one: {}", `one: {binds: ["a:/b/.."]}`, `"/b/.." is no place in the node; give`},
	{"bind on relative path", "one: {}", `one: {binds: ["a:b"]}`, `"b" is no place in the node; give`},
	{"variable", "one: {}", `one: {binds: ["__clabDir__/a:/b"]}`, "only __clabNodeName__ is replaced here"},
	{"variable in a bind's target", "one: {}", `one: {binds: ["a:/b/__clabNodeName__"]}`, "is no place in the node; give"},
	{"variable of the caller", "one: {}", `one: {exec: ["echo ${HOME}"]}`, `:5: containerlab would replace what follows "${"`},
	{"template", "name: two", "name: two # {{ .x }}", `:1: containerlab would replace what follows "{{"`},
	{"environment of the caller", "one: {}", `one: {env: {__IMPORT_ENVS: true}}`, "one.env.__IMPORT_ENVS: the caller's environment is not passed on"},
	{"kind of a kind", "defaults: {kind: linux}", "kinds: {linux: {kind: linux}}", "topology.nodes.one: no kind; write `kind: linux`"},
	{"long link form", `["one:eth1", "two:eth1"]`, "[{node: one, interface: eth1}, {node: two, interface: eth1}]", ":8: topology.links"},
	{"variable in cmd", "one: {}", "one: {cmd: x __clabNodeName__}", "variables are not replaced in cmd; write"},
	{"open quote", "one: {}", `one: {exec: ["echo 'a"]}`, "one.exec[0]: a quote or a backslash at the end"},
	{"empty command", "one: {}", `one: {exec: [" "]}`, "one.exec[0]: no command; write one"},
	{"disk without unit", "one: {}", `one: {labels: {anycastle-disk: 96}}`, `one.labels.anycastle-disk: "96" is no size of a disk; write it in MiB, such as 96M`},
	{"disk of nothing", "one: {}", `one: {labels: {anycastle-disk: 0M}}`, `"0M" is no size of a disk`},
	{"environment", "one: {}", `one: {env: {"A=B": c}}`, "no environment can hold this; use"},
}

func TestParseRefuses(t *testing.T) {
	if _, err := Parse("x.clab.yml", []byte(valid)); err != nil {
		t.Fatalf("the valid topology is refused: %v", err)
	}
	for _, tt := range refusals {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(valid, tt.old, tt.new, 1)
			if text == valid {
				t.Fatalf("the valid topology has no %q to replace", tt.old)
			}
			_, err := Parse("x.clab.yml", []byte(text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if _, ok := errors.AsType[config.Problem](err); !ok {
				t.Errorf("%v carries no file and line", err)
			}
		})
	}
}

func TestSplit(t *testing.T) {
	tests := []struct {
		line string
		want []string
		err  error
	}{
		{`a  b	c`, []string{"a", "b", "c"}, nil},
		{`a 'b c' "d e"`, []string{"a", "b c", "d e"}, nil},
		{`a'b'"c"\ d`, []string{"abc d"}, nil},
		{`a '' ""`, []string{"a", "", ""}, nil},
		{`"a\"b\c" 'a\b'`, []string{`a"bc`, `a\b`}, nil},
		{"a#b # c 'd\r\ne '#f' \"#g\" \\#h", []string{"a#b", "e", "#f", "#g", "#h"}, nil},
		{`# a`, nil, errNoCommand},
		{``, nil, errNoCommand},
		{`'' a`, nil, errNoCommand},
		{`a\`, nil, errOpenQuote},
		{`a "b`, nil, errOpenQuote},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			got, err := split(tt.line)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(valid)
	f.Add(strings.Replace(valid, "one: {}", `one: {cmd: "a 'b'", binds: ["a:/b:ro"], exec: [x], env: {A: 1}}`, 1))
	f.Add(strings.Replace(valid, "two:eth1", "one:eth1", 1))
	f.Add("topology: {nodes: {a: , b: }, links: [{endpoints: [a:b, b:a]}]}")
	f.Fuzz(func(t *testing.T, text string) {
		topo, err := Parse("x.clab.yml", []byte(text))
		if err != nil {
			return
		}
		used := map[Endpoint]bool{}
		for _, l := range topo.Links {
			for _, e := range l.Ends() {
				if _, ok := topo.Node(e.Node); !ok || used[e] {
					t.Errorf("%s is no node's or used twice", e)
				}
				used[e] = true
			}
		}
		for _, n := range topo.Nodes {
			for _, argv := range append(n.Exec, n.Cmd) {
				if len(argv) > 0 && argv[0] == "" {
					t.Errorf("%s has a command without a name", n.Name)
				}
			}
			for _, b := range n.Binds {
				if b.Source == "" || !strings.HasPrefix(b.Target, "/") || b.Target == "/" {
					t.Errorf("%s has a bind %+v", n.Name, b)
				}
			}
		}
	})
}
