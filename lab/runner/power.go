package runner

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// PowerOff takes the power from nodes, all at the same time: their links lose the carrier at both ends, every process
// ends, and what a machine keeps in its memory is gone: sockets, addresses, routes, nftables, pinned BPF programs. Files stay,
// those in /run too. Nobody gets a last word out: the links go before the processes whose sockets the kernel closes.
// It may be repeated. Nodes whose name is unknown are an error before anything is done.
func (l *Lab) PowerOff(ctx context.Context, nodes ...string) error {
	return l.askAll(ctx, opPowerOff, nodes)
}

// PowerOn gives the power back: links up, then the node's cmd, then its exec, as Up does. A link has its carrier again
// when the far end has power too. It is an error for a node that has power.
func (l *Lab) PowerOn(ctx context.Context, nodes ...string) error {
	if err := l.askAll(ctx, opPowerOn, nodes); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, name := range nodes {
		node, _ := l.Topology.Node(name)
		g.Go(func() error { return l.runExec(ctx, node) })
	}
	return g.Wait()
}

// askAll asks the inits of several nodes for the same, side by side: a site's power goes at one moment.
func (l *Lab) askAll(ctx context.Context, op string, nodes []string) error {
	for _, node := range nodes {
		if _, err := l.init(node); err != nil {
			return err
		}
	}
	errs := make([]error, len(nodes))
	var g errgroup.Group
	for i, node := range nodes {
		g.Go(func() error {
			errs[i] = l.call(ctx, node, request{Op: op})
			return nil
		})
	}
	g.Wait() // an error of one node must not keep the others from being done
	return errors.Join(errs...)
}

// powerOff is PowerOff in the init of the node.
func (n *nodeInit) powerOff() error {
	n.off = true // at once: a start must not come between, whatever goes wrong below
	if err := setLinks((*netlink.Handle).LinkSetDown); err != nil {
		return err
	}
	if err := n.killAll(); err != nil {
		return err
	}
	return errors.Join(forgetSockets(), forgetPins(), forgetAddresses(), forgetTables())
}

// powerOn is PowerOn in the init of the node.
func (n *nodeInit) powerOn() error {
	if !n.off {
		return errors.New("the node has power already")
	}
	if err := setLinks((*netlink.Handle).LinkSetUp); err != nil {
		return err
	}
	n.off = false
	if len(n.spec.Node.Cmd) == 0 {
		return nil
	}
	return n.start()
}

// setLinks does one thing to every interface but lo.
func setLinks(do func(*netlink.Handle, netlink.Link) error) error {
	return eachLink(func(nl *netlink.Handle, link netlink.Link) error {
		if link.Attrs().Name == loopback {
			return nil
		}
		return do(nl, link)
	})
}

const loopback = "lo"

func eachLink(do func(*netlink.Handle, netlink.Link) error) error {
	nl, err := netlink.NewHandle()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer nl.Close()
	links, err := nl.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var errs []error
	for _, link := range links {
		if err := do(nl, link); err != nil {
			errs = append(errs, fmt.Errorf("link %s: %w", link.Attrs().Name, err))
		}
	}
	return errors.Join(errs...)
}

// forgetAddresses removes every address but those that the kernel gives to lo by itself. Routes go with them.
func forgetAddresses() error {
	return eachLink(func(nl *netlink.Handle, link netlink.Link) error {
		addrs, err := nl.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		var errs []error
		for _, a := range addrs {
			if !a.IP.IsLoopback() {
				errs = append(errs, nl.AddrDel(link, &a))
			}
		}
		return errors.Join(errs...)
	})
}

// forgetTables removes every nftables table but that of the lab's cuts: a cable stays cut while its machine is off.
func forgetTables() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	tables, err := c.ListTables()
	if err != nil {
		return fmt.Errorf("list nftables tables: %w", err)
	}
	for _, t := range tables {
		if t.Name != cutTable().Name {
			c.DelTable(t)
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("remove nftables tables: %w", err)
	}
	return nil
}

// forgetPins gives the node a new BPF file system: the pins of the old one go, and what they alone have kept attached.
func forgetPins() error {
	if err := unix.Unmount(bpfDir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", bpfDir, err)
	}
	return mountBPF()
}
