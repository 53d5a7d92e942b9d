package lb

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/bpf"
	"anycastle/internal/daemon"
	"anycastle/internal/netnstest"
	"anycastle/internal/pcapng"
	"anycastle/internal/pkttest"

	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/sys/unix"
)

// raw is a packet socket on one interface.
type raw struct {
	t  *testing.T
	fd int
}

func openRaw(t *testing.T, ns *netnstest.NS, dev string) *raw {
	t.Helper()
	r := &raw{t: t}
	proto := int(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL)))
	ns.Do(func() (err error) {
		r.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
		return err
	})
	t.Cleanup(func() { unix.Close(r.fd) })
	check(t, unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20))
	check(t, unix.SetsockoptTimeval(r.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(patience / time.Second)}))
	check(t, unix.Bind(r.fd, &unix.SockaddrLinklayer{Protocol: uint16(proto), Ifindex: link(t, ns, dev).Attrs().Index}))
	return r
}

// Every packet of these tests is of TCP from fromClient to toVIP, and its payload is a tag.
var fromClient, toVIP = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("203.0.113.10")

// tagOf gives the tag of a frame, with or without a header around the packet, as far as the frame was kept. It is empty for what
// others send, which has any bytes: the balancer's own probes, and what the kernel answers when their replies come too late.
func tagOf(frame []byte) string {
	const tcp = 20 // bytes of its header
	_, segment, ours := bytes.Cut(frame, append(fromClient.AsSlice(), toVIP.AsSlice()...))
	if !ours || len(segment) < tcp {
		return ""
	}
	return string(segment[tcp:])
}

// take reads until a frame with the tag has come, and gives the tagged frames up to that, by tag. Only those that were
// sent here count, or those that were received.
func (r *raw) take(last string, sent bool) map[string][]byte {
	r.t.Helper()
	got := map[string][]byte{}
	buf := make([]byte, 4096)
	for {
		n, from, err := unix.Recvfrom(r.fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			r.t.Fatalf("read until %s: %v", last, err)
		}
		if out := from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING; out != sent {
			continue
		}
		found := tagOf(buf[:n])
		if found != "" {
			got[found] = bytes.Clone(buf[:n])
		}
		if found == last {
			return got
		}
	}
}

// captureTest sends frames into the balancer and captures there.
type captureTest struct {
	*network
	balancer      *node
	toLB, toMX    *raw // what the router sends to and gets from the balancer, and what it sends to mx1
	fromMAC, toMA net.HardwareAddr
	sent          map[string][]byte
}

func newCaptureTest(t *testing.T) *captureTest {
	n := newNetwork(t)
	serve(t, n.mx1, "mx1")
	serve(t, n.mx2, "mx2")
	n.start(n.mx1, "real", nodeReal, "mx1")
	n.start(n.mx2, "real", nodeReal, "mx2")
	c := &captureTest{network: n, sent: map[string][]byte{}}
	c.startBalancer()
	c.toLB, c.toMX = openRaw(t, n.router, "to-lb"), openRaw(t, n.router, "to-mx1")
	c.fromMAC, c.toMA = link(t, n.router, "to-lb").Attrs().HardwareAddr, link(t, n.lb, "eth1").Attrs().HardwareAddr
	return c
}

func (c *captureTest) startBalancer() {
	c.t.Helper()
	config := strings.Replace(patient(nodeLB), "type: tcp,", "type: tcp, port: 25,", 1) +
		"    - {name: imap, address: 203.0.113.10, port: 143, farm: smtp}\n"
	c.balancer = c.start(c.lb, "lb", config, "lb")
	eventually(c.t, "both reals active", func() bool { return c.balancer.inService("mx1") && c.balancer.inService("mx2") })
	var uplinks []UplinkStatus
	if !c.balancer.get("/v1/uplink", &uplinks) || len(uplinks) != 1 || uplinks[0].Mode != bpf.Native {
		c.t.Fatalf("uplinks %+v, want native XDP", uplinks)
	}
}

