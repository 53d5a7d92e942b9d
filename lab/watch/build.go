package watch

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"anycastle/lab/graph"
	"anycastle/lab/runner"
	"anycastle/lab/topology"
)

// builder makes a State of what was found.
type builder struct {
	topo   *topology.Topology
	status *runner.Status
	found  map[string]found // by node
	places map[string]graph.Place
	state  *State
}

// build is the pure part of collecting: the same findings give the same State.
func build(topo *topology.Topology, status *runner.Status, byNode map[string]found) *State {
	b := &builder{topo: topo, status: status, found: byNode, places: map[string]graph.Place{}}
	b.state = &State{
		Lab: status.Name, Sites: []Site{}, Nodes: []Node{}, VIPs: []VIP{}, Reals: []Real{}, Routes: []Route{}, Names: []Name{},
		Answers: []Answer{}, LUNs: []LUN{}, Links: []Link{}, Events: []Event{},
	}
	for _, n := range topo.Nodes {
		b.places[n.Name] = graph.PlaceOf(n)
	}
	b.links()
	b.nodes()
	b.vips()
	b.reals()
	b.routes()
	b.names()
	b.answers()
	b.luns()
	b.sites()
	return b.state
}

func (b *builder) links() {
	for _, l := range b.status.Links {
		if l.State != runner.LinkUp {
			b.state.Links = append(b.state.Links, Link{A: l.A, B: l.B, State: string(l.State)})
		}
	}
}

// linksOf counts the links of a node, and those of them that are in a state.
func (b *builder) linksOf(node string, state runner.LinkState) (all, in int) {
	for _, l := range b.status.Links {
		if strings.HasPrefix(l.A, node+":") || strings.HasPrefix(l.B, node+":") {
			all++
			if l.State == state {
				in++
			}
		}
	}
	return all, in
}

// broken counts the lines of a node that are not up, but for those to a node that has no power: that is its trouble.
func (b *builder) broken(node string) int {
	n := 0
	for i, l := range b.status.Links {
		ends := b.topo.Links[i].Ends()
		for e, end := range ends {
			if end.Node == node && l.State != runner.LinkUp && !b.off(ends[1-e].Node) {
				n++
			}
		}
	}
	return n
}

// off says whether a node has no power: no process, and no line with a carrier.
func (b *builder) off(node string) bool {
	links, down := b.linksOf(node, runner.LinkDown)
	i := slices.IndexFunc(b.status.Nodes, func(n runner.NodeStatus) bool { return n.Name == node })
	return i >= 0 && len(b.status.Nodes[i].Processes) == 0 && links > 0 && links == down
}

func (b *builder) nodes() {
	for _, s := range b.status.Nodes {
		p := b.places[s.Name]
		n := Node{
			Name: s.Name, Site: p.Site, Layer: string(p.Layer), Pod: p.Pod, Kind: p.Role, Health: Well, State: "up",
			Roles: append([]Role{}, b.found[s.Name].roles...),
		}
		b.judge(&n, s)
		b.state.Nodes = append(b.state.Nodes, n)
	}
}

// judge says how a node is: the first of these that is so.
func (b *builder) judge(n *Node, s runner.NodeStatus) {
	links, cut := b.linksOf(n.Name, runner.LinkCut)
	say := func(h Health, state, why string) { n.Health, n.State, n.Why = h, state, why }
	node, _ := b.topo.Node(n.Name)
	switch {
	case !s.Alive:
		say(Bad, "gone", "the node itself has ended; only lab down and lab up bring it back")
		return
	case b.off(n.Name):
		say(Bad, "off", "it has no power: no process, no carrier")
		return
	case len(s.Processes) == 0 && len(node.Cmd) > 0:
		say(Bad, "killed", "no process runs")
		return
	case slices.ContainsFunc(s.Processes, func(p runner.Process) bool { return p.Paused }):
		say(Bad, "hangs", "stopped where they stand: "+pausedRoles(s))
		return
	}
	for _, state := range []string{"hangs", "down", "failing", "slow"} {
		for _, r := range n.Roles {
			if r.State != state {
				continue
			}
			h, word := Bad, state
			if state == "down" {
				word = "failing"
			} else if state != "hangs" {
				h = Poor
			}
			say(h, word, strings.TrimSpace(r.Name+": "+r.Why))
			return
		}
	}
	switch {
	case links > 0 && cut == links:
		say(Bad, "cut", "every line to it loses all packets")
	case b.broken(n.Name) > 0:
		say(Poor, "up", fmt.Sprintf("%d of %d lines are cut or down", b.broken(n.Name), links))
	}
}

func pausedRoles(s runner.NodeStatus) string {
	var roles []string
	for _, p := range s.Processes {
		if p.Paused {
			roles = append(roles, p.Role())
		}
	}
	return strings.Join(roles, ", ")
}

