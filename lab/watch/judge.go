package watch

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"anycastle/lab/graph"
)

// compareAddress orders addresses as numbers; what is none comes as text.
func compareAddress(a, b string) int {
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	if errX != nil || errY != nil {
		return cmp.Compare(a, b)
	}
	return x.Compare(y)
}

func (b *builder) names() {
	at := map[string]int{} // place in state.Names by rule and domain
	for _, n := range b.topo.Nodes {
		for _, r := range b.found[n.Name].rules {
			var given []string
			for _, a := range r.Answers {
				text := a.Answer
				if a.Of1000 != 1000 {
					text = fmt.Sprintf("%s %d%%", a.Answer, (a.Of1000+5)/10)
				}
				given = append(given, text)
			}
			for _, domain := range r.Domains {
				rule := strings.Join(strings.Fields(strings.Join([]string{r.Name, r.Type, r.Near, strings.Join(r.Sources, " ")}, " ")), " ")
				i, ok := at[rule+" "+domain]
				if !ok {
					i = len(b.state.Names)
					at[rule+" "+domain] = i
					b.state.Names = append(b.state.Names, Name{Name: domain, Rule: rule, TTL: r.TTL, Answers: []NameAt{}})
				}
				b.state.Names[i].Answers = append(b.state.Names[i].Answers, NameAt{
					Selector: n.Name, Answer: strings.Join(given, ", "), Basis: r.Basis, Why: r.Why,
				})
			}
		}
	}
}

func (b *builder) answers() {
	rank := map[string]int{"out": 6, "suspended": 5, "draining": 4, "waiting": 3, "hot": 2, "unknown": 1, "": 1}
	at := map[string]int{}
	views := map[string][][2]string{}
	for _, n := range b.topo.Nodes {
		for _, a := range b.found[n.Name].answers {
			place := cmp.Or(a.Place, "unknown")
			views[a.Name] = append(views[a.Name], [2]string{n.Name, place})
			is := Answer{Name: a.Name, Site: a.Site, Address: strings.Join(a.Addresses, " "), Place: place, Why: a.Why}
			i, ok := at[a.Name]
			if !ok {
				at[a.Name] = len(b.state.Answers)
				b.state.Answers = append(b.state.Answers, is)
			} else if rank[place] > rank[b.state.Answers[i].Place] {
				b.state.Answers[i] = is
			}
		}
	}
	for i := range b.state.Answers {
		a := &b.state.Answers[i]
		a.Health = Poor
		switch a.Place {
		case "serving":
			a.Health = Well
		case "out":
			a.Health = Bad
		}
		for _, v := range views[a.Name] {
			if v[1] != a.Place {
				a.Differs = append(a.Differs, v[0]+": "+v[1])
			}
		}
	}
}

// lostAfter is how long a replica that is not heard of counts as following.
const lostAfter = 5 * time.Second

// luns takes of each LUN the word of the replica that serves it, else of the one with the highest term.
func (b *builder) luns() {
	best := map[string]storeLUN{}
	holder := map[string]string{}
	var order []string
	for _, n := range b.topo.Nodes {
		for _, l := range b.found[n.Name].luns {
			have, ok := best[l.Name]
			if !ok {
				order = append(order, l.Name)
			}
			if !ok || knowsMore(l, have) {
				best[l.Name], holder[l.Name] = l, n.Name
			}
		}
	}
	slices.Sort(order)
	for _, name := range order {
		b.state.LUNs = append(b.state.LUNs, lunOf(best[name], holder[name]))
	}
}

func knowsMore(a, b storeLUN) bool {
	switch {
	case a.Replica == nil || b.Replica == nil:
		return a.Replica != nil
	case a.Replica.Serving != b.Replica.Serving:
		return a.Replica.Serving
	}
	return a.Replica.Term > b.Replica.Term
}

func lunOf(l storeLUN, holder string) LUN {
	is := LUN{Name: l.Name, Health: Well, Mail: l.Messages, Boxes: l.Mailboxes, Replicas: []Replica{}, Why: l.Stopped}
	if l.Stopped != "" {
		is.Health = Bad
	}
	r := l.Replica
	if r == nil {
		is.Active = holder
		return is
	}
	is.TwoSite, is.Exposed = r.TwoSite.State, r.TwoSite.Operations
	if r.Serving {
		is.Active, is.Since = cmp.Or(r.Active, r.Self), r.ActiveSince
	} else {
		is.Health, is.Why = Bad, cmp.Or(is.Why, "no replica serves it")
	}
	if r.Refuses != "" {
		is.Health, is.Why = Bad, r.Refuses
	}
	var newest time.Time // the clock of the replica that was asked, or nearly: ours may have been set
	for _, m := range r.Members {
		if m.Heard.After(newest) {
			newest = m.Heard
		}
	}
	for _, m := range r.Members {
		p := Replica{Name: m.Name, Site: m.Site, Health: Well, State: "follows", Lag: m.Lag, Missing: m.Missing, Why: m.Why}
		switch {
		case m.Active && r.Serving:
			p.State = "active"
		case !m.Self && (m.Heard.IsZero() || newest.Sub(m.Heard) > lostAfter):
			p.State, p.Health = "lost", Bad
		case m.Witness:
			p.State = "witness"
		case !m.Fit:
			p.State, p.Health = "unfit", Poor
		}
		if p.Health == Well && !m.Voter {
			p.Health = Poor
		}
		is.Health = worse(is.Health, map[Health]Health{Bad: Poor, Poor: Poor, Well: Well}[p.Health])
		is.Replicas = append(is.Replicas, p)
	}
	if is.TwoSite == "exposed" || is.Exposed > 0 {
		is.Health = worse(is.Health, Poor)
	}
	return is
}

// sites sums up; it comes last.
func (b *builder) sites() {
	for _, n := range b.topo.Nodes {
		name := b.places[n.Name].Site
		if !slices.ContainsFunc(b.state.Sites, func(s Site) bool { return s.Name == name }) {
			b.state.Sites = append(b.state.Sites, b.site(name))
		}
	}
	slices.SortStableFunc(b.state.Sites, func(x, y Site) int { // what is outside comes first, as in the picture
		out := string(graph.Outside)
		return cmp.Or(boolRank(x.Name != out)-boolRank(y.Name != out), cmp.Compare(x.Name, y.Name))
	})
}

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (b *builder) site(name string) Site {
	s := Site{Name: name, Health: Well}
	var why []string
	for _, n := range b.state.Nodes {
		if n.Site != name {
			continue
		}
		s.Nodes++
		if n.Health == Well {
			s.Well++
		} else {
			why = append(why, strings.TrimPrefix(n.Name, name+"-")+" "+cmp.Or(map[string]string{"up": "part cut"}[n.State], n.State))
		}
	}
	for _, v := range b.state.VIPs {
		if slices.ContainsFunc(v.Balancers, func(at VIPAt) bool { return at.Site == name }) {
			s.VIPs++
		}
		if slices.Contains(v.Sites, name) {
			s.Announced++
		}
	}
	for _, a := range b.state.Answers {
		if a.Site == name {
			s.Answers++
			if a.Place == "serving" || a.Place == "hot" {
				s.Serving++
			}
		}
	}
	switch {
	case s.Well == 0, s.VIPs > 0 && s.Announced == 0, s.Answers > 0 && s.Serving == 0:
		s.Health = Bad
	case s.Well < s.Nodes, s.Announced < s.VIPs, s.Serving < s.Answers:
		s.Health = Poor
	}
	s.Why = strings.Join(why, ", ")
	return s
}
