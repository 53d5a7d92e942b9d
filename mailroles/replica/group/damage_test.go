package group

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anycastle/mailroles/replica/chain"
)

// badDisk fails or hangs once it is told to.
type badDisk struct {
	mu   sync.Mutex
	op   string
	file string // suffix
	err  error
	hang chan struct{} // closed when the disk goes on
}

func (d *badDisk) check(op, file string) error {
	d.mu.Lock()
	hit, err, hang := d.op == op && strings.HasSuffix(file, d.file), d.err, d.hang
	d.mu.Unlock()
	if !hit {
		return nil
	}
	if hang != nil {
		<-hang
		return nil
	}
	return err
}

func (d *badDisk) fail(op, file string, err error, hang chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.op, d.file, d.err, d.hang = op, file, err, hang
}

// TestBadDisk has the disk of one member fail. That member is broken and says why, the others go on, nothing that was
// acknowledged is lost, and the member comes back once its disk is well.
func TestBadDisk(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		op, file string
		err      error
		hang     bool
		leader   bool
		election bool // the fault shows at an election
	}{
		{name: "leader: no space", op: "write", file: ".wal", err: syscall.ENOSPC, leader: true},
		{name: "leader: fsync fails", op: "sync", file: ".wal", err: syscall.EIO, leader: true},
		{name: "leader: fsync hangs", op: "sync", file: ".wal", hang: true, leader: true},
		{name: "follower: no space", op: "write", file: ".wal", err: syscall.ENOSPC},
		{name: "follower: fsync fails", op: "sync", file: ".wal", err: syscall.EIO},
		{name: "follower: fsync hangs", op: "sync", file: ".wal", hang: true},
		{name: "follower: no vote can be kept", op: "write", file: "votes", err: syscall.EROFS, election: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			disks := map[string]*badDisk{}
			name, stall := "w1", 500*time.Millisecond // a follower has ten times as long
			if test.leader {
				name, stall = "e1", time.Second
			}
			c := running(t, five, func(o *Options) {
				d := &badDisk{}
				disks[o.Self], o.test.faults = d, d.check
				if test.hang && o.Self == name {
					o.Times.Stall = stall
				}
			})
			l := c.leader()
			if _, err := l.add("before"); err != nil {
				t.Fatal(err)
			}
			victim := c.nodes[name]
			if test.leader {
				victim = l
			}
			var hang chan struct{}
			if test.hang {
				hang = make(chan struct{})
			}
			disks[victim.name].fail(test.op, test.file, test.err, hang)
			want := []string{"before"}
			if test.leader {
				if _, err := l.add("on a bad disk"); !errors.Is(err, ErrPassive) {
					t.Errorf("appended on a bad disk: %v", err)
				}
			} else if test.election {
				c.kill(l.name)
			}
			next := c.leader()
			if _, err := next.add("after"); err != nil {
				t.Fatal(err)
			}
			want = append(want, "after")
			eventually(t, 30*time.Second, victim.name+" is broken", func() bool { return errors.Is(victim.failure(), ErrDisk) })
			disks[victim.name].fail("", "", nil, nil)
			if test.hang {
				close(hang)
			}
			if err := c.shut(victim.name); !errors.Is(err, ErrDisk) {
				t.Errorf("Run returned %v", err)
			}
			c.start(victim.name)
			if test.election {
				c.start(l.name)
			}
			got := c.agree()
			if len(got) == 3 && got[1] == "on a bad disk" { // others had it before its leader fell
				got = append(got[:1:1], got[2])
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("applied (-want +got):\n%s", diff)
			}
		})
	}
}

