package lb

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"anycastle/internal/daemon"
	"anycastle/internal/mtlstest"
	"anycastle/internal/vipreport"
)

// TestSelectorHearsAProcess listens to a balancer of its own, across a router, while reals come, are suspended and die, and until
// it is killed.
func TestSelectorHearsAProcess(t *testing.T) {
	n := newNetwork(t)
	servers := map[string]*server{"mx1": serve(t, n.mx1, "mx1"), "mx2": serve(t, n.mx2, "mx2")}
	n.start(n.mx1, "real", nodeReal, "mx1")
	n.start(n.mx2, "real", nodeReal, "mx2")
	ca := mtlstest.NewCA(t)
	files := ca.Host(t, "lb1", []netip.Addr{netip.MustParseAddr("198.51.100.2")})
	text := fmt.Sprintf("lb:\n  tls: {cert: %s, key: %s, ca: %s}\n  report: {listen: \"198.51.100.2:6088\", clients: [gss-east]}\n",
		files.Cert, files.Key, files.CA)
	lb := n.start(n.lb, "lb", strings.Replace(nodeLB, "lb:\n", text, 1), "lb")

	settings := vipreport.Ask(loadMTLS(t, ca.Node(t, "gss-east")).Client())
	settings.ServerName = "198.51.100.2"
	var conn *tls.Conn
	eventually(t, "the balancer lets a site selector listen", func() bool {
		n.client.Do(func() error {
			raw, err := net.DialTimeout("tcp", "198.51.100.2:6088", time.Second)
			if err == nil {
				conn = tls.Client(raw, settings)
			}
			return nil
		})
		return conn != nil
	})
	defer conn.Close()
	stream := vipreport.NewStream(conn)
	hear := func(what string, is func(v vipreport.VIP) bool) {
		t.Helper()
		conn.SetReadDeadline(time.Now().Add(patience))
		for {
			r, err := stream.Next()
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if len(r.VIPs) == 1 && is(r.VIPs[0]) {
				return
			}
		}
	}
	hear("both reals", func(v vipreport.VIP) bool { return v.State == vipreport.Active && v.InService == 2 })
	n.taken(20)
	hear("what is forwarded", func(v vipreport.VIP) bool { return v.PacketsPerSecond > 0 && v.BytesPerSecond > v.PacketsPerSecond })

	ordered := time.Now()
	check(t, daemon.Post(t.Context(), lb.dir, "lb", "/v1/order", Order{Farm: "smtp", Real: "mx1", Kind: KindSuspend, By: "root"}, nil))
	hear("one real by order", func(v vipreport.VIP) bool { return v.InService == 1 })
	took := time.Since(ordered)
	t.Logf("an order was heard %v after it was given", took)
	if took > 100*time.Millisecond {
		t.Errorf("an order was heard %v after it was given", took)
	}
	if s := lb.selectors(); len(s) != 1 || s[0].Name != "gss-east" {
		t.Errorf("site selectors %+v", s)
	}
	servers["mx2"].ln.Close()
	hear("no real", func(v vipreport.VIP) bool {
		return v.State == vipreport.Failed && v.InService == 0 && v.Why == "vip smtp has 0 of 1 reals that it needs"
	})
	lb.stop(syscall.SIGKILL)
	conn.SetReadDeadline(time.Now().Add(patience))
	var err error
	for err == nil {
		_, err = stream.Next()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("when the balancer is killed: %v", err)
	}
}

func (p *node) selectors() (list []SelectorStatus) {
	p.get("/v1/selector", &list)
	return list
}