// send sends a segment of a flow to a port of the VIP, with the tag in it.
func (c *captureTest) send(tag string, flow, port uint16, change ...func(f *pkttest.Frame)) {
	c.t.Helper()
	f := pkttest.New(netip.AddrPortFrom(fromClient, flow), netip.AddrPortFrom(toVIP, port))
	f.Eth.SrcMAC, f.Eth.DstMAC = c.fromMAC, c.toMA
	f.Payload = []byte(tag)
	for _, g := range change {
		g(f)
	}
	frame := f.Bytes(c.t)
	c.sent[tag] = frame
	_, err := unix.Write(c.toLB.fd, frame)
	check(c.t, err)
}

// lastHop has a packet that may not be forwarded.
func lastHop(f *pkttest.Frame) { f.IP.TTL = 1 }

// seen is a tagged frame of a capture.
type seen struct {
	tag       string
	direction pcapng.Direction
	iface     string
	comment   string
	data      []byte
	length    int
}

// capture is one that runs.
type capture struct {
	t      *testing.T
	stream io.ReadCloser
	copy   *bytes.Buffer // of the stream, as far as it was read
	reader *pcapgo.NgReader
	frames []seen
}

// begin begins a capture once the one before has ended.
func (c *captureTest) begin(q CaptureQuery) *capture {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	c.t.Cleanup(cancel)
	p := &capture{t: c.t, copy: &bytes.Buffer{}}
	eventually(c.t, "a capture begins", func() bool {
		var err error
		p.stream, err = daemon.Stream(ctx, c.balancer.dir, "lb", http.MethodGet, q.Path(), nil)
		if err != nil && !strings.Contains(err.Error(), bpf.ErrCapturing.Error()) {
			c.t.Fatal(err)
		}
		return err == nil
	})
	c.t.Cleanup(func() { p.stream.Close() })
	var err error
	p.reader, err = pcapgo.NewNgReader(io.TeeReader(p.stream, p.copy), pcapgo.DefaultNgReaderOptions)
	check(c.t, err)
	return p
}

// next gives the next tagged frame; false at the end of the capture.
func (p *capture) next() (seen, bool) {
	p.t.Helper()
	for {
		data, info, opts, err := p.reader.ReadPacketDataWithOptions()
		if errors.Is(err, io.EOF) {
			return seen{}, false
		}
		check(p.t, err)
		i, err := p.reader.Interface(info.InterfaceIndex)
		check(p.t, err)
		s := seen{tag: tagOf(data), direction: pcapng.Direction(opts.Flags.Direction), iface: i.Name,
			comment: strings.Join(opts.Comments, "|"), data: data, length: info.Length}
		if s.tag != "" {
			p.frames = append(p.frames, s)
			return s, true
		}
	}
}

// until reads up to the first frame with the tag.
func (p *capture) until(tag string) {
	p.t.Helper()
	for {
		s, more := p.next()
		if !more {
			p.t.Fatalf("the capture ended before %s", tag)
		}
		if s.tag == tag {
			return
		}
	}
}

// rest reads to the end.
func (p *capture) rest() {
	p.t.Helper()
	for more := true; more; {
		_, more = p.next()
	}
}

// tags are those of the frames of one direction, in order, without those that only begin and end the test.
func (p *capture) tags(d pcapng.Direction) []string {
	tags := []string{}
	for _, s := range p.frames {
		if s.direction == d && strings.HasPrefix(s.tag, "<n") {
			tags = append(tags, s.tag)
		}
	}
	return tags
}

// marked sends a packet that is asked for until it is captured.
func (c *captureTest) marked(p *capture, mark string, send func(tag string)) {
	c.t.Helper()
	c.during(func() { p.until(mark) }, func() { send(mark) })
}

// during sends again and again while f runs.
func (c *captureTest) during(f, send func()) {
	c.t.Helper()
	ctx, stop := context.WithCancel(c.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			send()
			<-tick.C
		}
	})
	defer wg.Wait()
	defer stop()
	f()
}
