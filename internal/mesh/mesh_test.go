package mesh

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"anycastle/internal/porttest"
)

var testKey = Key(bytes.Repeat([]byte{0x5a}, 16))

// fast is for tests. Whole maps are exchanged only when a member joins, so that gossip and rejoining are not hidden by it.
func fast() *timing {
	return &timing{
		probe: 200 * time.Millisecond, probeTimeout: 100 * time.Millisecond, gossip: 20 * time.Millisecond, sync: time.Hour,
		forget: 500 * time.Millisecond, rejoin: 100 * time.Millisecond, stream: 2 * time.Second, leave: patience,
	}
}

// peer is a running member.
type peer struct {
	*Mesh
	data *Map
	log  *logBuffer
	end  func() error // stops it and waits
}

// startPeer runs a member until the test ends, or end is called.
func startPeer(t *testing.T, cfg Config, o Options) *peer {
	t.Helper()
	if o.Map == nil {
		o.Map = NewMap(cfg.Name, nil)
	}
	if o.Group == "" {
		o.Group = "lb"
	}
	if o.timing == nil {
		o.timing = fast()
	}
	log, buf := newLog(slog.LevelInfo)
	o.Log = log
	m, err := New(cfg, o)
	check(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	var ended error
	go func() {
		defer close(done)
		ended = m.Run(ctx)
	}()
	p := &peer{Mesh: m, data: o.Map, log: buf, end: func() error { cancel(); <-done; return ended }}
	t.Cleanup(func() {
		if err := p.end(); err != nil {
			t.Errorf("%s: %v", cfg.Name, err)
		}
		if t.Failed() {
			t.Logf("log of %s:\n%s", cfg.Name, buf)
		}
	})
	return p
}

// sees gives the states in which a member sees the others.
func (p *peer) sees() string {
	var list []string
	for _, m := range p.Members() {
		if !m.Self {
			list = append(list, m.Name+" "+m.State)
		}
	}
	return strings.Join(list, ", ")
}

func (p *peer) has(key, value string) bool {
	v, ok := p.data.Get(key)
	return ok && string(v) == value
}

func (p *peer) rejected(reason string) int {
	return int(testutil.ToFloat64(p.counters.rejected.WithLabelValues(reason)))
}

// same says whether all hold the same map, and something in it.
func same(peers ...*peer) bool {
	for _, p := range peers {
		if !bytes.Equal(p.data.encode(), peers[0].data.encode()) {
			return false
		}
	}
	return len(peers[0].data.Snapshot()) > 0
}

func TestThreeMembers(t *testing.T) {
	for _, tc := range []struct {
		name  string
		addrs []netip.AddrPort
	}{
		{"IPv4", []netip.AddrPort{porttest.Free(t, "127.0.0.2"), porttest.Free(t, "127.0.0.3"), porttest.Free(t, "127.0.0.4")}},
		{"IPv6", []netip.AddrPort{porttest.Free(t, "::1"), porttest.Free(t, "::1"), porttest.Free(t, "::1")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := startPeer(t, Config{Listen: tc.addrs[0], Key: testKey, Join: tc.addrs, Name: "a"}, Options{})
			check(t, a.data.Set("first", []byte("1")))
			b := startPeer(t, Config{Listen: tc.addrs[1], Key: testKey, Join: tc.addrs[:1], Name: "b"}, Options{})
			eventually(t, "a and b meet", func() bool { return a.sees() == "b alive" && b.sees() == "a alive" })
			eventually(t, "b hears of what was before", func() bool { return b.has("first", "1") })

			check(t, b.data.Set("second", []byte("2")))
			b.data.Delete("first")
			eventually(t, "a hears of changes", func() bool { _, ok := a.data.Get("first"); return !ok && a.has("second", "2") })

			// c knows only b, and gets what a set
			c := startPeer(t, Config{Listen: tc.addrs[2], Key: testKey, Join: tc.addrs[1:2], Name: "c"}, Options{})
			eventually(t, "the late one gets all", func() bool { return same(a, b, c) })
			eventually(t, "all see all", func() bool { return a.sees() == "b alive, c alive" && c.sees() == "a alive, b alive" })
			check(t, a.data.Set("third", []byte(strings.Repeat("v", MaxSize-5)))) // the largest fits a packet
			check(t, c.data.Set("fourth", nil))
			eventually(t, "changes reach all", func() bool { return same(a, b, c) && b.has("fourth", "") })
			for _, m := range a.Members() {
				if m.Self != (m.Name == "a") || m.Since.IsZero() || m.Address != tc.addrs[m.Name[0]-'a'] {
					t.Errorf("a sees %+v", m)
				}
			}
		})
	}
}

// A peer may ask for the map as soon as the sockets are there. A change after the answer must be in the queue, or that peer
// hears of it only at the next exchange of whole maps.
func TestChangesAreTakenBeforeTheFirstPacket(t *testing.T) {
	data, n := NewMap("a", nil), hostNetwork()
	var m *Mesh
	queued, open := make(chan int, 1), n.listenUDP
	n.listenUDP = func(a netip.AddrPort) (*net.UDPConn, error) {
		if err := data.Set("early", []byte("1")); err != nil {
			t.Error(err)
		}
		queued <- m.queue.NumQueued()
		return open(a)
	}
	m, err := New(Config{Listen: porttest.Free(t, "127.0.0.2"), Key: testKey, Name: "a"}, Options{Map: data, Group: "lb", timing: fast(), network: &n})
	check(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	if got := <-queued; got != 1 {
		t.Errorf("%d changes queued, want 1", got)
	}
	cancel()
	check(t, <-done)
}

// A member that comes knows one of two others, and has what neither has, as after a partition. The one that it knows does
// not tell that on, and whole maps are exchanged with one member at a time, so all exchange theirs with it.
func TestAMemberBringsWhatTheOthersLack(t *testing.T) {
	addrs := []netip.AddrPort{porttest.Free(t, "127.0.0.2"), porttest.Free(t, "127.0.0.3"), porttest.Free(t, "127.0.0.4")}
	a := startPeer(t, Config{addrs[0], testKey, addrs[1:2], "a"}, Options{})
	b := startPeer(t, Config{addrs[1], testKey, addrs[:1], "b"}, Options{})
	eventually(t, "a and b meet", func() bool { return a.sees() == "b alive" && b.sees() == "a alive" })
	data := NewMap("c", nil)
	check(t, data.Set("only-c", []byte("1")))
	c := startPeer(t, Config{addrs[2], testKey, addrs[1:2], "c"}, Options{Map: data})
	eventually(t, "all have it", func() bool { return same(a, b, c) && a.has("only-c", "1") })
}

// A member that ends says so; one that starts again has what it had, and hears of what came meanwhile.
func TestRestartWithItsFile(t *testing.T) {
	addrs := []netip.AddrPort{porttest.Free(t, "127.0.0.2"), porttest.Free(t, "127.0.0.3")}
	path := filepath.Join(t.TempDir(), "mesh")
	cfgA, cfgB := Config{addrs[0], testKey, addrs, "a"}, Config{addrs[1], testKey, addrs, "b"}
	a, b := startPeer(t, cfgA, Options{}), startPeer(t, cfgB, Options{})
	check(t, b.data.Set("own", []byte("b's")))
	check(t, a.data.Set("meanwhile", []byte("1")))
	eventually(t, "a and b meet", func() bool { return a.sees() == "b alive" && b.sees() == "a alive" })
	eventually(t, "a and b are one", func() bool { return same(a, b) && a.has("own", "b's") && b.has("meanwhile", "1") })

	check(t, b.end())
	check(t, b.data.Save(path))
	eventually(t, "a hears that b left", func() bool { return a.sees() == "b left" })
	if got := b.Members(); got[1].State != Left {
		t.Errorf("after its end b sees itself as %v", got[1])
	}
	a.data.Delete("own")
	check(t, a.data.Set("meanwhile", []byte("2")))
	before := b.data.encode()

	data := NewMap("b", nil)
	check(t, data.Load(path))
	if v, ok := data.Get("own"); !ok || string(v) != "b's" {
		t.Errorf("b has lost what it had: %q", v)
	}
	again := startPeer(t, cfgB, Options{Map: data})
	eventually(t, "b is back", func() bool { return a.sees() == "b alive" && again.sees() == "a alive" })
	eventually(t, "b hears of what came meanwhile", func() bool { return same(a, again) && again.has("meanwhile", "2") })
	if _, ok := again.data.Get("own"); ok {
		t.Error("what was deleted meanwhile is back")
	}
	d := delegate{b.Mesh} // memberlist may still hold it
	d.NotifyMsg(encodeEntries([]entry{{key: "late", stamp: stamp{time.Now().UnixMilli(), 0, "x"}}}))
	d.MergeRemoteState(a.data.encode(), false)
	d.NotifyJoin(&memberlist.Node{Name: "late", Addr: []byte{192, 0, 2, 1}, Port: 1})
	if !bytes.Equal(b.data.encode(), before) || len(b.Members()) != 2 || d.LocalState(false) != nil {
		t.Error("after its end a mesh still does something")
	}
}

// When Run has returned, nothing of it goes on: memberlist's own goroutines end soon after.
func TestNothingIsLeftRunning(t *testing.T) {
	addrs := []netip.AddrPort{porttest.Free(t, "127.0.0.2"), porttest.Free(t, "127.0.0.3")}
	a := startPeer(t, Config{addrs[0], testKey, addrs, "a"}, Options{})
	b := startPeer(t, Config{addrs[1], testKey, addrs, "b"}, Options{})
	eventually(t, "a and b meet", func() bool { return a.sees() == "b alive" && b.sees() == "a alive" })
	check(t, a.end())
	check(t, b.end())
	stacks := func() string {
		buf := make([]byte, 1<<20)
		return string(buf[:runtime.Stack(buf, true)])
	}
	for one := range strings.SplitSeq(stacks(), "\n\n") {
		ours := strings.Contains(one, "mesh.(*transport)") || strings.Contains(one, "mesh.(*Mesh)")
		// memberlist's may be about to send by what is closed already
		if ours && !strings.Contains(one, "hashicorp/memberlist") {
			t.Errorf("still runs:\n%s", one)
		}
	}
	eventually(t, "memberlist's goroutines end", func() bool { return !strings.Contains(stacks(), "hashicorp/memberlist") })
}

func TestAnotherKeyIsSaidOnce(t *testing.T) {
	addrs := []netip.AddrPort{porttest.Free(t, "127.0.0.2"), porttest.Free(t, "127.0.0.3")}
	other := Key(bytes.Repeat([]byte{0xa5}, 32))
	a := startPeer(t, Config{addrs[0], testKey, addrs, "a"}, Options{})
	b := startPeer(t, Config{addrs[1], other, addrs, "b"}, Options{})
	check(t, a.data.Set("secret", []byte("1")))
	eventually(t, "both have refused many times", func() bool { return a.rejected(reasonKey) >= 10 && b.rejected(reasonKey) >= 10 })
	for _, p := range []*peer{a, b} {
		if p.sees() != "" {
			t.Errorf("%s sees %s", p.name, p.sees())
		}
		if n := p.log.count("another mesh key"); n != 1 {
			t.Errorf("%s says so %d times", p.name, n)
		}
		if n := strings.Count(p.log.String(), "\n"); n > 3 {
			t.Errorf("%s says %d things about it", p.name, n)
		}
	}
	if len(b.data.Snapshot()) != 0 {
		t.Error("b has what a set")
	}
}

// A member whose key was changed under the feet of the others: their pings come by packets.
func TestChangedKeyIsSaidOnce(t *testing.T) {
	addrs := []netip.AddrPort{porttest.Free(t, "127.0.0.2"), porttest.Free(t, "127.0.0.3")}
	slow := fast()
	slow.probe, slow.probeTimeout = time.Second, 500*time.Millisecond // it takes a while until b is given up
	a := startPeer(t, Config{addrs[0], testKey, addrs, "a"}, Options{timing: slow})
	n, unplug := pluggedNetwork()
	b := startPeer(t, Config{addrs[1], testKey, addrs, "b"}, Options{network: &n})
	eventually(t, "a and b meet", func() bool { return a.sees() == "b alive" && b.sees() == "a alive" })
	unplug()
	other := Key(bytes.Repeat([]byte{0xa5}, 16))
	changed := startPeer(t, Config{addrs[1], other, nil, "b"}, Options{})
	eventually(t, "packets of another key come in", func() bool { return changed.rejected(reasonKey) >= 5 })
	if n := changed.log.count("another mesh key"); n != 1 {
		t.Errorf("said %d times", n)
	}
	eventually(t, "a gives b up", func() bool { return a.sees() == "b lost" })
}

func TestAnotherGroupIsKeptOut(t *testing.T) {
	addrs := []netip.AddrPort{porttest.Free(t, "127.0.0.2"), porttest.Free(t, "127.0.0.3")}
	a := startPeer(t, Config{addrs[0], testKey, addrs, "a"}, Options{})
	b := startPeer(t, Config{addrs[1], testKey, addrs, "b"}, Options{Group: "gss"})
	eventually(t, "both have refused many times", func() bool { return a.rejected(reasonGroup) >= 3 && b.rejected(reasonGroup) >= 3 })
	if a.sees() != "" || b.sees() != "" {
		t.Errorf("a sees %s, b sees %s", a.sees(), b.sees())
	}
	if n := a.log.count("is of another mesh"); n != 1 {
		t.Errorf("said %d times", n)
	}
}

func TestTwoOfOneName(t *testing.T) {
	addrs := []netip.AddrPort{porttest.Free(t, "127.0.0.2"), porttest.Free(t, "127.0.0.3"), porttest.Free(t, "127.0.0.4")}
	a := startPeer(t, Config{addrs[0], testKey, nil, "a"}, Options{})
	startPeer(t, Config{addrs[1], testKey, addrs[:1], "b"}, Options{})
	eventually(t, "a sees b", func() bool { return a.sees() == "b alive" })
	startPeer(t, Config{addrs[2], testKey, addrs[:1], "b"}, Options{})
	eventually(t, "a says so", func() bool { return a.log.count("two members have one name") > 0 })
	if a.rejected(reasonName) == 0 {
		t.Error("not counted")
	}
}

func TestUnreachedPeerIsSaidOnce(t *testing.T) {
	addrs := []netip.AddrPort{porttest.Free(t, "127.0.0.2"), porttest.Free(t, "127.0.0.3")}
	a := startPeer(t, Config{addrs[0], testKey, addrs, "a"}, Options{})
	eventually(t, "it has tried often", func() bool { return testutil.ToFloat64(a.counters.joins) >= 5 })
	if n := a.log.count("a member is not reached"); n != 1 {
		t.Errorf("said %d times", n)
	}
	startPeer(t, Config{addrs[1], testKey, nil, "b"}, Options{}) // b knows nobody: a finds it
	eventually(t, "a has found b", func() bool { return a.sees() == "b alive" })
}

func TestRunSaysWhyItCannotBegin(t *testing.T) {
	a := startPeer(t, Config{porttest.Free(t, "127.0.0.2"), testKey, nil, "a"}, Options{})
	eventually(t, "a runs", func() bool { return len(a.Members()) == 1 })
	for _, cfg := range []Config{{a.cfg.Listen, testKey, nil, "b"}, {addrPort("192.0.2.1:7946"), testKey, nil, "b"}, {porttest.Free(t, "127.0.0.3"), Key{1, 2}, nil, "b"}} {
		m, err := New(cfg, Options{Map: NewMap("b", nil), Group: "lb"})
		check(t, err)
		if err := m.Run(t.Context()); err == nil {
			t.Errorf("%v: no error", cfg)
		}
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	addrs := []netip.AddrPort{porttest.Free(t, "127.0.0.2"), porttest.Free(t, "127.0.0.3")}
	a := startPeer(t, Config{addrs[0], testKey, addrs, "a"}, Options{Registry: reg})
	b := startPeer(t, Config{addrs[1], testKey, addrs, "b"}, Options{})
	check(t, b.data.Set("k", nil))
	check(t, b.data.Set("l", nil))
	b.data.Delete("l")
	eventually(t, "a has it", func() bool { return a.has("k", "") && a.sees() == "b alive" })
	a.receive([]byte("no message"), true)
	eventually(t, "the metrics say so", func() bool {
		return testutil.GatherAndCompare(reg, strings.NewReader(wantMetrics), "anycastle_mesh_members", "anycastle_mesh_keys",
			"anycastle_mesh_tombstones", "anycastle_mesh_messages_rejected_total") == nil
	})
	check(t, testutil.GatherAndCompare(reg, strings.NewReader(wantMetrics), "anycastle_mesh_members", "anycastle_mesh_messages_rejected_total"))
	families, err := reg.Gather()
	check(t, err)
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "anycastle_mesh_") {
			t.Errorf("a metric of somebody else: %s", f.GetName())
		}
	}
	if _, err := New(a.cfg, Options{Map: a.data, Group: "lb", Registry: reg}); err == nil {
		t.Error("two meshes in one registry")
	}
	problems, err := testutil.GatherAndLint(reg)
	check(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

const wantMetrics = `
# HELP anycastle_mesh_keys Keys in the map.
# TYPE anycastle_mesh_keys gauge
anycastle_mesh_keys{mesh="lb"} 1
# HELP anycastle_mesh_members Members of the mesh, this one among them, by state.
# TYPE anycastle_mesh_members gauge
anycastle_mesh_members{mesh="lb",state="alive"} 2
anycastle_mesh_members{mesh="lb",state="left"} 0
anycastle_mesh_members{mesh="lb",state="lost"} 0
# HELP anycastle_mesh_messages_rejected_total Messages, or entries in them, that were not taken, by reason.
# TYPE anycastle_mesh_messages_rejected_total counter
anycastle_mesh_messages_rejected_total{mesh="lb",reason="clock"} 0
anycastle_mesh_messages_rejected_total{mesh="lb",reason="format"} 1
anycastle_mesh_messages_rejected_total{mesh="lb",reason="full"} 0
anycastle_mesh_messages_rejected_total{mesh="lb",reason="group"} 0
anycastle_mesh_messages_rejected_total{mesh="lb",reason="key"} 0
anycastle_mesh_messages_rejected_total{mesh="lb",reason="members"} 0
anycastle_mesh_messages_rejected_total{mesh="lb",reason="name"} 0
anycastle_mesh_messages_rejected_total{mesh="lb",reason="streams"} 0
# HELP anycastle_mesh_tombstones Deleted keys that the map remembers.
# TYPE anycastle_mesh_tombstones gauge
anycastle_mesh_tombstones{mesh="lb"} 1
`
