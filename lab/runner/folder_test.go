package runner

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
)

// A topology need not be on the machine: one of the binary is written into the lab's state folder and nowhere else.
func TestTopologyFromFiles(t *testing.T) {
	t.Parallel()
	o := Options{Topology: "a/a.clab.yml", Files: fstest.MapFS{
		"a/a.clab.yml":   {Data: []byte("x")},
		"a/nodes/n1.yml": {Data: []byte("node"), Mode: 0o444},
		"b/b.clab.yml":   {Data: []byte("another")},
	}}
	to := filepath.Join(t.TempDir(), "topo")
	if err := o.copyTopology(to); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(to, "nodes", "n1.yml")); err != nil || string(text) != "node" {
		t.Errorf("the node's file is %q, %v", text, err)
	}
	if info, err := os.Stat(filepath.Join(to, "nodes")); err != nil || info.Mode().Perm()&0o700 != 0o700 {
		t.Errorf("Prepare cannot write there: %v, %v", info, err)
	}
	if entries, err := os.ReadDir(to); err != nil || len(entries) != 2 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}
