package fault

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"anycastle/lab/runner"
	"anycastle/lab/topology"
)

// Kind is a way to break something: the first word after the lab's name.
type Kind string

// The kinds.
const (
	Node  Kind = "node"  // SIGKILL to all processes of nodes
	Role  Kind = "role"  // SIGKILL to the process of one role, which its node starts again
	Hang  Kind = "hang"  // SIGSTOP to all processes of a node, or to those of a role
	Power Kind = "power" // no power: no process, no carrier
	Link  Kind = "link"  // all lines between two nodes lose every packet
	Site  Kind = "site"  // all lines of a site to the rest do
	ISP   Kind = "isp"   // all lines of a node do, for a node of any kind
	Disk  Kind = "disk"  // the disk of a node is full
)

// Fault is something broken, or to be.
type Fault struct {
	Kind  Kind
	Nodes []string // that it is about; of a link its two ends; of a site all of its nodes
	Site  string   // of kind Site
	Role  string   // of kinds Role and Hang; empty: all
}

// String gives it as the command line has it, such as "role east-lb1 lb".
func (f Fault) String() string {
	words := append([]string{string(f.Kind)}, f.Nodes...)
	if f.Kind == Site {
		words = []string{string(f.Kind), f.Site}
	}
	if f.Role != "" {
		words = append(words, f.Role)
	}
	return strings.Join(words, " ")
}

// Machines is what a lab can be made to do; *runner.Lab is one.
type Machines interface {
	Kill(ctx context.Context, node string) error
	Start(ctx context.Context, node string) error
	Cut(runner.Selector) ([]topology.Link, error)
	Heal(runner.Selector) ([]topology.Link, error)
	Pause(ctx context.Context, node, role string) error
	Resume(ctx context.Context, node, role string) error
	PowerOff(ctx context.Context, nodes ...string) error
	PowerOn(ctx context.Context, nodes ...string) error
	FillDisk(ctx context.Context, node string) error
	FreeDisk(ctx context.Context, node string) error
	KillRole(ctx context.Context, node, role string) error
}

// between picks the lines between two nodes.
func between(a, b string) runner.Selector {
	return func(l topology.Link) bool {
		return l.A.Node == a && l.B.Node == b || l.A.Node == b && l.B.Node == a
	}
}

// lines picks the lines that a fault cuts.
func (f Fault) lines() runner.Selector {
	if f.Kind == Link {
		return between(f.Nodes[0], f.Nodes[1])
	}
	return runner.Around(f.Nodes...)
}

// Apply breaks it. What is broken so already stays broken.
func (f Fault) Apply(ctx context.Context, m Machines) error {
	switch f.Kind {
	case Link, Site, ISP:
		_, err := m.Cut(f.lines())
		return f.failed(err)
	case Power:
		return f.failed(m.PowerOff(ctx, f.Nodes...))
	}
	for _, node := range f.Nodes {
		var err error
		switch f.Kind {
		case Node:
			err = m.Kill(ctx, node)
		case Role:
			err = m.KillRole(ctx, node, f.Role)
		case Hang:
			err = m.Pause(ctx, node, f.Role)
		case Disk:
			err = m.FillDisk(ctx, node)
		}
		if err != nil {
			return f.failed(err)
		}
	}
	return nil
}

// Undo heals it.
func (f Fault) Undo(ctx context.Context, m Machines) error {
	switch f.Kind {
	case Link, Site, ISP:
		_, err := m.Heal(f.lines())
		return f.failed(err)
	case Power:
		return f.failed(m.PowerOn(ctx, f.Nodes...))
	}
	for _, node := range f.Nodes {
		var err error
		switch f.Kind {
		case Node:
			err = m.Start(ctx, node)
		case Hang:
			err = m.Resume(ctx, node, f.Role)
		case Disk:
			err = m.FreeDisk(ctx, node)
		}
		if err != nil {
			return f.failed(err)
		}
	}
	return nil
}

func (f Fault) failed(err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", f, err)
	}
	return nil
}

