package rhi

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"anycastle/internal/netnstest"
)

// hostile is what a peer sends that means harm, or is broken.
type hostile struct {
	name string
	kind byte   // of the message, which gets a good header; 0: the bytes are all there is
	body []byte // after the header
}

func (h hostile) bytes() []byte {
	if h.kind == 0 {
		return h.body
	}
	return message(h.kind, h.body)
}

func unhex(text string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		panic(err) // of a case in this file
	}
	return b
}

// update is the body of an UPDATE for 203.0.113.0/24 with attributes, each in hex with flags and type, without length.
func update(attrs ...string) []byte {
	var all []byte
	for _, a := range attrs {
		b := unhex(a)
		all = append(all, b[0], b[1])
		if b[0]&0x10 != 0 { // extended length
			all = binary.BigEndian.AppendUint16(all, uint16(len(b)-2))
		} else {
			all = append(all, byte(len(b)-2))
		}
		all = append(all, b[2:]...)
	}
	body := binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(all)))
	return append(append(body, all...), 24, 203, 0, 113)
}

// openWith is the body of an OPEN of AS 65099, hold time 90 s, with optional parameters in hex.
func openWith(params string) []byte {
	p := unhex(params)
	return append(unhex("04 fe4b 005a c6336463"), append([]byte{byte(len(p))}, p...)...)
}

// The parts of an UPDATE that is good.
const (
	goodOrigin = "4001 00"
	goodPath   = "4002 0201fe4b"
	goodHop    = "4003 c0000203"
)

// hostileHeaders are messages whose header is wrong, or that have no business in any state.
var hostileHeaders = []hostile{
	{"unknown type", typeUnknown, nil},
	{"type 0", 0, append(bytes.Repeat([]byte{0xff}, 16), 0, 19, 0)},
	{"type 255", 255, []byte{1, 2, 3}},
	{"no marker", 0, append(make([]byte, 16), 0, 19, typeKeepalive)},
	{"length below the header's", 0, append(bytes.Repeat([]byte{0xff}, 16), 0, 3, typeUpdate)},
	{"length 0", 0, append(bytes.Repeat([]byte{0xff}, 16), 0, 0, typeOpen)},
	{"length 65535", 0, append(bytes.Repeat([]byte{0xff}, 16), 0xff, 0xff, typeUpdate, 0, 0)},
	{"length beyond 4096", typeUpdate, make([]byte, 5000)},
	{"half a header", 0, bytes.Repeat([]byte{0xff}, 17)},
	{"KEEPALIVE with a body", typeKeepalive, []byte{1, 2, 3, 4}},
	{"NOTIFICATION without a body", 3, nil},
	{"NOTIFICATION cut off", 3, []byte{6}},
	{"NOTIFICATION of an unknown code", 3, []byte{99, 99, 1, 2, 3}},
	{"shutdown with a text beyond the end", 3, []byte{6, 2, 200, 'x'}},
	{"hard reset without what it wraps", 3, []byte{6, 9}},
	{"ROUTE-REFRESH cut off", 5, []byte{0, 1}},
	{"ROUTE-REFRESH of an odd family", 5, []byte{0x40, 4, 9, 71}},
	{"ROUTE-REFRESH with a filter beyond the end", 5, unhex("00010001 01 40 ffff 00")},
	{"ROUTE-REFRESH of an unknown kind", 5, []byte{0, 1, 77, 1}},
	{"ROUTE-REFRESH of Cisco", 128, []byte{0, 1, 0, 1}},
	{"noise", 0, bytes.Repeat([]byte{0xa5, 0x00, 0xff}, 2000)},
}

