package topo

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anycastle/lab/pod"
)

var update = flag.Bool("update", false, "write the rendered topologies instead of comparing them")

// The big topologies are what `anycastle lab new` makes of their plans, and a README.
func TestPodsAreRendered(t *testing.T) {
	plans, err := filepath.Glob("*/pod.yml")
	if err != nil || len(plans) == 0 {
		t.Fatalf("plans: %v, %v", plans, err)
	}
	for _, plan := range plans {
		dir := filepath.Dir(plan)
		t.Run(dir, func(t *testing.T) {
			text, err := os.ReadFile(plan)
			if err != nil {
				t.Fatal(err)
			}
			p, err := pod.Parse(plan, text)
			if err != nil {
				t.Fatal(err)
			}
			want, err := pod.Render(p)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				rewrite(t, dir, want)
			}
			if diff := cmp.Diff(want, rendered(t, dir)); diff != "" {
				t.Errorf("%s is not what its plan gives; run go test ./lab/topo -update (-want +got):\n%s", dir, diff)
			}
		})
	}
}

// written are the files of a folder that people write.
var written = map[string]bool{"pod.yml": true, "README.md": true}

// rendered reads the other files of a folder.
func rendered(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || written[path] {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, path))
		files[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func rewrite(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for path := range rendered(t, dir) {
		if err := os.Remove(filepath.Join(dir, path)); err != nil {
			t.Fatal(err)
		}
	}
	if err := pod.Write(dir, files); err != nil {
		t.Fatal(err)
	}
}
