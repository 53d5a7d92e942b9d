package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"anycastle/internal/mesh"
	"anycastle/lb"
	"anycastle/mailroles/directory"
	"anycastle/rhi"
	"anycastle/rhi/bfd"
	"anycastle/rhi/inject"

	"github.com/spf13/cobra"
)

// addViews adds every noun of `show`.
func addViews(cmd *cobra.Command, e env, f *showFlags) {
	addLBViews(cmd, e, f)
	addFlowView(cmd, e, f)
	addHostView(cmd, e, f)
	addSiteViews(cmd, e, f)
	addRouteViews(cmd, e, f)
	addGSSViews(cmd, e, f)
	addLUNView(cmd, e, f)
	addSnapshotView(cmd, e, f)
	addQueueView(cmd, e, f)
	addTargetView(cmd, e, f)
	cmd.AddCommand(newShowFirewall(e, f))
	addView(cmd, e, f, view[any]{
		noun: "mail", short: "What a mail role has done, and which stores it reaches", roles: mailRoles(),
		head: []string{"WHAT", "VALUE"},
		rows: func(status any) [][]string { return flatten("", status) },
	})
	addView(cmd, e, f, view[directory.Status]{
		noun: "directory", short: "Where a mail role knows its mailboxes from, and whether that is in order",
		roles: mailRoles(),
		head:  []string{"SOURCE", "MAILBOXES", "ALIASES", "GROUPS", "READ", "STALE ANSWERS", "ERROR"},
		rows: one(func(s directory.Status) []string {
			return []string{
				s.Source, strconv.Itoa(s.Mailboxes), strconv.Itoa(s.Aliases), strconv.Itoa(s.Groups), ago(s.ReadAt),
				strconv.FormatUint(s.Stale, 10), cmp.Or(s.Error, "-"),
			}
		}),
	})
}

// flatten lays out JSON that has no columns: a row for each value, under its path. An object in a list goes by its name.
func flatten(path string, v any) [][]string {
	var rows [][]string
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if key != "name" || path == "" {
				rows = append(rows, flatten(strings.TrimPrefix(path+" "+key, " "), v[key])...)
			}
		}
	case []any:
		for i, item := range v {
			name := strconv.Itoa(i)
			if m, ok := item.(map[string]any); ok && m["name"] != nil {
				name = fmt.Sprint(m["name"])
			}
			rows = append(rows, flatten(path+" "+name, item)...)
		}
	default:
		rows = append(rows, []string{path, fmt.Sprint(v)})
	}
	return rows
}

