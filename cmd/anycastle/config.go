package main

import (
	"strings"

	"anycastle/gss"
	"anycastle/internal/config"
	"anycastle/internal/netconf"
	"anycastle/lb"
	"anycastle/lb/real"
	"anycastle/mailroles"
	"anycastle/rhi"
)

const defaultNodeFile = "/etc/anycastle/node.yml"

// nodeFile is a whole node file: each role's own config, nil where the file has no such section.
type nodeFile struct {
	Net  *netconf.Config
	LB   *lb.Config
	RHI  *rhi.Config
	GSS  *gss.Config
	Mail *mailroles.Config
	Real *real.Config
}

// section is one top-level key of a node file.
type section struct {
	name string
	into func(*nodeFile) validator
}

type validator interface{ Validate(at config.Cursor) }

var sections = []section{
	{"net", func(n *nodeFile) validator { n.Net = new(netconf.Config); return n.Net }},
	{"lb", func(n *nodeFile) validator { n.LB = new(lb.Config); return n.LB }},
	{"rhi", func(n *nodeFile) validator { n.RHI = new(rhi.Config); return n.RHI }},
	{"gss", func(n *nodeFile) validator { n.GSS = new(gss.Config); return n.GSS }},
	{"mail", func(n *nodeFile) validator { n.Mail = new(mailroles.Config); return n.Mail }},
	{"real", func(n *nodeFile) validator { n.Real = new(real.Config); return n.Real }},
}

// loadNode reads, decodes and validates a node file. The error joins everything that is wrong with it.
func loadNode(path string) (*nodeFile, error) {
	doc, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	node := &nodeFile{}
	var known []string
	for _, s := range sections {
		known = append(known, s.name)
		if doc.Has(s.name) {
			c := s.into(node)
			at := doc.Decode(s.name, c)
			c.Validate(at)
			if s.name == "rhi" {
				node.validateMeshes(at)
			}
		}
	}
	doc.KnownSections(known...)
	if err := doc.Err(); err != nil {
		return nil, err
	}
	return node, nil
}

// validateMeshes keeps the mesh of a site's balancers and that of all sites' apart: they are in one process. at is rhi's, which
// comes after lb's.
func (n *nodeFile) validateMeshes(at config.Cursor) {
	if n.LB == nil || n.LB.Mesh == nil || n.RHI.Mesh == nil || n.LB.Mesh.Listen != n.RHI.Mesh.Listen {
		return
	}
	at.Key("mesh").Key("listen").Errorf("%v is where lb.mesh listens; give this one a port of its own", n.RHI.Mesh.Listen)
}

// roleProcess is a process that a node runs.
type roleProcess struct {
	name    string   // as in its socket's path
	command []string // of this binary
}

// host is the role in whose process rhi runs: a route must not outlive the balancer, the site selector, or the active store, that it points at.
// Empty: it runs as a process of its own, or not at all.
func (n *nodeFile) host() string {
	switch {
	case n.RHI == nil:
		return ""
	case n.LB != nil:
		return "lb"
	case n.GSS != nil && n.RHI.Router == nil:
		return "gss"
	case n.Mail != nil && n.Mail.Store != nil && n.Mail.Store.Node != "" && n.RHI.Router == nil:
		return "store"
	}
	return ""
}

// roles lists the processes that the node runs.
func (n *nodeFile) roles() []roleProcess {
	var list []roleProcess
	add := func(runs bool, name string, command ...string) {
		if runs {
			list = append(list, roleProcess{name, command})
		}
	}
	add(n.Real != nil, "real", "real")
	add(n.LB != nil, "lb", "lb")
	add(n.RHI != nil && n.host() == "", "rhi", "rhi")
	add(n.GSS != nil, "gss", "gss")
	if m := n.Mail; m != nil {
		add(m.Store != nil, "store", "mail", "store")
		add(m.SMTP != nil, "smtp", "mail", "smtp")
		add(m.Submission != nil, "submission", "mail", "submission")
		add(m.IMAP != nil, "imap", "mail", "imap")
		add(m.Witness != nil, "witness", "mail", "witness")
		add(m.Monitor != nil, "monitor", "mail", "monitor")
	}
	return list
}

func (n *nodeFile) describe() string {
	var names []string
	for _, r := range n.roles() {
		if r.name == n.host() {
			r.name += " with rhi"
		}
		names = append(names, r.name)
	}
	if len(names) == 0 {
		return "none, only a network"
	}
	return strings.Join(names, ", ")
}
