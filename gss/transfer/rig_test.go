package transfer

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/zone"
)

// start is when the clocks of bubbles start, and the time of tests without one.
var start = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

var quiet = slog.New(slog.DiscardHandler)

func testKey(name string) *Key {
	return &Key{Name: name, Algorithm: "hmac-sha256", Secret: []byte("a secret that is long enough")}
}

// version is a zone with a serial and some hosts, each "name address".
func version(t testing.TB, serial uint32, hosts ...string) *zone.Zone {
	t.Helper()
	return versionOf(t, fmt.Sprintf("%d 3600 600 86400 5", serial), hosts...)
}

// versionOf is version with all numbers of the SOA record.
func versionOf(t testing.TB, numbers string, hosts ...string) *zone.Zone {
	t.Helper()
	var text strings.Builder
	text.WriteString("$TTL 60\n@ SOA ns h " + numbers + "\n@ NS ns\nns A 192.0.2.53\n")
	for _, h := range hosts {
		name, addr, _ := strings.Cut(h, " ")
		text.WriteString(name + " A " + addr + "\n")
	}
	z, err := zone.Parse("example.org.", "zone", strings.NewReader(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// many are hosts.
func many(n int) (hosts []string) {
	for i := range n {
		hosts = append(hosts, fmt.Sprintf("h%05d 192.0.2.%d", i, i%250+1))
	}
	return hosts
}

// records are a zone's or transfer's records, as sorted lines.
func records(seq iter.Seq[dns.RR]) []string {
	var lines []string
	for rr := range seq {
		lines = append(lines, strings.Join(strings.Fields(rr.String()), " "))
	}
	slices.Sort(lines)
	return lines
}

func sameZone(t testing.TB, got, want *zone.Zone) {
	t.Helper()
	if got == nil {
		t.Fatal("there is no zone")
	}
	if a, b := records(got.All(nil)), records(want.All(nil)); !slices.Equal(a, b) {
		t.Errorf("the zone has %d records with serial %d, want %d with %d", len(a), got.Serial(), len(b), want.Serial())
	}
}

// primary answers as a test wants it, on connections made of pipes.
type primary struct {
	t      testing.TB
	keys   Keys
	now    func() *zone.Zone
	past   *History
	spoil  func(n int, wire []byte) []byte // changes the n-th message of a transfer; nil: ends the connection
	noIXFR bool
	noEDNS bool
	left   *uint32        // what it says to who asks for how long the zone is good
	wg     sync.WaitGroup // of connections

	mu     sync.Mutex // guards all but t, keys and wg
	dialed int
	asked  []string
	down   bool
	loose  bool // signs only the first and the last message
}

func (p *primary) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	p.mu.Lock()
	p.dialed++
	down := p.down
	p.mu.Unlock()
	if down {
		return nil, fmt.Errorf("dial %s: no such host", addr)
	}
	client, server := net.Pipe()
	p.wg.Go(func() { p.serve(server) })
	return client, nil
}

func (p *primary) serve(conn net.Conn) {
	defer conn.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		wire := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, wire); err != nil {
			return
		}
		var q dns.Msg
		if err := q.Unpack(wire); err != nil {
			p.t.Errorf("a query that is none: %v", err)
			return
		}
		var s *Signature
		if q.IsTsig() != nil {
			s = p.keys.Check(wire, time.Now())
		}
		if !p.answer(conn, &q, s) {
			return
		}
	}
}

func (p *primary) answer(conn net.Conn, q *dns.Msg, s *Signature) bool {
	p.mu.Lock()
	p.asked = append(p.asked, dns.TypeToString[q.Question[0].Qtype])
	z, spoil, left := p.now(), p.spoil, p.left
	p.mu.Unlock()
	n := 0
	send := func(m *dns.Msg, sign bool) bool {
		wire, err := m.Pack()
		if err != nil {
			p.t.Errorf("pack: %v", err)
			return false
		}
		if sign {
			wire = s.Sign(wire, time.Now())
		} else if s.Valid() != "" {
			s.chain.begin().Write(wire)
		}
		if n++; spoil != nil && q.Question[0].Qtype != dns.TypeSOA {
			if wire = spoil(n, wire); wire == nil {
				return false
			}
		}
		_, err = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...))
		return err == nil
	}
	reply := func(rcode int, rrs []dns.RR) *dns.Msg {
		m := new(dns.Msg).SetRcode(q, rcode)
		m.Authoritative, m.Compress, m.Answer = true, true, rrs
		return m
	}
	soa := reply(dns.RcodeSuccess, []dns.RR{z.SOA()})
	if q.IsEdns0() != nil && left != nil {
		soa.SetEdns0(1232, false)
		soa.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EXPIRE{Code: dns.EDNS0EXPIRE, Expire: *left}}
	}
	switch t := q.Question[0].Qtype; {
	case q.IsEdns0() != nil && p.noEDNS:
		return send(reply(dns.RcodeFormatError, nil), true)
	case s != nil && s.Err != nil:
		return send(reply(s.Rcode, nil), true)
	case t == dns.TypeSOA:
		return send(soa, true)
	case t == dns.TypeIXFR && p.noIXFR:
		return send(reply(dns.RcodeNotImplemented, nil), true)
	default:
		seq := Full(z, nil)
		if t == dns.TypeIXFR {
			_, seq = p.past.Answer(z, nil, q.Ns[0].(*dns.SOA).Serial)
		}
		batches := slices.Collect(Batches(seq))
		for i, batch := range batches {
			if !send(reply(dns.RcodeSuccess, batch), !p.loose || i == 0 || i == len(batches)-1) {
				return false
			}
		}
		return true
	}
}

// set changes what the primary does.
func (p *primary) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *primary) dials() (n int) {
	p.set(func() { n = p.dialed })
	return n
}

// peer is where primary is asked.
func peer(key *Key) Peer { return Peer{Addr: netip.MustParseAddrPort("192.0.2.53:53"), Key: key} }
