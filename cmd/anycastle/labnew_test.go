package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anycastle/lab/pod"
	"anycastle/lab/topology"
)

// Whatever `lab new` makes, each of its node files is one that `check` accepts: on the node, that is, where binds show keys,
// mailboxes and data.
func TestRenderedNodesPassCheck(t *testing.T) {
	for pods := 1; pods <= pod.MostPods; pods++ {
		for sites := 1; sites <= pod.MostSites; sites++ {
			t.Run(fmt.Sprintf("%dx%d", pods, sites), func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "lab")
				code, out, stderr := outcome(t, "lab", "new", "--name", "test", "--pods", fmt.Sprint(pods), "--sites", fmt.Sprint(sites), "--dir", dir)
				if code != 0 {
					t.Fatalf("lab new: %d %s", code, stderr)
				}
				file := filepath.Join(dir, "test.clab.yml")
				topo, err := topology.Load(file)
				if err != nil {
					t.Fatal(err)
				}
				if want := 4 + min(sites-1, 1) + sites*(4+pods*(10+min(sites-1, 1))); len(topo.Nodes) != want || !strings.Contains(out, fmt.Sprintf(" %d nodes;", want)) {
					t.Errorf("%d nodes, it says %q; want %d", len(topo.Nodes), out, want)
				}
				for _, n := range topo.Nodes {
					if err := checkOnNode(t, dir, n); err != nil {
						t.Errorf("%s: %v", n.Name, err)
					}
				}
			})
		}
	}
}

// checkOnNode is `check` of a node's file with each bind where its source is.
func checkOnNode(t *testing.T, dir string, n topology.Node) error {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "nodes", n.Name+".yml"))
	if err != nil {
		t.Fatal(err)
	}
	moved := string(text)
	for _, b := range n.Binds {
		if filepath.Base(b.Target) != "node.yml" {
			moved = strings.ReplaceAll(moved, b.Target, filepath.Join(dir, b.Source))
		}
	}
	path := filepath.Join(t.TempDir(), n.Name+".yml")
	if err := os.WriteFile(path, []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = loadNode(path)
	return err
}
