package sign

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// TestSuccessor checks that nothing can stand between a name and its successor, and that it comes behind, by comparing with
// random names in canonical order.
func TestSuccessor(t *testing.T) {
	t.Parallel()
	ff := strings.Repeat(`\255`, 63)
	for name, want := range map[string]string{
		"www.example.net.":                   `\000.www.example.net.`,
		"WWW.Example.net.":                   `\000.www.example.net.`,
		"example.net.":                       `\000.example.net.`,
		longName:                             strings.Repeat("x", 62) + "y" + longName[63:],
		ff + longName[63:]:                   strings.Repeat("y", 62) + "z" + longName[127:],
		"x" + longName[63:]:                  `\000.x` + longName[63:],
		longName[2:]:                         `\000.` + longName[2:],
		longName[1:]:                         longName[1:63] + `\000` + longName[63:],
		longName[:62] + `\@` + longName[63:]: longName[:62] + "[" + longName[63:],
	} {
		got := successor(name, "example.net.")
		if dns.CanonicalName(got) != got || respell(t, got) != respell(t, want) {
			t.Errorf("successor(%s) =\n%s, want\n%s", name, got, want)
		}
	}
	// the last of all, whose successor would be outside
	origin := strings.Repeat("w", 61) + "."
	last := ff + "." + ff + "." + ff + "." + origin
	if got := successor(last, origin); got != origin {
		t.Errorf("behind the last name comes %s", got)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		name, other := randomName(rnd), randomName(rnd)
		got := successor(name, "net.")
		if c := compareNames(t, name, got); c >= 0 {
			t.Fatalf("%s does not come before %s", name, got)
		}
		if compareNames(t, other, name) > 0 && compareNames(t, other, got) < 0 {
			t.Fatalf("%s is between %s and %s", other, name, got)
		}
	}
}

func respell(t *testing.T, name string) string {
	t.Helper()
	wire := make([]byte, 256)
	end, err := dns.PackDomainName(name, wire, 0, nil, false)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	name, _, err = dns.UnpackDomainName(wire[:end], 0)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// randomName is long, and made of few different octets, so that many are close to each other.
func randomName(rnd *rand.Rand) string {
	octets := []string{"a", "B", `\000`, `\255`, `\@`, `\[`, "z"}
	var b strings.Builder
	length := 245 + rnd.IntN(5)
	if rnd.IntN(4) == 0 {
		length = 1 + rnd.IntN(8)
	}
	octet := octets[rnd.IntN(len(octets))]
	for n, label := 0, 0; n < length; n++ {
		if rnd.IntN(100) == 0 {
			octet = octets[rnd.IntN(len(octets))]
		}
		if label == 63 || label > 0 && rnd.IntN(80) == 0 && n < length-1 {
			b.WriteByte('.')
			label = 0
			continue
		}
		b.WriteString(octet)
		label++
	}
	return strings.Trim(b.String(), ".") + ".net."
}

// compareNames compares in canonical order (RFC 4034 section 6.1), by another way than next does.
func compareNames(t *testing.T, a, b string) int {
	t.Helper()
	split := func(name string) (labels []string) {
		wire := make([]byte, 256)
		if _, err := dns.PackDomainName(name, wire, 0, nil, false); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i := 0; wire[i] != 0; i += 1 + int(wire[i]) {
			label := wire[i+1 : i+1+int(wire[i])]
			for j := range label {
				label[j] = lower(label[j])
			}
			labels = append([]string{string(label)}, labels...)
		}
		return labels
	}
	la, lb := split(a), split(b)
	for i := 0; i < min(len(la), len(lb)); i++ {
		if c := strings.Compare(la[i], lb[i]); c != 0 {
			return c
		}
	}
	return len(la) - len(lb)
}
