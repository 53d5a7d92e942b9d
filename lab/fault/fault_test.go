package fault

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anycastle/lab/runner"
	"anycastle/lab/topology"
)

// testTopology has two sites with a router each, a line between them, an ISP and a client.
func testTopology() *topology.Topology {
	t := &topology.Topology{Name: "small"}
	node := func(group string, names ...string) {
		for _, n := range names {
			t.Nodes = append(t.Nodes, topology.Node{Name: n, Group: group, Cmd: []string{"anycastle"}})
		}
	}
	node("outside", "client", "ispa")
	node("east", "east-core1", "east-lb1", "east-lb2", "east-mx1", "east-store1", "east-store2")
	node("west", "west-core1", "west-lb1")
	for i, ends := range [][2]string{
		{"client", "ispa"}, {"ispa", "east-core1"}, {"ispa", "west-core1"}, {"east-core1", "west-core1"}, {"east-core1", "east-lb1"},
		{"east-core1", "east-lb2"}, {"east-core1", "east-mx1"}, {"east-core1", "east-store1"}, {"east-core1", "east-store2"}, {"west-core1", "west-lb1"},
	} {
		t.Links = append(t.Links, topology.Link{
			A: topology.Endpoint{Node: ends[0], Interface: fmt.Sprintf("eth%d", i)}, B: topology.Endpoint{Node: ends[1], Interface: fmt.Sprintf("eth%d", i)},
		})
	}
	return t
}

// fake is a lab of that topology on paper. It does what is asked, so that what stands can be looked at.
type fake struct {
	topo *topology.Topology
	said []string
	cut  map[topology.Link]bool
	dead map[string]bool
	off  map[string]bool
	hang map[string]bool // node, or node and role
	full map[string]bool
}

func newFake() *fake {
	return &fake{
		topo: testTopology(), cut: map[topology.Link]bool{}, dead: map[string]bool{}, off: map[string]bool{}, hang: map[string]bool{}, full: map[string]bool{},
	}
}

func (f *fake) say(words ...string) error {
	f.said = append(f.said, strings.Join(words, " "))
	return nil
}

func (f *fake) links(pick runner.Selector, cut bool) ([]topology.Link, error) {
	for _, l := range f.topo.Links {
		if pick(l) {
			f.cut[l] = cut
			f.said = append(f.said, fmt.Sprintf("%s %s cut %v", l.A.Node, l.B.Node, cut))
		}
	}
	return nil, nil
}

func (f *fake) Cut(p runner.Selector) ([]topology.Link, error)  { return f.links(p, true) }
func (f *fake) Heal(p runner.Selector) ([]topology.Link, error) { return f.links(p, false) }

func (f *fake) Kill(_ context.Context, n string) error  { f.dead[n] = true; return f.say("kill", n) }
func (f *fake) Start(_ context.Context, n string) error { f.dead[n] = false; return f.say("start", n) }
func (f *fake) KillRole(_ context.Context, n, r string) error {
	return f.say("kill role", n, r)
}
func (f *fake) Pause(_ context.Context, n, r string) error {
	f.hang[strings.TrimSpace(n+" "+r)] = true
	return f.say("pause", n, r)
}
func (f *fake) Resume(_ context.Context, n, r string) error {
	f.hang[strings.TrimSpace(n+" "+r)] = false
	return f.say("resume", n, r)
}
func (f *fake) PowerOff(_ context.Context, nodes ...string) error {
	for _, n := range nodes {
		f.off[n] = true
	}
	return f.say(append([]string{"power off"}, nodes...)...)
}
func (f *fake) PowerOn(_ context.Context, nodes ...string) error {
	for _, n := range nodes {
		f.off[n] = false
	}
	return f.say(append([]string{"power on"}, nodes...)...)
}
func (f *fake) FillDisk(_ context.Context, n string) error { f.full[n] = true; return f.say("fill", n) }
func (f *fake) FreeDisk(_ context.Context, n string) error {
	f.full[n] = false
	return f.say("free", n)
}

