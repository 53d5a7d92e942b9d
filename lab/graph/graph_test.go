package graph

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anycastle/lab/topology"
)

var update = flag.Bool("update", false, "write the golden files anew")

// topologies are those that the binary has, and one that the test makes: two sites of two pods.
func topologies(t *testing.T) []*topology.Topology {
	t.Helper()
	files, err := filepath.Glob("../topo/*/*.clab.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no topologies found: %v", err)
	}
	list := []*topology.Topology{pods(2, 2), pods(1, 1), pods(3, 1)}
	for _, f := range files {
		topo, err := topology.Load(f)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, topo)
	}
	return list
}

// pods makes a topology with everything that the picture knows.
func pods(sites, pods int) *topology.Topology {
	t := &topology.Topology{Name: fmt.Sprintf("sites-%d-pods-%d", sites, pods)}
	next := map[string]int{}
	end := func(n string) topology.Endpoint {
		next[n]++
		return topology.Endpoint{Node: n, Interface: fmt.Sprintf("eth%d", next[n])}
	}
	link := func(a, b string) { t.Links = append(t.Links, topology.Link{A: end(a), B: end(b), MTU: 1500}) }
	node := func(name, group string) { t.Nodes = append(t.Nodes, topology.Node{Name: name, Group: group}) }
	for _, n := range []string{"client", "resolver", "witness", "ispa", "ispb"} {
		node(n, "outside")
	}
	for _, n := range []string{"client", "resolver", "witness"} {
		link(n, "ispa")
		link(n, "ispb")
	}
	for s := range sites {
		site := string(rune('a'+s)) + "-site"
		in := func(role string) {
			node(site+"-"+role, site)
			link(site+"-core1", site+"-"+role)
			link(site+"-core2", site+"-"+role)
		}
		node(site+"-core1", site)
		node(site+"-core2", site)
		link(site+"-core1", site+"-core2")
		link("ispa", site+"-core1")
		link("ispb", site+"-core2")
		if s > 0 {
			link("a-site-core1", site+"-core1")
			link("a-site-core2", site+"-core2")
		}
		in("gss")
		in("monitor")
		for p := range pods {
			for _, role := range strings.Fields("lb1 lb2 mx1 mx2 submission1 submission2 imap1 imap2 store1 store2 standby") {
				in(fmt.Sprintf("pod%d-%s", p+1, role))
			}
		}
	}
	return t
}

func (b box) overlaps(o box) bool {
	return b.x < o.right() && o.x < b.right() && b.y < o.bottom() && o.y < b.bottom()
}

func (b box) holds(o box) bool {
	return o.x >= b.x && o.right() <= b.right() && o.y >= b.y && o.bottom() <= b.bottom()
}

func TestNoBoxesOverlap(t *testing.T) {
	for _, topo := range topologies(t) {
		t.Run(topo.Name, func(t *testing.T) {
			p := layout(topo)
			if len(p.nodes) != len(topo.Nodes) {
				t.Errorf("%d nodes are placed of %d", len(p.nodes), len(topo.Nodes))
			}
			whole := box{0, 0, p.w, p.h}
			for i, a := range topo.Nodes {
				held := 0
				for _, s := range p.sites {
					if s.holds(p.nodes[a.Name]) {
						held++
					}
				}
				if held != 1 {
					t.Errorf("%s at %v is in %d sites", a.Name, p.nodes[a.Name], held)
				}
				for _, b := range topo.Nodes[:i] {
					if p.nodes[a.Name].overlaps(p.nodes[b.Name]) {
						t.Errorf("%s at %v lies over %s at %v", a.Name, p.nodes[a.Name], b.Name, p.nodes[b.Name])
					}
				}
				for _, pod := range p.pods {
					if pod.overlaps(p.nodes[a.Name]) && !pod.holds(p.nodes[a.Name]) {
						t.Errorf("%s at %v is half in %s at %v", a.Name, p.nodes[a.Name], pod.label, pod.box)
					}
				}
			}
			var boxes []labelled
			for _, s := range p.sites {
				boxes = append(boxes, s.labelled)
			}
			apart(t, whole, boxes)
			apart(t, whole, p.pods)
			apart(t, whole, p.bands)
		})
	}
}

