package netconf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"anycastle/internal/firewall"
	"anycastle/internal/netnstest"
)

func TestFirewallTCP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		name        string
		from, to    string
		sport, port uint16
		dropped     string // zones; empty: it passes
	}{
		{name: "a port", from: "outside", to: "front", port: 25},
		{name: "a range", from: "outside", to: "front", port: 1000},
		{name: "the end of a range that overlaps", from: "outside", to: "front", port: 1999},
		{name: "another port", from: "outside", to: "front", port: 2000, dropped: "outside front"},
		{name: "a zone of the rule, another prefix", from: "outside", to: "lb", port: 25, dropped: "outside network"},
		{name: "the second interface of a zone, another prefix", from: "outside", to: "front2", port: 25, dropped: "outside front"},
		{name: "back end from outside", from: "outside", to: "back", port: 2424, dropped: "outside back"},
		{name: "front to back", from: "front", to: "back", port: 2424},
		{name: "second front end to back", from: "front2", to: "back", port: 2424},
		{name: "back to front", from: "back", to: "front", port: 2424, dropped: "back front"},
		{name: "a connection that begins at the port of a rule", from: "front", to: "outside", sport: 1001, port: 3000, dropped: "front outside"},
		{name: "within a zone", from: "front", to: "front2", port: 25, dropped: "front front"},
	} {
		for _, v6 := range []bool{false, true} {
			if c.dropped == "" {
				if err := w.connect(c.from, c.to, v6, c.sport, c.port, patience); err != nil {
					t.Errorf("%s (IPv6: %v): %v, want it to pass", c.name, v6, err)
				}
				continue
			}
			err := w.connect(c.from, c.to, v6, c.sport, c.port, impatience)
			var timeout net.Error
			if !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("%s (IPv6: %v): %v, want silence", c.name, v6, err)
			} else if !w.dropped()[c.dropped] {
				t.Errorf("%s (IPv6: %v): no drop is counted: %+v", c.name, v6, w.status().Drops)
			}
		}
	}
	if err := w.connect("back", "lb", true, 0, 9, impatience); err == nil || !w.dropped()["network back"] {
		t.Error("the answer to what `any` lets pass comes back without a rule of its own")
	}
	s := w.status()
	if r := s.Rules[0]; r.Text != "tcp 25,1000-1003,1002-1999 from outside to front,network 192.0.2.4/31,2001:db8:3::/64" ||
		r.Passed.Packets == 0 || r.Answers.Packets == 0 || len(s.Rules) != 8 || len(s.Drops) != 16 {
		t.Errorf("status: %+v", s)
	}
}

// What would go back by the only interface of its zone is dropped, whatever the rules say: another router may send it again.
func TestFirewallDropsReturns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	far := netip.MustParsePrefix("192.0.2.200/32")
	if err := w.router.Link.RouteAdd(&netlink.Route{Dst: ipNet(far), Gw: w.v4["back"].AsSlice()}); err != nil {
		t.Fatal(err)
	}
	w.nodes["back"].Do(func() error {
		c, err := net.Dial("udp", netip.AddrPortFrom(far.Addr(), 9).String())
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("x"))
		return err
	})
	for deadline := time.Now().Add(patience); !w.dropped()["back back"]; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no drop is counted: %+v", w.status().Drops)
		}
	}
	if got := len(w.status().Drops); got != 16 {
		t.Errorf("%d pairs of zones, want 16", got)
	}
}

// ask sends a datagram and waits for the answer; the far end sends back what it gets unless it is deaf.
func (w *world) ask(from, to string, port uint16, deaf bool, timeout time.Duration) error {
	target := netip.AddrPortFrom(w.v4[to], port)
	if !deaf {
		w.nodes[to].Do(func() error {
			ln, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(target))
			if err != nil {
				return err
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				buf := make([]byte, 64)
				if n, peer, err := ln.ReadFromUDPAddrPort(buf); err == nil {
					ln.WriteToUDPAddrPort(buf[:n], peer)
				}
			}()
			w.t.Cleanup(func() { ln.Close(); <-done })
			return nil
		})
	}
	var err error
	w.nodes[from].Do(func() error {
		c, dialErr := net.Dial("udp", target.String())
		if dialErr != nil {
			return dialErr
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(timeout))
		if _, err = c.Write([]byte("x")); err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		return nil
	})
	return err
}

func TestFirewallUDPAndErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.ask("outside", "front", 53, false, patience); err != nil {
		t.Errorf("a datagram that a rule lets pass: %v", err)
	}
	if err := w.ask("outside", "front", 54, false, impatience); !errors.Is(err, os.ErrDeadlineExceeded) || !w.dropped()["outside front"] {
		t.Errorf("a datagram of another port: %v, drops %v", err, w.dropped())
	}
	if err := w.ask("outside", "front2", 53, true, patience); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a datagram to nobody: %v, want the ICMP error to come back", err)
	}
	if n := w.status().Errors.Packets; n != 1 {
		t.Errorf("%d ICMP errors are counted, want 1", n)
	}
}

