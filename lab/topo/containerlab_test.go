package topo

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"anycastle/lab/topology"
)

// lab is what the reader (testdata/containerlab) says that containerlab makes of a topology.
type lab struct {
	Name  string
	Nodes []node
	Links []link
}

type node struct {
	Name, Kind, Image, Group, NetworkMode string
	Cmd                                   []string
	Exec                                  [][]string
	Binds                                 []string
	Env, Labels                           map[string]string
}

type link struct {
	A, B string
	MTU  int
}

// readByContainerlab has containerlab's own types read the files.
func readByContainerlab(t *testing.T, files []string) []lab {
	t.Helper()
	args := []string{"run", "."}
	for _, f := range files {
		path, err := filepath.Abs(f)
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = reader, &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	var labs []lab
	if err := json.Unmarshal(out.Bytes(), &labs); err != nil {
		t.Fatal(err)
	}
	if len(labs) != len(files) {
		t.Fatalf("containerlab's types read %d of %d files", len(labs), len(files))
	}
	return labs
}

// readByUs gives our reading in the same form. The lab knows one kind and one network mode, and wants no image.
func readByUs(t *testing.T, file string) lab {
	t.Helper()
	topo, err := topology.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	l := lab{Name: topo.Name}
	for _, n := range topo.Nodes {
		is := node{Name: n.Name, Group: n.Group, Cmd: n.Cmd, Exec: n.Exec, Env: n.Env, Labels: n.Labels}
		for _, b := range n.Binds {
			text := b.Source + ":" + b.Target
			if b.ReadOnly {
				text += ":ro"
			}
			is.Binds = append(is.Binds, text)
		}
		l.Nodes = append(l.Nodes, is)
	}
	for _, k := range topo.Links {
		l.Links = append(l.Links, link{A: k.A.String(), B: k.B.String(), MTU: k.MTU})
	}
	return l
}

func TestBothRunnersReadTheSame(t *testing.T) {
	files := topologies(t)
	for i, theirs := range readByContainerlab(t, files) {
		t.Run(files[i], func(t *testing.T) {
			for j, n := range theirs.Nodes {
				checkNode(t, n)
				// what our reading leaves out
				n.Kind, n.Image, n.NetworkMode = "", "", ""
				theirs.Nodes[j] = n
			}
			sortedBinds := cmpopts.SortSlices(func(a, b string) bool { return a < b })
			if diff := cmp.Diff(theirs, readByUs(t, files[i]), cmpopts.EquateEmpty(), cmp.FilterPath(isBinds, sortedBinds)); diff != "" {
				t.Errorf("(-containerlab +ours):\n%s", diff)
			}
		})
	}
}

// isBinds says whether a path of a comparison is that of binds, whose order says nothing.
func isBinds(p cmp.Path) bool { return p.Last().String() == ".Binds" }

// checkNode looks at what our reading has no place for.
func checkNode(t *testing.T, n node) {
	t.Helper()
	if n.Kind != "linux" || n.Image == "" {
		t.Errorf("%s is of kind %q with image %q; containerlab needs linux and an image", n.Name, n.Kind, n.Image)
	}
	if n.NetworkMode != "none" {
		t.Errorf("%s has network mode %q; with another than none containerlab gives it a line to the host", n.Name, n.NetworkMode)
	}
}

// images are those that topologies may name, with the file that makes them; the empty one is somebody else's.
var images = map[string]string{
	"anycastle:latest":             "../Dockerfile",
	"anycastle-resolver:latest":    "../Dockerfile.resolver",
	"quay.io/frrouting/frr:10.2.1": "",
}

// TestImagesAreThere has each image be made by a file that copies only what `make build` makes, and have what its nodes run.
func TestImagesAreThere(t *testing.T) {
	files, err := filepath.Glob("*/*.clab.yml")
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range readByContainerlab(t, files) {
		for _, n := range l.Nodes {
			file, known := images[n.Image]
			if !known {
				t.Errorf("%s: %s runs %s, which nobody knows how to make", files[i], n.Name, n.Image)
			}
			for _, argv := range append(slices.Clone(n.Exec), n.Cmd) {
				// an image from scratch has no shell
				if file == "../Dockerfile" && len(argv) > 0 && argv[0] != "anycastle" {
					t.Errorf("%s: %s runs %q, and its image has nothing but anycastle", files[i], n.Name, argv)
				}
			}
		}
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range images {
		if file != "" {
			checkDockerfile(t, file, string(makefile))
		}
	}
}

func checkDockerfile(t *testing.T, file, makefile string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	copies := false
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "COPY" {
			continue
		}
		copies = true
		for _, source := range words[1 : len(words)-1] {
			if _, err := os.Stat(filepath.Join("../..", source)); err != nil && !strings.Contains(makefile, "go build -o "+source+" ") {
				t.Errorf("%s copies %s, which is not in the repository and `make build` does not make", file, source)
			}
		}
		if to := words[len(words)-1]; !strings.HasPrefix(to, "/usr/local/bin/") {
			t.Errorf("%s puts the binary at %s; nodes look for it in /usr/local/bin", file, to)
		}
	}
	if !copies {
		t.Errorf("%s copies nothing", file)
	}
}

// TestScriptsNameThePackage has the scripts of nodes that run programs of others say how to get these.
func TestScriptsNameThePackage(t *testing.T) {
	for script, want := range map[string]string{
		"rhi-frr/frr/start.sh":       "apt-get install frr",
		"rhi-frr/frr/ready.sh":       "apt-get install frr",
		"gss-only/resolver/start.sh": "apt-get install unbound",
		"gss-only/resolver/ready.sh": "apt-get install unbound",
	} {
		cmd := exec.CommandContext(t.Context(), "/bin/sh", script)
		cmd.Env = []string{"PATH=/nowhere", "FRR=/nowhere"}
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s where nothing is installed: %v, %s; want %q", script, err, out, want)
		}
	}
}
