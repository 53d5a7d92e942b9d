package client

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func onePod(p Pod) Targets { return Targets{Pods: []Pod{p}} }

func TestLoadTellsWhoAnsweredAndWhatBroke(t *testing.T) {
	mx := newMX(t, "220 mx1.example.org ESMTP")
	imap := newMX(t, "* OK ready")
	l, _ := startLoad(t, Config{Held: 2, Targets: onePod(Pod{Pod: "7", SMTP: mx.addr(), Submission: mx.addr(), IMAP: imap.addr()})})
	if e := l.await(t, KindVIP, true); e.Server != "mx1.example.org" || e.End.Before(e.Start) || e.Pod != "7" {
		t.Errorf("event %+v, want one of pod 7 and mx1.example.org that ends after it began", e)
	}
	for _, service := range []string{ServiceSubmission, ServiceIMAP} {
		l.awaitThat(t, "good "+service, func(e Event) bool { return e.Kind == KindVIPs && e.Service == service && e.OK })
	}
	l.await(t, KindHeld, true)
	mx.Close()
	mx.cut()
	if e := l.await(t, KindHeld, false); e.Err == "" || !e.Reconnect || !strings.HasPrefix(e.ID, "7/") || e.Server != "mx1.example.org" {
		t.Errorf("event %+v, want a broken session of pod 7 that had to reconnect and says why", e)
	}
	l.awaitThat(t, "refused connection", func(e Event) bool { return e.Kind == KindVIP && e.Reason == ReasonRefused })
}

func TestReasonsOfConnections(t *testing.T) {
	for name, c := range map[string]struct {
		serve  func(net.Conn)
		begins string
		want   string
	}{
		"hangs":          {func(c net.Conn) { c.Read(make([]byte, 1)) }, bannerSMTP, ReasonTimeout},
		"closes":         {func(net.Conn) {}, bannerSMTP, ReasonClosed},
		"resets":         {func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) }, bannerSMTP, ReasonReset},
		"never":          {func(c net.Conn) { fmt.Fprint(c, "554 go away\r\n") }, bannerSMTP, ReasonPermFail},
		"not now":        {func(c net.Conn) { fmt.Fprint(c, "450 busy\r\n") }, bannerSMTP, ReasonTempFail},
		"going away":     {func(c net.Conn) { fmt.Fprint(c, "421 going\r\n") }, bannerSMTP, ReasonBye},
		"BYE":            {func(c net.Conn) { fmt.Fprint(c, "* BYE going\r\n") }, bannerIMAP, ReasonBye},
		"another server": {func(c net.Conn) { fmt.Fprint(c, "SSH-2.0\r\n") }, bannerIMAP, ReasonProtocol},
		"no end of line": {func(c net.Conn) { c.Write(bytes.Repeat([]byte("2"), 2*mostBanner)) }, bannerSMTP, ReasonProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, c.serve)
			_, err := greet(t.Context(), nil, f.addr(), c.begins)
			if err == nil {
				t.Fatal("no error")
			}
			// what arrives first, the end or the reset for what was not read, is not ours to say
			if got := reason(err); got != c.want && !(c.want == ReasonClosed && got == ReasonReset) {
				t.Errorf("reason %s of %v, want %s", got, err, c.want)
			}
		})
	}
}

// When the client is told to stop, an attempt that nobody answers is seen through: it counts as failed, not as never made.
func TestStoppedLoadHidesNoFailure(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // its backlog takes connections; nobody greets them
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	l, stop := startLoad(t, Config{Targets: onePod(Pod{SMTP: ln.Addr().(*net.TCPAddr).AddrPort()})})
	if _, err := ln.Accept(); err != nil { // an attempt is under way
		t.Fatal(err)
	}
	stop()
	if e := l.await(t, KindVIP, false); e.Reason != ReasonTimeout || e.End.Sub(e.Start) > 2*attemptTime {
		t.Errorf("event %+v, want a timeout", e)
	}
}

func TestLookupTellsTheWay(t *testing.T) {
	good := func() netip.AddrPort { return serveDNS(t, dns.RcodeSuccess, "203.0.113.11") }
	bad := func() netip.AddrPort { return serveDNS(t, dns.RcodeServerFailure, "") }
	for name, c := range map[string]struct {
		resolvers, selectors []netip.AddrPort
		way, reason          string
	}{
		"resolver":                    {[]netip.AddrPort{good()}, []netip.AddrPort{bad()}, WayResolver, ""},
		"second resolver":             {[]netip.AddrPort{bad(), good()}, nil, WayResolver, ""},
		"no resolver in the lab":      {nil, []netip.AddrPort{good()}, WaySelector, ""},
		"resolver never answered":     {[]netip.AddrPort{silent(t)}, []netip.AddrPort{good()}, WaySelector, ""},
		"second selector":             {nil, []netip.AddrPort{silent(t), good()}, WaySelector, ""},
		"nobody":                      {nil, []netip.AddrPort{bad()}, WaySelector, ReasonDNS},
		"no address":                  {[]netip.AddrPort{serveDNS(t, dns.RcodeSuccess, "")}, nil, WayResolver, ReasonDNS},
		"only a resolver, and silent": {[]netip.AddrPort{silent(t)}, nil, WayResolver, ReasonTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			r := newResolver(Targets{Resolvers: c.resolvers, Selectors: c.selectors})
			addr, way, err := r.lookup(t.Context(), "smtp.mail.example.org")
			if way != c.way || (err == nil) != (c.reason == "") || err != nil && reason(err) != c.reason {
				t.Errorf("way %s, %v; want %s and reason %q", way, err, c.way, c.reason)
			}
			if err == nil && addr.String() != "203.0.113.11" {
				t.Errorf("answer %v", addr)
			}
		})
	}
}