// hostileOpens are OPENs that are wrong, and some that are right and odd.
var hostileOpens = []hostile{
	{"second OPEN", typeOpen, bytes.Repeat([]byte{0xff}, 40)},
	{"OPEN without a body", typeOpen, nil},
	{"OPEN cut off", typeOpen, unhex("04 fe4b 005a c633")},
	{"version 5", typeOpen, unhex("05 fe4b 005a c6336463 00")},
	{"AS 0", typeOpen, unhex("04 0000 005a c6336463 00")},
	{"another AS", typeOpen, unhex("04 fdea 005a c6336463 00")},
	{"hold time 0", typeOpen, unhex("04 fe4b 0000 c6336463 00")},
	{"hold time 1", typeOpen, unhex("04 fe4b 0001 c6336463 00")},
	{"identifier 0", typeOpen, unhex("04 fe4b 005a 00000000 00")},
	{"our identifier", typeOpen, unhex("04 fe4b 005a c6336401 00")},
	{"parameters beyond the end", typeOpen, unhex("04 fe4b 005a c6336463 ff 0206")},
	{"parameter beyond the end", typeOpen, openWith("02ff 0104 00010001")},
	{"parameter of an unknown kind", typeOpen, openWith("4d02 0102")},
	{"long parameters cut off", typeOpen, unhex("04 fe4b 005a c6336463 ff ff ffff 02")}, // RFC 9072
	{"capability beyond the end", typeOpen, openWith("0206 01ff 00010001")},
	{"capability without a length", typeOpen, openWith("0201 01")},
	{"family cut off", typeOpen, openWith("0203 0101 00")},
	{"odd families", typeOpen, openWith("020c 0104 4004 0047 0104 ffff ffff")},
	{"AS number of two octets", typeOpen, openWith("0204 4102 fe4b")},
	{"AS number 0", typeOpen, openWith("0206 4104 00000000")},
	{"AS number cut off", typeOpen, openWith("0202 4100")},
	{"next hops of other families cut off", typeOpen, openWith("0205 0503 0001 00")},
	{"next hops of odd families", typeOpen, openWith("0208 0506 ffff ffff ffff")},
	{"graceful restart cut off", typeOpen, openWith("0203 4001 80")},
	{"graceful restart of odd families", typeOpen, openWith("0209 4007 8fff 4004 47 80 00")},
	{"long-lived graceful restart cut off", typeOpen, openWith("0205 4703 0001 01")},
	{"additional paths cut off", typeOpen, openWith("0204 4502 0001")},
	{"additional paths of an odd kind", typeOpen, openWith("0206 4504 0001 01 ff")},
	{"name beyond the end", typeOpen, openWith("0204 4902 ff41")},
	{"name without a length", typeOpen, openWith("0202 4900")},
	{"version text beyond the end", typeOpen, openWith("0204 4b02 ff41")},
	{"role cut off", typeOpen, openWith("0202 0900")},
	{"all families, twice", typeOpen, openWith("0218 0104 00010001 0104 00020001 0104 00010001 0104 00190046")},
	{"parameters of noise", typeOpen, openWith(strings.Repeat("02a5", 120))},
}