// apart checks that boxes of one kind are on the picture and do not overlap.
func apart(t *testing.T, whole box, boxes []labelled) {
	t.Helper()
	for i, a := range boxes {
		if !whole.holds(a.box) {
			t.Errorf("%s at %v is not on the picture %v", a.label, a.box, whole)
		}
		for _, b := range boxes[:i] {
			if a.overlaps(b.box) {
				t.Errorf("%s at %v lies over %s at %v", a.label, a.box, b.label, b.box)
			}
		}
	}
}

func TestEveryNodeAndLineIsDrawnOnce(t *testing.T) {
	for _, topo := range topologies(t) {
		t.Run(topo.Name, func(t *testing.T) {
			svg := Draw(topo, Condition{})
			if !bytes.Equal(svg, Draw(topo, Condition{})) {
				t.Error("drawn again it is another picture")
			}
			ids, titles := map[string]int{}, map[string]int{}
			inTitle := false
			for dec := xml.NewDecoder(bytes.NewReader(svg)); ; {
				token, err := dec.Token()
				if errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("not well-formed: %v", err)
				}
				switch x := token.(type) {
				case xml.StartElement:
					inTitle = x.Name.Local == "title"
					for _, a := range x.Attr {
						if a.Name.Local == "id" {
							ids[a.Value]++
						}
					}
				case xml.CharData:
					if inTitle {
						titles[string(x)]++
					}
					inTitle = false
				}
			}
			for _, n := range topo.Nodes {
				if ids[n.Name] != 1 {
					t.Errorf("%s is drawn %d times", n.Name, ids[n.Name])
				}
			}
			for _, l := range topo.Links {
				if name := l.A.String() + " – " + l.B.String(); titles[name] != 1 {
					t.Errorf("line %s is drawn %d times", name, titles[name])
				}
			}
		})
	}
}

func TestConditionIsSeen(t *testing.T) {
	topo := pods(1, 1)
	svg := string(Draw(topo, Condition{
		Note: "1 < 2", Nodes: map[string]string{"a-site-gss": "no power", "a-site-monitor": "slow"}, Works: map[string]bool{"a-site-monitor": true}, Links: map[string]string{LinkName(topo.Links[0]): "cut"},
	}))
	for _, want := range []string{`class="node gss ill" id="a-site-gss"`, `class="node monitor ill works"`, ">no power<", "1 &lt; 2", ` cut" d=`} {
		if !strings.Contains(svg, want) {
			t.Errorf("%s is not in the picture", want)
		}
	}
}

func TestGolden(t *testing.T) {
	const file = "testdata/pods.svg"
	got := Draw(pods(2, 2), Condition{})
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("(-want +got), -update writes it anew:\n%s", diff)
	}
}

func TestPlaceOf(t *testing.T) {
	for _, tc := range []struct {
		node topology.Node
		want Place
	}{
		{topology.Node{Name: "east-lb1", Group: "east"}, Place{"east", Network, "", "lb", "lb1"}},
		{topology.Node{Name: "east-pod2-mx1", Group: "east"}, Place{"east", Front, "2", "mx", "mx1"}},
		{topology.Node{Name: "west-standby", Group: "west"}, Place{"west", Back, "", "standby", "standby"}},
		{topology.Node{Name: "ispa", Group: "outside"}, Place{"outside", Outside, "", "isp", "ispa"}},
		{topology.Node{Name: "probe", Group: "outside"}, Place{"outside", Outside, "", "probe", "probe"}},
		{topology.Node{Name: "client"}, Place{"", Outside, "", "client", "client"}},
		{topology.Node{Name: "r1"}, Place{"", Network, "", "r", "r1"}},
		{
			topology.Node{Name: "x", Group: "s", Labels: map[string]string{labelLayer: "back", labelPod: "7", labelRole: "store"}},
			Place{"s", Back, "7", "store", "x"},
		},
		{topology.Node{Name: "x", Labels: map[string]string{labelLayer: "basement"}}, Place{"", Network, "", "x", "x"}},
	} {
		if got := PlaceOf(tc.node); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.node.Name, got, tc.want)
		}
	}
}
