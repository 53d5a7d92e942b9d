package gss

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"anycastle/gss/zone"
	"anycastle/internal/config"
)

// fromAddresses is what the records of a rule say where an answer's addresses are meant: they are the data of A and AAAA.
const fromAddresses = "{address}"

// placeholders are what the data of other types may have an answer's own in the place of.
var placeholders = []string{"{target}", "{order}", "{weight}", "{ipv4hint}", "{ipv6hint}"}

// pathVariable is what the dohpath of SVCB has braces for (RFC 9461 section 5).
const pathVariable = "{?dns}"

// unknownPlaceholder finds braces in a template that nothing takes the place of, with what is between them; empty: there are none.
func unknownPlaceholder(text string) string {
	for _, p := range append([]string{pathVariable}, placeholders...) {
		text = strings.ReplaceAll(text, p, " ")
	}
	i := strings.IndexAny(text, "{}")
	if i < 0 {
		return ""
	}
	if n := strings.IndexByte(text[i:], '}'); n > 0 {
		return text[i : i+n+1]
	}
	return text[i : i+1]
}

// notForRules are types that no rule makes: they are of the zone, or of signing it.
var notForRules = []uint16{
	dns.TypeSOA, dns.TypeNS, dns.TypeCNAME, dns.TypeDNAME, dns.TypeDS, dns.TypeDNSKEY, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3,
	dns.TypeNSEC3PARAM, dns.TypeCDS, dns.TypeCDNSKEY, dns.TypeOPT, dns.TypeTSIG, dns.TypeTKEY, dns.TypeANY, dns.TypeAXFR, dns.TypeIXFR,
}

// checkTemplates reports record data that cannot be made of the rule's answers.
func (c *Config) checkTemplates(r *Rule, at config.Cursor) {
	for _, name := range slices.Sorted(maps.Keys(r.Records)) {
		at, text := at.Key(name), r.Records[name]
		t, known := dns.StringToType[name]
		switch {
		case !known:
			at.Errorf("no record type is called %q; write it in capitals, such as MX", name)
			continue
		case slices.Contains(notForRules, t):
			at.Errorf("%s records are not a rule's to make; put them in the zone", name)
			continue
		case (t == dns.TypeA || t == dns.TypeAAAA) != (text == fromAddresses):
			at.Errorf("the data of A and AAAA is %s, and that of other types is not", fromAddresses)
			continue
		}
		if bad := unknownPlaceholder(text); bad != "" && text != fromAddresses {
			at.Errorf("no placeholder %s%s", bad, suggest(bad, placeholders))
			continue
		}
		for _, a := range c.answersOf(r) {
			if strings.Contains(text, "{target}") && a.Target == "" {
				at.Errorf("%s has no target; give it one, such as mx-%s.example.org", a.Name, a.site())
				continue
			}
			if _, err := a.records(t, text, "example.org.", 1, 0); err != nil {
				at.Errorf("%v", err)
				break
			}
		}
	}
}

// records makes the records of one type for an answer. order is its place among those that are given, from 0.
func (a *Answer) records(rrtype uint16, text, owner string, ttl uint32, order int) ([]dns.RR, error) {
	h := dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
	var rrs []dns.RR
	switch rrtype {
	case dns.TypeA:
		for _, addr := range a.Addresses {
			if addr.Is4() {
				rrs = append(rrs, &dns.A{Hdr: h, A: addr.AsSlice()})
			}
		}
		return rrs, nil
	case dns.TypeAAAA:
		for _, addr := range a.Addresses {
			if addr.Is6() {
				rrs = append(rrs, &dns.AAAA{Hdr: h, AAAA: addr.AsSlice()})
			}
		}
		return rrs, nil
	}
	data := strings.NewReplacer(
		"{target}", dns.Fqdn(a.Target), "{order}", strconv.Itoa(10*(order+1)), "{weight}", strconv.Itoa(a.Weight),
		"{ipv4hint}", a.hints(netip.Addr.Is4, "ipv4hint="), "{ipv6hint}", a.hints(netip.Addr.Is6, "ipv6hint="),
	).Replace(text)
	rr, err := dns.NewRR(fmt.Sprintf("%s %d IN %s %s", owner, ttl, dns.TypeToString[rrtype], data))
	if err != nil {
		what, _ := zone.Complaint(err)
		return nil, fmt.Errorf("%s (in %q)", what, data)
	}
	if rr == nil {
		return nil, fmt.Errorf("no data of a record of type %s: it is empty", dns.TypeToString[rrtype])
	}
	return []dns.RR{rr}, nil
}

// hints are an answer's addresses of one family, as HTTPS and SVCB records have them (RFC 9460 section 7.3); empty if there is none.
func (a *Answer) hints(family func(netip.Addr) bool, key string) string {
	var list []string
	for _, addr := range a.Addresses {
		if family(addr) {
			list = append(list, addr.String())
		}
	}
	if len(list) == 0 {
		return ""
	}
	return key + strings.Join(list, ",")
}
