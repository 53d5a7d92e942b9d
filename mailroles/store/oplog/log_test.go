package oplog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func open(t *testing.T, opt Options) *Log {
	t.Helper()
	l, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// put appends records one by one, each a batch of its own.
func put(t *testing.T, l *Log, records ...string) {
	t.Helper()
	for _, r := range records {
		wait, err := l.Append([]byte(r), false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := wait(); err != nil {
			t.Fatal(err)
		}
	}
}

// replay gives the records from an index on, as "INDEX TEXT".
func replay(t *testing.T, l *Log, from uint64) []string {
	t.Helper()
	var got []string
	err := l.Replay(from, func(index uint64, record []byte) error {
		got = append(got, fmt.Sprintf("%d %s", index, record))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	put(t, l, "one", "two")
	if last, err := l.Mark(); err != nil || last != 2 {
		t.Fatalf("mark: %d, %v", last, err)
	}
	put(t, l, "three")
	l.Close()
	l = open(t, Options{Dir: dir, From: 2})
	if diff := cmp.Diff(Found{Last: 3}, l.Found); diff != "" {
		t.Errorf("found: %s", diff)
	}
	put(t, l, "four")
	if diff := cmp.Diff([]string{"2 two", "3 three", "4 four"}, replay(t, l, 2)); diff != "" {
		t.Error(diff)
	}
	for range 2 {
		if err := l.Cut(2); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"3 three", "4 four"}, replay(t, l, 1)); diff != "" {
			t.Error(diff)
		}
	}
	if last, err := l.Mark(); err != nil || last != 4 {
		t.Fatalf("mark: %d, %v", last, err)
	}
	if err := l.Cut(4); err != nil {
		t.Fatal(err)
	}
	l.Close()
	l = open(t, Options{Dir: dir, From: 5})
	put(t, l, "five")
	if diff := cmp.Diff([]string{"5 five"}, replay(t, l, 1)); diff != "" {
		t.Error(diff)
	}
}

// TestCutAtEveryByte ends the log within each byte of its batches, in the ways that a crash may: by its length, and by
// zeros.
func TestCutAtEveryByte(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "log")
	l := open(t, Options{Dir: whole})
	records := []string{"one", "twotwo", "three"}
	put(t, l, records...)
	_, end := l.Size()
	l.Close()
	data, err := os.ReadFile(segment(whole, 1))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range int(end) + 1 {
		for name, text := range map[string][]byte{
			"length": data[:cut],
			"zeros":  append(append([]byte{}, data[:cut]...), make([]byte, 4096)...),
		} {
			dir := t.TempDir()
			if err := os.WriteFile(segment(dir, 1), text, 0o600); err != nil {
				t.Fatal(err)
			}
			var want []string
			for size, i := 0, 0; i < len(records); i++ {
				if size += headLen + 4 + len(records[i]); size <= cut {
					want = append(want, fmt.Sprintf("%d %s", i+1, records[i]))
				}
			}
			l := open(t, Options{Dir: dir})
			if diff := cmp.Diff(want, replay(t, l, 1)); diff != "" || len(l.Found.Damage) > 0 {
				t.Errorf("%s %d: %s, %+v", name, cut, diff, l.Found)
			}
			put(t, l, "next")
			l.Close()
			l = open(t, Options{Dir: dir})
			want = append(want, fmt.Sprintf("%d next", len(want)+1))
			if diff := cmp.Diff(want, replay(t, l, 1)); diff != "" || l.Found.Torn > 0 || len(l.Found.Damage) > 0 {
				t.Errorf("%s %d, after one more record: %s, %+v", name, cut, diff, l.Found)
			}
			l.Close()
		}
	}
}

// TestDamageIsTold changes each byte of the first and the second batch, behind which the third is whole.
func TestDamageIsTold(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "log")
	l := open(t, Options{Dir: whole})
	put(t, l, "one", "two", "three")
	l.Close()
	data, err := os.ReadFile(segment(whole, 1))
	if err != nil {
		t.Fatal(err)
	}
	const size = headLen + 4 + 3
	for at := range 2 * size {
		dir := t.TempDir()
		text := append([]byte{}, data...)
		text[at] ^= 0x55
		if err := os.WriteFile(segment(dir, 1), text, 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, Options{Dir: dir})
		lost := uint64(at/size) + 1
		want := Found{Last: 3, Damage: []Damage{{Path: segment(dir, 1), Offset: int64(at / size * size), From: lost, To: lost}}}
		if diff := cmp.Diff(want, l.Found); diff != "" {
			t.Errorf("byte %d: %s", at, diff)
		}
		put(t, l, "four")
		if got := replay(t, l, 1); len(got) != 3 || got[2] != "4 four" {
			t.Errorf("byte %d: log has %q", at, got)
		}
		if now, err := os.ReadFile(segment(dir, 1)); err != nil || string(now) != string(text) {
			t.Errorf("byte %d: the damaged segment was changed, %v", at, err)
		}
		l.Close()
	}
}

