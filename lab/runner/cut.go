package runner

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"anycastle/lab/topology"
)

// Selector picks links to cut or heal.
type Selector func(topology.Link) bool

// All picks every link.
func All() Selector { return func(topology.Link) bool { return true } }

// Around picks the links that join one of the nodes to any other than them: it isolates a site, or one node.
func Around(nodes ...string) Selector {
	return func(l topology.Link) bool {
		return slices.Contains(nodes, l.A.Node) != slices.Contains(nodes, l.B.Node)
	}
}

// ErrNoLink means that a selector has picked no link of the lab.
var ErrNoLink = errors.New("no link picked")

// Cut makes the picked links lose every IP packet without a sign: both ends keep their carrier, nothing is closed,
// and ARP still passes. Links that are cut already stay so. The links picked come back.
//
// A packet is dropped where it arrives, in front of connection tracking and routing, but behind XDP: a program would take
// it off a cut link unseen. So a node that passes packets on, such as a router, drops them on the way to a cut link too.
// What a node sends itself is not dropped there, for its programs would be told. Only a packet that XDP sends to XDP by
// a cut link, with no router between them, passes.
func (l *Lab) Cut(pick Selector) ([]topology.Link, error) { return l.changeCuts(pick, true) }

// Heal undoes Cut. The links picked come back, whether they were cut or not.
func (l *Lab) Heal(pick Selector) ([]topology.Link, error) { return l.changeCuts(pick, false) }

func (l *Lab) changeCuts(pick Selector, cut bool) ([]topology.Link, error) {
	var picked []topology.Link
	changes := map[string][]string{} // by node, its interfaces
	for _, link := range l.Topology.Links {
		if !pick(link) {
			continue
		}
		picked = append(picked, link)
		for _, e := range link.Ends() {
			changes[e.Node] = append(changes[e.Node], e.Interface)
		}
	}
	if len(picked) == 0 {
		return nil, ErrNoLink
	}
	unlock, err := l.lockCuts()
	if err != nil {
		return nil, err
	}
	defer unlock()
	var errs []error
	for _, node := range slices.Sorted(maps.Keys(changes)) {
		if err := l.changeCutsOf(node, changes[node], cut); err != nil {
			errs = append(errs, fmt.Errorf("cut or heal links of %s: %w", node, err))
		}
	}
	return picked, errors.Join(errs...)
}

// lockCuts keeps other cuts and heals of the lab waiting, in this process and others: a node's cuts are read and
// written back.
func (l *Lab) lockCuts() (unlock func(), err error) {
	f, err := os.Open(filepath.Join(l.StateDir, sockDir))
	if err != nil {
		return nil, fmt.Errorf("lock cuts: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock cuts: %w", err)
	}
	return func() { f.Close() }, nil
}

func (l *Lab) changeCutsOf(node string, names []string, cut bool) error {
	n, err := l.openNetwork(node)
	if err != nil {
		return err
	}
	defer n.close()
	have, err := n.readCuts()
	if err != nil {
		return err
	}
	want := desiredCuts(have, names, cut)
	if slices.Equal(have, want) {
		return nil
	}
	return n.writeCuts(want)
}

// desiredCuts gives the sorted interfaces that are to be cut in a node.
func desiredCuts(have, names []string, cut bool) []string {
	want := slices.DeleteFunc(slices.Clone(have), func(name string) bool { return slices.Contains(names, name) })
	if cut {
		want = append(want, names...)
	}
	slices.Sort(want)
	return slices.Compact(want)
}

// cutTable is the lab's own nftables table in a node. The kernel is where the truth about cuts is kept.
func cutTable() *nftables.Table {
	return &nftables.Table{Name: "anycastle_lab_cut", Family: nftables.TableFamilyINet}
}

// arrival is the chain that is read back.
const arrival = "arrival"

// readCuts lists the interfaces that are cut in the node, sorted.
func (n *network) readCuts() ([]string, error) {
	c, err := nftables.New(nftables.WithNetNSFd(int(n.ns)))
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list nftables tables: %w", err)
	}
	if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == cutTable().Name }) {
		return nil, nil
	}
	rules, err := c.GetRules(cutTable(), &nftables.Chain{Name: arrival})
	if err != nil {
		return nil, fmt.Errorf("list cuts: %w", err)
	}
	var names []string
	for _, r := range rules {
		names = append(names, string(r.UserData))
	}
	slices.Sort(names)
	return names, nil
}

// writeCuts replaces the table in one transaction; without cuts there is no table.
func (n *network) writeCuts(names []string) error {
	c, err := nftables.New(nftables.WithNetNSFd(int(n.ns)))
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	c.AddTable(cutTable()) // so that there is one to delete
	c.DelTable(cutTable())
	if len(names) > 0 {
		table := c.AddTable(cutTable())
		addDrops(c, table, arrival, nftables.ChainHookPrerouting, expr.MetaKeyIIFNAME, names)
		addDrops(c, table, "passage", nftables.ChainHookForward, expr.MetaKeyOIFNAME, names)
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("write cuts: %w", err)
	}
	return nil
}

// addDrops makes a chain that drops what meets the hook with one of the interfaces. Raw priority: before anyone counts.
func addDrops(c *nftables.Conn, table *nftables.Table, name string, hook *nftables.ChainHook, key expr.MetaKey, names []string) {
	chain := c.AddChain(&nftables.Chain{
		Name: name, Table: table, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityRaw,
	})
	for _, name := range names {
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, UserData: []byte(name), Exprs: []expr.Any{
			&expr.Meta{Key: key, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: append([]byte(name), make([]byte, unix.IFNAMSIZ-len(name))...)},
			&expr.Verdict{Kind: expr.VerdictDrop},
		}})
	}
}