// hostileUpdates are UPDATEs that are wrong.
var hostileUpdates = []hostile{
	{"empty", typeUpdate, nil},
	{"withdrawn length beyond the end", typeUpdate, []byte{0xff, 0xff, 0, 0}},
	{"attribute length beyond the end", typeUpdate, unhex("0000 ffff 400101")},
	{"attribute cut off", typeUpdate, unhex("0000 0003 400105")},
	{"attribute without a length", typeUpdate, unhex("0000 0002 4001")},
	{"extended length cut off", typeUpdate, unhex("0000 0003 500100")},
	{"AS4_PATH before AS_PATH", typeUpdate, update(goodOrigin, goodHop, "c011 02010000fe4b", goodPath)},
	{"AS4_PATH longer than AS_PATH", typeUpdate, update(goodOrigin, goodHop, goodPath, "c011 0203 00000001 00000002 00000003")},
	{"AS4_PATH and no AS_PATH", typeUpdate, update(goodOrigin, goodHop, "c011 02010000fe4b")},
	{"AS4_PATH beside an empty AS_PATH", typeUpdate, update(goodOrigin, goodHop, "4002", "c011 0200")},
	{"AS4_PATH of a confederation", typeUpdate, update(goodOrigin, goodHop, "4002 0302 fe4b fe4c", "c011 0301 0000fe4b")},
	{"AS_SET beside AS4_PATH", typeUpdate, update(goodOrigin, goodHop, "4002 0103 fe4b fe4c fe4d 0201 fe4b", "c011 0202 0000fe4b 0000fe4c")},
	{"AS_PATH segment longer than the attribute", typeUpdate, update(goodOrigin, goodHop, "4002 02ff")},
	{"AS_PATH of an unknown segment", typeUpdate, update(goodOrigin, goodHop, "4002 0901 fe4b")},
	{"AS_PATH of an odd length", typeUpdate, update(goodOrigin, goodHop, "4002 0201 fe")},
	{"our own AS in AS_PATH", typeUpdate, update(goodOrigin, goodHop, "4002 0202 fe4b fde9")},
	{"no attributes", typeUpdate, update()},
	{"all attributes twice", typeUpdate, update(goodOrigin, goodOrigin, goodPath, goodPath, goodHop, goodHop)},
	{"ORIGIN 9", typeUpdate, update("4001 09", goodPath, goodHop)},
	{"ORIGIN without a value", typeUpdate, update("4001", goodPath, goodHop)},
	{"ORIGIN as an optional one", typeUpdate, update("c001 00", goodPath, goodHop)},
	{"NEXT_HOP of three octets", typeUpdate, update(goodOrigin, goodPath, "4003 c00002")},
	{"NEXT_HOP 0.0.0.0", typeUpdate, update(goodOrigin, goodPath, "4003 00000000")},
	{"NEXT_HOP of many", typeUpdate, update(goodOrigin, goodPath, "4003 e0000001")},
	{"MED of three octets", typeUpdate, update(goodOrigin, goodPath, goodHop, "8004 000001")},
	{"AGGREGATOR of five octets", typeUpdate, update(goodOrigin, goodPath, goodHop, "c007 fe4bc00002")},
	{"AS4_AGGREGATOR alone", typeUpdate, update(goodOrigin, goodPath, goodHop, "c012 0000fe4bc0000203")},
	{"AGGREGATOR and AS4_AGGREGATOR at odds", typeUpdate, update(goodOrigin, goodPath, goodHop, "c007 5ba0c0000203", "c012 0000fe4b")},
	{"communities of three octets", typeUpdate, update(goodOrigin, goodPath, goodHop, "c008 010203")},
	{"cluster list of three octets", typeUpdate, update(goodOrigin, goodPath, goodHop, "800a 010203")},
	{"extended communities of seven octets", typeUpdate, update(goodOrigin, goodPath, goodHop, "c010 01020304050607")},
	{"large communities of eleven octets", typeUpdate, update(goodOrigin, goodPath, goodHop, "c020 0000000000000000000000")},
	{"our markers", typeUpdate, update(goodOrigin, goodPath, goodHop, "c020 000000000000000000000000")},
	{"P-multicast tunnel cut off", typeUpdate, update(goodOrigin, goodPath, goodHop, "c016 00")},
	{"tunnel beyond the end", typeUpdate, update(goodOrigin, goodPath, goodHop, "c017 000fffff 01")},
	{"traffic engineering cut off", typeUpdate, update(goodOrigin, goodPath, goodHop, "8018 01")},
	{"AIGP beyond the end", typeUpdate, update(goodOrigin, goodPath, goodHop, "801a 01ffff00")},
	{"link state beyond the end", typeUpdate, update(goodOrigin, goodPath, goodHop, "801d 0400ffff00")},
	{"OTC of three octets", typeUpdate, update(goodOrigin, goodPath, goodHop, "c023 010203")},
	{"prefix SID beyond the end", typeUpdate, update(goodOrigin, goodPath, goodHop, "c028 05ffff00")},
	{"SRv6 cut off", typeUpdate, update(goodOrigin, goodPath, goodHop, "c028 050005 0001000200")},
	{"attribute set cut off", typeUpdate, update(goodOrigin, goodPath, goodHop, "c080 0000")},
	{"unknown well-known attribute", typeUpdate, update(goodOrigin, goodPath, goodHop, "40c8 01")},
	{"attribute of type 0", typeUpdate, update(goodOrigin, goodPath, goodHop, "c000 01")},
	{"MP_REACH cut off", typeUpdate, update(goodOrigin, goodPath, "800e 0001")},
	{"MP_REACH with a next hop beyond the end", typeUpdate, update(goodOrigin, goodPath, "800e 0002 01 ff 00")},
	{"MP_REACH without a next hop", typeUpdate, update(goodOrigin, goodPath, "800e 0002 01 00 00 20 20010db8")},
	{"MP_REACH of IPv4 with 16 octets", typeUpdate, update(goodOrigin, goodPath, "800e 0001 01 10 20010db8000000000000000000000001 00 18 cb0071")},
	{"MP_REACH that was not agreed", typeUpdate, update(goodOrigin, goodPath, "800e 0002 01 10 20010db8000000000000000000000001 00 20 20010db8")},
	{"MP_REACH of family 0", typeUpdate, update(goodOrigin, goodPath, "800e 0000 00 04 c0000203 00 18 cb0071")},
	{"MP_REACH of family 65535", typeUpdate, update(goodOrigin, goodPath, "800e ffff ff 04 c0000203 00 18 cb0071")},
	{"MP_REACH of a VPN", typeUpdate, update(goodOrigin, goodPath, "800e 0001 80 0c 0000000000000000c0000203 00 ff")},
	{"MP_REACH of labels", typeUpdate, update(goodOrigin, goodPath, "800e 0001 04 04 c0000203 00 08 00")},
	{"MP_REACH of EVPN", typeUpdate, update(goodOrigin, goodPath, "800e 0019 46 04 c0000203 00 02 ff 00")},
	{"MP_REACH of flow rules", typeUpdate, update(goodOrigin, goodPath, "800e 0001 85 00 00 ff 01 ff 00")},
	{"MP_REACH of link state", typeUpdate, update(goodOrigin, goodPath, "800e 4004 47 04 c0000203 00 0001 ffff 00")},
	{"MP_REACH of SR policies", typeUpdate, update(goodOrigin, goodPath, "800e 0001 49 04 c0000203 00 60 00")},
	{"MP_REACH of route targets", typeUpdate, update(goodOrigin, goodPath, "800e 0001 84 04 c0000203 00 ff 00")},
	{"MP_REACH of a prefix of 200 bits", typeUpdate, update(goodOrigin, goodPath, "800e 0001 01 04 c0000203 00 c8 cb0071")},
	{"MP_UNREACH cut off", typeUpdate, update("800f 00")},
	{"MP_UNREACH of family 65535", typeUpdate, update("800f ffff ff 18 cb0071")},
	{"MP_UNREACH of EVPN", typeUpdate, update("800f 0019 46 01 01 00")},
	{"prefix of 200 bits", typeUpdate, []byte{0, 0, 0, 0, 200, 1, 2, 3}},
	{"prefix of 33 bits", typeUpdate, append(update(goodOrigin, goodPath, goodHop), 33, 1, 2, 3, 4, 5)},
	{"prefix cut off", typeUpdate, append(update(goodOrigin, goodPath, goodHop), 24, 1)},
	{"withdrawn prefix of 200 bits", typeUpdate, []byte{0, 4, 200, 1, 2, 3, 0, 0}},
	{"withdrawn and announced", typeUpdate, unhex("0004 18cb0071 0000 18cb0071")},
}

