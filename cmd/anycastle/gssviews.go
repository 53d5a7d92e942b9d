package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"anycastle/gss"
	"anycastle/gss/decide"
	"anycastle/internal/daemon"

	"github.com/spf13/cobra"
)

func addGSSViews(cmd *cobra.Command, e env, f *showFlags) {
	onGSS := []string{"gss"}
	addView(cmd, e, f, view[gss.AnswerStatus]{
		noun: "answer", short: "Answers: where each stands and why, and what its probes say", roles: onGSS,
		head: []string{"ANSWER", "SITE", "ADDRESSES", "PLACE", "FOR", "HEADROOM", "PROBES", "BALANCERS", "WHY"},
		rows: one(func(a gss.AnswerStatus) []string {
			headroom := "-"
			if a.Headroom != nil {
				headroom = fmt.Sprintf("%.0f%%", 100**a.Headroom)
			}
			var probes []string
			for _, p := range a.Probes {
				probes = append(probes, fmt.Sprintf("%s %v", p.Probe, p.State))
			}
			var said []string
			for _, r := range a.Reports {
				said = append(said, reportOf(r))
			}
			if a.Agent != "" {
				said = append(said, "agent: "+a.Agent)
			}
			return []string{
				a.Name, a.Site, words(a.Addresses), string(cmp.Or(a.Place, decide.Unknown)), ago(a.Since), headroom, words(probes),
				cmp.Or(strings.Join(said, "; "), "-"), whyOf(a),
			}
		}),
	})
	addView(cmd, e, f, view[gss.RuleStatus]{
		noun: "rule", short: "DNS rules: what clients are answered with now, and why", roles: onGSS,
		name: func(r gss.RuleStatus) string { return r.Name },
		head: []string{"RULE", "DOMAINS", "CLIENTS", "ANSWERED WITH", "TTL", "CLAUSE", "BALANCE", "BASIS", "FOR", "WHY"},
		rows: one(func(r gss.RuleStatus) []string {
			name, clients := r.Name, "any"
			if r.Type != "" {
				name += " " + r.Type
			}
			if len(r.Sources) > 0 {
				clients = words(r.Sources)
			}
			if r.Near != "" {
				name, clients = name+" near "+r.Near, r.Near+" of "+clients
			}
			if r.Clause == 0 {
				return []string{name, words(r.Domains), clients, "-", "-", "-", "-", "-", "-", r.Why}
			}
			return []string{
				name, words(r.Domains), clients, shares(r), fmt.Sprintf("%ds", r.TTL), strconv.Itoa(r.Clause), string(r.Balance), string(r.Basis),
				ago(r.Since), r.Why,
			}
		}),
	})
	addView(cmd, e, f, view[gss.ZoneStatus]{
		noun: "zone", short: "Zones that are served", roles: onGSS,
		head: []string{"ZONE", "SERIAL", "RECORDS", "NAMES OF RULES", "FILE", "ROLE", "REFRESHED", "NEXT", "EXPIRES", "WHY"},
		rows: one(func(z gss.ZoneStatus) []string {
			role := z.Role
			switch {
			case z.Absent:
				role += ", absent"
			case z.Former:
				role += ", as before it had primaries"
			}
			return []string{
				z.Zone, strconv.FormatUint(uint64(z.Serial), 10), strconv.Itoa(z.Records), strconv.Itoa(z.Dynamic), cmp.Or(z.File, "-"),
				role, ago(z.Refreshed), until(z.Next), until(z.Expires), cmp.Or(z.Why, "-"),
			}
		}),
	})
	addView(cmd, e, f, view[gss.ServerStatus]{
		noun: "server", short: "The site selector as a whole", roles: onGSS,
		head: []string{"NAME", "LISTENS ON", "BY TLS ON", "GENERATION", "LAST RELOAD"},
		rows: one(func(s gss.ServerStatus) []string {
			return []string{s.Name, words(s.Listen), words(s.ListenTLS), strconv.FormatUint(s.Generation, 10), reloadOf(s.Reload)}
		}),
	})
	addView(cmd, e, f, view[gss.KeyStatus]{
		noun: "key", short: "Keys of signed zones: state, what each waits for, and the DS record for the parent", roles: onGSS,
		head: []string{"ZONE", "KEY", "STATE", "FOR", "WAITS", "UNTIL", "DS", "LOOK"},
		rows: one(func(k gss.KeyStatus) []string {
			return []string{
				k.Zone, k.ID, string(k.State), ago(k.Since), cmp.Or(k.Waits, "-"), in(k.Until), cmp.Or(k.DS, "-"),
				cmp.Or(k.Alarm, k.Error, "-"),
			}
		}),
	})
	addView(cmd, e, f, view[gss.VantageStatus]{
		noun: "vantage", short: "The site selectors whose probes count, and what each sees", roles: onGSS,
		head: []string{"NAME", "HEARD", "LOST FOR", "COUNTS", "PASSING", "FAILING", "DIFFERS", "THIS ONE"},
		rows: one(func(v gss.VantageStatus) []string {
			heard := "never"
			if !v.Heard.IsZero() {
				heard = ago(v.Heard) + " ago"
			}
			return []string{v.Name, heard, ago(v.Lost), yes(v.Counts), strconv.Itoa(v.Passing), words(v.Failing), words(v.Differ), yes(v.Self)}
		}),
	})
	addView(cmd, e, f, view[gss.BalancerStatus]{
		noun: "balancer", short: "Balancers that tell how their VIPs stand: heard or not, and why", roles: onGSS,
		head: []string{"BALANCER", "SITE", "ADDRESS", "HEARD", "FOR", "LAST REPORT", "VIPS", "GENERATION", "WHY"},
		rows: one(func(b gss.BalancerStatus) []string {
			last := "-"
			if !b.Last.IsZero() {
				last = ago(b.Last) + " ago"
			}
			return []string{
				b.Name, cmp.Or(b.Site, "any"), b.Address.String(), yes(b.Heard), ago(b.Since), last, strconv.Itoa(b.VIPs),
				strconv.FormatUint(b.Generation, 10), cmp.Or(b.Err, "-"),
			}
		}),
	})
	addView(cmd, e, f, view[gss.LimitStatus]{
		noun: "limit", short: "What was beyond the limits of queries and replies, and the networks that were so most", roles: onGSS,
		head: []string{"LIMIT", "NETWORK", "HELD BACK", "LOGGED ONLY", "LAST"},
		rows: one(func(l gss.LimitStatus) []string {
			network, last := "all", "-"
			if l.Network.IsValid() {
				network, last = l.Network.String(), ago(l.Last)+" ago"
			}
			return []string{l.Limit, network, strconv.FormatUint(l.Held, 10), strconv.FormatUint(l.Logged, 10), last}
		}),
	})
	addView(cmd, e, f, view[gss.OrderStatus]{
		noun: "answer-order", short: "Orders about answers and their sites that stand, and how far drains are", roles: onGSS,
		name: func(o gss.OrderStatus) string { return cmp.Or(o.Answer, o.Site) },
		head: []string{"ABOUT", "ORDER", "FOR", "HOW FAR", "BY", "WHY"},
		rows: one(func(o gss.OrderStatus) []string {
			var far []string
			for _, a := range o.Answers {
				far = append(far, drainOf(a))
			}
			for _, v := range o.Others {
				far = append(far, drainAt(v))
			}
			for _, text := range o.NotInForce {
				far = append(far, "not in force: "+text)
			}
			if o.Void {
				far = []string{"about nothing: " + isVoid(o.Order)}
			}
			return []string{
				orderAbout(o.Order), string(o.Kind), ago(o.Since), cmp.Or(strings.Join(far, "; "), "-"), cmp.Or(o.By, "-"), cmp.Or(o.Why, "-"),
			}
		}),
	})
}

