package topology

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"anycastle/internal/config"
)

// nodeNameVariable is the one variable of containerlab that is replaced, in bind sources and exec, by the node's name.
const nodeNameVariable = "__clabNodeName__"

// reserved are the names that containerlab gives a meaning of its own at the end of a link, in upper case too.
var reserved = []string{"host", "mgmt-net", "macvlan", "vxlan", "vxlan-stitch", "dummy"}

func (f *file) validate(at config.Cursor) {
	f.Defaults.validate(at.Key("defaults"))
	for _, kind := range slices.Sorted(maps.Keys(f.Kinds)) {
		k := at.Key("kinds").Key(kind)
		if kind != "linux" {
			k.Errorf("the lab knows the kind linux alone; remove this one")
		}
		f.Kinds[kind].validate(k)
	}
	if len(f.Nodes) == 0 {
		at.Key("nodes").Errorf("no nodes; name at least two")
	}
	for _, name := range slices.Sorted(maps.Keys(f.Nodes)) {
		f.validateNode(at.Key("nodes").Key(name), name)
	}
	f.validateLinks(at.Key("links"))
}

func (f *file) validateNode(at config.Cursor, name string) {
	if err := CheckName(name); err != nil {
		at.Errorf("%v", err)
	}
	if slices.Contains(reserved, strings.ToLower(name)) {
		at.Errorf("containerlab keeps the name %q for a special end of a link; give the node another", name)
	}
	f.Nodes[name].validate(at)
	if f.Nodes[name].Kind == "" && f.Defaults.Kind == "" { // what a kind says of itself does not count
		at.Errorf("no kind; write `kind: linux`, once under topology.defaults is enough")
	}
}

func (c *nodeConfig) validate(at config.Cursor) {
	if c.Kind != "" && c.Kind != "linux" {
		at.Key("kind").Errorf("the lab cannot build kind %q; use linux", c.Kind)
	}
	if c.NetworkMode != "" && c.NetworkMode != "none" {
		at.Key("network-mode").Errorf("the lab cannot give a node network mode %q; use none", c.NetworkMode)
	}
	if strings.Contains(c.Cmd, "__clab") {
		at.Key("cmd").Errorf("variables are not replaced in cmd; write the value out or take it from the host name")
	} else if _, err := split(c.Cmd); err != nil && c.Cmd != "" {
		at.Key("cmd").Errorf("%v", err)
	}
	for i, text := range c.Binds {
		at := at.Key("binds").Index(i)
		refuseVariables(at, text)
		if _, err := parseBind(text); err != nil {
			at.Errorf("%v", err)
		}
	}
	for i, text := range c.Exec {
		at := at.Key("exec").Index(i)
		refuseVariables(at, text)
		if _, err := split(text); err != nil {
			at.Errorf("%v", err)
		}
	}
	if _, err := parseSize(c.Labels[DiskLabel]); err != nil {
		at.Key("labels").Key(DiskLabel).Errorf("%v", err)
	}
	for name := range c.Env {
		if name == "__IMPORT_ENVS" {
			at.Key("env").Key(name).Errorf("the caller's environment is not passed on to nodes; write out what they need")
		} else if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(c.Env[name], "\x00") {
			at.Key("env").Key(name).Errorf("no environment can hold this; use a name without = and text without NUL")
		}
	}
}

func refuseVariables(at config.Cursor, text string) {
	if strings.Contains(strings.ReplaceAll(text, nodeNameVariable, ""), "__clab") {
		at.Errorf("of containerlab's variables only %s is replaced here; write the others out", nodeNameVariable)
	}
}