// hostileRig is a router that takes peers from a range, and a namespace with all addresses of the range. A well-behaved
// balancer stands beside it.
type hostileRig struct {
	router, good, raw *node
	next              uint32
	since             time.Time // of the good peer's session
}

// hostileRange is where the hostile peers dial from, each attack from an address of its own.
var hostileRange = netip.MustParsePrefix("198.18.0.0/15")

func newHostileRig(t testing.TB) *hostileRig {
	t.Helper()
	rig := &hostileRig{router: newNode(t, "router"), good: newNode(t, "good"), raw: newNode(t, "raw")}
	link(t, rig.router, rig.good, 64)
	netnstest.Veth(t, rig.router.ns, "eth1", netip.MustParsePrefix("192.0.2.1/25"), rig.raw.ns, "eth1", netip.MustParsePrefix("192.0.2.2/25"))
	dst, err := netlink.ParseIPNet(hostileRange.String())
	if err != nil {
		t.Fatal(err)
	}
	lo, err := rig.raw.ns.Link.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	local := &netlink.Route{Dst: dst, LinkIndex: lo.Attrs().Index, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST}
	if err := rig.raw.ns.Link.RouteAdd(local); err != nil {
		t.Fatal(err)
	}
	if err := rig.router.ns.Link.RouteAdd(&netlink.Route{Dst: dst, Gw: net.IPv4(192, 0, 2, 2)}); err != nil {
		t.Fatal(err)
	}
	rig.router.start(fmt.Sprintf(`
rhi:
  asn: 65001
  router_id: 198.51.100.1
  hold: 3s
  announce: [198.51.100.0/25]
  router: {pass: [203.0.113.0/24]}
  neighbors: [{name: good, address: 192.0.2.129, asn: 65011, passive: true}]
  dynamic: [{name: hostile, prefix: %v, asn: 65099, families: [ipv4, ipv6], next_hop: "2001:db8::1", max_peers: 100}]
`, hostileRange))
	rig.good.start(balancer(2, "192.0.2.128"))
	rig.good.set(vip)
	eventually(t, "good peer's route", soon, func() bool { return rig.router.kernel(vip) == "192.0.2.129" })
	eventually(t, "good peer's session in the status", soon, func() bool { // which comes after the route
		good := rig.router.peer("good")
		rig.since = good.Since
		return good.State == established
	})
	return rig
}