// facts are what the kernel would say.
func (f *fake) facts() Facts {
	facts := Facts{Status: &runner.Status{Name: "small"}, Full: f.full}
	for _, n := range f.topo.Nodes {
		is := runner.NodeStatus{Name: n.Name, Alive: true}
		if !f.dead[n.Name] && !f.off[n.Name] {
			is.Processes = []runner.Process{
				{Argv: []string{"anycastle", "node"}, Paused: f.hang[n.Name]},
				{Argv: []string{"/usr/local/bin/anycastle", "mail", "smtp", "--config", "x"}, Paused: f.hang[n.Name] || f.hang[n.Name+" smtp"]},
			}
		}
		facts.Status.Nodes = append(facts.Status.Nodes, is)
	}
	for _, l := range f.topo.Links {
		state := runner.LinkUp
		switch {
		case f.off[l.A.Node] || f.off[l.B.Node]:
			state = runner.LinkDown
		case f.cut[l]:
			state = runner.LinkCut
		}
		facts.Status.Links = append(facts.Status.Links, runner.LinkStatus{A: l.A.String(), B: l.B.String(), State: state})
	}
	return facts
}

func (f *fake) standing() []string {
	var words []string
	for _, x := range Standing(f.topo, f.facts()) {
		words = append(words, x.String())
	}
	return words
}

