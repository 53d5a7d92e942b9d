package gss

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"anycastle/internal/config"
)

// A site selector takes the zone of another that has the same rules: by AXFR, after a notification by IXFR, all signed; and it has the
// zone at once after a restart, though the other is gone.
func TestTwoOfOurs(t *testing.T) {
	t.Parallel()
	east, west := newSite(t, "127.0.0.1"), newSite(t, "127.0.0.2")
	file := filepath.Join(t.TempDir(), "zone")
	write := func(serial int) {
		t.Helper()
		if err := writeFile(file, manyHosts("mail.example.org.", serial)); err != nil {
			t.Fatal(err)
		}
	}
	key := TSIGKey{Name: "east-west.example.org", Algorithm: "hmac-sha512", Secret: peerSecret}
	const origin = "mail.example.org."
	write(1)
	var cfg Config
	first := startRunning(t, portOf(east), portOf(west), func(c *Config) {
		c.checked, c.Limits.ResponsesPerSecond, c.TSIGKeys = nil, 0, []TSIGKey{key}
		c.Zones = []Zone{{Name: origin, File: file, Transfer: Transfer{To: []Secondary{{Key: key.Name, WithoutRules: true}}}}}
		cfg = *c
	})
	secondary := func(primary, dir string) *running {
		return startRunning(t, portOf(east), portOf(west), func(c *Config) {
			c.checked, c.Limits.ResponsesPerSecond, c.TSIGKeys, c.StateDir = nil, 0, []TSIGKey{key}, dir
			c.Zones = []Zone{{Name: origin, Primaries: []Peer{{netip.MustParseAddrPort(primary), key.Name}}}}
		})
	}
	dir := t.TempDir()
	second := secondary(first.addr, dir)
	waitFor(t, "the zone", func() bool { return serialAt(second.addr, origin) == 1 })

	write(2)
	cfg.Zones[0].Notify = []Peer{{netip.MustParseAddrPort(second.addr), key.Name}}
	if err := config.Check("gss", cfg.Validate); err != nil {
		t.Fatal(err)
	}
	cfg.Listen = first.engine.serving().config.Listen
	if err := first.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the new zone", func() bool { return serialAt(second.addr, origin) == 2 })
	for _, name := range []string{"serial." + origin, "host7." + origin, "x.wild2." + origin, "x.wild1." + origin, "smtp." + origin} {
		for _, rrtype := range []uint16{dns.TypeA, dns.TypeTXT} {
			a, b := ask(t, first.addr, name, rrtype), ask(t, second.addr, name, rrtype)
			if a != b {
				t.Errorf("%s is answered with %q and %q", name, a, b)
			}
		}
	}
	count := func(kind string) float64 {
		return testutil.ToFloat64(second.metrics.transfers.WithLabelValues("mail.example.org", "in", kind, "ok"))
	}
	waitFor(t, "the count of the increment", func() bool { return count("ixfr") == 1 && count("axfr") == 1 })
	waitFor(t, "the file", func() bool { // it is written after the zone is served
		text, err := os.ReadFile(filepath.Join(dir, zonesDir, "mail.example.org"))
		return err == nil && strings.Contains(string(text), "only2")
	})

	again := t.TempDir()
	if err := os.CopyFS(again, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	third := secondary("127.0.0.1:1", again)
	if got := serialAt(third.addr, origin); got != 2 {
		t.Errorf("after a restart without a primary the serial is %d", got)
	}
	waitFor(t, "the refresh that fails", func() bool { return third.Zones()[0].Why != "" })
	if z := third.Zones()[0]; z.Role != "secondary" || z.Absent || z.Serial != 2 || z.Expires.IsZero() || z.Next.IsZero() || z.Refreshed.IsZero() {
		t.Errorf("the status is %+v", z)
	}
}

// ask gives an answer in short.
func ask(t *testing.T, addr, name string, rrtype uint16) string {
	t.Helper()
	m, _, err := (&dns.Client{Timeout: patience}).Exchange(question(name, rrtype), addr)
	if err != nil {
		t.Fatal(err)
	}
	text := dns.RcodeToString[m.Rcode]
	for _, rr := range m.Answer {
		text += " " + strings.Join(strings.Fields(rr.String()), " ")
	}
	return text
}

// serialAt is the serial of a zone at a server; 0 without one.
func serialAt(addr, zone string) uint32 {
	m, _, err := (&dns.Client{Timeout: time.Second}).Exchange(question(zone, dns.TypeSOA), addr)
	if err != nil || m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
		return 0
	}
	return m.Answer[0].(*dns.SOA).Serial
}
