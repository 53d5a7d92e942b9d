// Command containerlab-reader prints what containerlab's own types make of topology files, as JSON: a list in the order of
// the arguments. It is a module of its own, so that containerlab and all that it needs stay out of the project's.
//
// It follows containerlab's core/file.go and core/config.go: the file is decoded strictly, and each node is asked for what
// its defaults, kind, group and itself come to. Templates and variables are not replaced; the lab refuses files with any.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/shlex"
	clablinks "github.com/srl-labs/containerlab/links"
	clabtypes "github.com/srl-labs/containerlab/types"
	"gopkg.in/yaml.v2"
)

// config is the part of containerlab's core.Config that the files have.
type config struct {
	Name     string              `yaml:"name"`
	Topology *clabtypes.Topology `yaml:"topology"`
}

type lab struct {
	Name  string
	Nodes []node
	Links []link
}

type node struct {
	Name, Kind, Image, Group, NetworkMode string
	Cmd                                   []string
	Exec                                  [][]string
	Binds                                 []string // sorted by the target
	Env, Labels                           map[string]string
}

type link struct {
	A, B string
	MTU  int
}

func main() {
	labs := []lab{}
	for _, path := range os.Args[1:] {
		l, err := read(path)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
			os.Exit(1)
		}
		labs = append(labs, l)
	}
	if err := json.NewEncoder(os.Stdout).Encode(labs); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func read(path string) (lab, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return lab{}, err
	}
	c := config{Topology: clabtypes.NewTopology()}
	if err := yaml.UnmarshalStrict(text, &c); err != nil {
		return lab{}, err
	}
	l := lab{Name: c.Name}
	for name := range c.Topology.Nodes {
		n, err := readNode(c.Topology, name)
		if err != nil {
			return lab{}, fmt.Errorf("node %s: %w", name, err)
		}
		l.Nodes = append(l.Nodes, n)
	}
	slices.SortFunc(l.Nodes, func(a, b node) int { return strings.Compare(a.Name, b.Name) })
	for i, d := range c.Topology.Links {
		veth, ok := d.Link.(*clablinks.LinkVEthRaw)
		if !ok || len(veth.Endpoints) != 2 {
			return lab{}, fmt.Errorf("link %d is no plain pair but %s", i, d.Link.GetType())
		}
		end := func(e *clablinks.EndpointRaw) string { return e.Node + ":" + e.Iface }
		l.Links = append(l.Links, link{A: end(veth.Endpoints[0]), B: end(veth.Endpoints[1]), MTU: veth.MTU})
	}
	return l, nil
}

func readNode(t *clabtypes.Topology, name string) (node, error) {
	n := node{
		Name: name, Kind: t.GetNodeKind(name), Image: t.GetNodeImage(name), Group: t.GetNodeGroup(name),
		NetworkMode: t.GetNodeNetworkMode(name), Env: t.GetNodeEnv(name), Labels: t.GetNodeLabels(name),
	}
	var err error
	if n.Binds, err = t.GetNodeBinds(name); err != nil {
		return n, err
	}
	target := func(bind string) string { return strings.Split(bind, ":")[1] }
	slices.SortFunc(n.Binds, func(a, b string) int { return strings.Compare(target(a), target(b)) })
	if n.Cmd, err = shlex.Split(t.GetNodeCmd(name)); err != nil {
		return n, err
	}
	for _, line := range t.GetNodeExec(name) {
		argv, err := shlex.Split(line)
		if err != nil {
			return n, err
		}
		n.Exec = append(n.Exec, argv)
	}
	return n, nil
}