// TestFaultStandsUntilItIsHealed breaks one thing after the other, finds it, and heals it by different words.
func TestFaultStandsUntilItIsHealed(t *testing.T) {
	for _, tc := range []struct {
		fail, did string
		standing  string // "" for none
		heal      string
		undid     string
	}{
		{"node east-mx1", "kill east-mx1", "node east-mx1", "", "start east-mx1"},
		{"node east-mx1", "kill east-mx1", "node east-mx1", "all", "start east-mx1"},
		{"node east-mx1", "kill east-mx1", "node east-mx1", "east", "start east-mx1"},
		{"role east-lb1 lb", "kill role east-lb1 lb", "", "", ""},
		{"hang east-mx1", "pause east-mx1 ", "hang east-mx1", "east-mx1", "resume east-mx1 "},
		{"hang east-mx1 smtp", "pause east-mx1 smtp", "hang east-mx1 smtp", "hang east-mx1", "resume east-mx1 smtp"},
		{"power east-core1", "power off east-core1", "power east-core1", "power east-core1", "power on east-core1"},
		{"disk east-store1", "fill east-store1", "disk east-store1", "east-store1", "free east-store1"},
		{"link east-core1 west-core1", "east-core1 west-core1 cut true", "link east-core1 west-core1", "link west-core1 east-core1", "east-core1 west-core1 cut false"},
		{"link east-core1 west-core1", "east-core1 west-core1 cut true", "link east-core1 west-core1", "east-core1 west-core1", "east-core1 west-core1 cut false"},
		{
			"site west", "ispa west-core1 cut true, east-core1 west-core1 cut true", "site west", "west",
			"ispa west-core1 cut false, east-core1 west-core1 cut false",
		},
		{"isp east-mx1", "east-core1 east-mx1 cut true", "isp east-mx1", "isp east-mx1", "east-core1 east-mx1 cut false"},
	} {
		t.Run(tc.fail+" healed by "+tc.heal, func(t *testing.T) {
			f := newFake()
			x, err := Parse(f.topo, strings.Fields(tc.fail))
			if err != nil {
				t.Fatal(err)
			}
			if err := x.Apply(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(f.said, ", "); got != tc.did {
				t.Errorf("did %q, want %q", got, tc.did)
			}
			if got := strings.Join(f.standing(), ", "); got != tc.standing {
				t.Errorf("%q stands, want %q", got, tc.standing)
			}
			if x.String() != tc.fail || x.Done() == "" || x.Undone() == "" || x.Hint(f.topo, "small") == "" || x.Kind.Short() == "" {
				t.Errorf("it is said badly: %s; %s; %s; %s", x, x.Done(), x.Undone(), x.Hint(f.topo, "small"))
			}
			f.said = nil
			picked, err := Pick(f.topo, Standing(f.topo, f.facts()), strings.Fields(tc.heal))
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range Together(picked) {
				if err := x.Undo(t.Context(), f); err != nil {
					t.Fatal(err)
				}
			}
			if got := strings.Join(f.said, ", "); got != tc.undid {
				t.Errorf("undid %q, want %q", got, tc.undid)
			}
			if left := f.standing(); len(left) > 0 {
				t.Errorf("still there: %v", left)
			}
		})
	}
}

func TestParseComplains(t *testing.T) {
	for _, tc := range []struct{ words, want string }{
		{"", "what is to fail?"},
		{"fire east-mx1", `nothing fails by "fire"`},
		{"node", "takes other words than these 0"},
		{"role east-mx1", "takes other words than these 1"},
		{"link east-core1 west-core1 ispa", "takes other words than these 3"},
		{"node east-mx9", `no node "east-mx9"; did you mean east-mx1?`},
		{"site north", "its sites: east, outside, west"},
		{"link east-mx1 west-core1", "no line joins east-mx1 and west-core1; from east-mx1 one goes to east-core1"},
	} {
		if _, err := Parse(testTopology(), strings.Fields(tc.words)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %s", tc.words, err, tc.want)
		}
	}
}

func TestPickSaysWhatStands(t *testing.T) {
	topo := testTopology()
	standing := []Fault{{Kind: Node, Nodes: []string{"east-mx1"}}, {Kind: Power, Nodes: []string{"east-lb1"}}}
	for _, tc := range []struct{ words, want string }{
		{"west-lb1", "nothing is broken at west-lb1; broken is: node east-mx1; power east-lb1"},
		{"power east-mx1", "power east-mx1 stands not"},
		{"east-mx", `did you mean east-mx1?`},
	} {
		if _, err := Pick(topo, standing, strings.Fields(tc.words)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %s", tc.words, err, tc.want)
		}
	}
	if picked, err := Pick(topo, standing, []string{"east"}); err != nil || len(picked) != 2 {
		t.Errorf("a site's: %v, %v", picked, err)
	}
}

func TestTogetherJoinsPower(t *testing.T) {
	got := Together([]Fault{{Kind: Power, Nodes: []string{"a"}}, {Kind: Node, Nodes: []string{"b"}}, {Kind: Power, Nodes: []string{"c"}}})
	want := []Fault{{Kind: Power, Nodes: []string{"a", "c"}}, {Kind: Node, Nodes: []string{"b"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestHintLooksFromWhereItIsSeen(t *testing.T) {
	topo := testTopology()
	for _, tc := range []struct{ words, want string }{
		{"node east-mx1", "east-lb1 -- anycastle show real"},
		{"node east-lb1", "east-lb2 -- anycastle show site"},
		{"node west-lb1", "east-lb1 -- anycastle show site"},
		{"power east-core1", "ispa -- anycastle show route"},
		{"site east", "ispa -- anycastle show route"},
		{"node east-store1", "east-store2 -- anycastle show lun"},
		{"role east-lb1 lb", "east-lb1 -- anycastle show vip"},
		{"node client", "lab watch small --once"},
	} {
		f, err := Parse(topo, strings.Fields(tc.words))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Hint(topo, "small"); !strings.Contains(got, tc.want) {
			t.Errorf("%s: %s, want %s", tc.words, got, tc.want)
		}
	}
}

func TestSitesAreThoseOfTheTopology(t *testing.T) {
	if got := sites(testTopology()); !slices.Equal(got, []string{"east", "outside", "west"}) {
		t.Errorf("got %v", got)
	}
}
