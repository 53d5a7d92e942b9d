package table

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// octets takes hexadecimal digits with spaces among them.
func octets(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	check(t, err)
	return b
}

// The name mx.example.org as it is asked for and as it stands in the table.
const (
	askedName = "02 4d 78 07 45 58 61 6d 70 6c 65 03 6f 72 67 00"
	plainA    = "1234 0000 0001 0000 0000 0000 " + askedName + " 0001 0001"
	withOPT   = "1234 0000 0001 0000 0000 0001 " + askedName + " 0001 0001 "
	opt4096   = "00 0029 1000 0000 0000 "
	address   = "c00c 0001 0001 0000001e 0004 c0000201 "
	signature = "c00c 002e 0001 0000001e 0004 deadbeef " // the table does not look into records
	answered  = "1234 8400 0001 0001 0000 0000 " + askedName + " 0001 0001 " + address
	withReply = "1234 8400 0001 0001 0000 0001 " + askedName + " 0001 0001 " + address
	ourOPT    = "00 0029 04d0 0000 0000 "
)

// smallTable knows mx.example.org, whose reply has an extended error among its options.
func smallTable(t testing.TB) *Table {
	t.Helper()
	b := newBuilder(t, Config{Cookies: stamp{}})
	head := "0000 8400 0001 0001 0000 0000 " + askedName + " 0001 0001 "
	signed := "0000 8400 0001 0002 0000 0000 " + askedName + " 0001 0001 "
	check(t, b.Add("mx.example.org", dns.TypeA, 0, Entry{Variants: []Variant{{
		Plain: octets(t, head+address), Signed: octets(t, signed+address+signature)}}}))
	check(t, b.Add("stale.example.org.", dns.TypeA, 0, Entry{Variants: []Variant{{
		Plain:   reply{answer: []string{"stale.example.org. 5 A 192.0.2.2"}}.wire(t, "stale.example.org.", dns.TypeA),
		Options: octets(t, "000f 0002 0003")}}}))
	return build(t, b)
}

