package lb

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"anycastle/internal/daemon"
	"anycastle/internal/mtlstest"
	"anycastle/internal/netnstest"
	"anycastle/lb/real"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const nodeReal6 = `
real:
  uplinks: [eth1]
  vips: [203.0.113.10, "2001:db8:0:25::10"]
`

// explainedPath is the path with IPv6 on it too, and a reader of what the balancer sends.
type explainedPath struct {
	*network
	balancer *node
	from     [2]netip.Addr // the client's addresses
	to       [2]netip.AddrPort
	sniffer  int
	port     uint16 // of the client's next flow
}

// addIPv6 gives every network of the path an IPv6 one, and the VIP an IPv6 address.
func (n *network) addIPv6() {
	t := n.t
	t.Helper()
	n.router.Do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0) })
	for i, node := range []struct {
		ns   *netnstest.NS
		name string
	}{{n.client, "to-client"}, {n.lb, "to-lb"}, {n.mx1, "to-mx1"}, {n.mx2, "to-mx2"}} {
		for ns, at := range map[*netnstest.NS]struct {
			dev  string
			host int
		}{n.router: {node.name, 1}, node.ns: {"eth1", 2}} {
			a, err := netlink.ParseAddr(fmt.Sprintf("2001:db8:%d::%d/64", i+1, at.host))
			check(t, err)
			a.Flags = unix.IFA_F_NODAD
			check(t, ns.Link.AddrAdd(link(t, ns, at.dev), a))
		}
		check(t, node.ns.Link.RouteReplace(&netlink.Route{Dst: prefix("::/0"), Gw: net.ParseIP(fmt.Sprintf("2001:db8:%d::1", i+1))}))
	}
	check(t, n.router.Link.RouteReplace(&netlink.Route{Dst: prefix("2001:db8:0:25::10/128"), Gw: net.ParseIP("2001:db8:2::2")}))
}

// newExplainedPath gives one in the steady state. Transitions of its farm are short: a real whose first probe is lost while
// its neighbours are looked for joins later than the other.
func newExplainedPath(t *testing.T, method, farm string) *explainedPath {
	t.Helper()
	p := &explainedPath{network: newNetwork(t), port: 20000,
		from: [2]netip.Addr{addr("192.0.2.2"), addr("2001:db8:1::2")},
		to:   [2]netip.AddrPort{netip.MustParseAddrPort(vipTarget), netip.MustParseAddrPort("[2001:db8:0:25::10]:25")}}
	p.addIPv6()
	for name, ns := range map[string]*netnstest.NS{"mx1": p.mx1, "mx2": p.mx2} {
		serve(t, ns, name)
		host := p.start(ns, "real", nodeReal6, name)
		eventually(t, "decapsulator attached", func() bool {
			var s []real.Status
			return host.get("/v1/host", &s) && len(s[0].Uplinks) == 1
		})
	}
	files := mtlstest.NewCA(t).Host(t, "lb1", nil)
	config := strings.Replace(nodeLB, "    - name: smtp\n", "    - name: smtp\n      transition: {method: "+method+", time: 1s}\n"+farm, 1) +
		"    - {name: smtp6, address: \"2001:db8:0:25::10\", port: 25, farm: smtp}\n"
	config = strings.Replace(config, "lb:\n", fmt.Sprintf("lb:\n  tls: {cert: %s, key: %s, ca: %s}\n", files.Cert, files.Key, files.CA), 1)
	// no real is to fail because the machine is busy
	config = strings.Replace(config, "interval: 100ms, timeout: 100ms, fail: 2,", "interval: 500ms, timeout: 500ms, fail: 20,", 1)
	p.balancer = p.start(p.lb, "lb", config, "lb")
	eventually(t, "both reals active", func() bool {
		var farms []FarmStatus
		active := p.balancer.realState("mx1") == StateActive && p.balancer.realState("mx2") == StateActive
		return active && p.balancer.get("/v1/farm", &farms) && farms[0].Moving == 0
	})
	p.sniff()
	return p
}

// ask asks the process.
func (p *explainedPath) ask(q Question) Answer {
	p.t.Helper()
	var a Answer
	check(p.t, daemon.Post(p.t.Context(), p.balancer.dir, "lb", "/v1/explain", q, &a))
	return a
}

// mail is a connection.
type mail struct {
	family int
	port   uint16
	conn   net.Conn
	real   string // that took it
}

func (p *explainedPath) question(m *mail, syn bool) Question {
	return Question{From: netip.AddrPortFrom(p.from[m.family], m.port), To: p.to[m.family], SYN: syn}
}

