package repotest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// topLevel is what may stand at the top of the tree, besides dot-files.
var topLevel = []string{"lb", "gss", "rhi", "mailroles", "bpf", "lab", "cmd", "internal", "go.mod", "go.sum", "Makefile", "README.md", "LICENSE"}

func TestTopLevelIsTheAgreedList(t *testing.T) {
	out, err := exec.Command("git", "-C", "../..", "ls-files").Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	for path := range strings.Lines(string(out)) {
		top, _, _ := strings.Cut(strings.TrimSpace(path), "/")
		if !strings.HasPrefix(top, ".") && !slices.Contains(topLevel, top) {
			t.Errorf("%s stands at the top of the tree, which is kept to the agreed list", top)
		}
	}
}

func TestEachPackageSaysWhatItIs(t *testing.T) {
	for _, p := range listPackages(t) {
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = "Command "
		}
		if len(p.GoFiles) > 0 && !strings.HasPrefix(p.Doc, want) {
			t.Errorf("%s: its package comment does not begin with %q", p.ImportPath, want)
		}
	}
}

func TestPackageCommentStandsOnce(t *testing.T) {
	for _, p := range listPackages(t) {
		begin := regexp.MustCompile(`(?m)^// (Package|Command) \w+ `)
		var with []string
		for _, f := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, f))
			if err != nil {
				t.Fatal(err)
			}
			head, _, _ := strings.Cut("\n"+string(text), "\npackage ")
			if begin.MatchString(head) {
				with = append(with, f)
			}
		}
		if len(with) > 1 {
			t.Errorf("%s has a package comment in each of %v; keep one", p.ImportPath, with)
		}
	}
}

func TestNoPackageDoesWorkAtInit(t *testing.T) {
	initFunc := regexp.MustCompile(`(?m)^func init\(\)`)
	for _, p := range listPackages(t) {
		for _, f := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, f))
			if err != nil {
				t.Fatal(err)
			}
			if initFunc.Match(text) {
				t.Errorf("%s/%s has an init function; a fault there would hit every role of the binary", p.ImportPath, f)
			}
		}
	}
}