func addLBViews(cmd *cobra.Command, e env, f *showFlags) {
	onLB := []string{"lb"}
	addView(cmd, e, f, view[lb.VIPStatus]{
		noun: "vip", short: "VIPs: announced or not, and why", roles: onLB,
		head: []string{"VIP", "ADDRESS", "PORT", "FARM", "REALS", "ANNOUNCED", "WHY", "PACKETS", "BYTES"},
		rows: one(func(v lb.VIPStatus) []string {
			return []string{
				v.Name, v.Address.String(), fmt.Sprintf("%s/%v", v.Protocol, v.Port), v.Farm,
				fmt.Sprintf("%d of at least %d", v.ActiveReals, v.MinReals), yes(v.Announced), v.Reason,
				strconv.FormatUint(v.Packets, 10), strconv.FormatUint(v.Bytes, 10),
			}
		}),
	})
	addView(cmd, e, f, view[lb.RealStatus]{
		noun: "real", short: "Reals: state, why, and their share of the flows", roles: onLB,
		head: []string{"FARM", "REAL", "ADDRESS", "WEIGHT", "STATE", "FOR", "UNTIL", "WHY", "FLOWS", "SHARE", "NEXT HOP"},
		rows: one(func(r lb.RealStatus) []string {
			return []string{
				r.Farm, r.Name, r.Address.String(), strconv.Itoa(r.Weight), string(r.State), ago(r.Since), in(r.Until), r.Why,
				count(r.Flows), fmt.Sprintf("%.1f%%", 100*r.Share), r.NextHop,
			}
		}),
	})
	addView(cmd, e, f, view[lb.FarmStatus]{
		noun: "farm", short: "Farms: how many reals are in service, and slots in transition", roles: onLB,
		head: []string{"FARM", "REALS", "IN SERVICE", "SLOTS IN TRANSITION", "VIPS"},
		rows: one(func(r lb.FarmStatus) []string {
			return []string{r.Name, strconv.Itoa(r.Reals), strconv.Itoa(r.ActiveReals), strconv.Itoa(r.Moving), words(r.VIPs)}
		}),
	})
	addView(cmd, e, f, view[lb.DrainStatus]{
		noun: "drain", short: "Reals that drain: flows left, deadline, and whether it is safe to stop the server", roles: onLB,
		head: []string{"FARM", "REAL", "STATE", "FOR", "FLOWS LEFT", "DEADLINE IN", "DONE IN", "SAFE", "WAITS FOR", "WHY"},
		rows: one(func(d lb.DrainStatus) []string {
			return []string{
				d.Farm, d.Real, string(d.State), ago(d.Since), count(d.FlowsLeft), in(d.Deadline), in(d.ETA), yes(d.Safe),
				words(d.WaitsFor), d.Why,
			}
		}),
	})
	addView(cmd, e, f, view[mesh.Member]{
		noun: "peer-lb", short: "The balancers of the site that share orders and states", roles: onLB,
		head: []string{"BALANCER", "ADDRESS", "STATE", "FOR", "THIS ONE"},
		rows: one(func(m mesh.Member) []string {
			return []string{m.Name, m.Address.String(), m.State, ago(m.Since), yes(m.Self)}
		}),
	})
	addView(cmd, e, f, view[lb.SelectorStatus]{
		noun: "selector", short: "Site selectors that listen to how the VIPs stand", roles: onLB,
		head: []string{"SELECTOR", "ADDRESS", "FOR", "REPORTS", "LAST"},
		rows: one(func(s lb.SelectorStatus) []string {
			return []string{s.Name, s.Address.String(), ago(s.Since), strconv.Itoa(s.Reports), ago(s.Last) + " ago"}
		}),
	})
	addView(cmd, e, f, view[lb.ProbeStatus]{
		noun: "probe", short: "Probes: the last result of each", roles: onLB,
		head: []string{"FARM", "REAL", "PROBE", "STATE", "LAST RESULT", "TOOK", "AGO"},
		rows: one(func(p lb.ProbeStatus) []string {
			return []string{
				p.Farm, p.Real, p.Type + " " + p.Target.String(), p.State.String(), p.Last,
				fmt.Sprintf("%.1f ms", p.TookMS), ago(p.At),
			}
		}),
	})
	addView(cmd, e, f, view[lb.DropStatus]{
		noun: "drops", short: "Packets dropped, by reason", roles: onLB,
		head: []string{"REASON", "PACKETS"},
		rows: one(func(d lb.DropStatus) []string { return []string{d.Reason, strconv.FormatUint(d.Packets, 10)} }),
	})
	addView(cmd, e, f, view[lb.ReplyStatus]{
		noun: "replies", short: "Packets that the balancer answered itself: echo replies, too-big errors", roles: onLB,
		head: []string{"KIND", "PACKETS"},
		rows: one(func(r lb.ReplyStatus) []string { return []string{r.Kind, strconv.FormatUint(r.Packets, 10)} }),
	})
	addView(cmd, e, f, view[lb.UplinkStatus]{
		noun: "uplink", short: "Interfaces with a program, native or generic", roles: onLB,
		head: []string{"UPLINK", "MODE", "WHY"},
		rows: one(func(u lb.UplinkStatus) []string { return []string{u.Name, string(u.Mode), cmp.Or(u.Why, "-")} }),
	})
}

