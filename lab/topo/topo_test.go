package topo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anycastle/lab/topology"
)

// unpack writes a topology of the binary into a folder, and gives the path of its file.
func unpack(t *testing.T, name string) string {
	t.Helper()
	folder, file, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, folder); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, file)
}

func TestEveryTopologyUnpacksAndPrepares(t *testing.T) {
	names := Names()
	if len(names) == 0 {
		t.Fatal("the binary holds no topology")
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			file := unpack(t, name)
			if err := Prepare(filepath.Dir(file)); err != nil {
				t.Fatal(err)
			}
			topo, err := topology.Load(file)
			if err != nil {
				t.Fatal(err)
			}
			if topo.Name != name {
				t.Errorf("it calls itself %s", topo.Name)
			}
			binds := 0
			for _, n := range topo.Nodes {
				for _, b := range n.Binds {
					binds++
					if _, err := os.Stat(filepath.Join(filepath.Dir(file), b.Source)); err != nil {
						t.Errorf("%s binds what is not there: %v", n.Name, err)
					}
				}
			}
			if binds < len(topo.Nodes) {
				t.Errorf("%d binds for %d nodes; each has at least its node file", binds, len(topo.Nodes))
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), "README.md")); err != nil {
				t.Error(err)
			}
		})
	}
}

// A certificate without the node's addresses would only be noticed in a handshake.
func TestPrepareRefusesABrokenNetwork(t *testing.T) {
	file := unpack(t, "two-site")
	node := filepath.Join(filepath.Dir(file), "nodes", "east-mx1.yml")
	if err := os.WriteFile(node, []byte("net:\n  loopbak: [192.0.2.1/32]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Prepare(filepath.Dir(file)); err == nil || !strings.Contains(err.Error(), "loopbak") {
		t.Errorf("a node file whose net section is wrong: %v", err)
	}
}

func TestFindSaysWhatThereIs(t *testing.T) {
	for name, want := range map[string]string{
		"nowhere":          "there are: gss-only, lb-only, rhi-frr, two-pod, two-site, two-site-light",
		"":                 "there are: gss-only, lb-only, rhi-frr, two-pod, two-site, two-site-light",
		"../two-site":      "there are: gss-only, lb-only, rhi-frr, two-pod, two-site, two-site-light",
		"nowhere.clab.yml": "no such file",
	} {
		if _, _, err := Find(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Find(%q): %v, want %q in it", name, err, want)
		}
	}
}

func TestPrepareWantsOneTopology(t *testing.T) {
	dir := t.TempDir()
	if err := Prepare(dir); err == nil || !strings.Contains(err.Error(), "0 topology files") {
		t.Errorf("an empty folder: %v", err)
	}
}
