package queue

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// publishPolicy serves an MTA-STS policy of a domain at an address of the world.
func (w *world) publishPolicy(domain, addr, text string) *tls.Config {
	w.t.Helper()
	config := certifiedFor(w.t, "mta-sts."+domain)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(rw, text) // a client that went away is in order
	}))
	srv.TLS = config
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	w.t.Cleanup(srv.Close)
	w.mu.Lock()
	w.hosts[netip.AddrPortFrom(netip.MustParseAddr(addr), 443)] = srv.Listener.Addr().String()
	w.mu.Unlock()
	w.publish(fmt.Sprintf("_mta-sts.%s. TXT \"v=STSv1; id=1\"", domain), fmt.Sprintf("mta-sts.%s. A %s", domain, addr))
	return config
}

// By real DNS, HTTPS and TLS: a host that does not fit an enforced policy gets nothing, not even in clear.
func TestMTASTS(t *testing.T) {
	good, other := certifiedFor(t, "mx.a.example"), certifiedFor(t, "www.a.example")
	const policy = "version: STSv1\nmode: enforce\nmx: mx.a.example\nmax_age: 86400\n"
	for _, tc := range []struct {
		name    string
		policy  string
		tls     *tls.Config
		trusted *tls.Config // whose certificate is known
		want    string      // last reply while it waits; empty: it arrives
		secure  string
	}{
		{"enforced, all is well", policy, good, good, "", "verified"},
		{"enforced, another's certificate", policy, other, other, "451 4.7.5 mx.a.example [192.0.2.1]: tls: handshake", ""},
		{"enforced, unknown CA", policy, good, other, "451 4.7.5 mx.a.example [192.0.2.1]: tls: handshake", ""},
		{"enforced, no TLS", policy, nil, good, "451 4.7.5 mx.a.example [192.0.2.1]: tls: it does not offer STARTTLS", ""},
		{"enforced, host not named", strings.Replace(policy, "mx.a", "mx2.a", 1), good, good, "451 4.7.5 No mail server of a.example is named in its MTA-STS policy", ""},
		{"testing", strings.Replace(policy, "enforce", "testing", 1), other, other, "", "TLS"},
		{"no policy that counts", "nonsense", nil, good, "", "clear"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, "a.example. MX 10 mx.a.example.", "mx.a.example. A 192.0.2.1")
			web := w.publishPolicy("a.example", "192.0.2.80", tc.policy)
			h := w.serve("192.0.2.1:25", func(h *host) { h.TLSConfig = tc.tls })
			w.change = func(o *Options) {
				o.Policies, o.Roots = nil, pool(tc.trusted, web)
				o.Config.RetryMin, o.Config.RetryMax = time.Hour, time.Hour
			}
			q, _ := w.run()
			mustPut(t, q, message{from: alice, to: to("x@a.example")})
			if tc.want == "" {
				empty(t, q)
				if got := h.got(); len(got) != 1 || got[0].secure != (tc.secure != "clear") {
					t.Errorf("arrived: %+v", got)
				}
				if log := w.log.String(); tc.secure == "verified" != strings.Contains(log, "verified") {
					t.Errorf("the log tells otherwise:\n%s", log)
				}
				return
			}
			waitFor(t, "an attempt", func() bool { return only(t, q).Attempts == 1 })
			if r := only(t, q); r.State != Waiting || !strings.HasPrefix(r.Last, tc.want) || len(h.got()) != 0 {
				t.Errorf("%s %q, %d arrived; want it to wait with %q", r.State, r.Last, len(h.got()), tc.want)
			}
		})
	}
}
