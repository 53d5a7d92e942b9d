package scenario

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"anycastle/lab/scenarios"
	"anycastle/lab/topo"
	"anycastle/lab/topology"
)

const whole = `# A comment.
title    real killed
topology two-site
demo     yes

before
  run east-lb1 : anycastle show vip
fault
  promise   vip 1s, lost 0
  kill      east-mx1
  watch     4s
  took-over route east-core1 203.0.113.25/32
  expect    ^mx2
back
  promise   vip 0
  start     east-mx1
  settle
  watch     2s
`

func TestParse(t *testing.T) {
	s, err := Parse("dir/real-killed.txt", whole)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, step := range append(append(s.Before, s.Fault.Steps...), s.Back.Steps...) {
		got = append(got, step.String())
	}
	want := []string{
		"run east-lb1 : anycastle show vip", "kill east-mx1", "watch 4s", "took-over route east-core1 : 203.0.113.25/32",
		"start east-mx1", "settle", "watch 2s",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	if s.Name != "real-killed" || s.Title != "real killed" || !s.Demo || s.Pod != "1" || s.Fault.Expect != "^mx2" ||
		s.Fault.Promise.String() != "vip 1s, lost 0" || s.Fault.Steps[1].Time != 4*time.Second {
		t.Errorf("%+v", s)
	}
}

// Each bad line is told with its number; what is wrong elsewhere is told too.
func TestProblems(t *testing.T) {
	for _, tt := range []struct{ name, old, new, want string }{
		{"unknown head", "demo     yes", "demos    yes", `x.txt:4: unknown word "demos"`},
		{"not yes or no", "demo     yes", "demo     maybe", "x.txt:4: demo is yes or no"},
		{"twice", "demo     yes", "title    again", "x.txt:4: title is there twice"},
		{"empty", "demo     yes", "pod", "x.txt:4: pod is empty"},
		{"head after a section", "back\n", "pod 2\nback\n", "x.txt:14: pod belongs before"},
		{"a section's line", "fault\n", "fault now\n", "x.txt:8: fault takes nothing"},
		{"no section", "# A comment.", "  kill x", "x.txt:1: kill is indented"},
		{"unknown verb", "kill ", "maim ", `x.txt:10: unknown verb "maim"`},
		{"unknown verb before", "  run east-lb1 : anycastle show vip", "  maim", `x.txt:7: unknown verb "maim"`},
		{"no nodes", "kill      east-mx1", "kill", "x.txt:10: kill: which nodes?"},
		{"no value", "kill      east-mx1", "kill site east role", "role: a value is missing"},
		{"no label", "kill      east-mx1", "kill site east smell bad", `no label "smell"`},
		{"no time", "watch     4s", "watch     4", `x.txt:11: watch: "4" is no time`},
		{"too long", "watch     4s", "watch     4h", `is no time up to`},
		{"no watch", "  watch     4s\n", "", "x.txt:8: fault has no watch"},
		{"no promise", "  promise   vip 0\n", "", "back promises nothing"},
		{"bad promise", "vip 1s", "vip soon", "no time in whole milliseconds"},
		{"promised twice", "  expect    ^mx2", "  promise vip 2s", "promise is there twice"},
		{"bad pattern", "^mx2", "(", "missing closing )"},
		{"no settle for", "settle", "settle soon", "it takes nothing"},
		{"no back", "back\n  promise   vip 0\n  start     east-mx1\n  settle\n  watch     2s\n", "", "back is missing"},
		{"links", "kill      east-mx1", "cut east-mx1", "want around NODES"},
		{"one side", "kill      east-mx1", "cut between east-mx1", "between NODES and NODES"},
		{"no port", "kill      east-mx1", "block all x", `"all" is no number`},
		{"no command", "kill      east-mx1", "run x", "spaces around the colon"},
		{"no texts", "kill      east-mx1", `replace x : "a"`, "two texts in double quotes"},
		{"no crowd", "kill      east-mx1", `crowd 5`, "a number of sessions and an address"},
		{"no pattern", "kill      east-mx1", `until 4s x : y`, "=~ REGEXP"},
		{"who", "route east-core1 203.0.113.25/32", "nobody", "want banners, names"},
		{"role", "kill      east-mx1", "pause east-mx1", "want a role, or all, and nodes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(whole, tt.old, tt.new, 1)
			if text == whole {
				t.Fatal("nothing has been replaced")
			}
			if _, err := Parse("x.txt", text); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want %q", err, tt.want)
			}
		})
	}
	var p Problem
	if _, err := Parse("x.txt", strings.Repeat("x", 1<<17)); !errors.As(err, &p) || !strings.Contains(p.Text, "longer than") {
		t.Errorf("a long file: %v", err)
	}
}

func TestPick(t *testing.T) {
	node := func(name, group, role string) topology.Node {
		return topology.Node{Name: name, Group: group, Labels: map[string]string{"anycastle-role": role}}
	}
	lab := &topology.Topology{Name: "l", Nodes: []topology.Node{
		node("e1", "east", "mx"), node("e2", "east", "store"), node("w1", "west", "mx"), node("w3", "west", "standby"),
	}}
	for picked, want := range map[string]string{
		"site east":               "e1 e2",
		"role mx":                 "e1 w1",
		"site west role mx":       "w1",
		"role store,standby":      "e2 w3",
		"w1 e1":                   "w1 e1",
		"nobody":                  `! l has no node "nobody"`,
		"site north":              "! no node of l has site north",
		"site east role standby ": "! no node of l has site east role standby",
	} {
		got, err := Nodes(strings.Fields(picked)).Pick(lab)
		text := strings.Join(got, " ")
		if err != nil {
			text = "! " + err.Error()
		}
		if text != want {
			t.Errorf("%s: %s, want %s", picked, text, want)
		}
	}
}

// Every scenario of the binary is right, and fits the topology that it names.
func TestScenariosOfTheBinary(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	files, err := fs.Glob(scenarios.Files(), "*")
	if err != nil || len(files) != len(all) || len(all) < 15 {
		t.Fatalf("%d scenarios of %d files, %v; there are more", len(all), len(files), err)
	}
	topologies := map[string]*topology.Topology{}
	for _, s := range all {
		if topologies[s.Topology] == nil {
			files, file, err := topo.Find(s.Topology)
			if err != nil {
				t.Errorf("%s: %v", s.Name, err)
				continue
			}
			if topologies[s.Topology], err = topology.LoadFrom(files, file); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Check(topologies[s.Topology]); err != nil {
			t.Error(err)
		}
	}
}

func TestOneBadFileIsNamed(t *testing.T) {
	_, err := read(fstest.MapFS{"a.txt": {Data: []byte(whole)}, "b.txt": {Data: []byte("title b\n")}})
	if err == nil || !strings.Contains(err.Error(), "b.txt:1: topology is missing") || strings.Contains(err.Error(), "a.txt") {
		t.Errorf("error is %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(whole)
	f.Add("fault\n  replace site east : \"a\" \"b\"\n  cut between a and b\n  crowd 5 x:1\n  until 4s x : y =~ z\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse("f.txt", text)
		if err == nil && (s.Title == "" || s.Fault.Line == 0 || s.Back.Promise == nil) {
			t.Errorf("%q is taken and is not whole: %+v", text, s)
		}
	})
}
