package message

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// mustRead gives the Query of a message that Read leaves to others.
func mustRead(t testing.TB, e *Edge, m *dns.Msg, via Transport) *Query {
	t.Helper()
	q, reply, drop := e.Read(wireOf(t, m), via, testClient, testTime)
	if reply != nil || drop != "" {
		t.Fatal(outcome(t, q, reply, drop))
	}
	return q
}

func mustFinish(t testing.TB, e *Edge, q *Query, m *dns.Msg, x Extras) []byte {
	t.Helper()
	wire, err := e.Finish(q, m, x)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// rr reads a record of a zone file.
func rr(t testing.TB, text string) dns.RR {
	t.Helper()
	r, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// addresses gives n A records of a name.
func addresses(t testing.TB, name string, n int) (rrs []dns.RR) {
	for i := range n {
		rrs = append(rrs, rr(t, fmt.Sprintf("%s 5 IN A 192.0.2.%d", name, i%254+1)))
	}
	return rrs
}

func TestFinishHeader(t *testing.T) {
	e := newEdge(t, nil)
	all := func(m *dns.Msg) {
		m.Authoritative, m.Truncated, m.RecursionDesired, m.RecursionAvailable = true, true, true, true
		m.Zero, m.AuthenticatedData, m.CheckingDisabled = true, true, true
	}
	for _, tc := range []struct {
		name  string
		query *dns.Msg
		reply *dns.Msg
		want  string
	}{
		{"no flag", ask("wWw.example.org.", dns.TypeA), &dns.Msg{}, "4242 opcode 0 rcode 0 qr\nquestion wWw.example.org. IN A"},
		{"all flags in the query", with(ask("www.example.org.", dns.TypeA), all), &dns.Msg{}, "4242 opcode 0 rcode 0 qr rd cd" + wwwA},
		{"all flags in the reply but TC", ask("www.example.org.", dns.TypeA),
			with(with(&dns.Msg{}, all), func(m *dns.Msg) { m.Truncated, m.Response, m.Id = false, true, 1 }), "4242 opcode 0 rcode 0 qr aa" + wwwA},
		{"NOTIFY", with(with(ask("example.org.", dns.TypeSOA), all), func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }),
			with(&dns.Msg{}, func(m *dns.Msg) { m.Authoritative = true }), "4242 opcode 4 rcode 0 qr aa\nquestion example.org. IN SOA"},
		{"another question", ask("www.example.org.", dns.TypeA), ask("example.com.", dns.TypeMX), "4242 opcode 0 rcode 0 qr" + wwwA},
		{"RCODE", ask("www.example.org.", dns.TypeA), with(&dns.Msg{}, func(m *dns.Msg) { m.Rcode = dns.RcodeNameError }),
			"4242 opcode 0 rcode 3 qr" + wwwA},
		{"truncated by the caller", ask("www.example.org.", dns.TypeA), &dns.Msg{MsgHdr: dns.MsgHdr{Truncated: true},
			Answer: addresses(t, "www.example.org.", 1)}, "4242 opcode 0 rcode 0 qr tc" + wwwA},
		{"extended RCODE", edns(t), with(&dns.Msg{}, func(m *dns.Msg) { m.Rcode = dns.RcodeBadCookie }), "4242 opcode 0 rcode 23 qr" + wwwA + plainOPT},
		{"the caller's OPT", edns(t), &dns.Msg{Extra: []dns.RR{opt(t, "3:00"), a("x."), opt(t)}},
			"4242 opcode 0 rcode 0 qr" + wwwA + "\nadditional x. 0 IN A 192.0.2.1" + plainOPT},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := tc.reply.String()
			got := mustFinish(t, e, mustRead(t, e, tc.query, UDP), tc.reply, Extras{})
			if diff := cmp.Diff(tc.want, render(t, got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, tc.reply.String()); diff != "" {
				t.Errorf("the caller's message has changed (-before +after):\n%s", diff)
			}
		})
	}
	q := mustRead(t, e, ask("www.example.org.", dns.TypeA), UDP)
	if _, err := e.Finish(q, with(&dns.Msg{}, func(m *dns.Msg) { m.Rcode = dns.RcodeBadCookie }), Extras{}); !errors.Is(err, ErrExtended) {
		t.Errorf("extended RCODE without EDNS: %v", err)
	}
	if _, err := e.Finish(q, &dns.Msg{Answer: []dns.RR{nil}}, Extras{}); err == nil {
		t.Error("a record that is none: no error")
	}
}