func TestAnswerOctets(t *testing.T) {
	table := smallTable(t)
	stale := "05 7374616c65 07 6578616d706c65 03 6f7267 00 0001 0001"
	for _, tc := range []struct{ name, query, want string }{
		{"plain", plainA, answered},
		{"RD is copied, RA is not set", "1234 0100" + plainA[9:], "1234 8500" + answered[9:]},
		{"RA, Z and AD mean nothing and are clear in the reply", "1234 00e0" + plainA[9:], answered},
		{"CD is copied", "1234 0010" + plainA[9:], "1234 8410" + answered[9:]},
		{"OPT", withOPT + opt4096 + "0000", withReply + ourOPT + "0000"},
		{"DO gets signatures", withOPT + "00 0029 1000 0000 8000 0000",
			"1234 8400 0001 0002 0000 0001 " + askedName + " 0001 0001 " + address + signature + "00 0029 04d0 0000 8000 0000"},
		{"other flags of OPT are not copied", withOPT + "00 0029 1000 0000 7fff 0000", withReply + ourOPT + "0000"},
		{"NSID", withOPT + opt4096 + "0004 0003 0000", withReply + ourOPT + "0008 0003 0004 67737331"},
		{"cookie", withOPT + opt4096 + "000c 000a 0008 0001020304050607",
			withReply + ourOPT + "0014 000a 0010 0001020304050607 fffefdfcfbfaf9f8"},
		{"second cookie is ignored", withOPT + opt4096 + "0011 000a 0008 0001020304050607 000a 0001 00",
			withReply + ourOPT + "0014 000a 0010 0001020304050607 fffefdfcfbfaf9f8"},
		{"padding and an unknown option are ignored", withOPT + opt4096 + "000c 000c 0002 0000 ffdc 0002 0102",
			withReply + ourOPT + "0000"},
		{"subnet of no effect", withOPT + opt4096 + "000b 0008 0007 0001 18 00 c63364",
			withReply + ourOPT + "000b 0008 0007 0001 18 00 c63364"},
		{"options of the variant", "1234 0000 0001 0000 0000 0001 " + stale + opt4096 + "0000",
			"1234 8400 0001 0001 0000 0001 " + stale + " c00c 0001 0001 00000005 0004 c0000202 " + ourOPT + "0006 000f 0002 0003"},
		{"options of the variant without an OPT to hold them", "1234 0000 0001 0000 0000 0000 " + stale,
			"1234 8400 0001 0001 0000 0000 " + stale + " c00c 0001 0001 00000005 0004 c0000202"},
		{"all options", withOPT + opt4096 + "001b 0003 0000 0008 0007 0001 18 00 c63364 000a 0008 0001020304050607",
			withReply + ourOPT + "0027 000a 0010 0001020304050607 fffefdfcfbfaf9f8 0008 0007 0001 18 00 c63364 0003 0004 67737331"},

		{"empty", "", ""},
		{"header only", "1234 0000 0000 0000 0000 0000", ""},
		{"response", "1234 8000" + plainA[9:], ""},
		{"opcode", "1234 2000" + plainA[9:], ""},
		{"AA", "1234 0400" + plainA[9:], ""},
		{"TC", "1234 0200" + plainA[9:], ""},
		{"response code", "1234 0001" + plainA[9:], ""},
		{"two questions", "1234 0000 0002 0000 0000 0000 " + askedName + " 0001 0001 " + askedName + " 0001 0001", ""},
		{"an answer", "1234 0000 0001 0001 0000 0000 " + askedName + " 0001 0001 " + address, ""},
		{"an authority", "1234 0000 0001 0000 0001 0000 " + askedName + " 0001 0001 " + address, ""},
		{"an address for additional record", withOPT + "00 0001 0001 0000001e 0004 c0000201", ""},
		{"two additional records", "1234 0000 0001 0000 0000 0002 " + askedName + " 0001 0001 " + opt4096 + "0000" + opt4096 + "0000",
			""},
		{"no additional record where one is counted", withOPT, ""},
		{"something after the question", plainA + "00", ""},
		{"something after OPT", withOPT + opt4096 + "0000 00", ""},
		{"class CH", plainA[:len(plainA)-1] + "3", ""},
		{"class ANY", plainA[:len(plainA)-4] + "00ff", ""},
		{"type that is not there", plainA[:len(plainA)-9] + "001c 0001", ""},
		{"name that is not there", "1234 0000 0001 0000 0000 0000 02 7a7a " + askedName + " 0001 0001", ""},
		{"compressed name", "1234 0000 0001 0000 0000 0000 02 4d78 c00c 0001 0001", ""},
		{"label of an unknown kind", "1234 0000 0001 0000 0000 0000 41 4d78 00 0001 0001", ""},
		{"name without end", "1234 0000 0001 0000 0000 0000 02 4d 78 07 45 58 61 6d", ""},
		{"question without class", plainA[:len(plainA)-4], ""},
		{"OPT not of the root", withOPT + "01 61 00 0029 1000 0000 0000 0000", ""},
		{"OPT of version 1", withOPT + "00 0029 1000 0001 0000 0000", ""},
		{"OPT with a response code", withOPT + "00 0029 1000 0100 0000 0000", ""},
		{"OPT longer than the message", withOPT + opt4096 + "0004", ""},
		{"option longer than OPT", withOPT + opt4096 + "0004 ffdc 0001", ""},
		{"option without length", withOPT + opt4096 + "0003 ffdc 00", ""},
		{"EXPIRE", withOPT + opt4096 + "0004 0009 0000", ""},
		{"NSID with data", withOPT + opt4096 + "0005 0003 0001 00", ""},
		{"cookie of 7 octets", withOPT + opt4096 + "000b 000a 0007 00010203040506", ""},
		{"cookie of 9 octets", withOPT + opt4096 + "000d 000a 0009 000102030405060708", ""},
		{"cookie of 41 octets", withOPT + opt4096 + "002d 000a 0029" + strings.Repeat("00", 41), ""},
		{"cookie of none", withOPT + opt4096 + "0004 000a 0000", ""},
		{"subnet too short", withOPT + opt4096 + "0007 0008 0003 0001 00", ""},
		{"subnet with a scope", withOPT + opt4096 + "000b 0008 0007 0001 18 18 c63364", ""},
		{"subnet with too few octets", withOPT + opt4096 + "000a 0008 0006 0001 18 00 c633", ""},
		{"subnet with too many octets", withOPT + opt4096 + "000c 0008 0008 0001 18 00 c6336400", ""},
		{"subnet with bits after its end", withOPT + opt4096 + "000b 0008 0007 0001 17 00 c63365", ""},
		{"subnet of 33 bits", withOPT + opt4096 + "000d 0008 0009 0001 21 00 c633640080", ""},
		{"subnet of another family", withOPT + opt4096 + "000b 0008 0007 0003 18 00 c63364", ""},
		{"subnet of IPv4 within IPv6", withOPT + opt4096 + "0014 0008 0010 0002 60 00 00000000000000000000ffff", ""},
		{"two subnets", withOPT + opt4096 + "0016 0008 0007 0001 18 00 c63364 0008 0007 0001 18 00 c63364", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			query, want := octets(t, tc.query), octets(t, tc.want)
			before := slices.Clone(query)
			var dst [defaultSize]byte
			n, ok := table.Answer(dst[:], query, client("192.0.2.53"))
			if ok != (tc.want != "") {
				t.Fatalf("ok is %v", ok)
			}
			if diff := cmp.Diff(hex.Dump(want), hex.Dump(dst[:n])); diff != "" {
				t.Errorf("reply (-want +got):\n%s", diff)
			}
			if !slices.Equal(before, query) {
				t.Error("the query was written to")
			}
		})
	}
}

