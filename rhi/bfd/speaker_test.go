package bfd

import (
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"anycastle/internal/netnstest"
)

// inject sends one packet of a way from the far end, with a TTL.
func inject(t *testing.T, r *rig, w way, ttl int, p packet) {
	t.Helper()
	var b [packetLen]byte
	raw := p.encode(&b)
	r.theirs.Do(func() error {
		options := []option{{unix.IPPROTO_IP, unix.IP_TTL, ttl, "set the TTL"}}
		if w.ours.Is6() {
			options = []option{{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, ttl, "set the hop limit"}}
		}
		fd, err := newSocket(w.ours.Is6(), options...)
		if err != nil {
			return err
		}
		s := &sender{fd: fd}
		defer s.close()
		c := w.reversed().config()
		s.aim(&c, linkNumber(w.link))
		s.send(raw)
		return s.err
	})
}

// Nobody off the link can take a session down, however much he knows (RFC 5881 5).
func TestFarPacketsAreNotHeard(t *testing.T) {
	t.Parallel()
	against(t, func(t *testing.T, r *rig, n *node, c control) {
		for _, w := range ways {
			injectFar(t, r, n, w)
		}
	})
}

func injectFar(t *testing.T, r *rig, n *node, w way) {
	st := n.status(w.name)
	kill := packet{state: Down, mult: 3, my: st.RemoteDiscriminator, your: st.Discriminator, tx: slow, rx: slow}
	ttls := []int{254, 64, 1}
	if w.multihop {
		ttls = []int{63, 1} // it takes 64
	}
	for _, ttl := range ttls {
		inject(t, r, w, ttl, kill)
	}
	n.await(w.name, "far packets counted", func(st Status) bool { return st.Dropped["ttl"] == uint64(len(ttls)) })
	stranger := kill
	stranger.your = 1
	inject(t, r, w, 255, stranger)
	n.await(w.name, "unknown discriminator counted", func(st Status) bool { return st.Dropped["your_discriminator"] == 1 })
	if st := n.status(w.name); st.State != Up || st.Downs != 0 {
		t.Errorf("%s: %+v", w.name, st)
	}
	a := n.ask(request{})
	if got := a.Metrics["anycastle_rhi_bfd_dropped_packets_total/"+w.name+"/ttl"]; got != float64(len(ttls)) {
		t.Errorf("%s: the metric has %v", w.name, got)
	}
	if up := a.Metrics["anycastle_rhi_bfd_up/"+w.name]; up != 1 {
		t.Errorf("%s: metric up is %v", w.name, up)
	}
	inject(t, r, w, 255, kill)
	n.await(w.name, "the same packet from nearby is heard", func(st Status) bool { return st.Downs == 1 })
}

// reversed are the sessions of all ways, for the far end.
func reversed() (list []Config) {
	for _, w := range ways {
		list = append(list, w.reversed().config())
	}
	return list
}

func TestStraysAreCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	n := startNode(t, r.ours, "ours")
	c := ways[0].config()
	c.Remote = netip.MustParseAddr("192.0.2.77")
	n.set(c)
	inject(t, r, ways[0], 255, packet{state: Down, mult: 3, my: 5, tx: slow, rx: slow})
	inject(t, r, ways[0], 255, packet{state: Up, mult: 3, my: 5, your: 6, tx: slow, rx: slow})
	eventually(t, "strays", func() bool {
		s := n.ask(request{}).Strays
		return s["no_session"] == 1 && s["your_discriminator"] == 1
	}, func() string { return "" })
}

