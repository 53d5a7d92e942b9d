package gss

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
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

// logLines gives what is in a query log; none if there is no file.
func logLines(t *testing.T, path string) (list []LogLine) {
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
	ask(question("a.POP.mail.example.org.", dns.TypeA))
	ask(question("mail.example.org.", dns.TypeMX))
	ask(question("elsewhere.example.net.", dns.TypeA))
	newer := question("web.mail.example.org.", dns.TypeA).SetEdns0(1232, false)
	newer.IsEdns0().SetVersion(1)
	ask(newer)

	// moved away, and opened anew
	waitFor(t, "the lines", func() bool { return len(logLines(t, path)) == 7 })
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
		{From: from, Via: "tcp", Name: "a.pop.mail.example.org", Type: "A", RCode: "NOERROR", Answers: []string{west}, Rule: "smtp", Basis: "health", Generation: 1},
		{
			From: from, Via: "tcp", Name: "mail.example.org", Type: "MX", RCode: "NOERROR", Answers: []string{"10 mx-west.example.org."},
			Rule: "mx", Basis: "health", Generation: 1,
		},
		{From: from, Via: "tcp", Name: "elsewhere.example.net", Type: "A", RCode: "REFUSED"},
		{From: from, Via: "tcp", Name: "web.mail.example.org", Type: "A", RCode: "BADVERS"},
		{From: from, Via: "tcp", Name: "web.mail.example.org", Type: "A", RCode: "NOERROR", Answers: []string{"192.0.2.80"}},
	}
	got := append(logLines(t, path+".1"), logLines(t, path)...)
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
	// a reply that is large takes no room for longer than it is looked at
	e := <-d.queries.full
	e.wire = make([]byte, 1<<16)
	d.queries.write(bufio.NewWriter(io.Discard), e)
	if cap(e.wire) > logKept {
		t.Errorf("an entry keeps %d octets", cap(e.wire))
	}
	d.queries.full <- <-d.queries.free
	l, dst := d.Lane(0), make([]byte, udp.MaxReply)
	l.Begin(time.Now())
	for range logRoom {
		d.queries.free <- <-d.queries.full
	}
	if n := testing.AllocsPerRun(100, func() { l.Fast(dst, wire, from) }); n > 0 {
		t.Errorf("a logged query costs %v allocations", n)
	}
}

// Without its log a GSS answers all the same, and logs once the file can be opened and a reload says so.
func TestQueryLogThatCannotBeOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "queries")
	d := newDeciding(t, strings.Replace(nodeFile, "  listen:", "  query_log: {file: "+path+"}\n  listen:", 1))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- d.queries.run(ctx) }()
	ask := func() {
		d.respond(packed(t, question("web.mail.example.org.", dns.TypeA)), message.TCP, netip.MustParseAddrPort("192.0.2.3:5353"))
	}
	for range logRoom + 1 {
		ask()
	}
	waitFor(t, "the entries", func() bool { return len(d.queries.free) == logRoom })
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	d.queries.reopen <- struct{}{}
	waitFor(t, "the file", func() bool { _, err := os.Stat(path); return err == nil })
	ask()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || bytes.Count(text, []byte("\n")) != 1 {
		t.Errorf("the log is %s, %v", text, err)
	}
}