// TestAnswerTruncatedQueries cuts queries anywhere: none is answered.
func TestAnswerTruncatedQueries(t *testing.T) {
	table, c := smallTable(t), client("192.0.2.53")
	for _, text := range []string{plainA, withOPT + opt4096 +
		"001b 0003 0000 0008 0007 0001 18 00 c63364 000a 0008 0001020304050607"} {
		query := octets(t, text)
		var dst [defaultSize]byte
		if _, ok := table.Answer(dst[:], query, c); !ok {
			t.Fatal("the whole query is not answered")
		}
		for n := range query {
			if _, ok := table.Answer(dst[:], query[:n:n], c); ok {
				t.Errorf("answered to the first %d of %d octets", n, len(query))
			}
		}
	}
}

func TestKnownClients(t *testing.T) {
	table, c := smallTable(t), client("192.0.2.53")
	for _, tc := range []struct {
		name, cookie string
		want         bool
	}{
		{"no server cookie yet", "0001020304050607", false},
		{"ours", "0001020304050607fffefdfcfbfaf9f8", true},
		{"forged", "0001020304050607fffefdfcfbfaf9f9", false},
		{"none at all", "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c.Known = !tc.want
			var options []dns.EDNS0
			if tc.cookie != "" {
				options = append(options, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: tc.cookie})
			}
			if ask(t, table, c, question(t, "mx.example.org.", dns.TypeA, edns(1232, false, options...))) == nil {
				t.Fatal("not answered")
			}
			if c.Known != tc.want {
				t.Errorf("Known is %v", c.Known)
			}
		})
	}
}

// TestSizes asks for replies that just fit and just do not.
func TestSizes(t *testing.T) {
	text := func(n int) string { // a TXT record of n octets, two of them for its name, which is a pointer
		var parts []string
		for data := n - 2 - 10; data > 0; {
			part := min(data-1, 255)
			parts = append(parts, fmt.Sprintf("%q", strings.Repeat("x", part)))
			data -= part + 1
		}
		return "big.example.org. 60 TXT " + strings.Join(parts, " ")
	}
	const name = "big.example.org."
	const questionEnd = 12 + 17 + 4
	const opt = 11
	glue := "ns.example.net. 60 A 192.0.2.9" // 30 octets, its name being new
	for _, tc := range []struct {
		name     string
		record   int // octets
		more     []string
		referral bool
		size     uint16 // of the client; 0: no OPT
		want     string // which parts come: an, ar, tc
	}{
		{"fits 512", 512 - questionEnd, nil, false, 0, "an"},
		{"exceeds 512", 512 - questionEnd + 1, nil, false, 0, "tc"},
		{"fits 512 with OPT", 512 - questionEnd - opt, nil, false, 512, "an"},
		{"exceeds 512 with OPT", 512 - questionEnd - opt + 1, nil, false, 512, "tc"},
		{"a client that says 0 has 512", 512 - questionEnd - opt, nil, false, 1, "an"},
		{"more than 512 for who takes more", 900 - questionEnd - opt, nil, false, 900, "an"},
		{"one less than that", 900 - questionEnd - opt, nil, false, 899, "tc"},
		{"fits 1232", 1232 - questionEnd - opt, nil, false, 4096, "an"},
		{"exceeds 1232 of who takes 4096", 1232 - questionEnd - opt + 1, nil, false, 4096, "tc"},
		{"glue fits", 512 - questionEnd - 30, []string{glue}, false, 0, "an ar"},
		{"glue is left out", 512 - questionEnd - 29, []string{glue}, false, 0, "an"},
		{"all but glue just fits", 512 - questionEnd, []string{glue}, false, 0, "an"},
		{"glue of a referral is not left out", 512 - questionEnd - 29, []string{glue}, true, 0, "slow"},
		{"nothing fits", 513 - questionEnd, []string{glue}, false, 0, "tc"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBuilder(t, Config{})
			r := reply{answer: []string{text(tc.record)}, additional: tc.more, referral: tc.referral}
			check(t, b.Add(name, dns.TypeTXT, 0, r.fixed(t, name, dns.TypeTXT)))
			var changes []func(*dns.Msg)
			if tc.size > 0 {
				changes = append(changes, edns(tc.size, false))
			}
			m := ask(t, build(t, b), client("192.0.2.53"), question(t, name, dns.TypeTXT, changes...))
			if m == nil {
				if tc.want != "slow" {
					t.Error("not answered")
				}
				return
			}
			var got []string
			if len(m.Answer) > 0 {
				got = append(got, "an")
			}
			if len(m.Extra) > len(changes) {
				got = append(got, "ar")
			}
			if m.Truncated {
				got = append(got, "tc")
			}
			if s := strings.Join(got, " "); s != tc.want {
				t.Errorf("reply has %q, want %q", s, tc.want)
			}
			if (m.IsEdns0() != nil) != (tc.size > 0) || len(m.Ns) > 0 {
				t.Errorf("reply is\n%v", m)
			}
		})
	}
}