func TestFinishOptions(t *testing.T) {
	e := newEdge(t, nil)
	soa := func(options ...string) *dns.Msg {
		return with(edns(t, options...), func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeSOA })
	}
	expire := uint32(1209600)
	long := strings.Repeat("é", 100)
	const nsid = " 3:6773732d65617374"
	for _, tc := range []struct {
		name  string
		query *dns.Msg
		via   Transport
		x     Extras
		want  string // what follows the OPT record's size
	}{
		{"none", edns(t), UDP, Extras{}, ""},
		{"DO", mend(edns(t), func(o *dns.OPT) { o.SetDo() }), UDP, Extras{}, " do"},
		{"other flags", mend(edns(t), func(o *dns.OPT) { o.Hdr.Ttl |= 0x7fff }), UDP, Extras{}, ""},
		{"unknown option", edns(t, "100:00", "65001:"), UDP, Extras{}, ""},
		{"NSID", edns(t, "3:"), UDP, Extras{}, nsid},
		{"NSID with content, twice", edns(t, "3:00", "3:"), UDP, Extras{}, nsid},
		{"cookie", edns(t, "10:"+testClientCookie), UDP, Extras{}, " 10:" + testCookie},
		{"bad cookie", edns(t, "10:"+badCookie), UDP, Extras{}, " 10:" + testCookie},
		{"subnet, the same answer for all", edns(t, "8:00011800cb0071"), UDP, Extras{}, " 8:00011800cb0071"},
		{"subnet, tailored", edns(t, "8:00011800cb0071"), UDP, Extras{Scope: 20}, " 8:00011814cb0071"},
		{"subnet, tailored finer than asked", edns(t, "8:00011800cb0071"), UDP, Extras{Scope: 28}, " 8:0001181ccb0071"},
		{"subnet, scope out of range", edns(t, "8:00011800cb0071"), UDP, Extras{Scope: 48}, " 8:00011820cb0071"},
		{"subnet, scope below 0", edns(t, "8:00011800cb0071"), UDP, Extras{Scope: -1}, " 8:00011800cb0071"},
		{"subnet, IPv6", edns(t, "8:0002380020010db8000100"), UDP, Extras{Scope: 48}, " 8:0002383020010db8000100"},
		{"subnet, opted out", edns(t, "8:00010000"), UDP, Extras{Scope: 24}, " 8:00010000"},
		{"no subnet asked", edns(t), UDP, Extras{Scope: 24}, ""},
		{"EXPIRE", soa("9:"), UDP, Extras{Expire: &expire}, " 9:00127500"},
		{"EXPIRE of no zone of ours", soa("9:"), UDP, Extras{}, ""},
		{"EXPIRE of an A", edns(t, "9:"), UDP, Extras{Expire: &expire}, ""},
		{"EXPIRE not asked", soa(), UDP, Extras{Expire: &expire}, ""},
		{"keepalive", edns(t, "11:"), TCP, Extras{Idle: 10*time.Second + 99*time.Millisecond}, " 11:0064"},
		{"keepalive with a time", edns(t, "11:ffff"), TLS, Extras{Idle: 10 * time.Second}, " 11:0064"},
		{"keepalive, close now", edns(t, "11:"), TCP, Extras{}, " 11:0000"},
		{"keepalive, for days", edns(t, "11:"), TCP, Extras{Idle: 48 * time.Hour}, " 11:ffff"},
		{"keepalive over UDP", edns(t, "11:"), UDP, Extras{Idle: 10 * time.Second}, ""},
		{"keepalive not asked", edns(t), TCP, Extras{Idle: 10 * time.Second}, ""},
		{"padding over UDP", edns(t, "12:0000"), UDP, Extras{}, ""},
		{"padding over TCP", edns(t, "12:0000"), TCP, Extras{}, ""},
		{"padding over TLS", edns(t, "12:0000"), TLS, Extras{}, fmt.Sprintf(" 12:%0*d", 2*(468-33-15), 0)},
		{"padding over TLS with room for a TSIG", edns(t, "12:0000"), TLS, Extras{Reserve: 100}, fmt.Sprintf(" 12:%0*d", 2*(368-33-15), 0)},
		{"extended errors", edns(t), UDP, Extras{Errors: []ExtendedError{{3, "all sites out"}, {0, ""}}},
			" 15:0003616c6c207369746573206f7574 15:0000"},
		{"extended error, text too long", edns(t), UDP, Extras{Errors: []ExtendedError{{3, "x" + long}}},
			" 15:000378" + strings.Repeat("c3a9", 63)},
		{"extended errors, too many", edns(t), UDP, Extras{Errors: make([]ExtendedError, 6)}, strings.Repeat(" 15:0000", 4)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := mustFinish(t, e, mustRead(t, e, tc.query, tc.via), &dns.Msg{}, tc.x)
			_, rest, _ := strings.Cut(render(t, got), plainOPT)
			if diff := cmp.Diff(tc.want, rest); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
		})
	}
	q := mustRead(t, e, ask("www.example.org.", dns.TypeA), UDP)
	got := mustFinish(t, e, q, &dns.Msg{}, Extras{Errors: []ExtendedError{{3, ""}}, Expire: &expire, Scope: 1, Idle: time.Second})
	if diff := cmp.Diff("4242 opcode 0 rcode 0 qr"+wwwA, render(t, got)); diff != "" {
		t.Errorf("extras without EDNS (-want +got):\n%s", diff)
	}
	off := newEdge(t, func(c *Config) { c.ClientSubnet, c.ID = false, "" })
	q = mustRead(t, off, edns(t, "3:", "8:00"), UDP)
	got = mustFinish(t, off, q, &dns.Msg{}, Extras{Scope: 24})
	if diff := cmp.Diff("4242 opcode 0 rcode 0 qr"+wwwA+plainOPT, render(t, got)); diff != "" || q.Subnet.IsValid() {
		t.Errorf("options that are switched off (-want +got):\n%s", diff)
	}
}