// TestHungDiskKeepsTheDirectory has a write that hangs keep the directory from being opened until it is over, and Run
// return all the same.
func TestHungDiskKeepsTheDirectory(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes as long as a disk is given at the end")
	}
	d := &badDisk{}
	c := running(t, three, func(o *Options) {
		if o.Self == "e1" {
			o.Times.Stall, o.test.faults = time.Second, d.check
		}
	})
	l := c.leader()
	hang := make(chan struct{})
	d.fail("sync", ".wal", nil, hang)
	if _, err := l.add("stuck"); !errors.Is(err, ErrPassive) {
		t.Fatal(err)
	}
	if err := c.shut("e1"); !errors.Is(err, ErrDisk) {
		t.Errorf("Run returned %v", err)
	}
	if err := c.tryStart("e1"); !errors.Is(err, ErrDisk) {
		t.Errorf("opened while a write hangs: %v", err)
	}
	close(hang)
	d.fail("", "", nil, nil)
	eventually(t, 5*time.Second, "the directory can be opened again", func() bool { return c.tryStart("e1") == nil })
	c.agree()
}

// filled makes the directory of a member that was killed before its state was saved: all of its log is read.
func filled(t *testing.T, n int) string {
	t.Helper()
	c := newCluster(t, three[:1], func(o *Options) { o.test.segment = 8 << 10 })
	e1 := c.nodes["e1"]
	if err := Bootstrap(e1.dir, "e1", chain.Position{}); err != nil {
		t.Fatal(err)
	}
	c.start("e1")
	c.leader()
	for _, r := range records(n, strings.Repeat("x", 100)) {
		if _, err := e1.add(r); err != nil {
			t.Fatal(err)
		}
	}
	c.kill("e1")
	return e1.dir
}

// TestDamage damages the files of a member that is down. It is found when the member is opened, or is mended where there
// is a second copy, and never ends the process.
func TestDamage(t *testing.T) {
	t.Parallel()
	whole := os.DirFS(filled(t, 200))
	segment := func(t *testing.T, gen string, last bool) string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(gen, "wal", "*.wal"))
		if err != nil || len(found) < 3 {
			t.Fatalf("segments: %v, %v", found, err)
		}
		if last {
			return found[len(found)-1]
		}
		return found[len(found)-2]
	}
	flip := func(t *testing.T, path string, at int64) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var b [1]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 0x10
		if _, err := f.WriteAt(b[:], at); err != nil {
			t.Fatal(err)
		}
	}
	cut := func(t *testing.T, path string, size int64) {
		t.Helper()
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, gen string)
		want   error
	}{
		{"none", func(*testing.T, string) {}, nil},
		{"bit in the header of the last segment", func(t *testing.T, gen string) { flip(t, segment(t, gen, true), 9) }, ErrBlank},
		{"bit in the first entry of the last segment", func(t *testing.T, gen string) { flip(t, segment(t, gen, true), 60) }, ErrBlank},
		{"bit in a frame of the last segment", func(t *testing.T, gen string) { flip(t, segment(t, gen, true), 32) }, ErrBlank},
		{"bit in the segment before", func(t *testing.T, gen string) { flip(t, segment(t, gen, false), 4000) }, ErrBlank},
		{"bit in the header of the segment before", func(t *testing.T, gen string) { flip(t, segment(t, gen, false), 9) }, ErrBlank},
		{"last segment cut", func(t *testing.T, gen string) { cut(t, segment(t, gen, true), 100) }, ErrBlank},
		{"last segment emptied", func(t *testing.T, gen string) { cut(t, segment(t, gen, true), 0) }, ErrBlank},
		{"segment before cut", func(t *testing.T, gen string) { cut(t, segment(t, gen, false), 100) }, ErrBlank},
		{"last segment removed", func(t *testing.T, gen string) { os.Remove(segment(t, gen, true)) }, ErrBlank},
		{"segment before removed", func(t *testing.T, gen string) { os.Remove(segment(t, gen, false)) }, ErrBlank},
		{"list of segments removed", func(t *testing.T, gen string) { os.Remove(filepath.Join(gen, "wal", "segments")) }, ErrBlank},
		{"list of segments cut", func(t *testing.T, gen string) { cut(t, filepath.Join(gen, "wal", "segments"), 7) }, ErrBlank},
		{"first half of the votes", func(t *testing.T, gen string) { flip(t, filepath.Join(gen, "votes"), 25) }, nil},
		{"second half of the votes", func(t *testing.T, gen string) { flip(t, filepath.Join(gen, "votes"), votesHalf+25) }, nil},
		{"both halves of the votes", func(t *testing.T, gen string) {
			flip(t, filepath.Join(gen, "votes"), 25)
			flip(t, filepath.Join(gen, "votes"), votesHalf+25)
		}, ErrBlank},
		{"votes cut to the first half", func(t *testing.T, gen string) { cut(t, filepath.Join(gen, "votes"), votesHalf) }, nil},
		{"votes emptied", func(t *testing.T, gen string) { cut(t, filepath.Join(gen, "votes"), 0) }, ErrBlank},
		{"votes removed", func(t *testing.T, gen string) { os.Remove(filepath.Join(gen, "votes")) }, ErrBlank},
		{"marker cut to the first half", func(t *testing.T, gen string) { cut(t, filepath.Join(gen, "marker"), markerHalf) }, nil},
		{"marker emptied", func(t *testing.T, gen string) { cut(t, filepath.Join(gen, "marker"), 0) }, ErrBlank},
		{"watermark rotten", func(t *testing.T, gen string) { flip(t, filepath.Join(gen, "watermark"), 3) }, ErrBlank},
		{"watermark removed", func(t *testing.T, gen string) { os.Remove(filepath.Join(gen, "watermark")) }, ErrBlank},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, three[:1], func(o *Options) { o.test.segment = 8 << 10 })
			n := c.nodes["e1"]
			if err := os.CopyFS(n.dir, whole); err != nil {
				t.Fatal(err)
			}
			gen, err := current(n.dir)
			if err != nil {
				t.Fatal(err)
			}
			test.damage(t, gen)
			if err := c.tryStart("e1"); !errors.Is(err, test.want) {
				t.Fatalf("opened with %v, want %v", err, test.want)
			}
			if test.want == nil {
				if got := len(c.agree()); got != 200 {
					t.Errorf("%d operations applied", got)
				}
				return
			}
			if !Initialized(n.dir) {
				t.Error("it does not know that it belonged to a group")
			}
			if err := c.tryStart("e1"); !errors.Is(err, ErrBlank) {
				t.Errorf("opened a second time with %v", err)
			}
		})
	}
}

