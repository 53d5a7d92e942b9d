package table

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/miekg/dns"
)

// FuzzAnswer holds every reply to its query as another library reads both.
func FuzzAnswer(f *testing.F) {
	for _, text := range []string{plainA, withOPT + opt4096 + "0000",
		withOPT + "00 0029 1000 0000 8000 001b 0003 0000 0008 0007 0001 18 00 c63364 000a 0008 0001020304050607",
		withOPT + opt4096 + "000b 0008 0007 0001 18 00 c63364"} {
		f.Add(octets(f, text), uint16(defaultSize))
	}
	w := newWorld(f, rand.New(rand.NewPCG(9, 10)))
	r := rand.New(rand.NewPCG(11, 12))
	for range 50 {
		f.Add(pack(f, w.randomQuery(r)), uint16(defaultSize))
	}
	balanced, queries := balancedTable(f)
	for _, q := range queries {
		f.Add(q, uint16(defaultSize))
	}
	tables := []*Table{smallTable(f), w.table, balanced}
	c := client("192.0.2.53")
	f.Fuzz(func(t *testing.T, query []byte, room uint16) {
		before := bytes.Clone(query)
		dst := bytes.Repeat([]byte{0xaa}, int(room)+16)
		for _, table := range tables {
			n, ok := table.Answer(dst[:room:room], query, c)
			if !bytes.Equal(dst[room:], bytes.Repeat([]byte{0xaa}, 16)) || !bytes.Equal(before, query) {
				t.Fatal("it wrote elsewhere")
			}
			if ok {
				fits(t, query, dst[:n])
			}
		}
	})
}

// fits holds a reply to its query.
func fits(t *testing.T, query, reply []byte) {
	t.Helper()
	var q, m dns.Msg
	if err := q.Unpack(unknownOnly(t, query)); err != nil {
		t.Fatalf("answered to %x, which is malformed: %v", query, err)
	}
	if err := m.Unpack(reply); err != nil {
		t.Fatalf("reply %x is malformed: %v", reply, err)
	}
	opt, asked := m.IsEdns0(), q.IsEdns0()
	limit := 512
	if asked != nil {
		limit = min(max(int(asked.UDPSize()), 512), 1232)
	}
	switch {
	case q.Response || q.Opcode != dns.OpcodeQuery || len(q.Question) != 1 || q.Question[0].Qclass != dns.ClassINET,
		len(q.Answer)+len(q.Ns) > 0 || len(q.Extra) > 1 || len(q.Extra) == 1 && asked == nil || asked != nil && asked.Version() != 0:
		t.Fatalf("answered to\n%v", &q)
	case m.Id != q.Id, !m.Response, m.Opcode != q.Opcode, !m.Authoritative, m.RecursionDesired != q.RecursionDesired,
		m.RecursionAvailable, m.Zero, m.AuthenticatedData, m.CheckingDisabled != q.CheckingDisabled:
		t.Fatalf("header of\n%v\nto\n%v", &m, &q)
	case len(m.Question) != 1 || m.Question[0] != q.Question[0]:
		t.Fatalf("question of\n%v\nto\n%v", &m, &q)
	case len(reply) > limit:
		t.Fatalf("reply of %d octets to a client that takes %d", len(reply), limit)
	case (opt == nil) != (asked == nil),
		opt != nil && (opt.Do() != asked.Do() || opt.UDPSize() != defaultSize || opt.Version() != 0):
		t.Fatalf("OPT of\n%v\nto\n%v", &m, &q)
	}
}

// unknownOnly makes those options of a query unknown that Answer does not look into: the library looks into some of them.
func unknownOnly(t *testing.T, query []byte) []byte {
	t.Helper()
	_, at, err := dns.UnpackDomainName(query, 12)
	if err != nil {
		t.Fatalf("answered to %x, whose name is malformed: %v", query, err)
	}
	query = bytes.Clone(query)
	const options = 4 + 11 // where they begin after the name
	for at += options; at+4 <= len(query); at += 4 + int(binary.BigEndian.Uint16(query[at+2:])) {
		switch binary.BigEndian.Uint16(query[at:]) {
		case optionNSID, optionSubnet, optionCookie:
		default:
			binary.BigEndian.PutUint16(query[at:], 65001)
		}
	}
	return query
}
