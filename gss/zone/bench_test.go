package zone

import (
	"bytes"
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const benchNames = 100_000

// bigZone is the text of a zone with 100,000 names that have an A and an AAAA record each.
func bigZone() []byte {
	var b bytes.Buffer
	b.WriteString("$TTL 300\n@ SOA ns1 hostmaster 1 3600 600 86400 300\n@ NS ns1\nns1 A 192.0.2.1\n*.wild A 192.0.2.2\nsub NS ns.sub\nns.sub A 192.0.2.3\nwww CNAME host-1.example.org.\n")
	for i := range benchNames {
		fmt.Fprintf(&b, "host-%d\tA\t198.51.%d.%d\n\tAAAA\t2001:db8::%x:%x\n", i, i>>8&255, i&255, i>>16, i&65535)
	}
	return b.Bytes()
}

func liveHeap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkLoad100k reads a zone of 100,000 names. It gives what a zone keeps of the heap, and the most that the heap had
// while it was read.
func BenchmarkLoad100k(b *testing.B) {
	text := bigZone()
	before := liveHeap()
	var z *Zone
	peak, stop := make(chan uint64), make(chan struct{})
	go watchHeap(peak, stop)
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if z, err = Parse("example.org", "big.zone", bytes.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
	close(stop)
	b.ReportMetric(float64(<-peak-before)/1e6, "peak_MB")
	b.ReportMetric(float64(liveHeap()-before)/1e6, "heap_MB")
	b.ReportMetric(float64(z.Len()), "records")
	runtime.KeepAlive(text)
	runtime.KeepAlive(z)
}

// watchHeap tells the largest heap that there was until stop is closed.
func watchHeap(peak chan<- uint64, stop <-chan struct{}) {
	var most uint64
	for {
		select {
		case <-stop:
			peak <- most
			return
		case <-time.After(5 * time.Millisecond):
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	z, err := Parse("example.org", "big.zone", bytes.NewReader(bigZone()))
	if err != nil {
		b.Fatal(err)
	}
	address := []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "mail.example.org.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: net.IPv4(192, 0, 2, 9)}}
	live := func(string, uint16) []dns.RR { return address }
	dynamic, err := z.WithDynamic(map[string][]uint16{"mail.example.org": {dns.TypeA}})
	if err != nil {
		b.Fatal(err)
	}
	for _, bc := range []struct {
		name, qname string
		qtype       uint16
		zone        *Zone
	}{
		{"a", "host-77777.example.org.", dns.TypeA, z},
		{"a-beside-dynamic", "host-77777.example.org.", dns.TypeA, dynamic},
		{"dynamic", "mail.example.org.", dns.TypeA, dynamic},
		{"alias", "www.example.org.", dns.TypeAAAA, z},
		{"wildcard", "a.b.wild.example.org.", dns.TypeA, z},
		{"nodata", "host-77777.example.org.", dns.TypeMX, z},
		{"nxdomain", "a.b.c.host-77777.example.org.", dns.TypeA, z},
		{"delegation", "www.sub.example.org.", dns.TypeA, z},
	} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				bc.zone.Lookup(bc.qname, bc.qtype, live)
			}
		})
	}
}

func BenchmarkWithDynamic(b *testing.B) {
	z, err := Parse("example.org", "big.zone", bytes.NewReader(bigZone()))
	if err != nil {
		b.Fatal(err)
	}
	types := map[string][]uint16{}
	for i := range 1000 {
		types[fmt.Sprintf("rule-%d.example.org.", i)] = []uint16{dns.TypeA, dns.TypeAAAA}
	}
	for b.Loop() {
		if _, err := z.WithDynamic(types); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDiff100k(b *testing.B) {
	old, err := Parse("example.org", "big.zone", bytes.NewReader(bigZone()))
	if err != nil {
		b.Fatal(err)
	}
	new, err := Parse("example.org", "big.zone", bytes.NewReader(append(bigZone(), "host-5 TXT \"new\"\n"...)))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if del, add := Diff(old, new); len(del) != 0 || len(add) != 1 {
			b.Fatalf("%v deleted, %v added", del, add)
		}
	}
}