// next gives a flow that there is not yet.
func (p *explainedPath) next(family int) *mail {
	p.port++
	return &mail{family: family, port: p.port}
}

// connect opens it, and compares its first packet with what was said of that.
func (p *explainedPath) connect(m *mail, said Answer) {
	t := p.t
	t.Helper()
	p.forget()
	p.client.Do(func() (err error) {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.from[m.family], m.port)), Timeout: patience}
		m.conn, err = d.Dial("tcp", p.to[m.family].String())
		return err
	})
	t.Cleanup(func() { m.conn.Close() })
	check(t, m.conn.SetDeadline(time.Now().Add(patience)))
	name := make([]byte, 4)
	_, err := io.ReadFull(m.conn, name)
	check(t, err)
	m.real = string(name[:3])
	p.compare(m, said)
	if said.Real.Name != m.real && (said.Second == nil || said.Second.Name != m.real) {
		t.Errorf("port %d: said to go to %s, and was taken by %s", m.port, said.Real.Name, m.real)
	}
}

// send sends a segment, and compares it with what was said of it.
func (p *explainedPath) send(m *mail, said Answer) {
	p.t.Helper()
	p.forget()
	echo(p.t, m.conn, 16)
	p.compare(m, said)
}

func (p *explainedPath) compare(m *mail, said Answer) {
	p.t.Helper()
	if said.Fate != Forwarded {
		p.t.Fatalf("port %d: %s: %s", m.port, said.Fate, said.Why)
	}
	var got outer
	p.seen("packet of the flow", func(f gopacket.Packet) (ok bool) {
		got, ok = readOuter(f, m.port)
		return ok
	})
	want := outer{said.Sent.Destination, said.Sent.SecondHop, said.Sent.NextHop}
	if got != want || said.Sent.Uplink != "eth1" || said.Sent.MTU != 1600 {
		p.t.Errorf("port %d: left as %+v; said to leave as %+v", m.port, got, said.Sent)
	}
}

func (p *explainedPath) order(real string, kind Kind, state State) {
	p.t.Helper()
	o := Order{Farm: "smtp", Real: real, Kind: kind}
	if kind == KindDrain {
		o.Deadline = time.Now().Add(time.Hour)
	}
	check(p.t, daemon.Post(p.t.Context(), p.balancer.dir, "lb", "/v1/order", o, nil))
	eventually(p.t, real+" "+string(state), func() bool { return p.balancer.realState(real) == state })
}

// steady opens flows of both families in the steady state.
func (p *explainedPath) steady() []*mail {
	var all []*mail
	by := map[string]int{}
	for i := range 24 {
		m := p.next(i % 2)
		said := p.ask(p.question(m, true))
		if said.Slot.InTransition || said.Second != nil || said.Real.State != StateActive {
			p.t.Errorf("port %d: %+v to %+v", m.port, said.Slot, said.Real)
		}
		p.connect(m, said)
		p.send(m, p.ask(p.question(m, false)))
		by[m.real]++
		all = append(all, m)
	}
	if len(by) != 2 {
		p.t.Errorf("flows are at %v, want two reals", by)
	}
	return all
}

// TestExplainedPath asks of packets what becomes of them, and then sends them: through the life of a farm with tracked
// flows.
func TestExplainedPath(t *testing.T) {
	p := newExplainedPath(t, Tracked, "")
	old := p.steady()
	p.order("mx1", KindDrain, StateDraining)
	for _, m := range old {
		said := p.ask(p.question(m, false))
		if moves := m.real == "mx1"; said.Real.Name != m.real || said.Slot.InTransition != moves || said.Slot.Followed != moves || said.Slot.Stored != nil {
			t.Errorf("flow at %s is said to go to %s by %+v", m.real, said.Real.Name, said.Slot)
		}
		p.send(m, said)
	}
	moved := 0
	for i := range 24 {
		m := p.next(i % 2)
		p.connect(m, p.ask(p.question(m, true))) // twice asked: the first must not store what the second looks for
		if m.real != "mx2" {
			t.Errorf("a new flow went to %s, which drains", m.real)
		}
		never := p.next(i % 2)
		p.ask(p.question(never, true))
		if said := p.ask(p.question(never, false)); said.Slot.Stored != nil {
			t.Errorf("a flow is stored after it was only asked about: %+v", said.Slot)
		}
		said := p.ask(p.question(m, false))
		if said.Slot.InTransition {
			moved++
			if said.Slot.Stored == nil || said.Slot.Stored.Name != "mx2" || said.Slot.Method != Tracked {
				t.Errorf("a new flow in a slot in transition: %+v", said.Slot)
			}
		}
		p.send(m, said)
	}
	if moved == 0 {
		t.Error("no new flow is in a slot in transition")
	}
	p.tooBig()
	p.silence()
}