func TestRoomOfCaller(t *testing.T) {
	table, c := smallTable(t), client("192.0.2.53")
	query := octets(t, plainA)
	want := len(octets(t, answered))
	for n := range 600 {
		dst := slices.Repeat([]byte{0xaa}, n+8)
		got, ok := table.Answer(dst[:n], query, c)
		if ok != (n >= want) || ok && got != want {
			t.Fatalf("with room for %d octets: %d, %v", n, got, ok)
		}
		if !slices.Equal(dst[n:], slices.Repeat([]byte{0xaa}, 8)) {
			t.Fatalf("with room for %d octets it wrote beyond", n)
		}
	}
}

func TestSettings(t *testing.T) {
	const name = "big.example.org."
	r := reply{answer: []string{fmt.Sprintf("%s 60 TXT %s", name, strings.Repeat(fmt.Sprintf("%q ", strings.Repeat("x", 250)), 4))}}
	stale := Variant{Plain: r.wire(t, name, dns.TypeTXT), Options: octets(t, "000f 0002 0003")}
	big := question(t, name, dns.TypeTXT, edns(4096, false))
	subnet := question(t, name, dns.TypeTXT, edns(4096, false, subnetOption("192.0.2.0/24")))
	cookie := func(text string) []byte {
		return question(t, name, dns.TypeTXT, edns(4096, false, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: text}))
	}
	for _, tc := range []struct {
		name    string
		cfg     Config
		variant Variant
		query   []byte
		want    string // size of OPT, parts of the reply
	}{
		{"default size", Config{}, Variant{Plain: stale.Plain}, big, "1232 an"},
		{"smaller", Config{MaxUDP: 1000}, Variant{Plain: stale.Plain}, big, "1000 tc"},
		{"larger", Config{MaxUDP: 4096}, Variant{Plain: stale.Plain}, big, "4096 an"},
		{"too large with options that may be left out", Config{MaxUDP: 1000}, stale, big, "slow"},
		{"cookie required", Config{RequireCookie: true, Cookies: stamp{}}, stale, big, "slow"},
		{"cookie required, none of ours", Config{RequireCookie: true, Cookies: stamp{}}, stale, cookie("0001020304050607"), "slow"},
		{"cookie required and there", Config{RequireCookie: true, Cookies: stamp{}}, stale,
			cookie("0001020304050607fffefdfcfbfaf9f8"), "1232 an"},
		{"subnet", Config{}, stale, subnet, "1232 an subnet"},
		{"no subnets", Config{NoSubnets: true}, stale, subnet, "1232 an"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBuilder(t, tc.cfg)
			check(t, b.Add(name, dns.TypeTXT, 0, Entry{Variants: []Variant{tc.variant}}))
			got := "slow"
			if m := ask(t, build(t, b), client("192.0.2.53"), tc.query); m != nil {
				got = fmt.Sprint(m.IsEdns0().UDPSize())
				if len(m.Answer) > 0 {
					got += " an"
				}
				if m.Truncated {
					got += " tc"
				}
				for _, o := range m.IsEdns0().Option {
					if o.Option() == dns.EDNS0SUBNET {
						got += " subnet"
					}
				}
			}
			if got != tc.want {
				t.Errorf("reply is %q, want %q", got, tc.want)
			}
		})
	}
	for _, size := range []int{511, 4097, -1} {
		if _, err := NewBuilder(Config{MaxUDP: size}); !errors.Is(err, ErrConfig) {
			t.Errorf("replies of %d octets: %v", size, err)
		}
	}
}
