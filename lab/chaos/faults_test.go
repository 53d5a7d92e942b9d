package chaos

import (
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"anycastle/internal/netnstest"
	"anycastle/internal/proctest"
)

// put writes a file durably.
func put(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 100_000))
	return errors.Join(err, f.Sync(), f.Close())
}

// TestDisksFail holds the disks to what the faults say of them.
func TestDisksFail(t *testing.T) {
	netnstest.Root(t)
	dir := t.TempDir()
	d := newDisk(t, filepath.Join(dir, "image"), filepath.Join(dir, "at"), 64<<20)
	file := func(name string) string { return filepath.Join(d.at, name) }
	proctest.Check(t, put(file("before")))

	proctest.Check(t, d.fill())
	if err := put(file("full")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a write to a full disk: %v, want ENOSPC", err)
	}
	proctest.Check(t, d.free())
	proctest.Check(t, put(file("room again")))

	proctest.Check(t, d.fail(true))
	if err := put(file("failing")); !errors.Is(err, syscall.EIO) {
		t.Errorf("fsync on a failing disk: %v, want EIO", err)
	}
	proctest.Check(t, d.repair())
	for _, name := range []string{"before", "room again"} {
		if st, err := os.Stat(file(name)); err != nil || st.Size() != 100_000 {
			t.Errorf("%s, which was durable, after the repair: %v", name, err)
		}
	}
	proctest.Check(t, put(file("after")))
}

// TestPartitionsPart looks which packets two hosts hear of each other.
func TestPartitionsPart(t *testing.T) {
	n := newNetwork(t, 0)
	a, b := n.join("east-store1", "east"), n.join("west-store1", "west")
	sockets := map[*host]*net.UDPConn{}
	for _, h := range []*host{a, b} {
		h.ns.Do(func() error {
			conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: h.addr.AsSlice(), Port: 7})
			sockets[h] = conn
			return err
		})
		defer sockets[h].Close()
	}
	hears := func(from, to *host) bool {
		t.Helper()
		_, err := sockets[from].WriteTo([]byte("hello"), &net.UDPAddr{IP: to.addr.AsSlice(), Port: 7})
		proctest.Check(t, err)
		proctest.Check(t, sockets[to].SetReadDeadline(time.Now().Add(300*time.Millisecond)))
		_, err = sockets[to].Read(make([]byte, 9))
		return err == nil
	}
	want := func(state string, ab, ba bool) {
		t.Helper()
		if x, y := hears(a, b), hears(b, a); x != ab || y != ba {
			t.Errorf("%s: %s hears %s: %v, and the other way %v; want %v and %v", state, b.name, a.name, x, y, ab, ba)
		}
	}
	c := &chaos{w: &world{network: n}}
	n.between(witness, "192.0.2.100", "192.0.2.0")
	n.between("clients", "192.0.2.101", "192.0.2.4")
	want("whole", true, true)
	var f fault
	c.deafen(&f, map[*host]drop{b: {from: a.addr}})
	proctest.Check(t, f.strike())
	want("one way", false, true)
	proctest.Check(t, c.cutSite("east", true))
	want("one way and cut", false, false)
	proctest.Check(t, f.heal())
	want("cut", false, false)
	proctest.Check(t, c.cutSite("east", false))
	want("healed", true, true)
}

// TestDamageIsOneFile looks what damage does to a tree.
func TestDamageIsOneFile(t *testing.T) {
	for _, tc := range []struct {
		name string
		how  func(*os.File, int64, *rand.Rand) error
	}{{"truncate", truncate}, {"flip", flip}} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			at := filepath.Join(root, ann, "cur")
			proctest.Check(t, os.MkdirAll(at, 0o700))
			text := append([]byte("some text"), make([]byte, 100)...) // with zeros behind what is written
			file := filepath.Join(at, "1.M1.host:2,S")
			proctest.Check(t, os.WriteFile(file, text, 0o600))
			proctest.Check(t, os.WriteFile(filepath.Join(root, "no class"), text, 0o600))
			got, err := damage(root, rand.New(rand.NewPCG(1, 1)), tc.how)
			proctest.Check(t, err)
			now, err := os.ReadFile(file)
			proctest.Check(t, err)
			if got != file || string(now) == string(text) {
				t.Errorf("damaged is %s, and it has %q", got, now)
			}
			if n := min(len(now), 9); tc.name == "flip" && (len(now) != len(text) || string(now[n:]) != string(text[n:])) {
				t.Errorf("one bit of what is written was to change: %q", now)
			}
		})
	}
}