// TestRottenWhileRunning has an old entry rot under a running leader, which learns of it when another member needs the
// entry. It is broken, and the process goes on.
func TestRottenWhileRunning(t *testing.T) {
	t.Parallel()
	d := &badDisk{}
	c := running(t, three, func(o *Options) {
		if o.Self == "e1" {
			o.test.faults = d.check
		}
	})
	l := c.leader()
	d.fail("read", "log", errRotten, nil)
	if _, _, err := l.group().Record(2); !errors.Is(err, ErrBlank) {
		t.Errorf("Record of a rotten entry: %v", err)
	}
	c.isolate("w1", true)
	for _, r := range records(1100, "op") { // more than the library has in memory
		if _, err := l.group().Append([]byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 10*time.Second, "all are committed", func() bool {
		return len(l.state.all()) == 1100 || l.failure() != nil // a slow witness may need the entry, too
	})
	c.isolate("w1", false)
	eventually(t, 15*time.Second, "e1 is broken", func() bool { return errors.Is(l.failure(), ErrBlank) })
	if err := c.shut("e1"); !errors.Is(err, ErrBlank) {
		t.Errorf("Run returned %v", err)
	}
	if err := c.tryStart("e1"); !errors.Is(err, ErrBlank) {
		t.Errorf("opened with %v", err)
	}
}

// TestStuckIsNotStopped has a process that was stopped not blame its disk.
func TestStuckIsNotStopped(t *testing.T) {
	h := newHealth()
	s := stuck{h: h}
	end := h.busy()
	for want := range 3 {
		if got, _ := s.look(); got != want+1 && got != want {
			t.Errorf("look %d: %d", want, got)
		}
	}
	end()
	defer h.busy()()
	if got, _ := s.look(); got != 0 {
		t.Errorf("another operation counts %d", got)
	}
}
