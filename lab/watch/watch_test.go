package watch

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"anycastle/lab/runner"
	"anycastle/lab/topology"
)

// at is the moment of all tests.
var at = time.Date(2026, 11, 29, 20, 33, 7, 0, time.UTC)

// testTopology is a site of one of each, a second one with a balancer, and an ISP that is linked to both.
func testTopology() *topology.Topology {
	t := &topology.Topology{Name: "small"}
	node := func(group string, names ...string) {
		for _, n := range names {
			t.Nodes = append(t.Nodes, topology.Node{Name: n, Group: group, Cmd: []string{"anycastle", "node"}})
		}
	}
	node("outside", "ispa")
	node("east", "east-core1", "east-lb1", "east-lb2", "east-gss", "east-mx1", "east-mx2", "east-store1", "east-standby")
	node("west", "west-lb1", "west-gss", "west-store1")
	ports := map[string]int{}
	link := func(a, b string) {
		ports[a]++
		ports[b]++
		t.Links = append(t.Links, topology.Link{
			A: topology.Endpoint{Node: a, Interface: fmt.Sprintf("eth%d", ports[a])}, B: topology.Endpoint{Node: b, Interface: fmt.Sprintf("eth%d", ports[b])},
		})
	}
	link("ispa", "east-core1")
	for _, n := range t.Nodes[2:] {
		if n.Group == "east" {
			link("east-core1", n.Name)
		} else {
			link("ispa", n.Name)
		}
	}
	return t
}

// testStatus is a lab of that topology in which all is well, but for what change does.
func testStatus(t *topology.Topology, change func(*runner.NodeStatus), links map[string]runner.LinkState) *runner.Status {
	s := &runner.Status{Name: "small"}
	for i, n := range t.Nodes {
		is := runner.NodeStatus{Name: n.Name, Alive: true, Processes: []runner.Process{{Pid: 1000 + i, Argv: []string{"anycastle", "node"}}}}
		if change != nil {
			change(&is)
		}
		s.Nodes = append(s.Nodes, is)
	}
	for _, l := range t.Links {
		state := runner.LinkUp
		for _, e := range l.Ends() {
			if x, ok := links[e.Node]; ok {
				state = x
			}
		}
		s.Links = append(s.Links, runner.LinkStatus{A: l.A.String(), B: l.B.String(), MTU: 1500, State: state})
	}
	return s
}

