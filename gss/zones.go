package gss

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/zone"
	"anycastle/internal/config"
)

// Timers of the SOA record of a zone whose records stand in the node file: those of RFC 1912 section 2.2.
const (
	soaRefresh = 3600
	soaRetry   = 600
	soaExpire  = 14 * 86400
)

// headLines is how many lines stand before the records when they are read.
const headLines = 2

// inlineName is what records of the node file are called as a zone file, to tell them from those that they include.
const inlineName = "records"

// compile is Validate, and gives the zones with the names that rules answer for. They are fit for use only when there was no
// complaint.
func (c *Config) compile(at config.Cursor) *zone.Set {
	c.checkServer(at)
	if c.Name != "" && !objectName.MatchString(c.Name) {
		at.Key("name").Errorf("%q is no name; use up to 63 letters, digits, dots, dashes and underscores, a letter or digit first", c.Name)
	}
	if c.Mesh != nil {
		c.Mesh.Validate(at.Key("mesh"))
		if c.Mesh.Name != "" && c.Name != "" && c.Mesh.Name != c.Name {
			at.Key("mesh").Key("name").Errorf("%q is not gss.name, which is %q; give one of them", c.Mesh.Name, c.Name)
		}
	}
	if c.StateDir == "" {
		at.Key("state_dir").Errorf("missing; give a directory such as /var/lib/anycastle/gss")
	}
	c.checkAnswers(at.Key("answers"))
	c.checkGroups(at.Key("answer_groups"))
	c.checkSources(at.Key("sources"))
	c.checkRules(at.Key("rules"))
	c.checkLoad(at.Key("load"))
	c.checkBalancers(at.Key("balancers"))
	c.checkKeys(at.Key("tsig_keys"))
	if len(c.Zones) == 0 {
		at.Key("zones").Errorf("none; give at least one, with a name and a file or records")
		return nil
	}
	var zones []*zone.Zone
	for i := range c.Zones {
		at := at.Key("zones").Index(i)
		if d := c.Zones[i].DNSSEC; d != nil {
			d.validate(at.Key("dnssec"))
		}
		c.checkTransfer(&c.Zones[i], at)
		var z *zone.Zone
		calmly(func() { z = c.Zones[i].read(at) })
		if z == nil {
			return nil // names of rules that lie in it would only be complained of
		}
		if slices.ContainsFunc(zones, func(o *zone.Zone) bool { return o.Origin() == z.Origin() }) {
			at.Key("name").Errorf("%s is listed twice; keep one", bare(z.Origin()))
			return nil
		}
		zones = append(zones, z)
	}
	return c.addRules(zone.NewSet(zones...), at)
}

// read makes the zone, or complains and gives nil.
func (z *Zone) read(at config.Cursor) *zone.Zone {
	origin, err := canonical(z.Name) // no host: a reverse zone of less than a /24 has a slash (RFC 2317)
	if err != nil {
		at.Key("name").Errorf("%v", err)
		return nil
	}
	own := []string{"records", "primary", "contact", "serial", "ttl"}
	if len(z.Primaries) > 0 {
		refuseBeside(at, "primaries", append(own, "file"))
		made, err := awaited(origin)
		complain(at.Key("name"), err)
		return made
	}
	if z.File != "" {
		refuseBeside(at, "file", own)
		made, err := zone.Load(origin, z.File)
		complain(at.Key("file"), err)
		return made
	}
	text, ok := z.text(origin, at)
	if !ok {
		return nil
	}
	made, err := zone.Parse(origin, inlineName, strings.NewReader(text))
	complain(at.Key("records"), err)
	return made
}

func refuseBeside(at config.Cursor, source string, keys []string) {
	for _, key := range keys {
		if at.Has(key) {
			at.Key(key).Errorf("is not taken beside %s, which has it; keep one of them", source)
		}
	}
}