func (b *builder) vips() {
	byAddress := map[string]*VIP{}
	var order []string
	for _, n := range b.topo.Nodes {
		f := b.found[n.Name]
		places := map[string]lbAnnouncement{}
		for _, a := range f.announcements {
			address, _, _ := strings.Cut(a.VIP, "/")
			places[address] = a
		}
		for _, v := range f.vips {
			vip := byAddress[v.Address]
			if vip == nil {
				vip = &VIP{Address: v.Address, Health: Bad, Ports: []Port{}, Sites: []string{}, Balancers: []VIPAt{}}
				byAddress[v.Address] = vip
				order = append(order, v.Address)
			}
			vip.add(v, places[v.Address], n.Name, b.places[n.Name].Site)
		}
	}
	slices.SortStableFunc(order, compareAddress)
	for _, address := range order {
		v := byAddress[address]
		v.judge()
		b.state.VIPs = append(b.state.VIPs, *v)
	}
}

// add takes in what one balancer says of one port of the VIP.
func (v *VIP) add(is lbVIP, a lbAnnouncement, balancer, site string) {
	port := Port{Name: is.Name, Port: is.Port + "/" + is.Protocol}
	if !slices.ContainsFunc(v.Ports, func(p Port) bool { return p.Port == port.Port }) {
		v.Ports = append(v.Ports, port)
	}
	if n := len(v.Balancers); n > 0 && v.Balancers[n-1].Balancer == balancer { // another port there: the fewest reals count
		at := &v.Balancers[n-1]
		at.Active = min(at.Active, is.Active)
		return
	}
	v.Balancers = append(v.Balancers, VIPAt{
		Balancer: balancer, Site: site, Announced: is.Announced, Place: a.Place, Active: is.Active, Why: cmp.Or(a.Why, is.Reason),
	})
	if is.Announced && !slices.Contains(v.Sites, site) {
		v.Sites = append(v.Sites, site)
	}
}

// judge: announced nowhere is bad; a balancer that does not is worth a look, and so is one at the end of its ladder.
func (v *VIP) judge() {
	if len(v.Sites) > 0 {
		v.Health = Well
	}
	for _, at := range v.Balancers {
		if !at.Announced || at.Place != "" && at.Place != "full" || at.Active == 0 {
			v.Health = worse(v.Health, Poor)
		}
	}
}

type realKey struct{ site, pod, farm, name string }

// reals puts together what the balancers of a site, or of a pod, say of the same real.
func (b *builder) reals() {
	rank := map[string]int{"failed": 4, "suspended": 3, "draining": 2, "joining": 1}
	byKey := map[realKey]*Real{}
	views := map[realKey][][2]string{} // balancer, state
	var order []realKey
	for _, n := range b.topo.Nodes {
		p := b.places[n.Name]
		for _, r := range b.found[n.Name].reals {
			key := realKey{p.Site, p.Pod, r.Farm, r.Name}
			views[key] = append(views[key], [2]string{n.Name, r.State})
			have := byKey[key]
			if have == nil {
				have = &Real{
					Site: p.Site, Pod: p.Pod, Farm: r.Farm, Name: r.Name, Address: r.Address, State: r.State, Why: r.Why, Since: r.Since,
					Share: r.Share,
				}
				byKey[key] = have
				order = append(order, key)
			} else if rank[r.State] > rank[have.State] { // the worst is what somebody should see
				have.State, have.Why, have.Since, have.Share = r.State, r.Why, r.Since, r.Share
			}
			if r.Flows != nil { // every balancer counts the same flows, by the agent
				have.Flows = r.Flows
			}
		}
	}
	for _, key := range order {
		r := byKey[key]
		for _, v := range views[key] {
			if v[1] != r.State {
				r.Differs = append(r.Differs, v[0]+": "+v[1])
			}
		}
		r.Health = map[string]Health{"active": Well, "joining": Well, "draining": Poor, "suspended": Poor}[r.State]
		r.Health = cmp.Or(r.Health, Bad)
		b.state.Reals = append(b.state.Reals, *r)
	}
}

func (b *builder) routes() {
	vips := map[string]bool{}
	for _, v := range b.state.VIPs {
		vips[v.Address] = true
	}
	for _, n := range b.topo.Nodes {
		f := b.found[n.Name]
		names := map[string]string{}
		for _, p := range f.peers {
			names[p.Address] = p.Name
		}
		byVia := map[string]*Route{}
		for _, r := range f.routes {
			address, _, _ := strings.Cut(r.Prefix, "/")
			if r.Source != "learned" || !vips[address] {
				continue
			}
			var via []string
			for _, hop := range r.NextHops {
				via = append(via, cmp.Or(names[hop], hop))
			}
			key := fmt.Sprint(via, r.InKernel)
			if byVia[key] == nil {
				byVia[key] = &Route{Router: n.Name, Site: b.places[n.Name].Site, Via: via, Kernel: r.InKernel}
			}
			byVia[key].VIPs = append(byVia[key].VIPs, address)
		}
		for _, key := range slices.SortedFunc(maps.Keys(byVia), func(x, y string) int {
			return compareAddress(byVia[x].VIPs[0], byVia[y].VIPs[0])
		}) {
			slices.SortFunc(byVia[key].VIPs, compareAddress)
			b.state.Routes = append(b.state.Routes, *byVia[key])
		}
	}
}