// The order in which a reply gives way: texts, additional records that can be missed, everything.
func TestTruncation(t *testing.T) {
	e := newEdge(t, nil)
	sized := func(n uint16) *dns.Msg { return mend(edns(t), func(o *dns.OPT) { o.Hdr.Class = n }) }
	plain := ask("www.example.org.", dns.TypeA)
	referral := func(glue, more int) *dns.Msg {
		m := &dns.Msg{Ns: []dns.RR{rr(t, "example.org. 5 IN NS ns.example.org.")}}
		m.Extra = append(addresses(t, "ns.example.org.", glue), addresses(t, "other.example.com.", more)...)
		return m
	}
	answers := func(n, more int) *dns.Msg {
		return &dns.Msg{Answer: addresses(t, "www.example.org.", n), Extra: addresses(t, "x.example.org.", more)}
	}
	text := []ExtendedError{{3, strings.Repeat("x", maxText)}}
	for _, tc := range []struct {
		name  string
		query *dns.Msg
		via   Transport
		reply *dns.Msg
		x     Extras
		want  string // answer, authority, additional without OPT; tc; text
		least int    // bytes: a bound that is not met would be too careful
	}{
		{"fits", plain, UDP, answers(29, 0), Extras{}, "29 0 0", 490},
		{"one too many", plain, UDP, answers(30, 0), Extras{}, "0 0 0 tc", 33},
		{"one too many over TCP", plain, TCP, answers(30, 0), Extras{}, "30 0 0", 512},
		{"additional gives way", plain, UDP, answers(29, 3), Extras{}, "29 0 0", 490},
		{"EDNS 512", sized(512), UDP, answers(28, 3), Extras{}, "28 0 0", 490},
		{"EDNS 512, one too many", sized(512), UDP, answers(30, 3), Extras{}, "0 0 0 tc", 44},
		{"EDNS 100 is 512", sized(100), UDP, answers(28, 0), Extras{}, "28 0 0", 490},
		{"EDNS 4096 is 1232", sized(4096), UDP, answers(74, 0), Extras{}, "74 0 0", 1220},
		{"EDNS 4096, one too many", sized(4096), UDP, answers(75, 0), Extras{}, "0 0 0 tc", 44},
		{"text", sized(1232), UDP, answers(20, 0), Extras{Errors: text}, "20 0 0 text", 400},
		{"text gives way", sized(512), UDP, answers(20, 2), Extras{Errors: text}, "20 0 2", 400},
		{"text gives way before additional does", sized(512), UDP, answers(24, 3), Extras{Errors: text}, "24 0 3", 480},
		{"text and additional give way", sized(512), UDP, answers(27, 3), Extras{Errors: text}, "27 0 0", 480},
		{"text and all records give way", sized(512), UDP, answers(40, 3), Extras{Errors: text}, "0 0 0 tc text", 44},
		{"referral", plain, UDP, referral(2, 0), Extras{Glue: 2}, "0 1 2", 80},
		{"referral, other addresses give way", plain, UDP, referral(20, 20), Extras{Glue: 20}, "0 1 20", 370},
		{"referral, glue does not fit", plain, UDP, referral(30, 0), Extras{Glue: 30}, "0 0 0 tc", 33},
		{"referral, glue fits over TCP", plain, TCP, referral(30, 20), Extras{Glue: 30}, "0 1 50", 512},
		{"more glue than additional", plain, UDP, referral(2, 0), Extras{Glue: 9}, "0 1 2", 80},
		{"room for a TSIG", plain, UDP, answers(20, 0), Extras{Reserve: 512 - 33 - 20*16}, "20 0 0", 353},
		{"no room for a TSIG", plain, UDP, answers(20, 0), Extras{Reserve: 512 - 33 - 20*16 + 1}, "0 0 0 tc", 33},
		{"larger than TCP", plain, TCP, answers(5000, 0), Extras{}, "0 0 0 tc", 33},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := mustRead(t, e, tc.query, tc.via)
			wire := mustFinish(t, e, q, tc.reply, tc.x)
			if limit := e.Limit(q) - tc.x.Reserve; len(wire) > limit || len(wire) < tc.least {
				t.Errorf("%d bytes; want %d to %d", len(wire), tc.least, limit)
			}
			if diff := cmp.Diff(tc.want, shape(t, wire)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// shape says how many records a message has, and whether it is truncated and has a text.
func shape(t testing.TB, wire []byte) string {
	t.Helper()
	var m dns.Msg
	if err := m.Unpack(wire); err != nil {
		t.Fatal(err)
	}
	extra := len(m.Extra)
	text := ""
	if o := m.IsEdns0(); o != nil {
		extra--
		for _, option := range o.Option {
			if ede, ok := option.(*dns.EDNS0_EDE); ok && ede.ExtraText != "" {
				text = " text"
			}
		}
	}
	s := fmt.Sprintf("%d %d %d", len(m.Answer), len(m.Ns), extra)
	if m.Truncated {
		s += " tc"
	}
	return s + text
}

// However much a client asks for, and however long the name: the least reply fits what every client can receive.
func TestLeastReplyFits(t *testing.T) {
	e := newEdge(t, func(c *Config) { c.ID = strings.Repeat("i", maxID) })
	name := strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("b", 61) + "."
	query := mend(edns(t, "3:", "8:00028000"+strings.Repeat("ff", 16), "9:", "10:"+testClientCookie, "11:", "12:"), func(o *dns.OPT) {
		o.Hdr.Class = 0
	})
	query.Question[0] = dns.Question{Name: name, Qtype: dns.TypeSOA, Qclass: dns.ClassINET}
	expire := uint32(1)
	x := Extras{Errors: []ExtendedError{{1, strings.Repeat("x", 200)}, {2, "y"}, {3, "z"}, {4, ""}, {5, ""}}, Expire: &expire, Scope: 56}
	reply := &dns.Msg{Answer: addresses(t, "www.example.org.", 40)}
	for _, tc := range []struct {
		reserve int
		options int
	}{{0, 8}, {100, 3}} {
		x.Reserve = tc.reserve
		wire := mustFinish(t, e, mustRead(t, e, query, UDP), reply, x)
		if len(wire)+tc.reserve > 512 {
			t.Errorf("%d bytes beside %d", len(wire), tc.reserve)
		}
		if got := rawOptions(t, wire); len(got) != tc.options {
			t.Errorf("options %v, want %d", got, tc.options)
		}
	}
}

// RFC 8467 section 4.1: whatever the size of the answer, over TLS only the number of blocks shows.
func TestPaddedSizes(t *testing.T) {
	e := newEdge(t, nil)
	for _, n := range []int{0, 1, 20, 26, 27, 28, 100, 1000, 4090} {
		wire := mustFinish(t, e, mustRead(t, e, edns(t, "12:"), TLS), &dns.Msg{Answer: addresses(t, "www.example.org.", n)}, Extras{})
		if len(wire)%blockSize != 0 && len(wire) != streamSize {
			t.Errorf("%d records: %d bytes", n, len(wire))
		}
		if got := shape(t, wire); !strings.HasPrefix(got, fmt.Sprint(n, " ")) {
			t.Errorf("%d records: %s", n, got)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Config)
		want   string // part of the complaint; "" for none
	}{
		{"defaults", func(*Config) {}, ""},
		{"too small", func(c *Config) { c.MaxUDP = 511 }, "max_udp: 511 bytes; use 512 to 1232"},
		{"too large", func(c *Config) { c.MaxUDP = 4097 }, "max_udp: 4097 bytes"},
		{"long id", func(c *Config) { c.ID = strings.Repeat("x", 65) }, "id: 65 bytes; at most 64"},
		{"long version", func(c *Config) { c.Version = strings.Repeat("x", 256) }, "version: 256 bytes; at most 255"},
		{"no text", func(c *Config) { c.ID = "\xff" }, "id: not UTF-8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var c Config
			c.SetDefaults()
			tc.change(&c)
			err := checkConfig(&c)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

func TestWords(t *testing.T) {
	if got := fmt.Sprint(UDP, TCP, TLS, Transport(9)); got != "udp tcp tls unknown" {
		t.Error(got)
	}
}