// What is on the wire: TTL 255, a fixed port of its own for each session, and AdminDown for one that is removed.
func TestPacketsOnTheWire(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	far := startNode(t, r.theirs, "theirs")
	far.set(reversed()...)
	heard := sniff(t, r.theirs)
	n := startNode(t, r.ours, "ours")
	n.set(configs(nil)...)
	n.awaitAll(Up)
	n.set(configs(nil)...) // the same again
	if d, st := n.downs(), n.status("ipv4"); d != 0 || st.Ups != 1 {
		t.Errorf("the same set again: %d downs, %+v", d, st)
	}
	n.set(configs(nil)[1:]...)
	three := func(w way) func([]caught) bool {
		return func(list []caught) bool {
			said := slices.DeleteFunc(list, func(c caught) bool {
				return c.src != w.ours || c.state != AdminDown || c.diag != AdministrativeDown
			})
			return len(said) == 3
		}
	}
	heard.await(t, "AdminDown of what was removed", three(ways[0]))
	far.await("ipv4", "down by order", func(st Status) bool { return st.State == Down && st.Diag == NeighborSignalled })
	n.end()
	for _, w := range ways[1:] {
		far.await(w.name, "down by order", func(st Status) bool { return st.State == Down && st.Diag == NeighborSignalled })
	}
	for _, c := range far.ask(request{}).Changes {
		if c.PeerLost() {
			t.Errorf("leave looks like a loss: %+v", c)
		}
	}
	ports := map[netip.Addr]int{}
	for _, c := range heard.caught() {
		if !slices.ContainsFunc(ways, func(w way) bool { return w.ours == c.src }) {
			continue
		}
		if c.ttl != 255 || c.from < firstPort || (ports[c.src] != 0 && ports[c.src] != c.from) {
			t.Fatalf("TTL %d, port %d after %d", c.ttl, c.from, ports[c.src])
		}
		ports[c.src] = c.from
	}
	seen := map[int]bool{}
	for _, p := range ports {
		seen[p] = true
	}
	if len(ports) != len(ways) || len(seen) < len(ways)-1 { // the families may share one
		t.Errorf("ports: %v", ports)
	}
}

func TestAuthenticationWithBIRD(t *testing.T) {
	t.Parallel()
	with := func(secret string) string {
		return birdConfig(birdLines + `authentication meticulous keyed sha1; password "` + secret + `" { id 7; };`)
	}
	r := newRig(t)
	startBIRD(t, r.theirs, with("s3cret"))
	n := startNode(t, r.ours, "ours")
	right := func(c *Config) { c.Key = Key{ID: 7, Secret: "s3cret"} }
	n.set(configs(right)...)
	n.awaitAll(Up)
	for _, w := range ways {
		n.await(w.name, "goes on", func(st Status) bool { return st.Received > 30 && st.Auth })
	}
	if d := n.downs(); d != 0 {
		t.Errorf("%d downs", d)
	}
	n.set(configs(func(c *Config) { c.Key = Key{ID: 7, Secret: "another"} })...)
	for _, w := range ways {
		st := n.await(w.name, "down with the wrong secret", func(st Status) bool {
			return st.State == Down && st.RemoteDiscriminator == 0 && st.Dropped["auth_digest"] > 3
		})
		if !strings.Contains(st.Why, "auth_digest") {
			t.Errorf("%s: why: %s", w.name, st.Why)
		}
		ups := st.Ups
		if st := n.await(w.name, "stays down", func(st Status) bool { return st.Dropped["auth_digest"] > 10 }); st.Ups != ups || st.State != Down {
			t.Errorf("%s: %+v", w.name, st)
		}
	}
	n.set(configs(nil)...)
	for _, w := range ways {
		n.await(w.name, "unexpected authentication counted", func(st Status) bool { return st.State == Down && st.Dropped["auth_unexpected"] > 0 })
	}
	n.set(configs(right)...)
	n.awaitAll(Up)
}

// The process of a node is stopped for more than its detection time, while the link and the peer go on.
func TestStoppedProcessBlamesNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	far := startNode(t, r.theirs, "theirs")
	far.set(reversed()...)
	n := startNode(t, r.ours, "ours")
	patient := func(c *Config) { c.Multiplier = 250 } // the peer waits for us for 50 s
	n.set(configs(patient)...)
	n.awaitAll(Up)
	far.awaitAll(Up)
	for _, w := range ways {
		far.await(w.name, "is patient", func(st Status) bool { return st.Detection == 50*time.Second })
	}
	if err := n.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(4 * time.Second) // twice the detection time
	if err := n.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for _, w := range ways {
		n.await(w.name, "stall counted", func(st Status) bool { return st.Stalls >= 1 })
		before := n.status(w.name).Received
		n.await(w.name, "goes on", func(st Status) bool { return st.Received > before+20 })
	}
	if d := n.downs(); d != 0 {
		t.Errorf("%d sessions were given up: %+v", d, n.ask(request{}).Changes)
	}
}