func (f *file) validateLinks(at config.Cursor) {
	if len(f.Links) == 0 {
		at.Errorf("no links; a lab without any has nothing to show")
	}
	used := map[Endpoint]int{}
	for i, l := range f.Links {
		at := at.Index(i)
		if len(l.Endpoints) != 2 {
			at.Errorf("a link has two endpoints, this one has %d; write endpoints: [\"a:eth1\", \"b:eth1\"]", len(l.Endpoints))
			continue
		}
		if l.MTU < 0 || l.MTU > 65535 || l.MTU > 0 && l.MTU < 68 {
			at.Key("mtu").Errorf("no pair of interfaces can have an MTU of %d; use one from 68 to 65535 bytes", l.MTU)
		}
		for j, text := range l.Endpoints {
			at := at.Key("endpoints").Index(j)
			e, err := parseEndpoint(text)
			if err == nil {
				err = f.checkEndpoint(e)
			}
			if err != nil {
				at.Errorf("%v", err)
				continue
			}
			if first, ok := used[e]; ok {
				at.Errorf("%s is already an end of links[%d]; use another interface", e, first)
			}
			used[e] = i
		}
	}
}

// checkEndpoint wants a node of this file, and eth0 only where containerlab would not make one for management.
func (f *file) checkEndpoint(e Endpoint) error {
	if slices.Contains(reserved, strings.ToLower(e.Node)) {
		return fmt.Errorf("the lab cannot build links to %q; join two nodes", e.Node)
	}
	if f.Nodes[e.Node] == nil {
		names := slices.Sorted(maps.Keys(f.Nodes))
		if near := config.Nearest(e.Node, names); near != "" {
			return fmt.Errorf("no node %q; did you mean %q?", e.Node, near)
		}
		return fmt.Errorf("no node %q; add it under topology.nodes", e.Node)
	}
	mode := last(f.layers(e.Node), func(c *nodeConfig) string { return c.NetworkMode })
	if e.Interface == "eth0" && mode != "none" {
		return fmt.Errorf("containerlab keeps eth0 for management; use eth1 or give the node network-mode: none")
	}
	return nil
}

func parseEndpoint(text string) (Endpoint, error) {
	node, name, ok := strings.Cut(text, ":")
	if !ok || node == "" || name == "" {
		return Endpoint{}, fmt.Errorf("%q is no endpoint; write it as node:interface", text)
	}
	switch {
	case len(name) > 15:
		return Endpoint{}, fmt.Errorf("interface name %q is longer than the 15 characters that the kernel takes; shorten it", name)
	case name == "lo" || name == "." || name == ".." || name == "all" || name == "default":
		return Endpoint{}, fmt.Errorf("the kernel keeps the name %q for itself; use one such as eth1", name)
	case strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '/' || r == ':' || r == '%' || r > '~' }):
		return Endpoint{}, fmt.Errorf("interface name %q has a character that the kernel refuses; use letters, digits, dots and dashes", name)
	}
	return Endpoint{Node: node, Interface: name}, nil
}

func parseBind(text string) (Bind, error) {
	parts := strings.Split(text, ":")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" {
		return Bind{}, fmt.Errorf("%q is no bind; write it as host-path:node-path or host-path:node-path:ro", text)
	}
	b := Bind{Source: filepath.Clean(parts[0]), Target: filepath.Clean(parts[1])}
	if len(parts) == 3 {
		switch parts[2] {
		case "ro":
			b.ReadOnly = true
		case "rw":
		default:
			return Bind{}, fmt.Errorf("bind option %q is not known here; use ro or rw", parts[2])
		}
	}
	if !filepath.IsAbs(b.Source) && !filepath.IsLocal(b.Source) || strings.HasPrefix(b.Source, "~") {
		return Bind{}, fmt.Errorf("%q lies outside the topology's folder; move it inside or give its absolute path", b.Source)
	}
	if !filepath.IsAbs(parts[1]) || strings.Contains(parts[1], "__clab") || b.Target == "/" {
		return Bind{}, fmt.Errorf("%q is no place in the node; give an absolute path below /", parts[1])
	}
	return b, nil
}

// parseSize reads a size in MiB such as 96M; nothing is no disk.
func parseSize(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	const most = 1 << 20 // a TiB
	n, err := strconv.ParseInt(strings.TrimSuffix(text, "M"), 10, 32)
	if err != nil || !strings.HasSuffix(text, "M") || n < 1 || n > most {
		return 0, fmt.Errorf("%q is no size of a disk; write it in MiB, such as 96M", text)
	}
	return n << 20, nil
}
