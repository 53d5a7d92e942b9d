package gssbench

import (
	"context"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"time"

	"anycastle/gss/table"
	"anycastle/gss/udp"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// maxSigned is how many names have signed answers: enough for the case that asks for them, without signing for minutes.
const maxSigned = 1000

// serveFastPath serves the names from a table, on one socket. On SIGHUP it makes all of the table anew.
func serveFastPath(port uint16, names int) error {
	t, err := newTable(names)
	if err != nil {
		return err
	}
	h := &fastPath{}
	h.table.Store(t)
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, unix.SIGHUP)
	go func() { // ends with the process
		for range reload {
			if t, err := newTable(names); err == nil {
				h.table.Store(t)
			}
		}
	}()
	runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0))) // more than sockets, as package udp asks for
	s, err := udp.Listen(udp.Config{Listen: []netip.AddrPort{netip.AddrPortFrom(loopback, port)}, Sockets: 1, Workers: 1}, h)
	if err != nil {
		return err
	}
	return s.Serve(context.Background())
}

func newTable(names int) (*table.Table, error) {
	b, err := table.NewBuilder(table.Config{})
	if err != nil {
		return nil, err
	}
	key, err := newSigner()
	if err != nil {
		return nil, err
	}
	for i := range names {
		rr := address(i)
		m := new(dns.Msg).SetQuestion(hostName(i), dns.TypeA)
		m.Id, m.Response, m.Authoritative, m.RecursionDesired, m.Compress = 0, true, true, false, true
		m.Answer = []dns.RR{rr}
		v := table.Variant{}
		if v.Plain, err = m.Pack(); err != nil {
			return nil, err
		}
		if i < maxSigned {
			sig, err := key.sign(rr)
			if err != nil {
				return nil, err
			}
			m.Answer = append(m.Answer, sig)
			if v.Signed, err = m.Pack(); err != nil {
				return nil, err
			}
		}
		if err := b.Add(hostName(i), dns.TypeA, 0, table.Entry{Variants: []table.Variant{v}}); err != nil {
			return nil, err
		}
	}
	return b.Build()
}

// fastPath is a handler as the site selector has one: each lane holds the table of the moment for a batch.
type fastPath struct{ table atomic.Pointer[table.Table] }

type lane struct {
	of     *fastPath
	table  *table.Table
	client table.Client
}

func (h *fastPath) Lane(i int) udp.Lane { return &lane{of: h, client: table.Client{Lane: i}} }

func (h *fastPath) Slow(dst, query []byte, _ netip.AddrPort) int {
	var q dns.Msg
	if q.Unpack(query) != nil {
		return 0
	}
	m, err := new(dns.Msg).SetRcode(&q, dns.RcodeRefused).PackBuffer(dst)
	if err != nil || len(m) > len(dst) {
		return 0
	}
	return copy(dst, m)
}

func (l *lane) Begin(now time.Time) { l.table, l.client.Now = l.of.table.Load(), uint32(now.Unix()) }

func (l *lane) Fast(dst, query []byte, from netip.AddrPort) (int, udp.Verdict) {
	l.client.Addr = from.Addr()
	n, ok := l.table.Answer(dst, query, &l.client)
	if !ok {
		return 0, udp.Slow
	}
	return n, udp.Answered
}

// serveLibrary serves the names by the library's own server and a handler that does no more than it must.
func serveLibrary(port uint16, names int) error {
	records := make(map[string]dns.RR, names)
	for i := range names {
		records[hostName(i)] = address(i)
	}
	s := &dns.Server{Addr: netip.AddrPortFrom(loopback, port).String(), Net: "udp",
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg).SetReply(q)
			m.Authoritative = true
			if rr, ok := records[q.Question[0].Name]; ok && q.Question[0].Qtype == dns.TypeA {
				m.Answer = []dns.RR{rr}
			} else {
				m.Rcode = dns.RcodeRefused
			}
			if opt := q.IsEdns0(); opt != nil {
				m.SetEdns0(1232, opt.Do())
			}
			_ = w.WriteMsg(m) // one that is lost is asked for again
		})}
	return s.ListenAndServe()
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})
