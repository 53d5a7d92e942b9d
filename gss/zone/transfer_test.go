package zone

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

func TestAll(t *testing.T) {
	t.Parallel()
	z, err := Build("rich.example.", recordsOfFile(t, richZone))
	if err != nil {
		t.Fatal(err)
	}
	all := slices.Collect(z.All(nil))
	if all[0].Header().Rrtype != dns.TypeSOA || len(all) != z.Len() {
		t.Errorf("%d records of %d begin with %v", len(all), z.Len(), all[0])
	}
	count := map[string]int{}
	for rr := range recordsOfFile(t, richZone) {
		rr.Header().Name = dns.CanonicalName(rr.Header().Name)
		count[rr.String()]++
	}
	for _, rr := range all {
		count[rr.String()]--
	}
	for rr, n := range count {
		if n != 0 {
			t.Errorf("%d times in the file but not the zone: %s", n, rr)
		}
	}
	for range z.All(nil) {
		break // stops
	}
	if z.Serial() != 2026112901 || z.SOA().Serial != z.Serial() || z.Origin() != "rich.example." {
		t.Errorf("serial %d of %s", z.Serial(), z.Origin())
	}
}

// TestDiff changes random zones and applies the difference.
func TestDiff(t *testing.T) {
	t.Parallel()
	compared := 0
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 9))
		before, _ := randomZone(r.IntN)
		after, _ := randomZone(r.IntN)
		for _, rr := range before { // half of it stays
			if r.IntN(2) == 0 && rr.Header().Rrtype != dns.TypeSOA {
				rr = dns.Copy(rr)
				if r.IntN(8) == 0 {
					rr.Header().Ttl++
				}
				after = append(after, rr)
			}
		}
		old, err1 := Build("z.", slices.Values(before))
		new, err2 := Build("z.", slices.Values(after))
		if err1 != nil || err2 != nil {
			continue
		}
		compared++
		del, add := Diff(old, new)
		have := lines(slices.Collect(old.All(nil)))
		for _, rr := range lines(del) {
			i := slices.Index(have, rr)
			if i < 0 {
				t.Fatalf("%s is deleted and was not there", rr)
			}
			have = slices.Delete(have, i, i+1)
		}
		for _, rr := range lines(add) {
			if slices.Contains(have, rr) {
				t.Fatalf("%s is added and is there", rr)
			}
			have = append(have, rr)
		}
		want := lines(slices.Collect(new.All(nil)))
		slices.Sort(have)
		slices.Sort(want)
		if diff := cmp.Diff(want, have); diff != "" {
			t.Fatalf("seed %d: (-new +applied):\n%s", seed, diff)
		}
	}
	if compared < 200 {
		t.Errorf("only %d pairs of zones", compared)
	}
}

func TestDiffOfSpelling(t *testing.T) {
	t.Parallel()
	old := parseText(t, "example.org", head+"a MX 1 mail\nb MX 1 x\nb MX 2 x\n")
	new := parseText(t, "example.org", strings.Replace(head, " 1 3600", " 2 3600", 1)+"A MX 1 Mail\nb MX 2 x\nb MX 1 x\n")
	del, add := Diff(old, new)
	got := append(lines(del), lines(add)...)
	want := []string{"a.example.org. 300 IN MX 1 mail.example.org.", "a.example.org. 300 IN MX 1 Mail.example.org."}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
