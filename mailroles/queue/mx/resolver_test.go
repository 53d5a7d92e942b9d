package mx_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"anycastle/mailroles/queue/mx"
)

// serve answers questions by UDP and TCP on one port of loopback until the test ends.
func serve(t *testing.T, handler dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	for range 20 { // until a port is free for both
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", pc.LocalAddr().String())
		if err != nil {
			pc.Close()
			continue
		}
		for _, srv := range []*dns.Server{{PacketConn: pc, Handler: handler}, {Listener: ln, Handler: handler}} {
			up, done := make(chan struct{}), make(chan error, 1)
			srv.NotifyStartedFunc = func() { close(up) }
			go func() { done <- srv.ActivateAndServe() }()
			<-up
			t.Cleanup(func() {
				if err := errors.Join(srv.Shutdown(), <-done); err != nil {
					t.Error(err)
				}
			})
		}
		return netip.MustParseAddrPort(pc.LocalAddr().String())
	}
	t.Fatal("no port is free for UDP and TCP")
	return netip.AddrPort{}
}

// zone answers from records; a name that has none at all is NXDOMAIN. cut has every reply by UDP truncated.
func zone(t *testing.T, cut bool, records ...string) dns.HandlerFunc {
	t.Helper()
	var all []dns.RR
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		all = append(all, rr)
	}
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		name := strings.ToLower(q.Question[0].Name)
		known := false
		for _, rr := range all {
			if rr.Header().Name == name {
				known = true
				if ty := rr.Header().Rrtype; ty == q.Question[0].Qtype || ty == dns.TypeCNAME {
					m.Answer = append(m.Answer, rr)
				}
			}
		}
		if !known {
			m.Rcode = dns.RcodeNameError
		}
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp && cut {
			m.Truncated, m.Answer = true, nil
		}
		_ = w.WriteMsg(m) // a client that went away is in order
	}
}

func TestHosts(t *testing.T) {
	records := []string{
		"many.example. MX 20 C.example.", "many.example. MX 10 a.example.", "many.example. MX 10 b.example.",
		"bare.example. A 192.0.2.1", "null.example. MX 0 .", "odd.example. MX 0 .", "odd.example. MX 5 a.example.",
		"alias.example. CNAME many.example.", "loop.example. CNAME pool.example.", "pool.example. CNAME loop.example.",
	}
	for i := range 12 {
		records = append(records, fmt.Sprintf("c%d.example. CNAME c%d.example.", i, i+1))
	}
	for _, cut := range []bool{false, true} {
		r := mx.Resolver{Servers: []netip.AddrPort{serve(t, zone(t, cut, records...))}}
		firsts := map[string]bool{}
		for range 40 {
			hosts, err := r.Hosts(t.Context(), "many.example")
			if err != nil || len(hosts) != 3 || hosts[2] != (mx.Host{Name: "c.example", Preference: 20}) {
				t.Fatalf("hosts %v, %v", hosts, err)
			}
			firsts[hosts[0].Name] = true
		}
		if len(firsts) != 2 {
			t.Errorf("equals are not shuffled: only %v came first", firsts)
		}
		if hosts, err := r.Hosts(t.Context(), "bare.example"); err != nil || !slices.Equal(hosts, []mx.Host{{Name: "bare.example"}}) {
			t.Errorf("without MX: %v, %v", hosts, err)
		}
		if hosts, err := r.Hosts(t.Context(), "odd.example"); err != nil || !slices.Equal(hosts, []mx.Host{{Name: "a.example", Preference: 5}}) {
			t.Errorf("null MX beside another: %v, %v", hosts, err)
		}
		if hosts, err := r.Hosts(t.Context(), "alias.example"); err != nil || len(hosts) != 3 {
			t.Errorf("behind an alias: %v, %v", hosts, err)
		}
		for domain, want := range map[string]error{"null.example": mx.ErrNull, "none.example": mx.ErrNoDomain} {
			if hosts, err := r.Hosts(t.Context(), domain); !errors.Is(err, want) {
				t.Errorf("%s: %v, %v; want %v", domain, hosts, err, want)
			}
		}
		for domain, want := range map[string]string{"loop.example": "loop", "c0.example": "more than 8 aliases"} {
			_, err := r.Hosts(t.Context(), domain)
			if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, mx.ErrNone) || errors.Is(err, mx.ErrNoDomain) {
				t.Errorf("%s: %v; want a passing error about %q", domain, err, want)
			}
		}
	}
}

func TestAddrs(t *testing.T) {
	broken := func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		switch {
		case q.Question[0].Name == "half.example." && q.Question[0].Qtype == dns.TypeA:
			m.SetReply(q)
			m.Rcode = dns.RcodeNameError
		default:
			m.SetRcode(q, dns.RcodeServerFailure)
		}
		_ = w.WriteMsg(m)
	}
	good := serve(t, zone(t, false, "h.example. A 192.0.2.1", "h.example. AAAA 2001:db8::1", "a.example. CNAME h.example.", "t.example. TXT \"one \" \"text\""))
	bad := serve(t, broken)
	r := mx.Resolver{Servers: []netip.AddrPort{bad, good}} // the first cannot tell, so the second is asked
	for _, name := range []string{"h.example", "a.example"} {
		addrs, err := r.Addrs(t.Context(), name)
		if diff := cmp.Diff("[2001:db8::1 192.0.2.1]", fmt.Sprint(addrs)); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
	if _, err := r.Addrs(t.Context(), "t.example"); !errors.Is(err, mx.ErrNone) {
		t.Errorf("a name without addresses: %v", err)
	}
	if texts, err := r.TXT(t.Context(), "t.example"); err != nil || !slices.Equal(texts, []string{"one text"}) {
		t.Errorf("texts %q, %v", texts, err)
	}
	r.Servers = []netip.AddrPort{bad}
	for _, name := range []string{"h.example", "half.example"} {
		if _, err := r.Addrs(t.Context(), name); err == nil || errors.Is(err, mx.ErrNone) || errors.Is(err, mx.ErrNoDomain) {
			t.Errorf("%s: what nobody can tell is %v", name, err)
		}
	}
}

func TestAnswerToAnotherQuestionIsNotTaken(t *testing.T) {
	var asked atomic.Int32
	r := mx.Resolver{Servers: []netip.AddrPort{serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Add(1)
		m := new(dns.Msg).SetReply(q)
		m.Question[0].Name = "other.example."
		_ = w.WriteMsg(m)
	})}}
	if _, err := r.Hosts(t.Context(), "a.example"); err == nil || asked.Load() == 0 {
		t.Errorf("%v after %d questions", err, asked.Load())
	}
}

func TestFromFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	for text, want := range map[string]string{
		"search example.org\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n": "[192.0.2.53:53 [2001:db8::53]:53]",
		"search example.org\n": "",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := mx.FromFile(path)
		if want == "" {
			if err == nil {
				t.Errorf("%q gives %v", text, r.Servers)
			}
		} else if err != nil || fmt.Sprint(r.Servers) != want {
			t.Errorf("%q gives %v, %v", text, r, err)
		}
	}
}
