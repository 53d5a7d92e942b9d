package message

import (
	"testing"

	"github.com/miekg/dns"
)

func BenchmarkRead(b *testing.B) {
	e := newEdge(b, nil)
	for _, bm := range []struct {
		name string
		m    *dns.Msg
	}{
		{"plain", ask("www.example.org.", dns.TypeA)},
		{"EDNS, cookie and subnet", edns(b, "10:"+testCookie, "8:00011800cb0071")},
	} {
		b.Run(bm.name, func(b *testing.B) {
			wire := wireOf(b, bm.m)
			b.ReportAllocs()
			for b.Loop() {
				if q, _, _ := e.Read(wire, UDP, testClient, testTime); q == nil {
					b.Fatal("no query")
				}
			}
		})
	}
}

func BenchmarkFinish(b *testing.B) {
	e := newEdge(b, nil)
	q := mustRead(b, e, edns(b, "10:"+testCookie, "8:00011800cb0071"), UDP)
	m := &dns.Msg{Answer: addresses(b, "www.example.org.", 2)}
	b.ReportAllocs()
	for b.Loop() {
		mustFinish(b, e, q, m, Extras{Scope: 24})
	}
}
