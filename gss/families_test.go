package gss

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"anycastle/gss/decide"
)

// Clients of each family are answered from the answers that have addresses of it, by every balance method and on both paths.
func TestFamiliesAreChosenApart(t *testing.T) {
	const (
		v4, v6 = "203.0.113.210", "2001:db8::110"
		none   = "NOERROR aa"
		stale  = "\noption 3 (Stale Answer): (rule smtp: nothing works; the last known good)"
	)
	for _, m := range decide.Methods() {
		text := strings.Replace(nodeFile, `addresses: [203.0.113.110, "2001:db8::110"]`, `addresses: ["2001:db8::110"]`, 1)
		if m != decide.Nearest {
			text = strings.Replace(text, "balance: nearest", "balance: "+string(m), 1)
			text = strings.Replace(text, "      near: [{sources: branch, sites: [west]}]\n", "", 1)
		}
		d := newDeciding(t, text)
		for _, step := range []struct {
			failing string
			a, aaaa string
			ede     string
		}{
			{"", v4, v6, ""},
			{"smtp-east", v4, none, ""}, // better no address than one that is dead: who has both families takes the other
			{"smtp-west", none, v6, ""},
			{"smtp-east smtp-west", v4, v6, stale},
		} {
			d.see(strings.Fields(step.failing)...)
			for rrtype, want := range map[uint16]string{dns.TypeA: step.a, dns.TypeAAAA: step.aaaa} {
				ttl := map[bool]int{true: 5, false: 2}[step.failing == ""]
				if want != none {
					want = fmt.Sprintf("NOERROR aa\nsmtp.mail.example.org. %d IN %s %s%s", ttl, dns.Type(rrtype), want, step.ede)
				}
				q := withSubnet(question("smtp.mail.example.org.", rrtype), "")
				slow := d.ask("198.51.100.99", q)
				fast := render(t, d.fast(packed(t, q), netip.MustParseAddrPort("198.51.100.99:53")))
				for path, got := range map[string]string{"slow": slow, "fast": fast} {
					if got, _, _ = strings.Cut(got, "\nauthority"); got != want {
						t.Errorf("%s, %q failing, %s %s: the reply is\n%s\nwant\n%s", m, step.failing, path, dns.Type(rrtype), got, want)
					}
				}
			}
		}
	}
}

// What is shown and explained of a rule tells the families apart where they are.
func TestFamiliesAreExplained(t *testing.T) {
	d := newDeciding(t, nodeFile)
	q := Question{"smtp.mail.example.org", "AAAA", netip.MustParseAddr("198.51.100.99")}
	text := explained(t, d, q)
	for _, want := range []string{"rule smtp: clause 1: nearest of group smtp/AAAA\n", "family: only answers with AAAA records count: smtp-east\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("explained as\n%swant %s", text, want)
		}
	}
	d.see("smtp-east")
	text = explained(t, d, q)
	if want := "so there is none of this family: clause 1: nearest of group smtp; smtp-east is out"; !strings.Contains(text, want) {
		t.Errorf("explained as\n%swant %s", text, want)
	}
	var shown []string
	for _, r := range d.Rules() {
		shown = append(shown, strings.Join(strings.Fields(r.Name+" "+r.Type+" "+r.Near), " "))
	}
	if got, want := strings.Join(shown, ", "), "lab, smtp, smtp branch, smtp AAAA, smtp AAAA branch, mx"; got != want {
		t.Errorf("rules are shown as %s, want %s", got, want)
	}
}
