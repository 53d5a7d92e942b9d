package fault

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"anycastle/internal/config"
	"anycastle/lab/runner"
	"anycastle/lab/topology"
)

// Facts are what the machine says of a lab: the whole truth about what is broken.
type Facts struct {
	Status *runner.Status
	Full   map[string]bool // by node: its disk has been filled
}

// fullMark is the file that fills a node's disk; see runner.Lab.FillDisk.
const fullMark = "/var/lib/anycastle/.filled"

// Look asks the machine.
func Look(lab *runner.Lab) (Facts, error) {
	status, err := lab.Status()
	if err != nil {
		return Facts{}, fmt.Errorf("look at lab %s: %w", lab.Name, err)
	}
	f := Facts{Status: status, Full: map[string]bool{}}
	for _, n := range status.Nodes {
		if root, err := lab.NodeRoot(n.Name); err == nil {
			_, err := os.Lstat(root + fullMark)
			f.Full[n.Name] = err == nil
		}
	}
	return f, nil
}

// Standing lists the faults that stand: those of nodes in the topology's order, then those of lines.
func Standing(t *topology.Topology, facts Facts) []Fault {
	var out []Fault
	off := map[string]bool{}
	for _, n := range facts.Status.Nodes {
		if !n.Alive {
			continue // nothing that can be healed
		}
		node, _ := t.Node(n.Name)
		switch {
		case len(n.Processes) == 0 && allDown(facts.Status, n.Name):
			off[n.Name] = true
			out = append(out, Fault{Kind: Power, Nodes: []string{n.Name}})
		case len(n.Processes) == 0 && len(node.Cmd) > 0:
			out = append(out, Fault{Kind: Node, Nodes: []string{n.Name}})
		default:
			out = append(out, hanging(n)...)
		}
		if facts.Full[n.Name] {
			out = append(out, Fault{Kind: Disk, Nodes: []string{n.Name}})
		}
	}
	return append(out, cuts(t, facts.Status)...)
}

// hanging is a fault for the whole node when all of its processes are stopped, else one for each role.
func hanging(n runner.NodeStatus) []Fault {
	var roles []string
	stopped := 0
	for _, p := range n.Processes {
		if p.Paused {
			stopped++
			roles = append(roles, p.Role())
		}
	}
	if stopped == 0 {
		return nil
	}
	if stopped == len(n.Processes) {
		return []Fault{{Kind: Hang, Nodes: []string{n.Name}}}
	}
	var out []Fault
	slices.Sort(roles)
	for _, role := range slices.Compact(roles) {
		out = append(out, Fault{Kind: Hang, Nodes: []string{n.Name}, Role: role})
	}
	return out
}

func allDown(s *runner.Status, node string) bool {
	found := false
	for _, l := range s.Links {
		if nodeOf(l.A) != node && nodeOf(l.B) != node {
			continue
		}
		if found = true; l.State != runner.LinkDown && l.State != runner.LinkGone {
			return false
		}
	}
	return found
}

func nodeOf(end string) string {
	name, _, _ := strings.Cut(end, ":")
	return name
}

// cuts tells the lines that are cut: as a site, or as a node, where all of theirs are, else each pair of nodes.
func cuts(t *topology.Topology, s *runner.Status) []Fault {
	isCut := map[topology.Link]bool{}
	for i, l := range t.Links {
		isCut[l] = i < len(s.Links) && s.Links[i].State == runner.LinkCut
	}
	var out []Fault
	take := func(f Fault) {
		some := false
		for _, l := range t.Links {
			if !f.lines()(l) {
				continue
			}
			if some = true; !isCut[l] {
				return
			}
		}
		if !some {
			return
		}
		for _, l := range t.Links {
			if f.lines()(l) {
				isCut[l] = false
			}
		}
		out = append(out, f)
	}
	for _, site := range sites(t) {
		take(Fault{Kind: Site, Site: site, Nodes: t.Group(site)})
	}
	for _, n := range t.Nodes {
		take(Fault{Kind: ISP, Nodes: []string{n.Name}})
	}
	for _, l := range t.Links {
		if isCut[l] {
			take(Fault{Kind: Link, Nodes: []string{l.A.Node, l.B.Node}})
		}
	}
	for _, l := range t.Links { // of several lines between two nodes only some may be cut: heal the pair
		if f := (Fault{Kind: Link, Nodes: []string{l.A.Node, l.B.Node}}); isCut[l] && !slices.ContainsFunc(out, f.same) {
			out = append(out, f)
		}
	}
	return out
}

