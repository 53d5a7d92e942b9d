package gss

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/message"
)

// Whoever asks is told who answered and by which decision, unless the config says nothing of it.
func TestRepliesNameTheDecision(t *testing.T) {
	for name, tc := range map[string]struct{ edns, want string }{
		"by default":   {"", "gss-east/1"},
		"more":         {`{id: "{name}.example.org"}`, "gss-east.example.org/1"},
		"another":      {`{id: selector}`, "selector/1"},
		"nothing":      {`{id: ""}`, ""},
		"another part": {`{max_udp: 1000}`, "gss-east/1"},
	} {
		t.Run(name, func(t *testing.T) {
			text := nodeFile
			if tc.edns != "" {
				text = strings.Replace(nodeFile, "  listen:", "  edns: "+tc.edns+"\n  listen:", 1)
			}
			d := newDeciding(t, text)
			m, from := question("smtp.mail.example.org.", dns.TypeA), netip.MustParseAddrPort("198.51.100.99:5353")
			m.SetEdns0(1232, false)
			if got := nsid(t, d.respond(packed(t, m), message.UDP, from)); got != "" {
				t.Errorf("who does not ask is told %q", got)
			}
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_NSID{Code: dns.EDNS0NSID}}
			if got := nsid(t, d.respond(packed(t, m), message.UDP, from)); got != tc.want {
				t.Errorf("a query is told %q, want %q", got, tc.want)
			}
			l, reply := d.Lane(0), make([]byte, 1500)
			l.Begin(time.Now())
			if n, v := l.Fast(reply, packed(t, m), from); n == 0 || nsid(t, reply[:n]) != tc.want {
				t.Errorf("on the fast path a query is told %q (%v), want %q", nsid(t, reply[:n]), v, tc.want)
			}
		})
	}
	cfg := mustDecode(t, strings.Replace(nodeFile, "  listen:", "  edns: {id: \""+strings.Repeat("x", 60)+"{name}\"}\n  listen:", 1))
	if _, err := New(cfg, Options{}); err == nil || !strings.Contains(err.Error(), "68 bytes; at most 64") {
		t.Errorf("a long one gives %v", err)
	}
}

// nsid gives what a reply says in that option.
func nsid(t *testing.T, wire []byte) string {
	t.Helper()
	var m dns.Msg
	if err := m.Unpack(wire); err != nil {
		t.Fatal(err)
	}
	for _, o := range m.IsEdns0().Option {
		if o.Option() == dns.EDNS0NSID {
			text, err := hex.DecodeString(o.String())
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
	}
	return ""
}
