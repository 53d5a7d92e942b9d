package message

import (
	"encoding/binary"
	"testing"

	"github.com/miekg/dns"
)

// checkReply holds what any message gets to what any reply must be.
func checkReply(t *testing.T, e *Edge, query, reply []byte, via Transport) {
	t.Helper()
	if query[2]&bitQR != 0 {
		t.Fatalf("a reply to the reply %x: %x", query, reply)
	}
	var m dns.Msg
	if err := m.Unpack(reply); err != nil {
		t.Fatalf("reply %x to %x: %v", reply, query, err)
	}
	if m.Id != binary.BigEndian.Uint16(query) || !m.Response || m.Opcode != int(query[2]&maskOpcode)>>3 {
		t.Fatalf("reply %x to %x", reply, query)
	}
	if reply[3]&0xe0 != 0 {
		t.Fatalf("RA, Z or AD in %x", reply)
	}
	// the library takes trailing bytes and unmet counts; the walker does not
	var again Query
	p := parts{walker: walker{wire: reply, off: headerSize}}
	if !p.read(&again) {
		t.Fatalf("reply %x to %x is malformed", reply, query)
	}
	if p.hasOPT && (p.opt.ttl&0xff7fff != 0 || int(p.opt.class) != e.cfg.MaxUDP) {
		t.Fatalf("OPT record %x", p.opt.ttl)
	}
	if via == UDP && len(reply) > e.cfg.MaxUDP || via == UDP && !p.hasOPT && len(reply) > plainSize {
		t.Fatalf("%d bytes over UDP", len(reply))
	}
}

func addSeeds(f *testing.F) {
	for _, m := range []*dns.Msg{
		ask("wWw.example.org.", dns.TypeA), edns(f), edns(f, "3:", "8:00011800c00002", "9:", "10:"+testCookie, "11:", "12:0000", "100:00"),
		edns(f, "10:"+testClientCookie, "8:0002380020010db8000100"), mend(edns(f), func(o *dns.OPT) { o.SetVersion(1) }),
		with(edns(f, "10:"+badCookie), func(m *dns.Msg) { m.Question = nil }),
		with(ask("version.bind.", dns.TypeTXT), func(m *dns.Msg) { m.Question[0].Qclass = 3 }),
		with(ask("example.org.", dns.TypeIXFR), func(m *dns.Msg) {
			m.Ns, m.Extra = []dns.RR{rr(f, "example.org. 5 IN SOA . . 1 2 3 4 5")}, []dns.RR{opt(f), tsig()}
		}),
		with(ask("example.org.", dns.TypeSOA), func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }),
		with(ask("example.org.", dns.TypeSOA), func(m *dns.Msg) { m.Response = true }),
	} {
		for via := range uint8(3) {
			f.Add(wireOf(f, m), via, uint16(20), uint16(3))
		}
	}
	f.Add([]byte("\x10\x92\x78\x00\x00\x00\x00\x00\x00\x00\x00\x00"), uint8(0), uint16(0), uint16(0))
}

// FuzzRead also finishes an answer of some size to what Read leaves to others.
func FuzzRead(f *testing.F) {
	addSeeds(f)
	e := newEdge(f, nil)
	strict := newEdge(f, func(c *Config) { c.RequireCookie, c.MaxUDP, c.ID = true, 512, "" })
	records := addresses(f, "www.example.org.", 254)
	f.Fuzz(func(t *testing.T, wire []byte, via uint8, answers, errors uint16) {
		for _, e := range []*Edge{e, strict} {
			via := Transport(via % 3)
			q, reply, drop := e.Read(wire, via, testClient, testTime)
			if (drop == "") != (q != nil) || drop != "" && reply != nil {
				t.Fatalf("query %v, reply %x, drop %q", q, reply, drop)
			}
			if q == nil {
				return
			}
			if reply == nil {
				m := &dns.Msg{Answer: records[:answers%254], Extra: records[:answers%11]}
				x := Extras{Errors: make([]ExtendedError, errors%6), Scope: int(answers), Glue: int(errors % 9), Reserve: int(errors % 64)}
				var err error
				if reply, err = e.Finish(q, m, x); err != nil {
					t.Fatal(err)
				}
				if len(reply)+x.Reserve > e.Limit(q) {
					t.Fatalf("%d bytes of %d", len(reply)+x.Reserve, e.Limit(q))
				}
			}
			checkReply(t, e, wire, reply, via)
			checkReply(t, e, wire, e.Slip(q), via)
			if b := e.BadCookie(q); b != nil {
				checkReply(t, e, wire, b, via)
			}
			if !q.Client().IsValid() {
				t.Fatal("no client")
			}
		}
	})
}
