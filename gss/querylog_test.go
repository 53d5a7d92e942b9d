package gss

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/miekg/dns"

	"anycastle/gss/message"
	"anycastle/gss/udp"
)

func TestQueryLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queries")
	d := newDeciding(t, strings.Replace(nodeFile, "  listen:", "  query_log: {file: "+path+"}\n  listen:", 1), "smtp-east")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- d.queries.run(ctx) }()
	from := netip.MustParseAddrPort("192.0.2.3:5353")
	ask := func(m *dns.Msg) { d.respond(packed(t, m), message.TCP, from) }
	d.fast(packed(t, question("SMTP.mail.example.org.", dns.TypeA)), from)
	ask(withSubnet(question("alias.mail.example.org.", dns.TypeA), "198.51.100.0/24"))
	ask(question("nope.mail.example.org.", dns.TypeTXT))

	// moved away, and opened anew
	lines := func(path string) (list []LogLine) {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		for line := range bytes.Lines(text) {
			var l LogLine
			if err := json.Unmarshal(line, &l); err != nil {
				t.Fatal(err)
			}
			list = append(list, l)
		}
		return list
	}
	waitFor(t, "the lines", func() bool { return len(lines(path)) == 3 })
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	d.queries.reopen <- struct{}{}
	waitFor(t, "the new file", func() bool { _, err := os.Stat(path); return err == nil })
	ask(question("web.mail.example.org.", dns.TypeA))
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want := []LogLine{
		{From: from, Via: "udp", Name: "smtp.mail.example.org", Type: "A", RCode: "NOERROR", Answers: []string{west}, Rule: "smtp", Basis: "health", Generation: 1},
		{
			From: from, Via: "tcp", Name: "alias.mail.example.org", Type: "A", Client: "198.51.100.0/24", RCode: "NOERROR", Answers: []string{west},
			Rule: "smtp", Basis: "health", Generation: 1,
		},
		{From: from, Via: "tcp", Name: "nope.mail.example.org", Type: "TXT", RCode: "NXDOMAIN"},
		{From: from, Via: "tcp", Name: "web.mail.example.org", Type: "A", RCode: "NOERROR", Answers: []string{"192.0.2.80"}},
	}
	got := append(lines(path+".1"), lines(path)...)
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(LogLine{}, "At"), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got[0].At.IsZero() {
		t.Error("a line has no time")
	}
}

// Nobody waits for the log: what it has no room for is counted.
func TestQueryLogIsFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queries")
	d := newDeciding(t, strings.Replace(nodeFile, "  listen:", "  query_log: {file: "+path+", every: 2}\n  listen:", 1))
	wire, from := packed(t, question("web.mail.example.org.", dns.TypeA)), netip.MustParseAddrPort("192.0.2.3:5353")
	for range 2*logRoom + 20 {
		d.respond(wire, message.TCP, from)
	}
	if n := d.queries.lost.Load(); n != 10 {
		t.Errorf("%d are lost", n)
	}
	l, dst := d.Lane(0), make([]byte, udp.MaxReply)
	l.Begin(time.Now())
	for range logRoom {
		d.queries.free <- <-d.queries.full
	}
	if n := testing.AllocsPerRun(100, func() { l.Fast(dst, wire, from) }); n > 0 {
		t.Errorf("a logged query costs %v allocations", n)
	}
}
