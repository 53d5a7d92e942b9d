package chaos

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"anycastle/internal/proctest"
)

// TestCheckerFindsWhatIsBroken has one store without replicas serve, be killed and come back under load. The checker finds nothing.
// Then its tree is broken by hand in one way after the other, and the checker finds each.
func TestCheckerFindsWhatIsBroken(t *testing.T) {
	w := newWorld(t, plan{alone: true})
	w.start()
	h := NewHistory(nil)
	l := w.load(h)
	ctx, cancel := context.WithTimeout(t.Context(), proctest.Patience)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.run(ctx, 3, 1)
	}()
	store := w.roles["east-store1-store"]
	proctest.Eventually(t, "100 operations", func() bool { return h.Ended(Acknowledged) > 100 })
	store.kill()
	time.Sleep(500 * time.Millisecond) // clients meet a store that is away
	proctest.Check(t, store.start())
	back := h.Ended(Acknowledged)
	proctest.Eventually(t, "400 operations more", func() bool { return h.Ended(Acknowledged) > back+400 })
	cancel()
	<-done
	l.collect(t.Context())
	proctest.Check(t, store.stop(proctest.Patience))
	root := w.disks["east-store1"].at
	check := func() *Verdict {
		tree, err := ReadTree("east", root)
		proctest.Check(t, err)
		return h.Check([]Tree{tree})
	}
	v := check()
	t.Logf("%+v, outcomes %v", *v, h.Counts())
	if !v.Good() || len(l.stale) > 0 || len(l.refused) > 0 {
		t.Fatalf("nothing is broken yet, and there is %q, stale %q, refused %v", v.Findings, l.stale, l.refused)
	}
	for _, b := range breakages() {
		t.Run(b.name, func(t *testing.T) {
			undo := b.do(t, root)
			if v := check(); !b.found(v) {
				t.Errorf("not found: %+v %q", *v, v.Findings)
			}
			undo()
		})
	}
	v = check()
	v.UIDReused = 0 // that was seen, and is not forgotten
	if !v.Good() {
		t.Errorf("all is mended, and there is %q", v.Findings)
	}
}

type breakage struct {
	name  string
	do    func(t *testing.T, root string) (undo func())
	found func(v *Verdict) bool
}

// settledFile gives a message of a mailbox's INBOX that a reader has flagged, so that its state is known.
func settledFile(t *testing.T, root, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "east*", pattern))
	proctest.Check(t, err)
	if len(files) == 0 {
		t.Fatalf("no file is like %s", pattern)
	}
	return files[0]
}

func breakages() []breakage {
	lost := func(v *Verdict) bool { return v.Lost > 0 }
	rewrite := func(t *testing.T, file string, change func([]byte) []byte) func() {
		was, err := os.ReadFile(file)
		proctest.Check(t, err)
		proctest.Check(t, os.WriteFile(file, change(bytes.Clone(was)), 0o600))
		return func() { proctest.Check(t, os.WriteFile(file, was, 0o600)) }
	}
	rename := func(t *testing.T, from, to string) func() {
		proctest.Check(t, os.Rename(from, to))
		return func() { proctest.Check(t, os.Rename(to, from)) }
	}
	return []breakage{
		{"a message's file is gone", func(t *testing.T, root string) func() {
			return rename(t, settledFile(t, root, "cur/*:2,*"), filepath.Join(root, "away"))
		}, lost},
		{"a message is cut short", func(t *testing.T, root string) func() {
			return rewrite(t, settledFile(t, root, "cur/*:2,*"), func(b []byte) []byte { return b[:len(b)-1] })
		}, lost},
		{"a bit is flipped", func(t *testing.T, root string) func() {
			return rewrite(t, settledFile(t, root, "cur/*:2,*"), func(b []byte) []byte { b[len(b)-5] ^= 1; return b })
		}, lost},
		{"flags are lost", func(t *testing.T, root string) func() {
			file := settledFile(t, root, "cur/*:2,?*")
			base, _, _ := bytes.Cut([]byte(file), []byte(":2,"))
			return rename(t, file, string(base)+":2,D")
		}, lost},
		{"a message is forgotten with its UID", func(t *testing.T, root string) func() {
			return rewrite(t, settledFile(t, root, "dovecot-uidlist"), func(b []byte) []byte {
				lines := bytes.SplitAfter(b, []byte("\n"))
				return bytes.Join(append(lines[:1], lines[2:]...), nil)
			})
		}, lost},
		{"two UIDs are swapped", func(t *testing.T, root string) func() {
			return rewrite(t, settledFile(t, root, "dovecot-uidlist"), func(b []byte) []byte {
				lines := bytes.Split(b, []byte("\n"))
				one, a, _ := bytes.Cut(lines[1], []byte(" :"))
				two, b2, _ := bytes.Cut(lines[2], []byte(" :"))
				lines[1], lines[2] = fmt.Appendf(nil, "%s :%s", one, b2), fmt.Appendf(nil, "%s :%s", two, a)
				return bytes.Join(lines, []byte("\n"))
			})
		}, func(v *Verdict) bool { return v.UIDReused > 0 }},
		{"a message is there twice", func(t *testing.T, root string) func() {
			text, err := os.ReadFile(settledFile(t, root, "cur/*:2,*"))
			proctest.Check(t, err)
			list := settledFile(t, root, "dovecot-uidlist")
			again := filepath.Join(filepath.Dir(list), "cur", "1.again:2,")
			proctest.Check(t, os.WriteFile(again, text, 0o600))
			undo := rewrite(t, list, func(b []byte) []byte {
				head, rest, _ := bytes.Cut(b, []byte("\n"))
				return fmt.Appendf(nil, "%s\n%s4000000000 :1.again\n", bytes.Replace(head, []byte(" N"), []byte(" N4000000001 O"), 1), rest)
			})
			return func() {
				undo()
				proctest.Check(t, os.Remove(again))
			}
		}, func(v *Verdict) bool { return v.Doubled > 0 }},
	}
}
