package inject

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"anycastle/rhi/decide"
)

// AnnouncementStatus is one row of `show announcement`: where a VIP stands and why.
type AnnouncementStatus struct {
	VIP       netip.Prefix      `json:"vip"`
	Place     decide.Place      `json:"place"`
	Since     time.Time         `json:"since"`
	Why       string            `json:"why"`
	Groups    map[string]string `json:"groups"` // what each group of peers is sent
	Peers     int               `json:"peers"`  // established ones at which it stands announced
	Alarms    []string          `json:"alarms"`
	Flaps     int               `json:"flaps"`
	Penalty   int               `json:"penalty"`    // RFC 2439, as an upstream may keep it
	FlowsLeft *int              `json:"flows_left"` // null: no agent says
	Elsewhere []Elsewhere       `json:"elsewhere"`  // the other balancers that have it
}

// Elsewhere is where a VIP stands at another balancer.
type Elsewhere struct {
	Name      string       `json:"name"`
	Site      string       `json:"site"`
	Role      decide.Role  `json:"role"`
	Place     decide.Place `json:"place"`
	Announced bool         `json:"announced"`
	Healthy   bool         `json:"healthy"`
	Heard     time.Time    `json:"heard"`
}

// SiteStatus is one row of `show site`: a balancer that announces VIPs, this one among them.
type SiteStatus struct {
	Name  string      `json:"name"`
	Site  string      `json:"site"`
	Role  decide.Role `json:"role"`
	Heard time.Time   `json:"heard"`
	Fresh bool        `json:"fresh"` // heard so lately that it counts
	VIPs  int         `json:"vips"`  // that it announces
	Self  bool        `json:"self"`
}

// Announcements gives where each VIP stands.
func (i *Injector) Announcements() []AnnouncementStatus {
	i.mu.Lock()
	defer i.mu.Unlock()
	standing := i.speaker.Standing()
	list := []AnnouncementStatus{}
	for _, prefix := range sortedPrefixes(i.last.VIPs) {
		d, rec := i.last.VIPs[prefix], i.state[prefix]
		s := AnnouncementStatus{VIP: prefix, Place: d.Place, Since: rec.Since, Why: d.Why, Groups: i.words(d.Rungs), Peers: standing[prefix],
			Alarms: append([]string{}, d.Alarms...), Flaps: rec.Flaps, Penalty: int(rec.Penalty), Elsewhere: i.others.elsewhere(prefix)}
		if f := i.services[prefix].Flows; f.Known {
			s.FlowsLeft = &f.Left
		}
		list = append(list, s)
	}
	return list
}

// words says what each group is sent at its rung.
func (i *Injector) words(rungs map[string]decide.Rung) map[string]string {
	words := map[string]string{}
	for group, rung := range rungs {
		ladder := i.cfg.Ladder(group)
		if rung == decide.Withdrawn || int(rung) >= len(ladder) {
			words[group] = "withdrawn"
		} else {
			words[group] = ladder[rung].String()
		}
	}
	return words
}

// Standing says whether a VIP is announced, and why or why not.
func (i *Injector) Standing(prefix netip.Prefix) (announced bool, why string) {
	if why := i.speaker.Refuse(prefix); why != "" {
		return false, why
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	d, ok := i.last.VIPs[prefix]
	if !ok {
		return false, ""
	}
	why = d.Why
	if d.Place != decide.PlaceFull && d.Place != decide.PlaceWithdrawn {
		why = fmt.Sprintf("%s: %s", d.Place, d.Why)
	}
	return d.Place != decide.PlaceWithdrawn, why
}

// Sites gives all balancers that were heard, and this one.
func (i *Injector) Sites() []SiteStatus {
	i.mu.Lock()
	self := SiteStatus{Name: i.name, Site: i.site, Role: i.cfg.Role, Heard: time.Now().UTC(), Fresh: true, Self: true}
	for _, d := range i.last.VIPs {
		if d.Place != decide.PlaceWithdrawn {
			self.VIPs++
		}
	}
	fresh := i.cfg.Decide().Fresh
	i.mu.Unlock()
	list := append(i.others.sites(fresh, time.Now()), self)
	slices.SortFunc(list, func(a, b SiteStatus) int { return strings.Compare(a.Site+"/"+a.Name, b.Site+"/"+b.Name) })
	return list
}

func (i *Injector) siteNames() []string {
	names := map[string]bool{i.site: true}
	for _, s := range i.Sites() {
		names[s.Site] = true
	}
	return slices.Sorted(maps.Keys(names))
}

func (i *Injector) knowsSite(name string) bool { return slices.Contains(i.siteNames(), name) }

func (i *Injector) knowsVIP(prefix netip.Prefix) bool {
	i.mu.Lock()
	_, own := i.services[prefix]
	i.mu.Unlock()
	return own || len(i.others.elsewhere(prefix)) > 0
}

func (o *others) elsewhere(prefix netip.Prefix) []Elsewhere {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := []Elsewhere{}
	for _, name := range slices.Sorted(maps.Keys(o.byName)) {
		is := o.byName[name]
		if h, ok := is.reports[prefix]; ok {
			r := h.report
			list = append(list, Elsewhere{Name: name, Site: is.site, Role: r.Role, Place: r.Place, Announced: r.Announced, Healthy: r.Healthy, Heard: h.at})
		}
	}
	return list
}

func (o *others) sites(fresh time.Duration, now time.Time) []SiteStatus {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []SiteStatus
	for name, is := range o.byName {
		s := SiteStatus{Name: name, Site: is.site, Heard: is.at, Fresh: now.Sub(is.at) < fresh}
		for _, h := range is.reports {
			s.Role = h.report.Role
			if h.report.Announced {
				s.VIPs++
			}
		}
		list = append(list, s)
	}
	return list
}
