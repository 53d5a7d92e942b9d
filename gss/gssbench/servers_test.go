package gssbench

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"strings"

	"anycastle/gss"
	"anycastle/internal/config"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// maxSigned is how many names have signed answers: enough for the case that asks for them, without signing for minutes.
const maxSigned = 1000

// serveGSS serves the names by a whole site selector, with all that it does for a query: limits, cookies, counts. It signs them if
// they are few. On SIGHUP it reloads.
func serveGSS(port uint16, names int) error {
	dir, err := os.MkdirTemp("", "gssbench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(dir+"/zone", []byte(zoneFile(names)), 0o600); err != nil {
		return err
	}
	text := fmt.Sprintf(`gss:
  name: bench
  listen: ["127.0.0.1:%d"]
  state_dir: %s
  limits: {responses_per_second: 100000} # counted, and never reached
  zones:
    - name: %s
      file: %s/zone
%s
  answers: [{name: here, addresses: [127.0.0.1], probes: [{type: icmp}]}]
  answer_groups: [{name: all, answers: [here]}]
  rules: [{name: smtp, domains: [smtp.%[3]s], clauses: [{group: all}]}]
`, port, dir, strings.TrimSuffix(zone, "."), dir, map[bool]string{true: "      dnssec: {}"}[names <= maxSigned])
	load := func() (cfg gss.Config, err error) {
		doc, err := config.Parse("node.yml", []byte(text))
		if err != nil {
			return cfg, err
		}
		cfg.Validate(doc.Decode("gss", &cfg))
		return cfg, doc.Err()
	}
	cfg, err := load()
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(max(4, 2*cfg.Sockets())) // as the program does
	g, err := gss.New(cfg, gss.Options{})
	if err != nil {
		return err
	}
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, unix.SIGHUP)
	go func() { // ends with the process
		for range reload {
			cfg, err := load()
			if err == nil {
				err = g.Reload(cfg)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "reload:", err)
			}
		}
	}()
	return g.Run(context.Background())
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
