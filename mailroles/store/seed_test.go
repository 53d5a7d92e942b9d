package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// manifest gives a replica's manifest.
func manifest(t *testing.T, s *Store) ([]byte, Position) {
	t.Helper()
	var b bytes.Buffer
	at, err := s.WriteManifest(&b)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), at
}

// TestInstall makes a replica anew from another: one that has nothing, one that has a part of the mail and a message that
// nobody knows, and one whose checkpoint is damaged; also when that ends at any change of the disk and is begun again.
func TestInstall(t *testing.T) {
	c := newCluster(t, 3, 3)
	c.lead(c.nodes[0])
	m := c.box()
	for i, part := range story {
		if err := part(m); err != nil {
			t.Fatalf("part %d: %v", i, err)
		}
	}
	c.level()
	c.heal()
	text, at := manifest(t, c.nodes[0].store)
	if want := c.nodes[0].store.Applied(); at != want {
		t.Fatalf("manifest is of %v, not of %v", at, want)
	}
	for name, spoil := range map[string]func(n *node){
		"empty": func(n *node) { n.root = tempRoot(t) },
		"part": func(n *node) {
			remove(t, filepath.Join(n.root, user), "dovecot-uidlist")
			write(t, filepath.Join(n.root, user), "cur/1.stray.host:2,", "nobody knows it")
		},
		"damaged": func(n *node) { write(t, n.root, checkpointFile, "{") },
	} {
		t.Run(name, func(t *testing.T) {
			for crashAt := 3; ; crashAt += 17 {
				ended := c.anew(c.nodes[2], crashAt, spoil, text, at)
				if ended {
					break
				}
			}
		})
	}
	deliver(t, m, "one more")
	c.level()
	c.heal()
	c.same()
}

// anew spoils a replica and makes it anew, once more when that ended at a change of the disk. It tells whether it did not.
func (c *cluster) anew(n *node, crashAt int, spoil func(*node), text []byte, at Position) bool {
	t := c.t
	t.Helper()
	n.end()
	spoil(n)
	n.idle = true
	n.start(crashAt)
	got, err := n.store.Install(bytes.NewReader(text))
	ended := err == nil && n.whole
	if err != nil {
		if !errors.Is(err, errCrash) && !errors.Is(err, ErrStopped) {
			t.Fatal(err)
		}
		n.end()
		n.start(0)
		if got, err = n.store.Install(bytes.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	if n.doomed {
		n.end()
		n.start(0)
	}
	if got != at || n.store.Saved() != at || n.store.Applied() != at || n.store.Blank() {
		t.Fatalf("installed %v, saved %v, applied %v, blank %t", got, n.store.Saved(), n.store.Applied(), n.store.Blank())
	}
	n.resume()
	c.heal()
	c.same()
	return ended
}

// TestManifestsThatAreNone are refused, and change nothing.
func TestManifestsThatAreNone(t *testing.T) {
	c := newCluster(t, 4, 2)
	c.lead(c.nodes[0])
	deliver(t, c.box(), "one")
	c.level()
	text, _ := manifest(t, c.nodes[0].store)
	lines := bytes.SplitAfter(text, []byte("\n"))
	s := c.nodes[1].store
	was := c.nodes[1].tellAll()
	for name, bad := range map[string][]byte{
		"empty":     nil,
		"cut":       text[:len(text)-20],
		"no end":    bytes.Join(lines[:len(lines)-2], nil),
		"no head":   bytes.Join(lines[1:], nil),
		"flipped":   bytes.Replace(text, []byte(user), []byte("alicf@example.org"), 1),
		"goes on":   append(slices.Clone(text), lines[1]...),
		"leads out": bytes.ReplaceAll(text, []byte(user), []byte("../x@example.org")),
	} {
		if _, err := s.Install(bytes.NewReader(bad)); !errors.Is(err, ErrManifest) {
			t.Errorf("%s: %v", name, err)
		}
		if s.Blank() {
			t.Fatalf("%s: the replica is blank", name)
		}
		if diff := cmp.Diff(was, c.nodes[1].tellAll()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"head":{"version":1,"index":3,"chain":"` + strings.Repeat("00", 32) + `"}}` + "\n" + `{"end":"00"}` + "\n"))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := checkManifest(bytes.NewReader(text)); err != nil && !errors.Is(err, ErrManifest) {
			t.Errorf("%v", err)
		}
	})
}

// TestConvert opens a LUN as a replicated one that was not: with operations that only its own log has, and with mail that
// somebody else put there.
func TestConvert(t *testing.T) {
	root := tempRoot(t)
	s := openAt(t, root, nil)
	deliver(t, box(t, s), "one")
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	deliver(t, box(t, s), "two")
	die(t, s)
	write(t, filepath.Join(root, user), "new/1.M2P3Q4.elsewhere", "three")
	c := newCluster(t, 5, 1)
	n := c.nodes[0]
	for crashAt := 1; ; crashAt += 5 {
		n.end()
		n.root = filepath.Join(tempRoot(t), "copy")
		if err := os.CopyFS(n.root, os.DirFS(root)); err != nil {
			t.Fatal(err)
		}
		n.ever = 0
		n.start(crashAt)
		n.end()
		ended := n.whole
		n.start(0)
		all := n.tellAll()[user]
		for _, text := range []string{`"one"`, `"two"`, `"three"`} {
			if strings.Count(all, text) != 1 {
				t.Fatalf("crash at %d: no %s in %s", crashAt, text, all)
			}
		}
		if saved := n.store.Saved(); saved != (Position{}) {
			t.Fatalf("crash at %d: saved is %v", crashAt, saved)
		}
		if ended {
			break
		}
	}
	if _, err := Open(n.root, nil); !errors.Is(err, ErrInUse) {
		t.Errorf("second store: %v", err)
	}
	root = n.root
	n.end()
	if _, err := Open(root, nil); !errors.Is(err, errReplicated) {
		t.Errorf("replicated LUN opened alone: %v", err)
	}
	n.start(0)
}