// tooBig takes the room for outer headers away from the link.
func (p *explainedPath) tooBig() {
	t := p.t
	m := p.next(0)
	check(t, p.lb.Link.LinkSetMTU(link(t, p.lb, "eth1"), 1500))
	full := p.question(m, false)
	full.Size = 1500
	eventually(t, "smaller MTU known", func() bool { return p.ask(full).Fate == Answered })
	said := p.ask(full)
	if !strings.Contains(said.Why, "told that 1480 bytes fit") || said.Sent != nil {
		t.Errorf("%s: %s", said.Fate, said.Why)
	}
	said = p.ask(p.question(m, true))
	said.Sent.MTU = 1600 // what compare looks for
	p.connect(m, said)
	echo(t, m.conn, 1<<16)
	p.seen("answer to a packet that is too big", func(f gopacket.Packet) bool {
		icmp, ok := f.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		return ok && icmp.TypeCode == layers.CreateICMPv4TypeCode(3, 4) && icmp.Seq == 1480
	})
}

// silence takes both reals out.
func (p *explainedPath) silence() {
	t := p.t
	ping := Question{From: netip.AddrPortFrom(p.from[0], 0), To: netip.AddrPortFrom(p.to[0].Addr(), 0), Protocol: EchoRequest}
	if said := p.ask(ping); said.Fate != Answered || !said.OnAddress[0].InService {
		t.Errorf("ping: %s: %s", said.Fate, said.Why)
	}
	p.ping()
	p.seen("answer to a ping", func(f gopacket.Packet) bool {
		icmp, ok := f.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		return ok && icmp.TypeCode.Type() == layers.ICMPv4TypeEchoReply
	})
	if said := p.ask(Question{From: netip.MustParseAddrPort("192.0.2.2:1"), To: netip.MustParseAddrPort("203.0.113.10:26")}); said.Fate != Passed {
		t.Errorf("no VIP's port: %s: %s", said.Fate, said.Why)
	}
	p.order("mx1", KindSuspend, StateSuspended)
	p.order("mx2", KindSuspend, StateSuspended)
	m := p.next(0)
	if said := p.ask(p.question(m, true)); said.Reason != "no_real" || said.VIP.InService {
		t.Errorf("with nobody in service: %s %s", said.Fate, said.Reason)
	}
	if said := p.ask(ping); said.Reason != "out_of_service" {
		t.Errorf("ping with nobody in service: %s %s", said.Fate, said.Reason)
	}
	if n := p.dropped("out_of_service"); n != 0 {
		t.Errorf("%d pings dropped before one came", n)
	}
	p.ping()
	eventually(t, "ping dropped", func() bool { return p.dropped("out_of_service") == 1 })
}

// ping sends one.
func (p *explainedPath) ping() {
	p.forget()
	p.client.Do(func() error {
		conn, err := net.Dial("ip4:icmp", p.to[0].Addr().String())
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0})
		return err
	})
}

func (p *explainedPath) dropped(reason string) uint64 {
	var drops []DropStatus
	p.balancer.get("/v1/drops", &drops)
	for _, d := range drops {
		if d.Reason == reason {
			return d.Packets
		}
	}
	return 0
}

// TestExplainedSecondChance does the same where packets carry both reals.
func TestExplainedSecondChance(t *testing.T) {
	p := newExplainedPath(t, SecondChance, "      forward: gue\n      agent: {}\n")
	old := p.steady()
	p.order("mx1", KindDrain, StateDraining)
	for _, m := range old {
		said := p.ask(p.question(m, false))
		if moves := m.real == "mx1"; said.Real.Name != "mx2" || said.Slot.InTransition != moves || (said.Second != nil) != moves || said.Slot.Followed {
			t.Errorf("flow at %s is said to go to %s by %+v", m.real, said.Real.Name, said.Slot)
		}
		p.send(m, said)
	}
	moved := 0
	for i := range 24 {
		m := p.next(i % 2)
		said := p.ask(p.question(m, true))
		if said.Second != nil {
			t.Errorf("a new flow is said to have a second hop: %+v", said.Sent)
		}
		p.connect(m, said)
		if said = p.ask(p.question(m, false)); said.Second != nil {
			moved++
		}
		p.send(m, said)
		if m.real != "mx2" {
			t.Errorf("a new flow went to %s, which drains", m.real)
		}
	}
	if moved == 0 {
		t.Error("no new flow is in a slot in transition")
	}
}
