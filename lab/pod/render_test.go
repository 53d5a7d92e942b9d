package pod

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func render(t *testing.T, p Plan) map[string]string {
	t.Helper()
	files, err := Render(p)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// largest is the plan of which everything is most.
func largest() Plan {
	return Plan{Name: "largest", Domain: "example.org", Sites: SiteNames(MostSites), Pods: MostPods, FrontEnds: mostEnds, Stores: mostEnds, Users: 5, Seed: "s"}
}

func TestSecretsFollowFromTheSeed(t *testing.T) {
	p := DefaultPlan()
	p.Name, p.Seed = "a", "one"
	first := render(t, p)
	if diff := cmp.Diff(first, render(t, p)); diff != "" {
		t.Errorf("two renderings of one plan differ:\n%s", diff)
	}
	key := regexp.MustCompile(`key: "([0-9a-f]{32})"`)
	seen := map[string]string{}
	for seed, rounds := range map[string]int{"one": 1, "two": 1, "": 2} {
		for range rounds {
			p.Seed = seed
			k := key.FindString(render(t, p)["nodes/east-gss.yml"])
			if other, ok := seen[k]; ok || k == "" {
				t.Errorf("the key of seed %q is that of seed %q: %q", seed, other, k)
			}
			seen[k] = seed
		}
	}
}

// Nobody has an address twice, whatever is numbered.
func TestAddressesAreUnique(t *testing.T) {
	l := newLab(largest())
	seen := map[netip.Addr]string{}
	take := func(a netip.Addr, who string) {
		t.Helper()
		if other, ok := seen[a]; ok {
			t.Errorf("%v is %s's and %s's", a, other, who)
		}
		seen[a] = who
	}
	for _, h := range l.hosts {
		take(h.addr(), h.name)
		if !siteBlock(h.site).Contains(h.addr()) {
			t.Errorf("%s has %v, outside of its site's block", h.name, h.addr())
		}
		if h.role == core {
			for _, w := range l.coreWires(h) {
				take(w.addr, h.name+" "+w.name)
			}
			continue
		}
		for c := 1; c <= 2; c++ {
			own, _ := h.link(c)
			take(own, h.name+" to core")
		}
	}
	for which := range isps {
		take(ispAddr(which), isps[which])
		for i, s := range l.strangers() {
			own, far := ispLink(i, which)
			take(own, s.name)
			take(far, isps[which])
		}
		for site := range l.Sites {
			_, far := siteLink(site+1, which)
			take(far, isps[which])
		}
	}
	for _, s := range l.strangers() {
		take(s.addr, s.name)
	}
	for _, a := range nameServers {
		take(a, "name server")
	}
	for pod := 1; pod <= l.Pods; pod++ {
		for _, n := range l.luns(pod) {
			take(n.addr, n.name)
		}
		for _, k := range kinds {
			take(k.sharedVIP(pod), k.vip)
			for site := range l.Sites {
				take(k.ownVIP(pod, site+1), k.vip+" of "+l.Sites[site])
			}
		}
	}
}

// A node file names only what its plan has.
func TestOneSiteHasNoOther(t *testing.T) {
	p := DefaultPlan()
	p.Name, p.Sites = "alone", []string{"east"}
	for name, text := range render(t, p) {
		for _, word := range []string{"west", "witness", "replicas", "standby", "two_site"} {
			if strings.Contains(text, word) {
				t.Errorf("%s has the word %s", name, word)
			}
		}
	}
}

func TestReadmeNamesWhatThereIs(t *testing.T) {
	text := Readme(largest())
	for _, want := range []string{"Three sites behind two ISPs, three pods", "203.0.113.145", "203.0.113.233", "smtp.mail.pod3.example.org", "lun-pod3-north3"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in it", want)
		}
	}
}

func TestRenderRefusesABadPlan(t *testing.T) {
	if _, err := Render(Plan{}); err == nil || !strings.Contains(err.Error(), "name") {
		t.Errorf("an empty plan: %v", err)
	}
}

func TestWriteOverwritesNothing(t *testing.T) {
	dir, files := t.TempDir(), map[string]string{"nodes/a.yml": "one"}
	if err := Write(dir, files); err != nil {
		t.Fatal(err)
	}
	if err := Write(dir, files); err == nil || !strings.Contains(err.Error(), "file exists") {
		t.Errorf("a second time: %v", err)
	}
}
