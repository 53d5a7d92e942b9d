package runner

import (
	"errors"
	"fmt"
	"net"
	"runtime"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sync/errgroup"

	"anycastle/lab/topology"
)

// network reaches into a node's network namespace from outside. Close it: an open one keeps the namespace alive.
type network struct {
	ns   netns.NsHandle
	link *netlink.Handle
}

func (l *Lab) openNetwork(node string) (*network, error) {
	i, err := l.init(node)
	if err != nil {
		return nil, err
	}
	ns, err := netns.GetFromPid(i.Pid)
	if err != nil {
		return nil, fmt.Errorf("open network of %s: %w", node, err)
	}
	// checked after opening: had the pid passed to another process, ours would not be alive any more
	if !i.alive() {
		ns.Close()
		return nil, fmt.Errorf("node %s: %w", node, ErrNodeGone)
	}
	handle, err := netlink.NewHandleAt(ns)
	if err != nil {
		ns.Close()
		return nil, fmt.Errorf("open netlink in %s: %w", node, err)
	}
	return &network{ns: ns, link: handle}, nil
}

func (n *network) close() {
	n.link.Close()
	n.ns.Close()
}

// do runs f on a thread inside the network namespace.
func (n *network) do(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(n.ns); err != nil {
			return fmt.Errorf("enter network: %w", err)
		}
		return f()
	})
}

func (l *Lab) buildLinks() error {
	nets := map[string]*network{}
	defer func() {
		for _, n := range nets {
			n.close()
		}
	}()
	for _, name := range l.nodeNames() {
		n, err := l.openNetwork(name)
		if err != nil {
			return err
		}
		nets[name] = n
	}
	for _, link := range l.Topology.Links {
		if err := makePair(link, nets[link.A.Node], nets[link.B.Node]); err != nil {
			return fmt.Errorf("link %s to %s: %w", link.A, link.B, err)
		}
	}
	var g errgroup.Group
	g.SetLimit(runtime.NumCPU())
	for name, n := range nets {
		g.Go(func() error {
			if err := n.bringUp(l.interfaces(name)); err != nil {
				return fmt.Errorf("bring up %s: %w", name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// interfaces lists the ends of links that lie in the node.
func (l *Lab) interfaces(node string) []string {
	var names []string
	for _, link := range l.Topology.Links {
		for _, e := range link.Ends() {
			if e.Node == node {
				names = append(names, e.Interface)
			}
		}
	}
	return names
}

// makePair makes both ends where they belong in one step, so that nothing ever appears in the host.
func makePair(link topology.Link, a, b *network) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = link.A.Interface, link.MTU
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerMTU = link.B.Interface, uint32(link.MTU)
	pair.PeerNamespace = netlink.NsFd(b.ns)
	return a.link.LinkAdd(pair)
}

// bringUp sets the interfaces as containerlab does, and up. Checksums are finished before a packet leaves, because an
// XDP program at the far end sees the packet as it is. Anything more is the node's own to set.
func (n *network) bringUp(names []string) error {
	err := n.do(func() error {
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer tool.Close()
		for _, name := range names {
			if err := tool.Change(name, map[string]bool{"tx-checksum-ip-generic": false}); err != nil {
				return fmt.Errorf("set features of %s: %w", name, err)
			}
		}
		return nil
	})
	for _, name := range append([]string{"lo"}, names...) {
		if err != nil {
			break
		}
		err = n.setUp(name)
	}
	return err
}

func (n *network) setUp(name string) error {
	link, err := n.link.LinkByName(name)
	if err == nil {
		err = n.link.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// carrier says whether an interface is up and its far end too, and whether it is set up, whatever the far end is.
func (n *network) carrier(name string) (up, set bool, err error) {
	link, err := n.link.LinkByName(name)
	if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
		return false, false, nil
	} else if err != nil {
		return false, false, fmt.Errorf("%s: %w", name, err)
	}
	return link.Attrs().OperState == netlink.OperUp, link.Attrs().Flags&net.FlagUp != 0, nil
}