// Done says in a sentence what Apply has done.
func (f Fault) Done() string {
	names := strings.Join(f.Nodes, " and ")
	switch f.Kind {
	case Node:
		return names + ": every process is killed; links and addresses stay"
	case Role:
		return fmt.Sprintf("%s: the process of %s is killed; its node starts it again", names, f.Role)
	case Hang:
		if f.Role != "" {
			return fmt.Sprintf("%s: the process of %s is stopped where it stands; its connections stay open", names, f.Role)
		}
		return names + ": every process is stopped where it stands; its ports stay open and nothing answers"
	case Power:
		return names + ": no power; every process is gone, and the carrier at both ends of its lines"
	case Link:
		return names + ": the lines between them lose every packet; the carrier stays"
	case Site:
		return fmt.Sprintf("site %s: its lines to all others lose every packet; the carrier stays", f.Site)
	case ISP:
		return names + ": all of its lines lose every packet; the carrier stays"
	}
	return names + ": its disk is full to the last byte"
}

// Undone says in a sentence what Undo has done.
func (f Fault) Undone() string {
	names := strings.Join(f.Nodes, " and ")
	switch f.Kind {
	case Node:
		return names + ": its command is started again"
	case Role:
		return names + ": nothing to do, its node starts the role by itself"
	case Hang:
		return names + ": its processes go on"
	case Power:
		return names + ": has power again, and starts"
	case Link:
		return names + ": the lines between them are whole"
	case Site:
		return fmt.Sprintf("site %s: its lines are whole", f.Site)
	case ISP:
		return names + ": its lines are whole"
	}
	return names + ": its disk has room again"
}

// usage is the grammar of Parse.
const usage = "node NODE…, role NODE ROLE, hang NODE [ROLE], power NODE…, link NODE NODE, site SITE, isp NODE or disk NODE"

// Parse reads a fault from the words behind the lab's name.
func Parse(t *topology.Topology, words []string) (Fault, error) {
	if len(words) == 0 {
		return Fault{}, fmt.Errorf("what is to fail? %s", usage)
	}
	f := Fault{Kind: Kind(words[0])}
	args := words[1:]
	least, most := 1, 1
	switch f.Kind {
	case Node, Power:
		most = len(t.Nodes)
	case Role:
		least, most = 2, 2
	case Hang:
		most = 2
	case Link:
		least, most = 2, 2
	case Site, ISP, Disk:
	default:
		return Fault{}, fmt.Errorf("nothing fails by %q: %s", words[0], usage)
	}
	if len(args) < least || len(args) > most {
		return Fault{}, fmt.Errorf("%s takes other words than these %d: %s", f.Kind, len(args), usage)
	}
	if f.Kind == Site {
		f.Site, f.Nodes = args[0], t.Group(args[0])
		if len(f.Nodes) == 0 {
			return Fault{}, fmt.Errorf("the lab has no site %q; its sites: %s", args[0], strings.Join(sites(t), ", "))
		}
		return f, nil
	}
	if (f.Kind == Role || f.Kind == Hang) && len(args) == 2 {
		f.Role, args = args[1], args[:1]
	}
	return f.about(t, args)
}

// about fills in the nodes, each of which must exist, and the line between two.
func (f Fault) about(t *topology.Topology, nodes []string) (Fault, error) {
	for _, name := range nodes {
		if _, ok := t.Node(name); !ok {
			return Fault{}, unknownNode(t, name)
		}
	}
	f.Nodes = nodes
	if f.Kind == Link && !slices.ContainsFunc(t.Links, between(nodes[0], nodes[1])) {
		return Fault{}, fmt.Errorf("no line joins %s and %s; from %[1]s one goes to %[3]s", nodes[0], nodes[1],
			strings.Join(neighbours(t, nodes[0]), ", "))
	}
	return f, nil
}

// sites names the groups of the topology, sorted.
func sites(t *topology.Topology) []string {
	var names []string
	for _, n := range t.Nodes {
		if n.Group != "" {
			names = append(names, n.Group)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func neighbours(t *topology.Topology, node string) []string {
	var names []string
	for _, l := range t.Links {
		switch node {
		case l.A.Node:
			names = append(names, l.B.Node)
		case l.B.Node:
			names = append(names, l.A.Node)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Short says in a few words what the kind does.
func (k Kind) Short() string {
	return map[Kind]string{
		Node: "kill all of its processes", Role: "kill it; it starts again", Hang: "stop it where it stands", Power: "take its power away",
		Link: "lose all packets between them", Site: "cut the site off", ISP: "lose all packets of it", Disk: "fill its disk",
	}[k]
}
