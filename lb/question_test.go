package lb

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"anycastle/internal/pkttest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

func TestQuestions(t *testing.T) {
	four, six := tcpTo("203.0.113.10:25"), tcpTo("[2001:db8:0:25::10]:25")
	for _, tc := range []struct {
		name string
		q    Question
		want string // of it, or of what is wrong
	}{
		{"ack", four, "198.51.100.200:4243 to 203.0.113.10:25, tcp ACK, 40 bytes"},
		{"syn in v6", syn(six), "[2001:db8:7::1]:4242 to [2001:db8:0:25::10]:25, tcp SYN, 60 bytes"},
		{"udp of a size", sized(udp(six), 1500), "[2001:db8:7::1]:4242 to [2001:db8:0:25::10]:25, udp, 1500 bytes"},
		{"ping", echoTo("203.0.113.10"), "198.51.100.200 to 203.0.113.10, icmp-echo, 28 bytes"},
		{"mapped", Question{From: netip.MustParseAddrPort("[::ffff:198.51.100.7]:1"), To: four.To}, "198.51.100.7:1 to 203.0.113.10:25, tcp ACK, 40 bytes"},
		{"largest", sized(four, 3400), "198.51.100.200:4243 to 203.0.113.10:25, tcp ACK, 3400 bytes"},
		{"too large", sized(four, 3401), "an IP packet of tcp has 40 to 3400 bytes here"},
		{"too small", sized(six, 59), "an IP packet of tcp has 60 to 3400 bytes here"},
		{"negative", sized(four, -1), "an IP packet of tcp has 40 to 3400 bytes here"},
		{"two versions", Question{From: four.From, To: six.To}, "are of two IP versions"},
		{"no client", Question{To: four.To}, "the client has no address"},
		{"no vip", Question{From: four.From}, "the VIP has no address"},
		{"zone", Question{From: netip.MustParseAddrPort("[fe80::1%eth0]:1"), To: six.To}, "leave %eth0 out"},
		{"no port", Question{From: four.From, To: netip.MustParseAddrPort("203.0.113.10:0")}, "tcp has a port at both ends"},
		{"port of a ping", Question{From: four.From, To: four.To, Protocol: EchoRequest}, "icmp-echo has no ports"},
		{"syn of udp", syn(udp(four)), "udp has no SYN"},
		{"protocol", Question{From: four.From, To: four.To, Protocol: "sctp"}, `"sctp" is no protocol to ask about; use tcp, udp or icmp-echo`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q, err := tc.q.Complete()
			got := q.String()
			if err != nil {
				got = err.Error()
				if !errors.Is(err, ErrQuestion) {
					t.Errorf("%v is not ErrQuestion", err)
				}
			}
			if !strings.Contains(got, tc.want) || err == nil && got != tc.want {
				t.Errorf("%s; want %s", got, tc.want)
			}
		})
	}
}

