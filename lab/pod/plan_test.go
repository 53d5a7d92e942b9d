package pod

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const good = `lab:
  name: my-lab
  sites: [east, west, north]
  pods: 2
`

func TestParse(t *testing.T) {
	got, err := Parse("pod.yml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultPlan()
	want.Name, want.Sites, want.Pods = "my-lab", []string{"east", "west", "north"}, 2
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	again, err := Parse("pod.yml", []byte(want.File()))
	if diff := cmp.Diff(want, again); err != nil || diff != "" {
		t.Errorf("what File writes: %v (-want +got):\n%s", err, diff)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ name, old, new, complaint string }{
		{"no section", "lab:", "lap:", "pod.yml:1: no section lab; write lab: {name: my-lab}"},
		{"no name", "  name: my-lab\n", "", `lab.name: "" is no name of a lab; use up to 32`},
		{"name", "my-lab", "My/Lab", `pod.yml:2: lab.name: "My/Lab" is no name`},
		{"unknown key", "pods: 2", "pod: 2", `lab.pod: unknown key; did you mean "pods"?`},
		{"no pod", "pods: 2", "pods: 0", "pod.yml:4: lab.pods: 0 is out of range; use 1 to 3"},
		{"too many pods", "pods: 2", "pods: 4", "lab.pods: 4 is out of range"},
		{"no site", "[east, west, north]", "[]", "lab.sites: 0 sites; name 1 to 3"},
		{"too many sites", "north]", "north, south]", "lab.sites: 4 sites; name 1 to 3"},
		{"site twice", "west", "east", `lab.sites[1]: "east" is there twice`},
		{"site's name", "west", "West", `lab.sites[1]: "West" is no name of a site`},
		{"site called like a node", "west", "witness", `"witness" is the name of something else`},
		{"domain", "pods: 2", "domain: org", `lab.domain: "org" is no domain`},
		{"front ends", "pods: 2", "front_ends: 9", "lab.front_ends: 9 is out of range; use 1 to 3"},
		{"stores", "pods: 2", "stores: 0", "lab.stores: 0 is out of range"},
		{"users", "pods: 2", "users: 1000", "lab.users: 1000 is out of range; use 1 to 500"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(good, c.old, c.new, 1)
			if text == good {
				t.Fatalf("the good plan has no %q", c.old)
			}
			if _, err := Parse("pod.yml", []byte(text)); err == nil || !strings.Contains(err.Error(), c.complaint) {
				t.Errorf("got %v, want %q", err, c.complaint)
			}
		})
	}
}

// What Parse takes can be rendered.
func FuzzParse(f *testing.F) {
	f.Add(good)
	f.Add("lab: {name: a, domain: b.cd, sites: [x], pods: 3, front_ends: 3, stores: 3, users: 1, seed: s}")
	f.Add("lab: {name: a, sites: [x, y], pods: 2, users: 0}")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse("pod.yml", []byte(text))
		if err != nil {
			return
		}
		p.Users = min(p.Users, 3) // each costs some milliseconds
		if _, err := Render(p); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	})
}
