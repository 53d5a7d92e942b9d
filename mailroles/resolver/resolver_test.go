package resolver_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"anycastle/mailroles/resolver"
)

// serve answers from a zone of one name and one text by UDP, until the test ends.
func serve(t *testing.T) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	text, err := dns.NewRR(`a.example. TXT "text"`)
	if err != nil {
		t.Fatal(err)
	}
	up, done := make(chan struct{}), make(chan error, 1)
	srv := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(up) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Name == "a.example." {
			m.Answer = []dns.RR{text}
		} else {
			m.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(m) // a client that went away is in order
	})}
	go func() { done <- srv.ActivateAndServe() }()
	<-up
	t.Cleanup(func() {
		if err := errors.Join(srv.Shutdown(), <-done); err != nil {
			t.Error(err)
		}
	})
	return netip.MustParseAddrPort(pc.LocalAddr().String())
}

func TestNamesAreAskedForAsTheyAre(t *testing.T) {
	r := resolver.At(serve(t))
	for _, name := range []string{"a.example", "a.example."} {
		if got, err := r.LookupTXT(t.Context(), name); err != nil || len(got) != 1 || got[0] != "text" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for what, ask := range map[string]func(name string) error{
		"TXT":  func(name string) error { _, err := r.LookupTXT(t.Context(), name); return err },
		"MX":   func(name string) error { _, err := r.LookupMX(t.Context(), name); return err },
		"addr": func(name string) error { _, err := r.LookupIPAddr(t.Context(), name); return err },
		"IPv4": func(name string) error { _, err := r.LookupNetIP(t.Context(), "ip4", name); return err },
	} {
		var is *net.DNSError
		if err := ask("none.example"); !errors.As(err, &is) || !is.IsNotFound || is.Name != "none.example." {
			t.Errorf("%s: %v, want that there is no none.example. with the dot", what, err)
		}
	}
}
