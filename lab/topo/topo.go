// Package topo holds the lab's topologies: a folder each, with a containerlab file, the node files and a README.
//
// The folders are part of the binary too, so that `anycastle lab up two-site` works anywhere. Prepare makes what a
// topology needs and no repository should hold: certificates and data folders. Nothing has to be closed.
package topo

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"anycastle/internal/config"
	"anycastle/internal/netconf"
	"anycastle/lab/keys"
	"anycastle/lab/topology"
)

//go:embed two-site two-site-light two-pod lb-only gss-only rhi-frr
var builtIn embed.FS

// Names lists the topologies in the binary.
func Names() []string {
	entries, err := builtIn.ReadDir(".")
	if err != nil {
		panic(err) // the root of an embedded tree can always be read
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Find gives a topology file: name itself when it is a path, with no folder, or one of the binary and the folder that it is in.
func Find(name string) (folder fs.FS, file string, err error) {
	if strings.HasSuffix(name, ".clab.yml") {
		if _, err := os.Stat(name); err != nil {
			return nil, "", fmt.Errorf("topology file: %w", err)
		}
		return nil, name, nil
	}
	file = name + ".clab.yml"
	folder, err = fs.Sub(builtIn, name)
	if err == nil {
		_, err = fs.Stat(folder, file)
	}
	if err != nil {
		return nil, "", fmt.Errorf("no topology is called %q; there are: %s; or give the path of a .clab.yml file", name, strings.Join(Names(), ", "))
	}
	return folder, file, nil
}

// Prepare is PrepareFile for the one topology file in folder.
func Prepare(folder string) error {
	files, err := filepath.Glob(filepath.Join(folder, "*.clab.yml"))
	if err != nil {
		return fmt.Errorf("find the topology file: %w", err)
	}
	if len(files) != 1 {
		return fmt.Errorf("%s holds %d topology files; it must hold one", folder, len(files))
	}
	return PrepareFile(files[0])
}

// PrepareFile makes, beside the topology file, tls/NODE for each node that binds it, and data/NAME for each that a bind
// names.
func PrepareFile(file string) error {
	t, err := topology.Load(file)
	if err != nil {
		return err
	}
	folder := filepath.Dir(file)
	var hosts []keys.Host
	var errs []error
	for _, n := range t.Nodes {
		for _, b := range n.Binds {
			name, isKeys := strings.CutPrefix(b.Source, "tls/")
			switch {
			case isKeys:
				h, err := host(folder, name, n)
				errs = append(errs, err)
				hosts = append(hosts, h)
			case strings.HasPrefix(b.Source, "data/"):
				errs = append(errs, os.MkdirAll(filepath.Join(folder, b.Source), 0o755))
			}
		}
	}
	errs = append(errs, keys.Make(filepath.Join(folder, "tls"), hosts))
	return errors.Join(errs...)
}

// NamesLabel is the label of a node with the DNS names that its certificate must be good for, with commas between them. Without it
// those are the names of the service and of two sites.
const NamesLabel = "anycastle-names"

// host reads from a node's label which names its certificate must be good for, and from its own file which addresses.
func host(folder, name string, n topology.Node) (keys.Host, error) {
	h := keys.Host{Name: name, Names: []string{"*.east.example.org", "*.west.example.org", "*.mail.example.org"}}
	if names := n.Labels[NamesLabel]; names != "" {
		h.Names = strings.Split(names, ",")
	}
	for _, b := range n.Binds {
		if filepath.Base(b.Target) != "node.yml" {
			continue
		}
		doc, err := config.Load(filepath.Join(folder, b.Source))
		if err != nil {
			return h, err
		}
		var net netconf.Config
		doc.Decode("net", &net)
		if err := doc.Err(); err != nil {
			return h, err
		}
		for _, i := range net.Interfaces {
			for _, p := range i.Addresses {
				h.Addrs = append(h.Addrs, p.Addr())
			}
		}
		h.Addrs = append(h.Addrs, addrs(net.Loopback)...)
	}
	return h, nil
}

func addrs(prefixes []netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, p := range prefixes {
		out = append(out, p.Addr())
	}
	return out
}