func TestLostSegmentIsTold(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	for _, r := range []string{"one", "two", "three"} {
		put(t, l, r)
		if _, err := l.Mark(); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	if err := os.Remove(segment(dir, 2)); err != nil {
		t.Fatal(err)
	}
	l = open(t, Options{Dir: dir, From: 1})
	want := Found{Last: 3, Damage: []Damage{{Path: segment(dir, 3), From: 2, To: 2}}}
	if diff := cmp.Diff(want, l.Found); diff != "" {
		t.Error(diff)
	}
}

func TestFailureIsForGood(t *testing.T) {
	dir := t.TempDir()
	broken := errors.New("no disk")
	var fail bool
	l := open(t, Options{Dir: dir, Sync: func(f *os.File) error {
		if fail {
			return broken
		}
		return f.Sync()
	}})
	put(t, l, "one")
	fail = true
	wait, err := l.Append([]byte("two"), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wait(); !errors.Is(err, broken) || !errors.Is(err, ErrBroken) {
		t.Errorf("wait: %v", err)
	}
	fail = false
	if _, err := wait(); !errors.Is(err, ErrBroken) {
		t.Errorf("second wait: %v", err)
	}
	if _, err := l.Append([]byte("three"), true); !errors.Is(err, ErrBroken) {
		t.Errorf("append after a failure: %v", err)
	}
	if _, err := l.Mark(); !errors.Is(err, ErrBroken) {
		t.Errorf("mark after a failure: %v", err)
	}
	l.Close()
	l = open(t, Options{Dir: dir})
	put(t, l, "next")
	if got := replay(t, l, 1); len(got) < 2 || got[0] != "1 one" {
		t.Errorf("log has %q", got)
	}
}

func TestFullDiskKeepsRoomForRelief(t *testing.T) {
	full := false
	no := errors.New("disk is full")
	l := open(t, Options{Dir: t.TempDir(), Fill: func(f *os.File, at, size int64) error {
		if full {
			return no
		}
		return fill(f, at, size)
	}})
	full = true
	record := string(make([]byte, 1000))
	n := 0
	for ; ; n++ {
		wait, err := l.Append([]byte(record), false)
		if errors.Is(err, no) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := wait(); err != nil {
			t.Fatal(err)
		}
	}
	relief := 0
	for ; relief < 1000; relief++ {
		wait, err := l.Append([]byte(record), true)
		if errors.Is(err, no) {
			break
		}
		if _, werr := wait(); err != nil || werr != nil {
			t.Fatal(err, werr)
		}
	}
	if want := reserve / 1028; relief < want-1 || relief > want+1 || n < 80 {
		t.Errorf("%d records and then %d that free space, want about %d", n, relief, want)
	}
	full = false
	put(t, l, "room again")
	if got := replay(t, l, 1); len(got) != n+relief+1 {
		t.Errorf("%d records, want %d", len(got), n+relief+1)
	}
}

func TestThoseThatWaitShareOneSync(t *testing.T) {
	var mu sync.Mutex
	syncs, records := 0, 0
	gate := make(chan struct{})
	l := open(t, Options{
		Dir:    t.TempDir(),
		Before: func() error { <-gate; return nil },
		Synced: func(n int, _ time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			syncs++
			records += n
		},
	})
	var wg sync.WaitGroup
	var waits []func() (uint64, error)
	for i := range 50 {
		wait, err := l.Append(fmt.Append(nil, i), false)
		if err != nil {
			t.Fatal(err)
		}
		waits = append(waits, wait)
	}
	for i, wait := range waits {
		wg.Go(func() {
			if index, err := wait(); err != nil || index != uint64(i)+1 {
				t.Errorf("record %d: index %d, %v", i, index, err)
			}
		})
	}
	close(gate)
	wg.Wait()
	if syncs != 1 || records != 50 {
		t.Errorf("%d records in %d syncs, want 50 in 1", records, syncs)
	}
	for i := range 4 {
		wg.Go(func() {
			for range 25 {
				wait, err := l.Append(fmt.Append(nil, i), false)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := wait(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := replay(t, l, 51); len(got) != 100 || records != 150 {
		t.Errorf("%d records, %d told", len(got), records)
	}
}

func FuzzSegment(f *testing.F) {
	b := newBatch(0, 1)
	b.add([]byte("one"))
	b.add([]byte("two"))
	b.seal()
	f.Add(b.text)
	f.Add(append(append(append([]byte{}, b.text...), 1, 2, 3), b.text...))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := uint64(0)
		s, err := scan("x", data, 1, func(index uint64, _ []byte) error {
			if index <= n {
				t.Fatalf("index %d after %d", index, n)
			}
			n = index
			return nil
		})
		if err != nil || s.end > int64(len(data)) || s.end+s.torn > int64(len(data)) || n > 0 && s.next != n+1 {
			t.Fatalf("%+v, last %d, %v", s, n, err)
		}
	})
}