// TestQuestionFrames has another library read them.
func TestQuestionFrames(t *testing.T) {
	to := net.HardwareAddr{0, 0, 0x5e, 0, 0x53, 9}
	for name, q := range map[string]Question{
		"ack": tcpTo("203.0.113.10:25"), "ack6": tcpTo("[2001:db8::10]:25"), "syn": syn(tcpTo("203.0.113.10:25")), "odd": sized(tcpTo("203.0.113.10:25"), 99),
		"udp": udp(tcpTo("203.0.113.10:25")), "udp6": sized(udp(tcpTo("[2001:db8::10]:25")), 1280), "echo": echoTo("203.0.113.10"), "echo6": sized(echoTo("2001:db8::10"), 333),
	} {
		t.Run(name, func(t *testing.T) {
			q, err := q.Complete()
			check(t, err)
			frame := q.frame(to)
			p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
			if failed := p.ErrorLayer(); failed != nil {
				t.Fatal(failed.Error(), pkttest.Decode(frame))
			}
			if l4, ok := p.Layers()[2].(interface {
				SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
			}); ok {
				check(t, l4.SetNetworkLayerForChecksum(p.NetworkLayer()))
			}
			if err, wrong := p.VerifyChecksums(); err != nil || len(wrong) > 0 {
				t.Errorf("checksums: %v, %v", err, wrong)
			}
			ip := p.NetworkLayer().NetworkFlow()
			if ip.Src().String() != q.From.Addr().String() || ip.Dst().String() != q.To.Addr().String() {
				t.Errorf("from %v to %v", ip.Src(), ip.Dst())
			}
			if got := len(frame) - ethLen; got != q.Size {
				t.Errorf("%d bytes, want %d", got, q.Size)
			}
			switch l4 := p.Layers()[2].(type) {
			case *layers.TCP:
				if l4.SYN != q.SYN || l4.ACK == q.SYN || uint16(l4.SrcPort) != q.From.Port() || uint16(l4.DstPort) != q.To.Port() {
					t.Errorf("%+v", l4)
				}
			case *layers.UDP:
				if q.Protocol != "udp" || uint16(l4.SrcPort) != q.From.Port() || uint16(l4.DstPort) != q.To.Port() || int(l4.Length) != len(l4.Payload)+udpLen {
					t.Errorf("%+v", l4)
				}
			case *layers.ICMPv4:
				if l4.TypeCode != layers.CreateICMPv4TypeCode(8, 0) {
					t.Errorf("%+v", l4)
				}
			case *layers.ICMPv6:
				if l4.TypeCode != layers.CreateICMPv6TypeCode(128, 0) {
					t.Errorf("%+v", l4)
				}
			default:
				t.Errorf("a %T", l4)
			}
			h, err := readFrame(frame, false)
			check(t, err)
			if h.from != q.From.Addr() || h.to != q.To.Addr() || h.size != q.Size || h.source != asker || [6]byte(to) != h.nextHop {
				t.Errorf("read back as %+v", h)
			}
		})
	}
}

// TestQuestionsOnTheSocket asks over HTTP.
func TestQuestionsOnTheSocket(t *testing.T) {
	lb, err := New(*mustParse(t, valid), Options{})
	check(t, err)
	ask := func(lb *LB, body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		lb.Handlers()["POST /v1/explain"](w, httptest.NewRequest(http.MethodPost, "/v1/explain", strings.NewReader(body)))
		return w
	}
	const good = `{"from": "198.51.100.200:4243", "to": "203.0.113.10:25"}`
	for _, tc := range []struct {
		name, body string
		status     int
		text       string
	}{
		{"not running", good, http.StatusServiceUnavailable, "does not run"},
		{"no such packet", `{"from": "198.51.100.200:4243", "to": "203.0.113.10:0"}`, http.StatusUnprocessableEntity, "a port at both ends"},
		{"no such uplink", `{"from": "198.51.100.200:4243", "to": "203.0.113.10:25", "uplink": "eth9"}`, http.StatusUnprocessableEntity, `"eth9" is no uplink; there are ["eth1"]`},
		{"no address", `{"from": "mx1", "to": "203.0.113.10:25"}`, http.StatusUnprocessableEntity, "read the question"},
		{"unknown key", `{"form": "198.51.100.200:4243"}`, http.StatusUnprocessableEntity, "unknown field"},
		{"more", good + "{}", http.StatusUnprocessableEntity, "something follows it"},
		{"too long", `{"protocol": "` + strings.Repeat("x", maxQuestionBody) + `"}`, http.StatusUnprocessableEntity, "too large"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if w := ask(lb, tc.body); w.Code != tc.status || !strings.Contains(w.Body.String(), tc.text) {
				t.Errorf("status %d, %q; want %d with %q", w.Code, w.Body, tc.status, tc.text)
			}
		})
	}
	withExplained(t, func(e *explained) {
		e.loop.setRunning(true)
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			for range 2 {
				question := <-e.loop.questions
				question(e.loop)
			}
		}()
		w := ask(e.loop.LB, good)
		var a Answer
		check(t, json.Unmarshal(w.Body.Bytes(), &a))
		want := e.ask(tcpTo("203.0.113.10:25"))
		if diff := cmp.Diff(want, a, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); w.Code != http.StatusOK || diff != "" || a.Fate != Forwarded {
			t.Errorf("status %d, answer (-want +got):\n%s", w.Code, diff)
		}
		e.loop.uplinks = nil // it has been made anew
		if w := ask(e.loop.LB, good); w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "restart the balancer") {
			t.Errorf("status %d, %q", w.Code, w.Body)
		}
		<-answered
		close(e.loop.ended)
		if w := ask(e.loop.LB, good); w.Code != http.StatusServiceUnavailable {
			t.Errorf("status %d, %q", w.Code, w.Body)
		}
	})
}