// send sends a packet of a protocol and says whether it arrives.
func (w *world) send(network, from, to string, payload []byte, timeout time.Duration) error {
	var ln, c net.PacketConn
	w.nodes[to].Do(func() (err error) {
		ln, err = net.ListenPacket(network, w.v4[to].String())
		return err
	})
	defer ln.Close()
	w.nodes[from].Do(func() (err error) {
		c, err = net.ListenPacket(network, w.v4[from].String())
		return err
	})
	defer c.Close()
	if _, err := c.WriteTo(payload, &net.IPAddr{IP: w.v4[to].AsSlice()}); err != nil {
		return err
	}
	ln.SetReadDeadline(time.Now().Add(timeout))
	_, _, err := ln.ReadFrom(make([]byte, 128))
	return err
}

func TestFirewallTunnelsAndEcho(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gue := []byte{0x30, 0, 6080 >> 8, 6080 & 0xff, 0, 8, 0, 0} // a UDP header without checksum
	echo := func(kind byte) []byte { return []byte{kind, 0, ^kind, 0xff, 0, 0, 0, 0} }
	for _, c := range []struct {
		name, network, from, to string
		payload                 []byte
		passes                  bool
	}{
		{"IPv4 in IP", "ip4:4", "lb", "front", make([]byte, 20), true},
		{"IPv6 in IP", "ip4:41", "lb", "front2", make([]byte, 40), true},
		{"IPv4 in IP back", "ip4:4", "front", "lb", make([]byte, 20), false},
		{"IPv4 in IP from outside", "ip4:4", "outside", "front", make([]byte, 20), false},
		{"GRE", "ip4:47", "lb", "front", make([]byte, 20), false},
		{"GUE", "ip4:17", "lb", "front", gue, true},
		{"GUE back", "ip4:17", "front", "lb", gue, false},
		{"echo", "ip4:1", "lb", "back", echo(8), true},
		{"echo reply without a question", "ip4:1", "back", "lb", echo(0), true}, // without state it looks like an answer
		{"echo the other way", "ip4:1", "back", "lb", echo(8), false},
		{"router solicitation", "ip4:1", "lb", "back", echo(10), false},
	} {
		timeout := patience
		if !c.passes {
			timeout = impatience
		}
		if err := w.send(c.network, c.from, c.to, c.payload, timeout); (err == nil) != c.passes {
			t.Errorf("%s: %v, want it to pass: %v", c.name, err, c.passes)
		}
	}
}

// The answer may come by another router, which has seen nothing of the question.
func TestFirewallOfTwoRouters(t *testing.T) {
	t.Parallel()
	client, server := netnstest.New(t), netnstest.New(t)
	const text = `
net:
  forward: true
  interfaces:
    - {name: out, addresses: [%s/31]}
    - {name: in, addresses: [%s/31]}
  firewall: {zones: {outside: [out], front: [in]}, allow: [{from: [outside], to: [front], proto: tcp, ports: [25]}]}
`
	for i, links := range [][2]string{{"192.0.2.0", "192.0.2.2"}, {"192.0.2.4", "192.0.2.6"}} {
		router := netnstest.New(t)
		cfg, err := decode(fmt.Sprintf(text, links[0], links[1]))
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("eth%d", i+1)
		near, far := netip.MustParseAddr(links[0]), netip.MustParseAddr(links[1])
		netnstest.Veth(t, router, "out", netip.Prefix{}, client, name, netip.PrefixFrom(near.Next(), 31))
		netnstest.Veth(t, router, "in", netip.Prefix{}, server, name, netip.PrefixFrom(far.Next(), 31))
		router.Do(func() error { return Apply(t.Context(), cfg, slog.New(slog.DiscardHandler)) })
		route := func(ns *netnstest.NS, to string, via netip.Addr) {
			if err := ns.Link.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix(to)), Gw: via.AsSlice()}); err != nil {
				t.Fatal(err)
			}
		}
		if i == 0 {
			route(client, "192.0.2.2/31", near) // there by the first router
		} else {
			route(server, "192.0.2.0/31", far) // back by the second
			route(router, "192.0.2.0/31", near.Next())
		}
		for _, ns := range []*netnstest.NS{client, server} {
			ns.Do(func() error {
				return errors.Join(sysctl("conf/all/rp_filter", "0"), sysctl("conf/"+name+"/rp_filter", "0"))
			})
		}
	}
	var ln net.Listener
	server.Do(func() (err error) {
		ln, err = net.Listen("tcp", "192.0.2.3:25")
		return err
	})
	defer ln.Close()
	client.Do(func() error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}}
		c, err := d.DialContext(ctx, "tcp", "192.0.2.3:25")
		if err == nil {
			c.Close()
		}
		return err
	})
}

