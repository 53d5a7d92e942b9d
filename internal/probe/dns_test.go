package probe

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// startDNS answers on one port by UDP and TCP.
func startDNS(t *testing.T, answer func(reply *dns.Msg, tcp bool)) netip.AddrPort {
	t.Helper()
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		reply := (&dns.Msg{}).SetReply(query)
		_, tcp := w.RemoteAddr().(*net.TCPAddr)
		answer(reply, tcp)
		w.WriteMsg(reply)
	})
	ln, addr := listen(t, "127.0.0.1:0")
	pc, err := net.ListenPacket("udp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	for _, s := range []*dns.Server{{Listener: ln, Handler: handler}, {PacketConn: pc, Handler: handler}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		serving.Go(func() { _ = s.ActivateAndServe() })
		<-started
		t.Cleanup(func() { s.Shutdown() })
	}
	return addr
}

func record(t *testing.T, text string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

func TestDNS(t *testing.T) {
	addr := startDNS(t, func(m *dns.Msg, tcp bool) {
		switch q := m.Question[0]; strings.ToLower(q.Name) {
		case "www.example.org.":
			m.Answer = append(m.Answer, record(t, "www.example.org. 5 CNAME web.example.org."), record(t, "web.example.org. 5 A 203.0.113.10"),
				record(t, "web.example.org. 5 A 203.0.113.11"))
		case "example.org.":
			m.Answer = append(m.Answer, record(t, "example.org. 5 MX 10 Mx.example.org."), record(t, `example.org. 5 TXT "v=spf1 -all"`))
		case "big.example.org.":
			m.Truncated = !tcp
			if tcp {
				m.Answer = append(m.Answer, record(t, "big.example.org. 5 A 203.0.113.12"))
			}
		case "closed.example.org.":
			m.Rcode, m.Question = dns.RcodeFormatError, nil
		default:
			m.Rcode = dns.RcodeNameError
		}
	})
	for name, tc := range map[string]struct {
		config Config
		want   string
	}{
		"reply":               {Config{Query: "www.example.org"}, ""},
		"case":                {Config{Query: "WWW.example.ORG.", QueryType: "a", RCode: "noerror"}, ""},
		"answer by an alias":  {Config{Query: "www.example.org", Answer: "203.0.113.11"}, ""},
		"no such answer":      {Config{Query: "www.example.org", Answer: "203.0.113.12"}, "203.0.113.12 is not among 3 answers"},
		"mx":                  {Config{Query: "example.org", QueryType: "MX", Answer: "10 mx.example.org."}, ""},
		"mx preference":       {Config{Query: "example.org", QueryType: "MX", Answer: "20 mx.example.org."}, "20 mx.example.org. is not among 2 answers"},
		"txt":                 {Config{Query: "example.org", QueryType: "TXT", Answer: `"v=spf1 -all"`}, ""},
		"rcode":               {Config{Query: "none.example.org"}, "NXDOMAIN, want NOERROR"},
		"rcode as wanted":     {Config{Query: "none.example.org", RCode: "NXDOMAIN"}, ""},
		"no question":         {Config{Query: "closed.example.org"}, "FORMERR, want NOERROR"},
		"truncated":           {Config{Query: "big.example.org"}, ""},
		"truncated, then TCP": {Config{Query: "big.example.org", Answer: "203.0.113.12"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := tc.config
			cfg.Type, cfg.Timeout = "dns", long
			_, err := try(t.Context(), t, cfg, addr)
			wants(t, err, cfg, addr, tc.want)
		})
	}
}

// datagrams answers each datagram by what reply makes of it.
func datagrams(t *testing.T, reply func(query []byte) [][]byte) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, r := range reply(buf[:n]) {
				pc.WriteTo(r, from)
			}
		}
	})
	t.Cleanup(func() { pc.Close(); serving.Wait() })
	return netip.MustParseAddrPort(pc.LocalAddr().String())
}

func TestDNSBelievesOnlyItsReply(t *testing.T) {
	// edited makes a good reply with another id, name or form
	edited := func(query []byte, edit func(*dns.Msg)) []byte {
		var m dns.Msg
		if err := m.Unpack(query); err != nil {
			t.Error(err)
		}
		m.Response, m.Rcode = true, dns.RcodeNameError
		edit(&m)
		wire, err := m.Pack()
		if err != nil {
			t.Error(err)
		}
		return wire
	}
	strange := func(query []byte) [][]byte {
		good := edited(query, func(*dns.Msg) {})
		return [][]byte{
			{}, {1}, query,
			edited(query, func(m *dns.Msg) { m.Id++ }),
			edited(query, func(m *dns.Msg) { m.Question[0].Name = "example.net." }),
			edited(query, func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeMX }),
			edited(query, func(m *dns.Msg) { m.Rcode, m.Question = dns.RcodeSuccess, nil }),
			good[:11],
		}
	}
	cfg := Config{Type: "dns", Query: "example.org", Timeout: long}
	addr := datagrams(t, func(query []byte) [][]byte {
		return append(strange(query), edited(query, func(m *dns.Msg) { m.Rcode = dns.RcodeSuccess }))
	})
	_, err := try(t.Context(), t, cfg, addr)
	wants(t, err, cfg, addr, "")

	addr = datagrams(t, func(query []byte) [][]byte {
		return [][]byte{append(edited(query, func(*dns.Msg) {})[:12], 0xff, 0xff)}
	})
	_, err = try(t.Context(), t, cfg, addr)
	wants(t, err, cfg, addr, "malformed reply: ")

	cfg.Timeout = 300 * time.Millisecond
	addr = datagrams(t, strange)
	_, err = try(t.Context(), t, cfg, addr)
	wants(t, err, cfg, addr, "no answer within 300ms")

	_, gone := listen(t, "127.0.0.1:0") // TCP only: nothing takes datagrams
	cfg.Timeout = long
	_, err = try(t.Context(), t, cfg, gone)
	wants(t, err, cfg, gone, "read: connection refused")
}

func FuzzDNSReply(f *testing.F) {
	query := &dns.Msg{}
	query.SetQuestion("example.org.", dns.TypeA)
	query.Id = 7
	for _, edit := range []func(*dns.Msg){
		func(*dns.Msg) {}, func(m *dns.Msg) { m.Rcode = dns.RcodeRefused }, func(m *dns.Msg) { m.Id = 8 }, func(m *dns.Msg) { m.Question = nil },
		func(m *dns.Msg) {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "example.org.", Rrtype: dns.TypeA, Class: 1}, A: net.IP{192, 0, 2, 1}}}
		},
	} {
		m := (&dns.Msg{}).SetReply(query)
		edit(m)
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		reply, mine, err := parseReply(packet, query)
		if !mine && (reply != nil || err != nil) || mine && reply == nil && err == nil {
			t.Errorf("%x gives %v, %v, %v", packet, reply, mine, err)
		}
		if mine && (packet[0] != 0 || packet[1] != 7) {
			t.Errorf("%x is taken for ours", packet)
		}
		if mine && err == nil && len(reply.Question) == 0 && reply.Rcode == dns.RcodeSuccess {
			t.Errorf("%x succeeds without a question", packet)
		}
		if err != nil && len(failed(fmt.Errorf("dns: %w", err)).Error()) > maxReason {
			t.Errorf("%x gives a long reason", packet)
		}
	})
}