// text is the zone file of a zone whose records stand in the node file.
func (z *Zone) text(origin string, at config.Cursor) (string, bool) {
	ok := true
	bad := func(key string, err error) {
		if err != nil {
			at.Key(key).Errorf("%v", err)
			ok = false
		}
	}
	if z.TTL < time.Second || z.TTL > maxTTL || z.TTL%time.Second != 0 {
		bad("ttl", fmt.Errorf("%v is not from 1s to %v in whole seconds; 5s suits most", z.TTL, maxTTL))
	}
	primary, err := hostname(z.Primary)
	bad("primary", err)
	if strings.Contains(z.Contact, "@") {
		bad("contact", fmt.Errorf("%q has an @; a contact is written as a name, such as %s", z.Contact, strings.Replace(z.Contact, "@", ".", 1)))
	}
	contact, err := canonical(z.Contact)
	bad("contact", err)
	ttl := z.TTL / time.Second
	return fmt.Sprintf("$TTL %d\n%s SOA %s %s %d %d %d %d %d\n%s", ttl, origin, primary, contact, z.Serial,
		soaRefresh, soaRetry, soaExpire, ttl, z.Records), ok
}

// complain reports what is wrong with a zone, at the line of the node file where that is.
func complain(at config.Cursor, err error) {
	var list zone.Errors
	if !errors.As(err, &list) {
		if err != nil {
			at.Errorf("%v", err)
		}
		return
	}
	for _, one := range list {
		switch {
		case one.File != inlineName:
			at.Errorf("%v", one)
		case one.Line > headLines:
			at.Line(one.Line-headLines).Errorf("%s", one.What)
		default:
			at.Errorf("%s", one.What)
		}
	}
}

// addRules puts the names that rules answer for into the zones, or complains and gives nil.
func (c *Config) addRules(set *zone.Set, at config.Cursor) *zone.Set {
	dynamic, ok := map[*zone.Zone]map[string][]uint16{}, true
	open := map[string]string{} // by name and type: the rule that takes all clients
	for i := range c.Rules {
		r := &c.Rules[i]
		for j, d := range r.Domains {
			at := at.Key("rules").Index(i).Key("domains").Index(j)
			name, err := domain(d)
			var z *zone.Zone
			if err == nil {
				if z = set.Find(name, dns.TypeA); z == nil {
					err = fmt.Errorf("%s is in none of the zones", bare(name))
				} else {
					_, err = z.WithDynamic(map[string][]uint16{name: r.types()})
				}
			}
			if err != nil {
				at.Errorf("%v", err)
				ok = false
				continue
			}
			if first, types := shadowed(open, name, r); first != "" {
				at.Errorf("the rule %s takes all clients who ask for %s %s, so this one never counts; move this rule before %[1]s, or give %[1]s sources",
					first, bare(name), strings.Join(types, " and "))
				ok = false
			}
			if dynamic[z] == nil {
				dynamic[z] = map[string][]uint16{}
			}
			dynamic[z][name] = append(dynamic[z][name], r.types()...)
		}
	}
	if !ok {
		return nil
	}
	zones := slices.Clone(set.Zones())
	for i, z := range zones {
		if c.Zones[i].DNSSEC != nil {
			if dynamic[z] == nil {
				dynamic[z] = map[string][]uint16{}
			}
			dynamic[z][z.Origin()] = append(dynamic[z][z.Origin()], apexTypes...)
		}
		made, err := z.WithDynamic(dynamic[z])
		if err != nil {
			at.Key("rules").Errorf("%v", err)
			return nil
		}
		at := at.Key("zones").Index(i)
		if c.Zones[i].File != "" {
			complain(at.Key("file"), made.Dangling())
		} else {
			complain(at.Key("records"), made.Dangling())
		}
		zones[i] = made
	}
	return zone.NewSet(zones...)
}

// shadowed gives the first rule that takes all clients from a later one who ask for a name, and of which types; none: "". If the
// rule takes all clients itself, that is noted in open, by name and type.
func shadowed(open map[string]string, name string, r *Rule) (first string, types []string) {
	for _, t := range r.types() {
		key := name + " " + dns.Type(t).String()
		if by := open[key]; by != "" && (first == "" || by == first) {
			first, types = by, append(types, dns.Type(t).String())
		}
		if len(r.Sources) == 0 {
			open[key] = r.Name
		}
	}
	return first, types
}