// Without the key an earlier firewall goes; other tables stay.
func TestFirewallIsRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg, err := decode(routerNode)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Firewall = nil
	for range 2 {
		w.router.Do(func() error { return Apply(t.Context(), cfg, slog.New(slog.DiscardHandler)) })
	}
	w.router.Do(func() error {
		if s, err := firewall.Read(); !errors.Is(err, firewall.ErrNone) {
			t.Errorf("after removal: %+v, %v", s, err)
		}
		return nil
	})
	if err := w.connect("outside", "back", false, 0, 2424, patience); err != nil {
		t.Errorf("without a firewall: %v", err)
	}
}

func TestFirewallComplaints(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, old, new, complaint string }{
		{"no forwarding", "  forward: true\n", "", "net.firewall: this node passes nothing on"},
		{"unknown interface", "back: [back]", "back: [bac]", "net.firewall.zones.back[0]: bac is not under net.interfaces"},
		{"interface in no zone", ", back: [back]}", ", back: [front2]}", "interface back is in no zone"},
		{"interface in two zones", "[front, front2]", "[front, front2, lb]", "net.firewall.zones.network[0]: lb is in zone front already"},
		{"zone without interfaces", "back: [back]", "back: [back], peer: []", "net.firewall.zones.peer: no interfaces"},
		{"name of a zone", "{outside: [outside]", "{Outside: [outside]", `"Outside" is no name of a zone`},
		{"no zones", "zones: {outside: [outside], network: [lb], front: [front, front2], back: [back]}", "zones: {}", "net.firewall.zones: missing; name the zones"},
		{"unknown zone", "from: [front], to: [back]", "from: [front], to: [bac]", `net.firewall.allow[4].to[0]: there is no zone "bac"; did you mean "back"?`},
		{"zone twice", "from: [front], to: [back]", "from: [front, front], to: [back]", "allow[4].from[1]: front is given twice"},
		{"no from", "from: [front], to: [back]", "to: [back]", "allow[4].from: missing; name at least one zone"},
		{"no proto", ", proto: gue", "", `allow[3].proto: missing; there are ["tcp" "udp"`},
		{"unknown proto", "proto: gue", "proto: gre", `allow[3].proto: "gre" is no kind of packet`},
		{"ports of a tunnel", "proto: gue", "proto: gue, ports: [6080]", "allow[3].ports: only tcp and udp have ports"},
		{"port 0", "ports: [53]", "ports: [0]", `"0" is not a port such as 25, or a range such as 1000-1999`},
		{"backward range", "ports: [53]", "ports: [53-52]", `"53-52" is not a port`},
		{"large port", "ports: [53]", "ports: [65536]", `"65536" is not a port`},
		{"host bits", "to_prefixes: [192.0.2.4/31", "to_prefixes: [192.0.2.5/31", "192.0.2.5/31 has bits set beyond its length; write 192.0.2.4/31"},
		{"no version in common", `to_prefixes: ["2001:db8::/32"]`, `from_prefixes: [192.0.2.0/24], to_prefixes: ["2001:db8::/32"]`, "have no IP version in common"},
		{"mapped address", `"2001:db8::/32"`, `"::ffff:192.0.2.0/120"`, "in IPv6 form; write it as IPv4"},
		{"unknown key", "proto: gue", "proto: gue, port: 1", `unknown key; did you mean "ports"?`},
	} {
		text := strings.Replace(routerNode, c.old, c.new, 1)
		if text == routerNode {
			t.Errorf("%s: the case changes nothing", c.name)
		}
		if _, err := decode(text); err == nil || !strings.Contains(err.Error(), c.complaint) {
			t.Errorf("%s: got %v, want %q in it", c.name, err, c.complaint)
		}
	}
}

// A site of several pods has more rules than the kernel's answers fit in a socket's usual buffer.
func TestFirewallOfManyRules(t *testing.T) {
	t.Parallel()
	cfg, err := decode(routerNode)
	if err != nil {
		t.Fatal(err)
	}
	first := cfg.Firewall.Allow[0]
	for range 500 {
		cfg.Firewall.Allow = append(cfg.Firewall.Allow, first)
	}
	ns := netnstest.New(t)
	ns.Do(func() error {
		if err := firewall.Apply(*cfg.Firewall); err != nil {
			return err
		}
		s, err := firewall.Read()
		if err == nil && len(s.Rules) != len(cfg.Firewall.Allow) {
			t.Errorf("%d rules, want %d", len(s.Rules), len(cfg.Firewall.Allow))
		}
		return err
	})
}