func (f Fault) same(o Fault) bool { return f.String() == o.String() }

// Pick chooses of the faults that stand what the words behind the lab's name mean: nothing or "all", the words of a
// fault, a node, a site, or the two ends of a line. The error says what stands instead.
func Pick(t *topology.Topology, standing []Fault, words []string) ([]Fault, error) {
	if len(words) == 0 || len(words) == 1 && words[0] == "all" {
		return standing, nil
	}
	if want, err := Parse(t, words); err == nil {
		if picked := slices.DeleteFunc(slices.Clone(standing), func(f Fault) bool { return !f.covers(want) }); len(picked) > 0 {
			return picked, nil
		}
		return nil, fmt.Errorf("%s stands not; %s", want, list(standing))
	}
	for _, w := range words {
		if _, ok := t.Node(w); !ok && !slices.Contains(sites(t), w) {
			return nil, unknownNode(t, w)
		}
	}
	picked := slices.DeleteFunc(slices.Clone(standing), func(f Fault) bool { return !f.touches(t, words) })
	if len(picked) == 0 {
		return nil, fmt.Errorf("nothing is broken at %s; %s", strings.Join(words, " and "), list(standing))
	}
	return picked, nil
}

// covers says whether healing the fault heals another, of the same kind.
func (f Fault) covers(want Fault) bool {
	if f.Kind != want.Kind || want.Role != "" && f.Role != "" && f.Role != want.Role {
		return false
	}
	if f.Kind == Site || f.Kind == Link {
		sorted := func(nodes []string) []string { s := slices.Clone(nodes); slices.Sort(s); return s }
		return slices.Equal(sorted(f.Nodes), sorted(want.Nodes))
	}
	return slices.ContainsFunc(f.Nodes, func(n string) bool { return slices.Contains(want.Nodes, n) })
}

// touches says whether the fault is at one of the nodes or sites; of a line both ends must be given, or one alone.
func (f Fault) touches(t *topology.Topology, words []string) bool {
	for _, w := range words {
		switch {
		case f.Kind == Site && f.Site == w:
			return true
		case f.Kind == Link && len(words) > 1:
			if slices.Contains(words, f.Nodes[0]) && slices.Contains(words, f.Nodes[1]) {
				return true
			}
		case f.Kind != Site && slices.ContainsFunc(f.Nodes, func(n string) bool { return n == w || slices.Contains(t.Group(w), n) }):
			return true
		}
	}
	return false
}

func unknownNode(t *topology.Topology, name string) error {
	var names []string
	for _, n := range t.Nodes {
		names = append(names, n.Name)
	}
	names = append(names, sites(t)...)
	if near := config.Nearest(name, names); near != "" {
		return fmt.Errorf("the lab has no node %q; did you mean %s?", name, near)
	}
	return fmt.Errorf("the lab has no node %q; lab status lists all", name)
}

// list says what stands.
func list(standing []Fault) string {
	if len(standing) == 0 {
		return "nothing is broken"
	}
	var words []string
	for _, f := range standing {
		words = append(words, f.String())
	}
	return "broken is: " + strings.Join(words, "; ")
}

// Together joins faults that are healed better at one moment: the power of several nodes.
func Together(faults []Fault) []Fault {
	var out []Fault
	power := -1
	for _, f := range faults {
		switch {
		case f.Kind == Power && power >= 0:
			out[power].Nodes = append(out[power].Nodes, f.Nodes...)
			continue
		case f.Kind == Power:
			power = len(out)
			f.Nodes = slices.Clone(f.Nodes)
		}
		out = append(out, f)
	}
	return out
}
