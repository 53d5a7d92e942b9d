package lb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"anycastle/bpf"
	"anycastle/internal/pcapng"
	"anycastle/internal/pkttest"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/layers"
)

// TestCapturePath captures live traffic through native XDP and holds every byte to what was sent to the balancer, to
// what came from it, and to what went on to the real.
func TestCapturePath(t *testing.T) {
	c := newCaptureTest(t)
	whole := DefaultCapture()
	whole.Snap = bpf.MaxCapLen
	p := c.begin(whole)
	c.marked(p, "<begin>", func(tag string) { c.send(tag, 1, 25) })
	const packets = 60
	for i := range packets {
		switch {
		case i%10 == 9:
			c.send(fmt.Sprintf("<n%02d>", i), uint16(1000+i), 25, lastHop)
		default:
			c.send(fmt.Sprintf("<n%02d>", i), uint16(1000+i), 25)
		}
	}
	c.marked(p, "<end>", func(tag string) { c.send(tag, 1, 25) })
	fromLB := c.toLB.take("<end>", false)

	var in, out int
	toMX1 := map[string][]byte{}
	for _, s := range p.frames {
		if !strings.HasPrefix(s.tag, "<n") {
			continue
		}
		want, iface, comment := c.sent[s.tag], "eth1 in", "forwarded to smtp/mx[12]; vip smtp"
		if strings.HasSuffix(s.tag, "9>") {
			comment = "dropped: ttl_expired; vip smtp"
		}
		if s.direction == pcapng.Out {
			want, iface = fromLB[s.tag], "eth1 out"
			out++
			if s.comment == "forwarded to smtp/mx1; vip smtp" {
				toMX1[s.tag] = s.data
			}
		} else {
			in++
		}
		if diff := cmp.Diff(want, s.data); diff != "" || s.length != len(want) || s.iface != iface {
			t.Errorf("%s %s, of %d bytes (-on the wire +captured):\n%s", s.iface, s.tag, s.length, diff)
		}
		if ok, _ := regexp.MatchString("^"+comment+"$", s.comment); !ok {
			t.Errorf("%s: comment %q, want %s", s.tag, s.comment, comment)
		}
	}
	if in != packets || out != packets*9/10 {
		t.Errorf("%d frames came in and %d went out, want %d and %d", in, out, packets, packets*9/10)
	}
	c.checkArrived(toMX1)
	c.checkTcpdump(p)
}

// checkArrived compares what the capture says was sent to mx1 with what the router sent there.
func (c *captureTest) checkArrived(captured map[string][]byte) {
	t := c.t
	t.Helper()
	if len(captured) == 0 || len(captured) == len(c.sent) {
		t.Fatalf("%d of %d packets went to mx1", len(captured), len(c.sent))
	}
	last := slices.Max(slices.Collect(maps.Keys(captured)))
	arrived := c.toMX.take(last, true)
	const behindTTL = pkttest.IPStart + 12 // where the router has counted a hop, and its checksum
	for tag, frame := range captured {
		if got := arrived[tag]; len(got) < behindTTL || !bytes.Equal(frame[behindTTL:], got[behindTTL:]) {
			t.Errorf("%s was captured as\n%x and arrived as\n%x", tag, frame, got)
		}
	}
	for tag := range arrived {
		if _, ok := captured[tag]; !ok && strings.HasPrefix(tag, "<n") {
			t.Errorf("%s went to mx1; the capture does not say so", tag)
		}
	}
}

// checkTcpdump has tcpdump read what has been read of a capture, as a file.
func (c *captureTest) checkTcpdump(p *capture) {
	t := c.t
	t.Helper()
	check(t, p.stream.Close())
	file := filepath.Join(t.TempDir(), "capture.pcapng")
	var whole bytes.Buffer
	if _, err := pcapng.Copy(&whole, p.copy, 1<<30, func(pcapng.Progress) {}); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	check(t, os.WriteFile(file, whole.Bytes(), 0o600))
	out, err := exec.Command("tcpdump", "-nn", "-r", file, "dst host 203.0.113.10 or proto 4").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, line := range []string{
		`IP 192\.0\.2\.1\.1000 > 203\.0\.113\.10\.25: Flags \[\.\]`,
		`IP 198\.51\.100\.2 > 198\.51\.100\.(18|34): IP 192\.0\.2\.1\.1000 > 203\.0\.113\.10\.25: Flags \[\.\]`,
	} {
		if !regexp.MustCompile(line).Match(out) {
			t.Errorf("no line like %s in\n%s", line, out)
		}
	}
}

