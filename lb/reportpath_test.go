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
	lb := n.start(n.lb, "lb", strings.Replace(patient(nodeLB), "lb:\n", text, 1), "lb")

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
	h := &hearing{t, conn, vipreport.NewStream(conn)}
	h.hear("both reals", func(v vipreport.VIP) bool { return v.State == vipreport.Active && v.InService == 2 })
	// Between any two reports, since the balancer only counts from the first beat on at which somebody listens. The resets of the
	// balancer's own probes, which come by as well, are 20 a second at most, and small; a megabyte is some 700 full packets.
	h.hear("what is forwarded", func(v vipreport.VIP) bool {
		forwarded, _, err := n.connect()
		check(t, err)
		defer forwarded.Close()
		echo(t, forwarded, 1<<20)
		return v.PacketsPerSecond > 40 && v.BytesPerSecond > 200*v.PacketsPerSecond
	})

	atOnce := h.order(lb, KindSuspend, 1)
	for try := 0; !atOnce && try < 5; try++ { // a beat may have been due at the same moment
		h.order(lb, KindActivate, 2)
		atOnce = h.order(lb, KindSuspend, 1)
	}
	if !atOnce {
		t.Error("orders are only heard with the next beat")
	}
	if s := lb.selectors(); len(s) != 1 || s[0].Name != "gss-east" {
		t.Errorf("site selectors %+v", s)
	}
	servers["mx2"].ln.Close()
	h.hear("no real", func(v vipreport.VIP) bool {
		return v.State == vipreport.Failed && v.InService == 0 && v.Why == "vip smtp has 0 of 1 reals that it needs"
	})
	lb.stop(syscall.SIGKILL)
	conn.SetReadDeadline(time.Now().Add(patience))
	var err error
	for err == nil {
		_, err = h.stream.Next()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("when the balancer is killed: %v", err)
	}
}

// hearing is a site selector's side of a stream of reports.
type hearing struct {
	t      *testing.T
	conn   net.Conn
	stream *vipreport.Stream
}

// hear reads on to a report of the one VIP that says what is awaited.
func (h *hearing) hear(what string, is func(v vipreport.VIP) bool) vipreport.Report {
	h.t.Helper()
	h.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		r, err := h.stream.Next()
		if err != nil {
			h.t.Fatalf("%s: %v", what, err)
		}
		if len(r.VIPs) == 1 && is(r.VIPs[0]) {
			return r
		}
	}
}

// order gives an order for mx1, and says whether it was heard as a change, before any beat. How soon that is on a busy machine is
// only logged.
func (h *hearing) order(lb *node, kind Kind, inService int) (atOnce bool) {
	h.t.Helper()
	ordered := time.Now()
	o := Order{Farm: "smtp", Real: "mx1", Kind: kind, By: "root"}
	check(h.t, daemon.Post(h.t.Context(), lb.dir, "lb", "/v1/order", o, nil))
	r := h.hear(fmt.Sprintf("%d in service by order", inService), func(v vipreport.VIP) bool { return v.InService == inService })
	h.t.Logf("order %s was heard %v after it was given", kind, time.Since(ordered))
	return !r.Whole
}

func (p *node) selectors() (list []SelectorStatus) {
	p.get("/v1/selector", &list)
	return list
}
