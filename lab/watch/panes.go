package watch

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Pane is one of the pages of the view.
type Pane int

// The panes, in the order of their keys.
const (
	Overview Pane = iota
	Nodes
	VIPs
	Reals
	Routes
	Answers
	LUNs
	Events
	panes // how many there are
)

// String names the pane as its tab does.
func (p Pane) String() string {
	return [...]string{"Overview", "Nodes", "VIPs", "Reals", "Routes", "Answers", "LUNs", "Events"}[p]
}

func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// since says how long something has been so, short.
func since(now, t time.Time) string {
	d := now.Sub(t)
	switch {
	case t.IsZero() || d < 0: // a clock that was set
		return "-"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

func dash(s string) string { return cmp.Or(s, "-") }

func of(n, all int) string {
	if all == 0 {
		return "-"
	}
	return fmt.Sprintf("%d of %d", n, all)
}

func sitesTable(s *State) table {
	t := table{title: "Sites", head: []string{"SITE", "NODES WELL", "VIPS OUT", "ANSWERS", "NOT WELL"}}
	for _, x := range s.Sites {
		t.rows = append(t.rows, newRow(x.Health, dash(x.Name), of(x.Well, x.Nodes), of(x.Announced, x.VIPs),
			of(x.Serving, x.Answers), dash(x.Why)).in(4, x.Health))
	}
	return t
}

func nodesTable(s *State) table {
	t := table{title: "Nodes", head: []string{"NODE", "LAYER", "STATE", "ROLES", "WHY"}}
	for _, n := range s.Nodes {
		var roles []string
		for _, r := range n.Roles {
			text := r.Name
			if r.State != "up" {
				text += " " + r.State
			}
			roles = append(roles, text)
		}
		t.rows = append(t.rows, newRow(n.Health, n.Name, n.Layer, n.State, dash(strings.Join(roles, ", ")), dash(n.Why)).in(2, n.Health))
	}
	return t
}

func linksTable(s *State) table {
	t := table{title: "Links that are not up", head: []string{"LINK", "", "STATE"}}
	for _, l := range s.Links {
		t.rows = append(t.rows, newRow(Bad, l.A, l.B, l.State).in(2, Bad))
	}
	return t
}

// vipsTable is the whole of the VIPs; the short one names only balancers that do something else than the others, and
// leaves the reasons out.
func vipsTable(s *State, short bool) table {
	t := table{title: "VIPs", head: []string{"VIP", "PORTS", "FROM", "BY", "WHY"}}
	for _, v := range s.VIPs {
		var ports, by, odd, why []string
		for _, p := range v.Ports {
			ports = append(ports, strings.TrimSuffix(p.Port, "/tcp"))
		}
		for _, at := range v.Balancers {
			text := at.words()
			by = append(by, text)
			if text != at.Balancer {
				odd = append(odd, text)
			}
			if !slices.Contains(why, at.Why) {
				why = append(why, at.Why)
			}
		}
		if short && len(odd) < len(by) {
			by = append(odd, plural(len(by)-len(odd), "balancer"))
		}
		from := "nowhere"
		if len(v.Sites) > 0 {
			from = strings.Join(v.Sites, ", ")
		}
		t.rows = append(t.rows, newRow(v.Health, v.Address, strings.Join(ports, " "), from, dash(strings.Join(by, ", ")),
			dash(strings.Join(why, "; "))).in(2, v.Health))
	}
	if short {
		t.head = t.head[:4]
		for i := range t.rows {
			t.rows[i].cells = t.rows[i].cells[:4]
		}
	}
	return t
}

// words names a balancer, with what it does unless that is to announce the VIP with all its weight.
func (at VIPAt) words() string {
	switch {
	case !at.Announced:
		return at.Balancer + " not"
	case at.Place != "" && at.Place != "full":
		return at.Balancer + " " + at.Place
	}
	return at.Balancer
}

// realsTable is the whole of the reals; the short one leaves out what they carry.
func realsTable(s *State, short bool) table {
	t := table{title: "Reals", head: []string{"SITE", "FARM", "REAL", "STATE", "FOR", "SHARE", "FLOWS", "WHY"}}
	pods := slices.ContainsFunc(s.Reals, func(r Real) bool { return r.Pod != "" && r.Pod != s.Reals[0].Pod })
	for _, r := range s.Reals {
		site := r.Site
		if pods && r.Pod != "" {
			site += " pod " + r.Pod
		}
		flows := "-"
		if r.Flows != nil {
			flows = strconv.Itoa(*r.Flows)
		}
		why := r.Why
		if len(r.Differs) > 0 {
			why += " (" + strings.Join(r.Differs, ", ") + ")"
		}
		t.rows = append(t.rows, newRow(r.Health, site, r.Farm, r.Name, r.State, since(s.At, r.Since),
			fmt.Sprintf("%.0f%%", 100*r.Share), flows, dash(why)).in(3, r.Health))
	}
	if short {
		t.head = slices.Delete(t.head, 5, 7)
		for i := range t.rows {
			t.rows[i].cells = slices.Delete(t.rows[i].cells, 5, 7)
		}
	}
	return t
}

// routesTable names VIPs by their last numbers where all have the first three in common: they fill the line otherwise.
func routesTable(s *State) table {
	t := table{title: "Routes of the VIPs", head: []string{"ROUTER", "VIA", "VIPS"}}
	short, note := shortAddresses(s)
	t.note = note
	for _, r := range s.Routes {
		h, via := Well, dash(strings.Join(r.Via, ", "))
		if !r.Kernel {
			h, via = Poor, via+" (not in the kernel)"
		}
		var vips []string
		for _, v := range r.VIPs {
			vips = append(vips, short(v))
		}
		t.rows = append(t.rows, newRow(h, r.Router, via, strings.Join(vips, " ")))
	}
	return t
}

// shortAddresses gives a way to write VIPs short, and a note that says how.
func shortAddresses(s *State) (short func(string) string, note string) {
	prefix := ""
	for i, v := range s.VIPs {
		p := v.Address[:strings.LastIndexByte(v.Address, '.')+1]
		if p == "" || i > 0 && p != prefix {
			return func(a string) string { return a }, ""
		}
		prefix = p
	}
	return func(a string) string { return strings.TrimPrefix(a, strings.TrimSuffix(prefix, ".")) }, prefix + "x"
}

func namesTable(s *State) table {
	t := table{title: "Names", head: []string{"NAME", "TTL", "ANSWERED WITH", "BASIS"}}
	for _, n := range s.Names {
		h := Well
		answers, bases := map[string][]string{}, []string{}
		var order []string
		for _, a := range n.Answers {
			text := cmp.Or(a.Answer, "nothing yet")
			if len(answers[text]) == 0 {
				order = append(order, text)
			}
			answers[text] = append(answers[text], a.Selector)
			if !slices.Contains(bases, a.Basis) {
				bases = append(bases, a.Basis)
			}
			if a.Answer == "" || a.Basis != "health" {
				h = Poor
			}
		}
		for i, text := range order {
			if len(order) > 1 { // they do not agree: say who answers what
				h = Poor
				order[i] = text + " by " + strings.Join(answers[text], " ")
			}
		}
		t.rows = append(t.rows, newRow(h, n.Name, fmt.Sprintf("%ds", n.TTL), dash(strings.Join(order, ", ")), strings.Join(bases, ", ")))
	}
	return t
}

func answersTable(s *State) table {
	t := table{title: "Answers", head: []string{"ANSWER", "SITE", "ADDRESS", "PLACE", "WHY"}}
	for _, a := range s.Answers {
		why := a.Why
		if len(a.Differs) > 0 {
			why = "(" + strings.Join(a.Differs, ", ") + ") " + why
		}
		t.rows = append(t.rows, newRow(a.Health, a.Name, a.Site, a.Address, a.Place, dash(why)).in(3, a.Health))
	}
	return t
}

func lunsTable(s *State) table {
	t := table{title: "LUNs", head: []string{"LUN", "ACTIVE", "FOR", "SITES", "MAILS", "REPLICAS"}}
	for _, l := range s.LUNs {
		sites := dash(l.TwoSite)
		if l.Exposed > 0 {
			sites = fmt.Sprintf("%s %d", l.TwoSite, l.Exposed)
		}
		var replicas []string
		for _, r := range l.Replicas {
			replicas = append(replicas, replicaWords(r))
		}
		text := strings.Join(replicas, ", ")
		if len(l.Replicas) == 0 {
			text, sites = "none: a plain store", "one"
		}
		if l.Why != "" {
			text = l.Why + "; " + text
		}
		t.rows = append(t.rows, newRow(l.Health, l.Name, cmp.Or(l.Active, "none"), since(s.At, l.Since), sites,
			strconv.FormatInt(l.Mail, 10), text).in(1, l.Health))
	}
	return t
}

func replicaWords(r Replica) string {
	text := r.Name
	if r.State != "follows" && r.State != r.Name {
		text += " " + r.State
	}
	if r.Lag > 0 {
		text += fmt.Sprintf(" lag %d", r.Lag)
	}
	if r.Missing > 0 {
		text += fmt.Sprintf(" lacks %d", r.Missing)
	}
	return text
}

// replicasTable is for the pane of LUNs, which has the room.
func replicasTable(s *State) table {
	t := table{title: "Replicas", head: []string{"LUN", "REPLICA", "SITE", "STATE", "LAG", "BODIES MISSING", "WHY"}}
	for _, l := range s.LUNs {
		for _, r := range l.Replicas {
			t.rows = append(t.rows, newRow(r.Health, l.Name, r.Name, dash(r.Site), r.State, strconv.FormatUint(r.Lag, 10),
				strconv.Itoa(r.Missing), dash(r.Why)).in(3, r.Health))
		}
	}
	return t
}

// eventsTable has the newest first.
func eventsTable(s *State) table {
	t := table{title: "Last events", head: []string{"TIME", "NODE", "ROLE", "EVENT"}, ordered: true}
	for _, e := range slices.Backward(s.Events) {
		h := map[string]Health{"WARN": Poor, "ERROR": Bad}[e.Level]
		t.rows = append(t.rows, newRow(h, e.At.Format("15:04:05.000"), e.Node, dash(e.Role), e.Text))
	}
	return t
}