// whyOf says why an answer stands where it does, and who has no part in that.
func whyOf(a gss.AnswerStatus) string {
	if len(a.Differ) == 0 {
		return a.Why
	}
	return fmt.Sprintf("%s; not counted, as they probe something else by its name: %s", a.Why, words(a.Differ))
}

// reloadOf says how the last reload ended.
func reloadOf(r *daemon.Reload) string {
	switch {
	case r == nil:
		return "-"
	case r.Error != "":
		return fmt.Sprintf("refused %s ago, the config of before stays: %s", ago(r.At), strings.ReplaceAll(r.Error, "\n", "; "))
	}
	return ago(r.At) + " ago"
}

// reportOf says what a balancer says of an answer.
func reportOf(r gss.ReportStatus) string {
	text := r.From + " " + r.State
	if r.Why != "" {
		text += " (" + r.Why + ")"
	}
	if r.Reals > 0 {
		text += fmt.Sprintf(", %d of %d reals", r.InService, r.Reals)
	}
	if r.Capacity != nil {
		text += fmt.Sprintf(", load %.0f of %.0f", *r.Used, *r.Capacity)
	}
	if r.Route != "" {
		text += ", " + r.Route
	}
	if !r.Fresh {
		text += fmt.Sprintf(", said %s ago: too old to count", ago(r.At))
	}
	return text
}