// TestCaptureFilters has a filter of each kind select exactly what it should of live traffic.
func TestCaptureFilters(t *testing.T) {
	c := newCaptureTest(t)
	const flows = 40
	kinds := []struct {
		port   uint16
		change []func(*pkttest.Frame)
	}{{25, nil}, {143, nil}, {25, []func(*pkttest.Frame){lastHop}}}
	tagOf := func(i, kind int) string { return fmt.Sprintf("<n%02d %d>", i, kind) }
	var to string // where flow 1 of port 25 goes
	p := c.begin(DefaultCapture())
	c.marked(p, "<where>", func(tag string) { c.send(tag, 1, 25) })
	to = p.frames[len(p.frames)-1].comment
	to = strings.TrimSuffix(strings.TrimPrefix(to, "forwarded to "), "; vip smtp")
	check(t, p.stream.Close())
	onReal := map[string]bool{} // tags of packets of any port that go to that real
	for _, tc := range []struct {
		name  string
		query CaptureQuery
		mark  func(tag string)
		want  func(i, kind int) bool
	}{
		{"vip", CaptureQuery{VIP: "imap"}, func(tag string) { c.send(tag, 1, 143) }, func(_, kind int) bool { return kind == 1 }},
		{"reason", CaptureQuery{Reason: "ttl_expired"}, func(tag string) { c.send(tag, 1, 25, lastHop) }, func(_, kind int) bool { return kind == 2 }},
		{"any reason", CaptureQuery{Reason: AnyReason}, func(tag string) { c.send(tag, 1, 25, lastHop) }, func(_, kind int) bool { return kind == 2 }},
		{"real", CaptureQuery{Real: to}, func(tag string) { c.send(tag, 1, 25) }, func(i, kind int) bool { return onReal[tagOf(i, kind)] }},
	} {
		p := c.begin(tc.query)
		c.marked(p, "<begin "+tc.name+">", tc.mark)
		for i := range flows {
			for kind, k := range kinds {
				c.send(tagOf(i, kind), uint16(1000+i), k.port, k.change...)
			}
		}
		c.marked(p, "<end "+tc.name+">", tc.mark)
		check(t, p.stream.Close())
		if tc.query.Real != "" {
			c.learn(onReal, tc.query.Real, "<end "+tc.name+">")
			for i := range flows { // what is dropped would have gone where the flow goes
				onReal[tagOf(i, 2)] = onReal[tagOf(i, 0)]
			}
		}
		want := []string{}
		for i := range flows {
			for kind := range kinds {
				if tc.want(i, kind) {
					want = append(want, tagOf(i, kind))
				}
			}
		}
		if diff := cmp.Diff(want, p.tags(pcapng.In)); diff != "" || len(want) == 0 || len(want) == flows*len(kinds) {
			t.Errorf("%s: %d tags wanted (-want +captured):\n%s", tc.name, len(want), diff)
		}
	}
}

// learn finds out from the outer headers on the wire which packets went to a real, up to the last.
func (c *captureTest) learn(onReal map[string]bool, real, last string) {
	c.t.Helper()
	addr := map[string]string{"smtp/mx1": "198.51.100.18", "smtp/mx2": "198.51.100.34"}[real]
	for tag, frame := range c.toLB.take(last, false) {
		dst, _ := netip.AddrFromSlice(frame[pkttest.IPStart+16 : pkttest.IPStart+20])
		if dst.String() == addr && layers.IPProtocol(frame[pkttest.IPStart+9]) == layers.IPProtocolIPv4 {
			onReal[tag] = true
		}
	}
}

// TestCaptureBounds ends captures by count, by the reader's going and by the balancer's death, and begins another each time.
func TestCaptureBounds(t *testing.T) {
	c := newCaptureTest(t)
	mark := func(tag string) { c.send(tag, 1, 25) }

	// of imap, as only this test sends to it: smtp is probed
	const snap, long, kept = 64, "<a long tag>", "<a long ta"
	p := c.begin(CaptureQuery{VIP: "imap", Count: 5, Snap: snap})
	c.during(p.rest, func() { c.send(long, 2, 143) })
	if len(p.frames) != 5 { // of what goes out, with 20 bytes more, no tag is kept
		t.Errorf("%d packets, want 5", len(p.frames))
	}
	for _, s := range p.frames {
		if s.tag != kept || len(s.data) != snap || s.length != len(c.sent[long]) || s.direction != pcapng.In {
			t.Errorf("%q has %d bytes of %d, %s", s.tag, len(s.data), s.length, s.iface)
		}
	}

	p = c.begin(CaptureQuery{Time: time.Hour})
	c.marked(p, "<begin>", mark)
	check(t, p.stream.Close()) // the next begins all the same
	p = c.begin(CaptureQuery{Time: time.Hour})
	c.marked(p, "<begin>", mark)

	c.balancer.stop(syscall.SIGKILL)
	if _, err := io.Copy(io.Discard, p.stream); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the stream of a balancer that was killed ends with %v", err)
	}
	c.startBalancer()
	p = c.begin(CaptureQuery{Time: time.Hour})
	c.marked(p, "<begin>", mark)
	c.balancer.stop(syscall.SIGTERM) // not held up by it
}
