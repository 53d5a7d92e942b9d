package fault

import (
	"fmt"
	"slices"

	"anycastle/lab/graph"
	"anycastle/lab/topology"
)

// shows is what a role of its own tells most of itself by.
var shows = map[string]string{"lb": "vip", "gss": "rule", "rhi": "peer", "store": "lun", "witness": "lun", "real": "host"}

// Hint names a command that shows what becomes of the fault, seen from where it can be seen.
func (f Fault) Hint(t *topology.Topology, lab string) string {
	exec := func(node, what string) string { return fmt.Sprintf("lab exec %s %s -- anycastle %s", lab, node, what) }
	node, _ := t.Node(f.Nodes[0])
	is := graph.PlaceOf(node)
	elsewhere := func(role string) string { return find(t, role, node) }
	switch {
	case f.Kind == Link || f.Kind == Site || f.Kind == ISP || is.Role == "core" || is.Role == "isp":
		if router := routerBeside(t, f); router != "" {
			return exec(router, "show route")
		}
	case f.Kind == Role && shows[f.Role] != "":
		return exec(node.Name, "show "+shows[f.Role])
	case is.Role == "lb":
		if lb := elsewhere("lb"); lb != "" {
			return exec(lb, "show site")
		}
	case is.Role == "gss":
		if gss := elsewhere("gss"); gss != "" {
			return exec(gss, "show vantage")
		}
	case is.Role == "store" || is.Role == "standby" || is.Role == "witness":
		if store := elsewhere("store"); store != "" {
			return exec(store, "show lun")
		}
	case is.Layer == graph.Front:
		if lb := elsewhere("lb"); lb != "" {
			return exec(lb, "show real")
		}
	}
	return fmt.Sprintf("lab watch %s --once", lab)
}

// find looks for a node of a role, but this one: at its site and in its pod if there is one.
func find(t *topology.Topology, role string, not topology.Node) string {
	best, rank := "", -1
	near := graph.PlaceOf(not)
	for _, n := range t.Nodes {
		p := graph.PlaceOf(n)
		if p.Role != role || n.Name == not.Name {
			continue
		}
		r := 0
		if p.Site == near.Site {
			r++
			if p.Pod == near.Pod {
				r++
			}
		}
		if r > rank {
			best, rank = n.Name, r
		}
	}
	return best
}

// routerBeside finds a router that has a line into the fault from outside of it, an ISP before others: there the routes
// change.
func routerBeside(t *topology.Topology, f Fault) string {
	best := ""
	for _, l := range t.Links {
		if !f.lines()(l) {
			continue
		}
		for _, e := range l.Ends() {
			if f.Kind != Link && slices.Contains(f.Nodes, e.Node) {
				continue
			}
			n, _ := t.Node(e.Node)
			switch graph.PlaceOf(n).Role {
			case "isp":
				return n.Name
			case "core":
				best = n.Name
			}
		}
	}
	return best
}