// answerSites is `show site` at a site selector.
func answerSites() view[gss.SiteStatus] {
	return view[gss.SiteStatus]{
		noun: "site", roles: []string{"gss"},
		head: []string{"SITE", "SERVING", "OTHERS", "ORDER"},
		rows: one(func(s gss.SiteStatus) []string {
			order := "-"
			if s.Order != nil {
				order = string(s.Order.Kind)
			}
			return []string{s.Site, words(s.Serving), words(s.Others), order}
		}),
	}
}

// shares lays out what a rule is answered with.
func shares(r gss.RuleStatus) string {
	var list []string
	for _, s := range r.Answers {
		if r.Count == len(r.Answers) && r.Balance != decide.RoundRobin {
			list = append(list, s.Answer) // a client gets all, in this order
			continue
		}
		list = append(list, fmt.Sprintf("%s %.1f%%", s.Answer, float64(s.Of1000)/10))
	}
	return words(list)
}

func orderAbout(o gss.Order) string {
	if o.Answer != "" {
		return "answer " + o.Answer
	}
	return "site " + o.Site
}

// isVoid says that an order is about nothing, and what to do.
func isVoid(o gss.Order) string {
	about := orderAbout(o)
	return fmt.Sprintf("nothing in the config is called %s any more; `anycastle activate %s` removes the order", about, about)
}

// drainOf says how far the drain of an answer is.
func drainOf(a gss.AnswerDrain) string {
	switch {
	case len(a.Only) > 0:
		return fmt.Sprintf("%s: given on, as nothing else works for the rules %s", a.Answer, words(a.Only))
	case a.Done:
		return a.Answer + ": drained, no resolver can hold it any more"
	case a.Given && !time.Now().Before(a.From): // until the replies without it are made
		return fmt.Sprintf("%s: given still, held by resolvers for %s", a.Answer, in(a.Clear))
	case !time.Now().Before(a.From):
		return fmt.Sprintf("%s: given no more, held by resolvers for %s", a.Answer, in(a.Clear))
	}
	return fmt.Sprintf("%s: given for %s, held by resolvers for %s", a.Answer, in(a.From), in(a.Clear))
}

// givenOn says whether another site selector gives an answer beyond its time.
func givenOn(v gss.VantageDrain) bool { return v.Given && !time.Now().Before(v.Clear) }

// drainAt says how far another site selector is with a drain.
func drainAt(v gss.VantageDrain) string {
	switch {
	case !v.Counts && v.Heard.IsZero():
		return v.Vantage + " is not heard: what it gives is not known"
	case !v.Counts:
		return fmt.Sprintf("%s was not heard for %s: what it gives is not known", v.Vantage, ago(v.Heard))
	case !v.Taken:
		return v.Vantage + " has not taken the order yet"
	case givenOn(v):
		return "at " + v.Vantage + " given on, as nothing else works there"
	case v.Given:
		return fmt.Sprintf("at %s given still, held by resolvers for %s", v.Vantage, in(v.Clear))
	case v.Done:
		return "at " + v.Vantage + " drained, no resolver can hold what it gave any more"
	}
	return fmt.Sprintf("at %s held by resolvers for %s", v.Vantage, in(v.Clear))
}