// Once the resolver has answered, the selectors do not hide that it fails.
func TestLookupHidesNoOutageOfTheResolver(t *testing.T) {
	r := newResolver(Targets{
		Resolvers: []netip.AddrPort{serveDNS(t, dns.RcodeSuccess, "203.0.113.11")},
		Selectors: []netip.AddrPort{serveDNS(t, dns.RcodeSuccess, "203.0.113.21")},
	})
	if _, _, err := r.lookup(t.Context(), "smtp.mail.example.org"); err != nil {
		t.Fatal(err)
	}
	r.recursive.addrs[0] = serveDNS(t, dns.RcodeServerFailure, "")
	if addr, way, err := r.lookup(t.Context(), "smtp.mail.example.org"); err == nil || way != WayResolver {
		t.Errorf("answer %v by %s, want a failure of the resolver", addr, way)
	}
}

func TestLookupStaysWithWhoAnswered(t *testing.T) {
	s := servers{addrs: []netip.AddrPort{serveDNS(t, dns.RcodeServerFailure, ""), serveDNS(t, dns.RcodeSuccess, "203.0.113.11")}, within: dnsTime}
	if _, err := s.lookup(t.Context(), "smtp.mail.example.org"); err != nil || s.good != 1 {
		t.Errorf("%v; asks server %d first, want the one that answered", err, s.good)
	}
}

func TestLoadConnectsToTheAnswer(t *testing.T) {
	mx := newMX(t, "220 mx1.example.org ESMTP")
	l, _ := startLoad(t, Config{Targets: Targets{
		Resolvers: []netip.AddrPort{serveDNS(t, dns.RcodeSuccess, "127.0.0.1")},
		Pods:      []Pod{{SMTP: mx.addr(), Names: Names{SMTP: "smtp.mail.example.org"}}},
	}})
	if e := l.await(t, KindName, true); e.Answer != "127.0.0.1" || e.Way != WayResolver || e.Server != "mx1.example.org" {
		t.Errorf("event %+v", e)
	}
}

func TestReadyWantsEverything(t *testing.T) {
	mx, imap := newMX(t, "220 mx1.example.org ESMTP"), newMX(t, "* OK ready")
	pod := Pod{Pod: "1", SMTP: mx.addr(), IMAP: imap.addr(), Sites: []netip.AddrPort{mx.addr()}, Names: Names{SMTP: "smtp.mail.example.org"}}
	targets := Targets{Selectors: []netip.AddrPort{serveDNS(t, dns.RcodeSuccess, "127.0.0.1")}, Pods: []Pod{pod}}
	if err := Ready(t.Context(), Config{Targets: targets}); err != nil {
		t.Error(err)
	}
	imap.Close()
	if err := once(t.Context(), Config{Targets: targets}); err == nil || !strings.Contains(err.Error(), "pod 1: IMAP VIP") {
		t.Errorf("error is %v", err)
	}
}

func TestLogIsReadBack(t *testing.T) {
	var b bytes.Buffer
	log := NewLog(&b)
	log.Add(Event{Kind: KindVIP, Start: time.Now()}, nil)
	log.Add(Event{Kind: KindMail, ID: "1@example.net", Unknown: true}, net.ErrClosed)
	events, err := ReadLog(&b)
	if err != nil || len(events) != 2 || !events[0].OK || events[1].Reason != ReasonClosed || !events[1].Unknown {
		t.Errorf("%+v, %v", events, err)
	}
	if _, err := ReadLog(strings.NewReader("{}\n{\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("error is %v", err)
	}
}

func TestOnlyKeepsPods(t *testing.T) {
	two := Targets{Pods: []Pod{{Pod: "1"}, {Pod: "2"}}}
	one := two
	if err := one.Only([]string{"2"}); err != nil || len(one.Pods) != 1 || one.Pods[0].Pod != "2" || len(two.Pods) != 2 || two.Pods[0].Pod != "1" {
		t.Errorf("%v, %+v of %+v", err, one, two)
	}
	if err := two.Only([]string{"3"}); err == nil {
		t.Error("took a pod that there is none of")
	}
}

func FuzzReadLog(f *testing.F) {
	f.Add([]byte(`{"start":"2026-01-01T00:00:00Z","kind":"mail","ok":true,"id":"1@example.net"}` + "\n"))
	f.Add([]byte("{\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		events, err := ReadLog(bytes.NewReader(text))
		if err == nil && len(Messages(events)) > len(events) {
			t.Error("more messages than events")
		}
	})
}
