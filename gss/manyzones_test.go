package gss

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"anycastle/gss/message"
	"anycastle/gss/transfer"
	"anycastle/gss/zone"
)

// manySecondaries is secondaryFile with some more zones that come from primaries: z0.example.net and so on.
func manySecondaries(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "    - {name: z%d.example.net, primaries: [{address: 192.0.2.53:53}]}\n", i)
	}
	return strings.Replace(secondaryFile("{address: 192.0.2.53:53}"), "  zones:\n", "  zones:\n"+b.String(), 1)
}

// hostsZone is a version of a zone that has an address of h.
func hostsZone(t *testing.T, origin string) *zone.Zone {
	t.Helper()
	z, err := zone.Parse(origin, "zone", strings.NewReader("$TTL 60\n@ SOA ns h 1 3600 600 86400 5\n@ NS ns\nns A 192.0.2.53\nh A 192.0.2.1\n"))
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// keepZone writes a zone's file as a former run of the server has left it.
func keepZone(t *testing.T, stateDir string, z *zone.Zone) {
	t.Helper()
	text := []byte("anycastle zone 1\n")
	buf := make([]byte, 1<<16)
	for rr := range z.All(nil) {
		n, err := dns.PackRR(rr, buf, 0, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		text = append(binary.BigEndian.AppendUint32(text, uint32(n)), buf[:n]...)
	}
	dir := filepath.Join(stateDir, zonesDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, bare(z.Origin())), append(text, 0, 0, 0, 0), 0o600); err != nil {
		t.Fatal(err)
	}
}

// packs is how often replies have been packed.
func (g *GSS) packs() int { return int(testutil.ToFloat64(g.metrics.packs)) }

// waits is how many versions wait to be served.
func (t *transfers) waits() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting)
}

// However many zones were transferred before a restart, replies are packed once for all of them.
func TestManyZonesAfterARestart(t *testing.T) {
	const n = 30
	cfg := mustDecode(t, manySecondaries(n))
	cfg.StateDir = t.TempDir()
	for i := range n {
		keepZone(t, cfg.StateDir, hostsZone(t, fmt.Sprintf("z%d.example.net.", i)))
	}
	g, err := New(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	const want = 2 // what the config has, and that with what is kept
	if g.packs() != want {
		t.Errorf("replies were packed %d times, want %d", g.packs(), want)
	}
	for origin, c := range g.moves.follower.Contents() { // as the follower does at first
		if origin == "mail.example.org." {
			continue // of which nothing is kept
		}
		if !c.Good || g.engine.serving().absent[origin] {
			t.Errorf("%s is absent", origin)
		}
		if err := g.install(origin, c); err != nil {
			t.Error(err)
		}
	}
	if g.packs() != want {
		t.Errorf("with what is served already replies were packed %d times, want %d", g.packs(), want)
	}
}

// Versions that come while replies are being packed are packed together, and one that cannot be served does not keep out the others.
func TestManyZonesAtOnce(t *testing.T) {
	const n = 30
	d := newDeciding(t, manySecondaries(n))
	before := d.packs()
	d.reloading.Lock()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		origin := fmt.Sprintf("z%d.example.net.", i)
		c := transfer.Content{Zone: hostsZone(t, origin), Good: true}
		wg.Go(func() { errs[i] = d.install(origin, c) })
	}
	bad := transfer.Content{Zone: secondaryZone(t, "8", "smtp A 192.0.2.1\n"), Good: true}
	var refused error
	wg.Go(func() { refused = d.install("mail.example.org.", bad) })
	waitFor(t, "all of them to wait", func() bool { return d.moves.waits() == n+1 })
	d.reloading.Unlock()
	wg.Wait()
	d.see()
	for i, err := range errs {
		name := fmt.Sprintf("h.z%d.example.net.", i)
		if got := brief(d.talk("198.51.100.9", message.UDP, question(name, dns.TypeA), "")); err != nil || got != "NOERROR h/A" {
			t.Errorf("%s is answered with %s, %v", name, got, err)
		}
	}
	if refused == nil || !strings.Contains(refused.Error(), "smtp.mail.example.org. has A records in the zone file too") {
		t.Errorf("a version that has records of rules' names gives %v", refused)
	}
	if got := d.packs() - before; got != 1 {
		t.Errorf("replies were packed %d times, want 1", got)
	}
}

// A zone may have names of another one below it that is served here too; that one answers for them.
func TestNamesOfAZoneBelow(t *testing.T) {
	text := strings.Replace(nodeFile, "  zones:\n", "  zones:\n    - {name: example.org, primaries: [{address: 192.0.2.53:53}]}\n", 1)
	d := newDeciding(t, text)
	z, err := zone.Parse("example.org.", "zone", strings.NewReader("$TTL 60\n@ SOA ns h 1 3600 600 86400 5\n@ NS ns\nns A 192.0.2.53\n"+
		"web.mail A 192.0.2.99\nold.mail A 192.0.2.99\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.install("example.org.", transfer.Content{Zone: z, Good: true}); err != nil {
		t.Fatal(err)
	}
	d.see()
	for name, want := range map[string]string{"ns.example.org.": "NOERROR ns/A", "old.mail.example.org.": "NXDOMAIN"} {
		query, from := packed(t, question(name, dns.TypeA)), netip.MustParseAddrPort("198.51.100.9:53")
		if got := brief(d.talk("198.51.100.9", message.UDP, question(name, dns.TypeA), "")); got != want {
			t.Errorf("%s is answered with %s, want %s", name, got, want)
		}
		if fast := d.fast(query, from) != nil; fast != (want != "NXDOMAIN") {
			t.Errorf("%s is answered by the fast path: %v", name, fast)
		}
	}
}