// attack sends bytes instead of an OPEN, or over a session that stands, and hangs up once the router has hung up or read
// all of it.
func (rig *hostileRig) attack(t testing.TB, early bool, b []byte) {
	t.Helper()
	a := hostileRange.Addr().As4()
	rig.next++
	from := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(a[:])+rig.next))).String()
	var conn *net.TCPConn
	if early {
		c, err := dial(rig.raw, from, 255)
		if err != nil {
			t.Fatalf("dial from %s: %v", from, err)
		}
		conn = c.(*net.TCPConn)
	} else {
		p, err := handshake(rig.raw, from, 255, 90, soon)
		if err != nil {
			t.Fatalf("open a session from %s: %v", from, err)
		}
		conn = p.Conn.(*net.TCPConn)
		defer func() { conn.Close(); <-p.closed }()
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(soon))
	_, _ = conn.Write(b)  // it may have hung up in the middle
	_ = conn.CloseWrite() // or already
	if early {
		_, _ = io.Copy(io.Discard, conn)
	}
}

// survived fails the test when the router died, or its other session did.
func (rig *hostileRig) survived(t testing.TB, after string) {
	t.Helper()
	p := rig.router.peer("good")
	if p.State != established || !p.Since.Equal(rig.since) || rig.router.kernel(vip) != "192.0.2.129" {
		t.Fatalf("%s: the speaker or its other session did not survive: %+v", after, p)
	}
}

func TestHostilePeer(t *testing.T) {
	t.Parallel()
	rig := newHostileRig(t)
	for _, list := range [][]hostile{hostileHeaders, hostileOpens, hostileUpdates} {
		for _, h := range list {
			for _, early := range []bool{true, false} {
				when := h.name + " over a session"
				b := h.bytes()
				if early {
					when = h.name + " instead of OPEN"
					b = append(b, message(typeKeepalive, nil)...) // an OPEN that is accepted makes a session
				}
				rig.attack(t, early, b)
				rig.survived(t, when)
			}
		}
	}
	eventually(t, "hostile peers forgotten", soon, func() bool {
		others := slices.DeleteFunc(rig.router.status().Peers, func(p Peer) bool { return strings.Contains(p.LastError, "hold time 0") })
		return len(others) == 1
	})
}

// The router lives on and keeps its other peer whatever a peer sends, before or after its OPEN.
func FuzzHostilePeer(f *testing.F) {
	for _, list := range [][]hostile{hostileHeaders, hostileOpens, hostileUpdates} {
		for i, h := range list {
			f.Add(i%2 == 0, h.kind, h.body)
		}
	}
	rig := newHostileRig(rigTB{f, f.Context()})
	f.Fuzz(func(t *testing.T, early bool, kind byte, body []byte) {
		rig.attack(t, early, hostile{kind: kind, body: body}.bytes())
		rig.survived(t, "this")
	})
}

// rigTB lets a rig that a fuzz target has made be used inside the target, which testing allows for few methods.
type rigTB struct {
	testing.TB
	ctx context.Context
}

func (rigTB) Helper()                         {}
func (rigTB) Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
func (tb rigTB) Context() context.Context     { return tb.ctx }