func FuzzParseEnd(f *testing.F) {
	for _, text := range []string{"198.51.100.7:4242", "[2001:db8::1]:4242", "2001:db8::1", "[2001:db8::1]", "203.0.113.10", "[203.0.113.10]", "[::ffff:1.2.3.4]:5", "fe80::1%eth0", ":25", "[", "[]:1", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		end, err := ParseEnd(text)
		if err != nil {
			if end.IsValid() {
				t.Errorf("%q is %v and %v", text, end, err)
			}
			return
		}
		again, err := ParseEnd(end.String())
		if err != nil || again != end {
			t.Errorf("%q is %v, which is %v, %v", text, end, again, err)
		}
		if end.Port() == 0 {
			if bare, err := ParseEnd(end.Addr().String()); err != nil || bare != end {
				t.Errorf("%v alone is %v, %v", end.Addr(), bare, err)
			}
		}
	})
}

func TestParseEnd(t *testing.T) {
	for text, want := range map[string]string{
		"198.51.100.7:4242": "198.51.100.7:4242", "[2001:db8::1]:4242": "[2001:db8::1]:4242", "203.0.113.10": "203.0.113.10:0",
		"2001:db8::1": "[2001:db8::1]:0", "[2001:db8::1]": "[2001:db8::1]:0", "::ffff:203.0.113.10": "203.0.113.10:0",
		"[203.0.113.10]": "", "mx1:25": "", "198.51.100.7:": "", "198.51.100.7:65536": "", "[2001:db8::1": "", "": "",
	} {
		end, err := ParseEnd(text)
		if got := end.String(); err == nil && got != want || err != nil && (want != "" || !strings.Contains(err.Error(), "is no ADDRESS:PORT")) {
			t.Errorf("%q is %v, %v; want %q", text, end, err, want)
		}
	}
}

func FuzzReadFrame(f *testing.F) {
	client, vip := netip.MustParseAddrPort("198.51.100.7:4242"), netip.MustParseAddrPort("203.0.113.10:25")
	for _, hop := range []string{"198.51.100.10", "2001:db8::10"} {
		tun := pkttest.Tunnel{Src: addr("198.51.100.2"), Dst: addr("198.51.100.9"), GUE: true, Second: addr(hop)}
		f.Add(pkttest.New(client, vip).Wrap(tun).Bytes(f), true)
	}
	f.Add(pkttest.New(client, vip).Encapsulate(addr("2001:db8::2"), addr("2001:db8::9")).Bytes(f), false)
	f.Add(pkttest.NewICMPError(addr("203.0.113.10"), addr("198.51.100.7"), 3, 4, 1480, make([]byte, 28)).Bytes(f), false)
	f.Fuzz(func(t *testing.T, frame []byte, gue bool) {
		h, err := readFrame(frame, gue)
		if err == nil && (!h.from.IsValid() || h.from.Is4() != h.to.Is4() || len(h.vlans) > 2) {
			t.Errorf("%x is read as %+v", frame, h)
		}
	})
}
