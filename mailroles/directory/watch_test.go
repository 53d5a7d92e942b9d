package directory

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anycastle/internal/wholefile"
)

func changed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// follower is a directory whose file changes.
type follower struct {
	*Directory
	t    *testing.T
	path string
}

func newFollower(t *testing.T) *follower {
	t.Helper()
	f := &follower{t: t, path: filepath.Join(t.TempDir(), "mailboxes.yml")}
	f.put(boxes("a", ""))
	var err error
	if f.Directory, err = Load(f.path, []string{"lun-1"}); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *follower) put(text []byte) {
	f.t.Helper()
	if err := wholefile.PutDurably(f.path, text); err != nil {
		f.t.Fatal(err)
	}
}

func (f *follower) has(address string, want bool) {
	f.t.Helper()
	if _, err := f.Mailbox(f.t.Context(), address); (err == nil) != want || err != nil && !errors.Is(err, ErrUnknown) {
		f.t.Errorf("%s: %v, want it %v", address, err, want)
	}
}

func TestChangeOfTheFileIsRead(t *testing.T) {
	d := newFollower(t)
	w, path, put, has := d.file, d.path, d.put, d.has
	var err error
	w.mu.Lock()
	w.read, err = look(path) // as if it had been read later: it is so new that it would be read once more
	w.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	ch := d.Changed()
	w.poll()
	w.poll()
	if changed(ch) {
		t.Error("a file that stands is read again")
	}
	put(boxes("b", "", "aliases: [{address: c@example.org, to: [b@example.org]}]"))
	w.poll()
	if changed(ch) {
		t.Error("a file is read while it may be written to")
	}
	w.poll()
	if !changed(ch) || changed(d.Changed()) {
		t.Error("the change is not told, or told again")
	}
	has("a@example.org", false)
	has("b@example.org", true)
	if s := d.Status(); s.Source != path || s.Error != "" || s.Counts != (Counts{1, 1, 0}) || time.Since(s.ReadAt) > time.Minute {
		t.Errorf("status is %+v", s)
	}
}

func TestWrongFileIsNotTaken(t *testing.T) {
	d := newFollower(t)
	w, path, put, has := d.file, d.path, d.put, d.has
	for range 3 {
		w.poll()
	}
	ch := d.Changed()
	put([]byte("mailboxes: [{address: c@example.org, lun: lun-1, password: hunter2}]\n"))
	for range 4 {
		w.poll()
	}
	has("a@example.org", true)
	if s := d.Status(); changed(ch) || !strings.Contains(s.Error, path+":1: mailboxes[0].password: no argon2id hash") || strings.Contains(s.Error, "hunter2") {
		t.Errorf("a wrong file: status is %+v", s)
	}
	if err := d.Reload(); err == nil || !strings.Contains(err.Error(), "mailboxes[0].password") {
		t.Errorf("reload of a wrong file: %v", err)
	}

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.poll()
	}
	has("a@example.org", true)
	if s := d.Status(); !strings.Contains(s.Error, "no such file") {
		t.Errorf("the file is gone: status is %+v", s)
	}
	put(boxes("c", ""))
	if err := d.Reload(); err != nil {
		t.Error(err)
	}
	has("c@example.org", true)
	if s := d.Status(); s.Error != "" || !changed(ch) {
		t.Errorf("a right file again: status is %+v", s)
	}
}

// A role runs it: nobody calls poll then.
func TestRunReadsChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mailboxes.yml")
	if err := os.WriteFile(path, boxes("a", ""), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Load(path, []string{"lun-1"})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, d)
	if err := os.WriteFile(path, boxes("b", ""), 0o600); err != nil { // of the same size, in place
		t.Fatal(err)
	}
	deadline := time.After(20 * time.Second)
	for {
		ch := d.Changed()
		if _, err := d.Mailbox(t.Context(), "b@example.org"); err == nil {
			break
		}
		select {
		case <-ch:
		case <-deadline:
			t.Fatalf("not read within 20 s; status is %+v", d.Status())
		}
	}
	stop()
	if _, err := d.Mailbox(t.Context(), "b@example.org"); err != nil {
		t.Errorf("after the end it does not answer: %v", err) // a role that drains still asks
	}
}

// many is a directory of full LUNs.
func many(tb testing.TB, luns int) *Directory {
	tb.Helper()
	var b strings.Builder
	var names []string
	b.WriteString("mailboxes:\n")
	for i := range luns * MaxPerLUN {
		if i%MaxPerLUN == 0 {
			names = append(names, fmt.Sprintf("lun-%d", i/MaxPerLUN))
		}
		fmt.Fprintf(&b, "  - address: user%d@example.org\n    password: %s\n    lun: lun-%d\n", i, decoyDefault, i/MaxPerLUN)
	}
	path := filepath.Join(tb.TempDir(), "mailboxes.yml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		tb.Fatal(err)
	}
	d, err := Load(path, names)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// BenchmarkReload reads a file of a hundred full LUNs.
func BenchmarkReload(b *testing.B) {
	d := many(b, 100)
	for b.Loop() {
		if err := d.Reload(); err != nil {
			b.Fatal(err)
		}
	}
}

// While a large file is read, questions are answered from what was read before.
func TestReloadKeepsNobodyWaiting(t *testing.T) {
	const boxes = 5 * MaxPerLUN
	d := many(t, boxes/MaxPerLUN)
	again := make(chan error)
	go func() { again <- d.Reload() }()
	asked := 0
	for done := false; !done; asked++ {
		if m, err := d.Mailbox(t.Context(), fmt.Sprintf("user%d@example.org", asked%boxes)); err != nil || m.LUN != fmt.Sprintf("lun-%d", asked%boxes/MaxPerLUN) {
			t.Fatalf("user%d: %+v, %v", asked, m, err)
		}
		select {
		case err := <-again:
			if done = true; err != nil {
				t.Fatal(err)
			}
		default:
		}
	}
	if asked < 1000 {
		t.Errorf("only %d questions were answered while the file was read", asked)
	}
}