// Two links whose peers have the same addresses are two sessions, and a link may come after its session.
func TestTwoLinksWithTheSameAddresses(t *testing.T) {
	t.Parallel()
	a, b := netnstest.New(t), netnstest.New(t)
	near, far := startNode(t, a, "near"), startNode(t, b, "far")
	session := func(link string, local, remote string) Config {
		return Config{Peer: link, Interface: link, Local: netip.MustParseAddr(local), Remote: netip.MustParseAddr(remote), Multiplier: 10}
	}
	near.set(session("one", "fe80::1", "fe80::2"), session("two", "fe80::1", "fe80::2"))
	far.set(session("one", "fe80::2", "fe80::1"), session("two", "fe80::2", "fe80::1"))
	if st := near.status("one"); st.Why != "there is no interface one" {
		t.Errorf("why: %q", st.Why)
	}
	for _, link := range []string{"one", "two"} {
		netnstest.Veth(t, a, link, netip.MustParsePrefix("fe80::1/64"), b, link, netip.MustParsePrefix("fe80::2/64"))
	}
	for _, link := range []string{"one", "two"} {
		near.awaitState(link, Up)
	}
	l, err := a.Link.LinkByName("two")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Link.LinkDel(l); err != nil {
		t.Fatal(err)
	}
	near.awaitState("two", Down)
	netnstest.Veth(t, a, "two", netip.MustParsePrefix("fe80::1/64"), b, "two", netip.MustParsePrefix("fe80::2/64"))
	near.awaitState("two", Up) // under another number
	if st := near.status("one"); st.Downs != 0 || st.State != Up {
		t.Errorf("the other link's session: %+v", st)
	}
}

// A set that cannot be had leaves what stands.
func TestPortIsTaken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var taken *socket
	r.ours.Do(func() (err error) {
		taken, err = listen(kind{})
		return err
	})
	n := startNode(t, r.ours, "ours")
	n.set(configs(nil)[1])
	n.await("ipv6", "runs", func(st Status) bool { return st.Sent > 0 })
	for range 2 {
		a := n.ask(request{Set: true, Sessions: configs(nil)[:2]})
		if !strings.Contains(a.Err, "UDP port 3784 is taken; stop the other BFD daemon") || len(a.Status) != 1 || a.Status[0].Peer != "ipv6" {
			t.Errorf("%q, %v", a.Err, a.Status)
		}
	}
	taken.file.Close()
	n.set(configs(nil)[:2]...)
	n.await("ipv4", "runs", func(st Status) bool { return st.Sent > 0 })
}

// TestSocketsDoNotAllocate holds a poll and its answer, from socket to socket, to no work for the garbage collector.
func TestSocketsDoNotAllocate(t *testing.T) {
	ns := netnstest.New(t)
	for _, pair := range [][2]string{{"127.0.0.1", "127.0.0.2"}, {"::1", "2001:db8::2"}} {
		c := Config{Peer: "peer", Local: netip.MustParseAddr(pair[0]), Remote: netip.MustParseAddr(pair[1])}.normal()
		if c.Remote.Is6() {
			addAddress(t, ns, "lo", netip.PrefixFrom(c.Remote, 128))
		}
		s := New(Options{})
		now := time.Now()
		s.planned = now
		var p *peer
		var far *sender
		back := c
		back.Local, back.Remote = c.Remote, c.Local
		ns.Do(func() (err error) {
			if s.sockets[c.kind()], err = listen(c.kind()); err != nil {
				return err
			}
			if p, err = s.newPeer(c, now); err == nil {
				far, err = openSender(&back, func() float64 { return 0.5 })
			}
			return err
		})
		defer s.closeSockets()
		defer p.out.close()
		defer far.close()
		far.aim(&back, 0)
		s.add(p, now)
		poll := packet{state: Down, mult: 3, my: 9, tx: slow, rx: slow, poll: true}
		var room [packetLen]byte
		raw := poll.encode(&room)
		sock := s.sockets[c.kind()]
		read := func(fd uintptr) { s.readBatch(sock, fd) }
		once := func() {
			far.send(raw)
			_ = sock.conn.Control(read)
		}
		once() // it changes the state, which is told
		if n := testing.AllocsPerRun(100, once); n != 0 {
			t.Errorf("%v: %v allocations per packet", c.Remote, n)
		}
		if p.received != 102 || p.sent < 102 || p.out.failed != 0 || far.failed != 0 {
			t.Errorf("%v: %d taken, %d sent, %d and %d failed: %v", c.Remote, p.received, p.sent, p.out.failed, far.failed, drops(&p.dropped))
		}
	}
}