// read decodes what a role would answer.
func read[T any](t *testing.T, text string) []T {
	t.Helper()
	var list []T
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

func roles(names ...string) []Role {
	var list []Role
	for _, n := range names {
		list = append(list, Role{Name: n, State: "up"})
	}
	return list
}

// testFound is what the roles of that lab answer on an ordinary day, with a real that has failed at one balancer.
func testFound(t *testing.T) map[string]found {
	lb := func(announced, mx1 string) found {
		return found{
			roles: roles("lb"),
			vips: read[lbVIP](t, `[{"name":"smtp","address":"203.0.113.25","protocol":"tcp","port":"25","announced":`+announced+`,"reason":"by the reals","active_reals":2},
				{"name":"imap","address":"203.0.113.143","protocol":"tcp","port":"143","announced":true,"reason":"2 of 2","active_reals":2},
				{"name":"imaps","address":"203.0.113.143","protocol":"tcp","port":"993","announced":true,"reason":"2 of 2","active_reals":1}]`),
			announcements: read[lbAnnouncement](t, `[{"vip":"203.0.113.25/32","place":"full","why":"vip smtp: 2 of 2 reals in service"}]`),
			reals: read[lbReal](t, `[{"farm":"smtp","name":"mx1","address":"198.51.100.7","state":"`+mx1+`","why":"tcp 198.51.100.7:25: connect: refused","since":"2026-11-29T20:32:07Z","share":0.5},
				{"farm":"smtp","name":"mx2","address":"198.51.100.9","state":"active","why":"it came into service","since":"2026-11-29T20:02:07Z","share":0.5,"flows":12}]`),
		}
	}
	gss := func(smtp, place string) found {
		return found{
			roles: roles("gss"),
			rules: read[gssRule](t, `[{"name":"smtp","domains":["smtp.mail.example.org"],"basis":"health","answers":[{"answer":"`+smtp+`","of_1000":1000}],"ttl_seconds":5},
				{"name":"imap","domains":["imap.mail.example.org"],"basis":"health","answers":[{"answer":"imap-east","of_1000":500},{"answer":"imap-west","of_1000":500}],"ttl_seconds":5}]`),
			answers: read[gssAnswer](t, `[{"name":"smtp-east","site":"east","addresses":["203.0.113.11"],"place":"`+place+`","why":"passes from east-gss"},
				{"name":"smtp-west","site":"west","addresses":["203.0.113.21"],"place":"serving","why":"passes from both"}]`),
		}
	}
	lun := func(serving bool) found {
		return found{roles: roles("store"), luns: read[storeLUN](t, fmt.Sprintf(`[{"name":"lun-east1","messages":1234,"mailboxes":3,"replica":{"self":"east-store1",
			"active":"east-store1","active_since":"2026-11-29T20:13:07Z","serving":%v,"term":3,"two_site":{"state":"exposed","operations":17},"replicas":[
			{"name":"east-store1","site":"east","self":true,"active":true,"voter":true,"fit":true},
			{"name":"east-standby","site":"east","voter":true,"fit":true,"lag":3,"missing":2,"heard":"2026-11-29T20:33:06Z"},
			{"name":"west-store1","site":"west","voter":true,"fit":true,"heard":"2026-11-29T20:32:06Z"},
			{"name":"witness","site":"third","witness":true,"voter":true,"fit":false,"heard":"2026-11-29T20:33:06Z"}]}}]`, serving))}
	}
	return map[string]found{
		"east-core1": {
			roles: roles("rhi"), peers: read[rhiPeer](t, `[{"name":"east-lb1","address":"198.51.100.1"}]`),
			routes: read[rhiRoute](t, `[{"prefix":"203.0.113.25/32","next_hops":["198.51.100.1","198.51.100.3"],"source":"learned","in_kernel":true},
				{"prefix":"203.0.113.143/32","next_hops":["198.51.100.1","198.51.100.3"],"source":"learned","in_kernel":true},
				{"prefix":"192.0.2.1/32","next_hops":["192.0.2.16"],"source":"learned","in_kernel":true}]`),
		},
		"ispa":     {roles: roles("rhi"), routes: read[rhiRoute](t, `[{"prefix":"203.0.113.25/32","next_hops":["192.0.2.17"],"source":"learned"}]`)},
		"east-lb1": lb("true", "active"), "east-lb2": lb("true", "failed"), "west-lb1": lb("false", "active"),
		"east-gss": gss("smtp-east", "serving"), "west-gss": gss("smtp-west", "out"),
		"east-mx1": {roles: roles("real", "smtp")}, "east-mx2": {roles: roles("real", "smtp")},
		"east-store1": lun(true), "east-standby": lun(false), "west-store1": {roles: roles("store"), luns: read[storeLUN](t, `[{"name":"lun-west1"}]`)},
	}
}

// testState is all of that, and some events.
func testState(t *testing.T) *State {
	topo := testTopology()
	s := build(topo, testStatus(topo, nil, nil), testFound(t))
	s.At = at
	for i := range 60 {
		s.Events = append(s.Events, Event{
			At: at.Add(time.Duration(i-60) * time.Second), Node: "east-lb1", Role: "lb", Level: []string{"INFO", "INFO", "WARN"}[i%3],
			Text: fmt.Sprintf("real changed state farm=smtp real=mx1 old=active new=failed cause=probe %d", i),
		})
	}
	return s
}

func TestBuildJudgesNodes(t *testing.T) {
	topo := testTopology()
	for _, tc := range []struct {
		name   string
		change func(*runner.NodeStatus)
		links  map[string]runner.LinkState
		roles  []Role
		state  string
		health Health
	}{
		{"well", nil, nil, roles("real", "smtp"), "up", Well},
		{"gone", func(n *runner.NodeStatus) { n.Alive = false }, nil, nil, "gone", Bad},
		{"killed", func(n *runner.NodeStatus) { n.Processes = nil }, nil, []Role{{Name: "smtp", State: "down"}}, "killed", Bad},
		{"off", func(n *runner.NodeStatus) { n.Processes = nil }, map[string]runner.LinkState{"east-mx1": runner.LinkDown}, nil, "off", Bad},
		{"hangs", nil, nil, []Role{{Name: "real", State: "failing"}, {Name: "smtp", State: "hangs"}}, "hangs", Bad},
		{"paused", func(n *runner.NodeStatus) { n.Processes[0].Paused = true }, nil, roles("smtp"), "hangs", Bad},
		{"role down", nil, nil, []Role{{Name: "smtp", State: "down"}}, "failing", Bad},
		{"slow", nil, nil, []Role{{Name: "smtp", State: "slow"}}, "slow", Poor},
		{"role says no", nil, nil, []Role{{Name: "smtp", State: "failing", Why: "no store"}}, "failing", Poor},
		{"cut", nil, map[string]runner.LinkState{"east-mx1": runner.LinkCut}, roles("smtp"), "cut", Bad},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status := testStatus(topo, func(n *runner.NodeStatus) {
				if n.Name == "east-mx1" && tc.change != nil {
					tc.change(n)
				}
			}, tc.links)
			s := build(topo, status, map[string]found{"east-mx1": {roles: tc.roles}})
			for _, n := range s.Nodes {
				switch {
				case n.Name == "east-mx1" && (n.State != tc.state || n.Health != tc.health):
					t.Errorf("%s is %s (%s), want %s (%s)", n.Name, n.State, n.Health, tc.state, tc.health)
				case n.Name == "east-mx2" && n.Health != Well:
					t.Errorf("%s is %s: %s", n.Name, n.State, n.Why)
				}
			}
		})
	}
}

// A router without power is its own trouble, not that of all nodes that have a line to it.
func TestLineToANodeWithoutPowerIsNoTrouble(t *testing.T) {
	topo := testTopology()
	status := testStatus(topo, func(n *runner.NodeStatus) {
		if n.Name == "east-core1" {
			n.Processes = nil
		}
	}, map[string]runner.LinkState{"east-core1": runner.LinkDown})
	for _, n := range build(topo, status, nil).Nodes {
		if well := n.Health == Well; well == (n.Name == "east-core1") {
			t.Errorf("%s is %s: %s", n.Name, n.State, n.Why)
		}
	}
}

// TestStateIsWhatRolesSay holds the whole State, as scripts get it, to a golden file.
func TestStateIsWhatRolesSay(t *testing.T) {
	s := testState(t)
	s.Events = s.Events[:1]
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "state.json", string(text)+"\n")
}

func TestEmptyLabIsShown(t *testing.T) {
	s := build(testTopology(), testStatus(testTopology(), nil, nil), nil)
	for p := range panes {
		if text := Render(s, View{Width: 80, Height: 24, Pane: p}); !strings.Contains(text, "12 of 12 nodes well") {
			t.Errorf("%s:\n%s", p, text)
		}
	}
}

// golden compares with a file, or writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := "testdata/" + name
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is another (-update writes it anew); got:\n%s", file, got)
	}
}
