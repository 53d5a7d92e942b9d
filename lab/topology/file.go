package topology

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// file is the section `topology` as it is written.
type file struct {
	Defaults nodeConfig             `yaml:"defaults"` // laid under every node
	Kinds    map[string]*nodeConfig `yaml:"kinds"`    // laid over defaults; linux is the only kind
	Nodes    map[string]*nodeConfig `yaml:"nodes"`
	Links    []linkConfig           `yaml:"links"`
}

// nodeConfig is what a node, a kind and the defaults may say. Nothing has a default of its own.
type nodeConfig struct {
	Kind        string            `yaml:"kind"`
	Image       string            `yaml:"image"` // for containerlab alone
	Cmd         string            `yaml:"cmd"`
	Binds       []string          `yaml:"binds"`
	Env         map[string]string `yaml:"env"`
	Exec        []string          `yaml:"exec"`
	NetworkMode string            `yaml:"network-mode"`
	Labels      map[string]string `yaml:"labels"`
	Group       string            `yaml:"group"`
}

type linkConfig struct {
	Endpoints []string `yaml:"endpoints"`
	MTU       int      `yaml:"mtu"` // bytes; DefaultMTU when absent
}

// layers lists what a node is made of, the weakest first: the order in which containerlab lays them.
func (f *file) layers(name string) []*nodeConfig {
	layers := []*nodeConfig{&f.Defaults}
	if kind := f.Kinds["linux"]; kind != nil {
		layers = append(layers, kind)
	}
	return append(layers, f.Nodes[name])
}

// last gives the strongest layer's value of a single-valued key.
func last(layers []*nodeConfig, get func(*nodeConfig) string) string {
	var value string
	for _, l := range layers {
		value = cmp.Or(get(l), value)
	}
	return value
}

func (f *file) nodes() []Node {
	var nodes []Node
	for _, name := range slices.Sorted(maps.Keys(f.Nodes)) {
		nodes = append(nodes, f.node(name))
	}
	return nodes
}

// node merges a node's layers. It runs after validate, so that splitting and parsing cannot go wrong any more.
func (f *file) node(name string) Node {
	layers := f.layers(name)
	n := Node{
		Name:  name,
		Group: last(layers, func(c *nodeConfig) string { return c.Group }),
		Env:   map[string]string{},

		Labels: map[string]string{},
	}
	if cmd := last(layers, func(c *nodeConfig) string { return c.Cmd }); cmd != "" {
		n.Cmd, _ = split(cmd)
	}
	n.Disk, _ = parseSize(last(layers, func(c *nodeConfig) string { return c.Labels[DiskLabel] }))
	binds := map[string]Bind{} // a stronger layer replaces what a weaker one binds at the same place
	var commands []string
	for _, l := range layers {
		maps.Copy(n.Env, l.Env)
		maps.Copy(n.Labels, l.Labels)
		for _, text := range l.Binds {
			b, _ := parseBind(text)
			b.Source = strings.ReplaceAll(b.Source, nodeNameVariable, name)
			binds[b.Target] = b
		}
		for _, c := range l.Exec {
			if !slices.Contains(commands, c) {
				commands = append(commands, c)
			}
		}
	}
	for _, target := range slices.Sorted(maps.Keys(binds)) {
		n.Binds = append(n.Binds, binds[target])
	}
	for _, c := range commands {
		argv, _ := split(strings.ReplaceAll(c, nodeNameVariable, name))
		n.Exec = append(n.Exec, argv)
	}
	return n
}

func (f *file) links() []Link {
	var links []Link
	for _, l := range f.Links {
		a, _ := parseEndpoint(l.Endpoints[0])
		b, _ := parseEndpoint(l.Endpoints[1])
		links = append(links, Link{A: a, B: b, MTU: cmp.Or(l.MTU, DefaultMTU)})
	}
	return links
}
