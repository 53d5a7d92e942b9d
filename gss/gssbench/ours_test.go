package gssbench

import (
	"fmt"
	"testing"
	"time"

	"anycastle/internal/netnstest"

	"github.com/miekg/dns"
)

// TestOurServers has those servers that need no package answer as the benchmark wants them to, each for the last of its names.
func TestOurServers(t *testing.T) {
	ns := netnstest.New(t)
	const names = 20
	for i, k := range kinds {
		if k.env == "" {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			s := k.start(t, ns, 5300+i, names)
			q := new(dns.Msg).SetQuestion(hostName(names-1), dns.TypeA)
			q.SetEdns0(1232, true)
			var m *dns.Msg
			ns.Do(func() (err error) {
				m, _, err = (&dns.Client{Timeout: patience}).Exchange(q, fmt.Sprint(loopback, ":", s.port))
				return err
			})
			signed := len(m.Answer) == 2 && m.Answer[1].Header().Rrtype == dns.TypeRRSIG
			if len(m.Answer) == 0 || signed != k.signs || m.IsEdns0() == nil {
				t.Errorf("reply with DO is\n%v", m)
			}
			if used := s.used(); used <= 0 || used > time.Minute {
				t.Errorf("it used %v", used)
			}
			if size := s.memory(); size < 1 || size > 1000 {
				t.Errorf("it takes %v MiB", size)
			}
			s.stop()
			s.stop()
		})
	}
}
