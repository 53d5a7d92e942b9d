package gss

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/udp"
)

// BenchmarkFast is one query of the fast path, with limits and without.
func BenchmarkFast(b *testing.B) {
	for name, limits := range map[string]string{"limits": "responses_per_second: 100000", "no-limits": "responses_per_second: 0"} {
		b.Run(name, func(b *testing.B) {
			var records strings.Builder
			for i := range 1000 {
				fmt.Fprintf(&records, "        h%d A 192.0.2.1\n", i)
			}
			text := strings.Replace(nodeFile, "  listen:", "  limits: {"+limits+"}\n  listen:", 1)
			text = strings.Replace(text, "        @        NS    ns-east\n", "        @        NS    ns-east\n"+records.String(), 1)
			d := newDeciding(b, text)
			var wires [][]byte
			for i := range 1000 {
				m := question(fmt.Sprintf("h%d.mail.example.org.", i), dns.TypeA)
				wires = append(wires, packed(b, m))
			}
			l, dst := d.Lane(0), make([]byte, udp.MaxReply)
			l.Begin(time.Now())
			from := netip.MustParseAddrPort("192.0.2.3:5353")
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, v := l.Fast(dst, wires[i%1000], from); v != udp.Answered {
					b.Fatal(v)
				}
				i++
			}
		})
	}
}