func addSiteViews(cmd *cobra.Command, e env, f *showFlags) {
	onLB := []string{"lb"}
	addView(cmd, e, f, view[inject.AnnouncementStatus]{
		noun: "announcement", short: "Where each VIP stands on the ladder, what peers are sent, and why", roles: onLB,
		head: []string{"VIP", "PLACE", "FOR", "PEERS", "SENT", "ELSEWHERE", "WHY", "ALARMS"},
		rows: one(func(a inject.AnnouncementStatus) []string {
			var sent, elsewhere []string
			for _, group := range slices.Sorted(maps.Keys(a.Groups)) {
				sent = append(sent, group+": "+a.Groups[group])
			}
			for _, x := range a.Elsewhere {
				elsewhere = append(elsewhere, fmt.Sprintf("%s %s", x.Name, x.Place))
			}
			return []string{
				a.VIP.Addr().String(), string(a.Place), ago(a.Since), strconv.Itoa(a.Peers), strings.Join(sent, "; "), words(elsewhere),
				a.Why, cmp.Or(strings.Join(a.Alarms, "; "), "-"),
			}
		}),
	})
	balancers := view[inject.SiteStatus]{
		noun: "site", roles: onLB,
		head: []string{"SITE", "BALANCER", "ROLE", "HEARD", "COUNTS", "ANNOUNCES", "THIS ONE"},
		rows: one(func(s inject.SiteStatus) []string {
			return []string{s.Site, s.Name, string(s.Role), ago(s.Heard) + " ago", yes(s.Fresh), strconv.Itoa(s.VIPs), yes(s.Self)}
		}),
	}
	addNoun(cmd, f, "site", "Sites: where VIPs are announced (lb), or what is answered with them (gss)", []string{"lb", "gss"},
		balancers.show(e, f), answerSites().show(e, f))
	addView(cmd, e, f, view[inject.Order]{
		noun: "site-order", short: "Orders about the VIPs of sites that stand", roles: onLB,
		head: []string{"SITE", "VIP", "ORDER", "FOR", "DEADLINE IN", "FORCED", "BY", "WHY"},
		rows: one(func(o inject.Order) []string {
			vip := "all"
			if o.VIP.IsValid() {
				vip = o.VIP.Addr().String()
			}
			return []string{o.Site, vip, string(o.Kind), ago(o.Since), in(o.Deadline), yes(o.Force), cmp.Or(o.By, "-"), cmp.Or(o.Why, "-")}
		}),
	})
}

func addRouteViews(cmd *cobra.Command, e env, f *showFlags) {
	speakers := []string{"lb", "gss", "rhi"}
	addView(cmd, e, f, view[rhi.Peer]{
		noun: "peer", short: "BGP sessions: state, and why one went down", roles: speakers,
		head: []string{"PEER", "ADDRESS", "ASN", "STATE", "FOR", "RECEIVED", "SENT", "LAST ERROR"},
		rows: one(func(p rhi.Peer) []string {
			return []string{
				p.Name, p.Address.String(), fmt.Sprint(p.ASN), p.State, ago(p.Since), strconv.Itoa(p.Received),
				strconv.Itoa(p.Sent), p.LastError,
			}
		}),
	})
	addView(cmd, e, f, view[bfd.Status]{
		noun: "bfd", short: "BFD sessions: state and why, times in force, packets", roles: speakers,
		head: []string{"PEER", "ADDRESS", "STATE", "FOR", "SENT EVERY", "LOST AFTER", "RECEIVED", "SENT", "DROPPED", "DOWNS", "WHY"},
		rows: one(func(s bfd.Status) []string {
			dropped := uint64(0)
			for _, n := range s.Dropped {
				dropped += n
			}
			return []string{
				s.Peer, s.Remote.String(), s.State.String(), ago(s.Since), s.Transmit.String(), s.Detection.String(),
				strconv.FormatUint(s.Received, 10), strconv.FormatUint(s.Sent, 10), strconv.FormatUint(dropped, 10),
				strconv.FormatUint(s.Downs, 10), cmp.Or(s.Why, "-"),
			}
		}),
	})
	addView(cmd, e, f, view[rhi.Route]{
		noun: "route", short: "Routes: own and learned, in the kernel or not, passed on or not, and why", roles: speakers,
		head: []string{"PREFIX", "SOURCE", "NEXT HOPS", "IN KERNEL", "PASSED ON", "WHY"},
		rows: one(func(r rhi.Route) []string {
			why := r.Why
			if r.NotSet != "" && r.NotSet != why {
				why += "; not in the kernel: " + r.NotSet
			}
			return []string{r.Prefix.String(), string(r.Source), words(r.NextHops), yes(r.InKernel), yes(r.PassedOn), why}
		}),
	})
	addView(cmd, e, f, view[rhi.Sent]{
		noun: "sent", short: "What each peer was sent of each own route, and when", roles: speakers,
		head: []string{"PREFIX", "PEER", "GROUP", "SENT", "AGO", "WRITTEN AFTER", "ACKNOWLEDGED AFTER", "WHY"},
		rows: one(func(s rhi.Sent) []string {
			return []string{
				s.Prefix.String(), s.Peer, s.Group, s.Sent, ago(s.At), after(s.Begun(), s.Written), after(s.Begun(), s.Acknowledged),
				cmp.Or(s.Why, "-"),
			}
		}),
	})
}
