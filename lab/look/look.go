package look

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"anycastle/internal/config"
	"anycastle/internal/daemon"
	"anycastle/internal/netconf"
	"anycastle/lab/runner"
)

// Roles that have a status socket, by the name of the socket.
const (
	lb    = "lb"
	gss   = "gss"
	rhi   = "rhi"
	store = "store"
)

// Lab is a lab to look at. It is safe for concurrent use.
type Lab struct {
	*runner.Lab
	roles  map[string][]string     // by node
	speaks map[string]bool         // nodes that speak BGP
	routes map[string]bool         // nodes that forward for others
	owners map[netip.Addr]string   // node of each address
	normal map[string][]normalHops // by node; the routes when all was well for the first time
}

// New reads the node files of a lab.
func New(l *runner.Lab) (*Lab, error) {
	look := &Lab{Lab: l, roles: map[string][]string{}, speaks: map[string]bool{}, routes: map[string]bool{}, owners: map[netip.Addr]string{}}
	var errs []error
	for _, n := range l.Topology.Nodes {
		errs = append(errs, look.read(n.Name))
	}
	return look, errors.Join(errs...)
}

// nodeFile is where every node of ours has its file. A node of another product has none.
const nodeFile = "/etc/anycastle/node.yml"

func (l *Lab) read(name string) error {
	root, err := l.Root(name)
	if err != nil {
		return err
	}
	doc, err := config.Load(filepath.Join(root, nodeFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("node file of %s: %w", name, err)
	}
	var net netconf.Config
	doc.Decode("net", &net)
	if err := doc.Err(); err != nil {
		return fmt.Errorf("node file of %s: %w", name, err)
	}
	for _, i := range net.Interfaces {
		for _, p := range i.Addresses {
			l.owners[p.Addr()] = name
		}
	}
	for _, p := range net.Loopback {
		l.owners[p.Addr()] = name
	}
	l.roles[name], l.speaks[name], l.routes[name] = rolesOf(doc), doc.Has(rhi), net.Forward
	return nil
}

// rolesOf names the processes of a node that can be asked. rhi is part of lb, gss and store where they are.
func rolesOf(doc *config.Doc) (list []string) {
	mail := doc.Decode("mail", &struct{}{}) // what else stands there is for the role to judge
	switch {
	case doc.Has(lb):
		list = append(list, lb)
	case doc.Has(gss):
		list = append(list, gss)
	case doc.Has(rhi) && !mail.Has(store):
		list = append(list, rhi)
	}
	if mail.Has(store) {
		list = append(list, store)
	}
	return list
}

// with names the nodes that run a role, in the topology's order.
func (l *Lab) with(role string) (nodes []string) {
	for _, n := range l.Topology.Nodes {
		if slices.Contains(l.roles[n.Name], role) {
			nodes = append(nodes, n.Name)
		}
	}
	return nodes
}

// askTime bounds one question: a role that hangs must not hang who looks.
const askTime = time.Second

// Ask reads one noun of a role in a node, as `anycastle show NOUN -o json` there would.
func (l *Lab) Ask(ctx context.Context, node, role, noun string, v any) error {
	root, err := l.Root(node)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	if err := daemon.Get(ctx, filepath.Join(root, daemon.DefaultRunDir), role, "/v1/"+noun, v); err != nil {
		return fmt.Errorf("%s: %w", node, err)
	}
	return nil
}

// Via names the nodes by which a router, or a balancer, forwards to the prefix, sorted: none when it has no such route.
func (l *Lab) Via(ctx context.Context, node string, prefix netip.Prefix) ([]string, error) {
	routes, err := l.routesOf(ctx, node)
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		if r.prefix == prefix {
			return r.hops, nil
		}
	}
	return nil, nil
}

// normalHops is a route that the kernel of a node has.
type normalHops struct {
	prefix netip.Prefix
	hops   []string // names of nodes, sorted
}

// routesOf gives the learned routes that a node's kernel forwards by.
func (l *Lab) routesOf(ctx context.Context, node string) ([]normalHops, error) {
	if len(l.roles[node]) == 0 {
		return nil, fmt.Errorf("%s has no role that knows routes", node)
	}
	var list []struct {
		Prefix   netip.Prefix `json:"prefix"`
		NextHops []netip.Addr `json:"next_hops"`
		InKernel bool         `json:"in_kernel"`
	}
	if err := l.Ask(ctx, node, l.roles[node][0], "route", &list); err != nil {
		return nil, err
	}
	var routes []normalHops
	for _, r := range list {
		if !r.InKernel {
			continue
		}
		h := normalHops{prefix: r.Prefix}
		for _, hop := range r.NextHops {
			name := l.owners[hop]
			if name == "" {
				name = hop.String()
			}
			h.hops = append(h.hops, name)
		}
		slices.Sort(h.hops)
		routes = append(routes, h)
	}
	return routes, nil
}

// Real is a real as a balancer has it.
type Real struct {
	Farm    string     `json:"farm"`
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	State   string     `json:"state"`
	Why     string     `json:"why"`
}

// Balancing gives a balancer that has the node as a real, and as which.
func (l *Lab) Balancing(ctx context.Context, node string) (balancer string, as []Real, err error) {
	var errs []error
	for _, b := range l.with(lb) {
		var list []Real
		if err := l.Ask(ctx, b, lb, "real", &list); err != nil {
			errs = append(errs, err)
			continue
		}
		as = slices.DeleteFunc(list, func(r Real) bool { return l.owners[r.Address] != node })
		if len(as) > 0 {
			return b, as, nil
		}
	}
	return "", nil, errors.Join(append(errs, fmt.Errorf("no balancer has %s as a real", node))...)
}

// Active names the replica that is active for a LUN, as the stores say; "" when none is.
func (l *Lab) Active(ctx context.Context, lun string) (string, error) {
	var errs []error
	for _, node := range l.with(store) {
		luns, err := l.luns(ctx, node)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, s := range luns {
			if s.Name == lun && s.Replica != nil && s.Replica.Serving {
				return s.Replica.Self, nil
			}
		}
	}
	return "", errors.Join(errs...)
}

// word joins names for people.
func word(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}
