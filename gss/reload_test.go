package gss

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/decide"
	"anycastle/gss/transfer"
	"anycastle/gss/udp"
)

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbing(t)
		defer p.end()
		p.sites.mu.Lock()
		p.sites.slow = "203.0.113.211"
		p.sites.mu.Unlock()
		p.after(time.Second)
		reload := func(old, new string) error {
			t.Helper()
			cfg := mustDecode(t, strings.Replace(nodeFile, old, new, 1))
			cfg.StateDir = p.engine.next.config.StateDir
			cfg.Answers[0].Addresses = cfg.Answers[0].Addresses[:1]
			err := p.Reload(cfg)
			synctest.Wait()
			return err
		}
		if err := reload("answers: [smtp-east, smtp-west]", "answers: [smtp-west, smtp-east]"); err != nil || p.ask() != west {
			t.Errorf("with the group turned round it is answered with %s, %v", p.ask(), err)
		}
		if err := reload("", ""); err != nil || p.ask() != east {
			t.Errorf("turned back it is answered with %s, %v", p.ask(), err)
		}
		// an answer that is new is not given, and nothing is answered otherwise, before it has been probed
		probed := p.engine.current.Load().serving
		if err := reload("addresses: [203.0.113.210]", "addresses: [203.0.113.211]"); err != nil || p.engine.current.Load().serving != probed {
			t.Errorf("the config decided by is another before the new address is probed: %v", err)
		}
		p.after(time.Second)
		if p.engine.current.Load().serving == probed || p.Answers()[1].Place != decide.Serving {
			t.Errorf("the new address is not served: %+v", p.Answers()[1])
		}
		for name, tc := range map[string]struct{ old, new, want string }{
			"listen": {"198.51.100.7:53", "198.51.100.7:54", "gss.listen was [198.51.100.7:53] and is [198.51.100.7:54] now; that takes a restart"},
			"name":   {"name: gss-east", "name: gss-west", "gss.name was gss-east and is gss-west now; that takes a restart"},
			"mesh":   {"  zones:", "  mesh: {listen: \"198.51.100.7:7946\", key: 000102030405060708090a0b0c0d0e0f}\n  zones:", "gss.mesh.listen was unset and is 198.51.100.7:7946 now; that takes a restart\ngss.mesh.key is another than before"},
			"log":    {"  zones:", "  query_log: {file: /tmp/queries}\n  zones:", "gss.query_log.file was unset and is /tmp/queries now; that takes a restart\ngss.query_log.every was unset and is 1 now"},
		} {
			before := p.engine.current.Load().serving
			if err := reload(tc.old, tc.new); err == nil || !strings.Contains(err.Error(), tc.want) || p.engine.current.Load().serving != before {
				t.Errorf("%s: reloaded with %v", name, err)
			}
		}
	})
}

// A reload may have a zone come from primaries, and from a file again; what was transferred must go with its rules.
func TestReloadOfSecondaryZones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbing(t)
		defer p.end()
		p.after(time.Second)
		reload := func(text string) error {
			t.Helper()
			cfg := mustDecode(t, text)
			cfg.StateDir = p.engine.next.config.StateDir
			cfg.Answers[0].Addresses = cfg.Answers[0].Addresses[:1]
			err := p.Reload(cfg)
			synctest.Wait()
			return err
		}
		secondary := secondaryFile("{address: 192.0.2.53:53}")
		if err := reload(secondary); err != nil || !p.Zones()[0].Former || p.ask() != east {
			t.Errorf("the zone comes from primaries: %v, %+v", err, p.Zones()[0])
		}
		if err := p.install("mail.example.org.", transfer.Content{Zone: secondaryZone(t, "7", "smtps A 192.0.2.9\n"), Good: true}); err != nil {
			t.Fatal(err)
		}
		if err := reload(secondary); err != nil || p.Zones()[0].Absent || p.Zones()[0].Serial != 7 || p.ask() != east {
			t.Errorf("the zone is transferred: %v, %+v", err, p.Zones()[0])
		}
		taken := strings.Replace(secondary, "domains: [smtp.mail.example.org, ", "domains: [smtps.mail.example.org, smtp.mail.example.org, ", 1)
		if err := reload(taken); err == nil || !strings.Contains(err.Error(), "smtps.mail.example.org. has A records in the zone file too") {
			t.Errorf("a rule for a name that the primary has records of gives %v", err)
		}
		if err := reload(nodeFile); err != nil || p.Zones()[0].Role != "primary" || p.Zones()[0].Serial != 1 || p.ask() != east {
			t.Errorf("the zone is our own again: %v, %+v", err, p.Zones()[0])
		}
	})
}

// While zones are loaded again and again no query is lost, and each is answered from one of them or the other.
func TestReloadLosesNoQuery(t *testing.T) {
	east, west := newSite(t, "127.0.0.1"), newSite(t, "127.0.0.2")
	path := filepath.Join(t.TempDir(), "zone")
	write := func(serial int) {
		t.Helper()
		var text strings.Builder
		fmt.Fprintf(&text, "$TTL 60\n@ SOA ns h %d 3600 600 86400 5\n@ NS ns\nns A 198.51.100.7\nserial TXT \"%d\"\n", serial, serial)
		for i := range 2000 {
			fmt.Fprintf(&text, "h%d A 192.0.2.%d\n", i, serial%250+1)
		}
		if err := os.WriteFile(path+".new", []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write(1)
	var current Config
	r := startRunning(t, portOf(east), portOf(west), func(c *Config) {
		c.Zones = []Zone{{Name: "mail.example.org", File: path}}
		c.Limits.ResponsesPerSecond, c.Limits.TCPQueriesPerSecond = 0, 0
		c.checked = nil
		current = *c
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var asked [2]atomic.Int64
	for i, network := range []string{"udp", "tcp"} {
		wg.Go(func() {
			c := &dns.Client{Net: network, Timeout: patience}
			for ctx.Err() == nil {
				n := asked[i].Load()
				m, _, err := c.Exchange(question(fmt.Sprintf("h%d.mail.example.org.", n%2000), dns.TypeA), r.addr)
				if err != nil || m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
					t.Errorf("query %d over %s: %v, %v", n, network, err, m)
					return
				}
				asked[i].Store(n + 1)
			}
		})
	}
	for serial := 2; serial < 12 && !t.Failed(); serial++ {
		before := [2]int64{asked[0].Load(), asked[1].Load()}
		write(serial)
		next, err := newServing(current, r.GSS, r.engine.next) // Reload without the check that the address, any here, is the same
		if err == nil {
			err = r.engine.serve(next)
		}
		if err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the new zone", func() bool {
			m, _, err := (&dns.Client{Timeout: patience}).Exchange(question("serial.mail.example.org.", dns.TypeTXT), r.addr)
			return err == nil && m.Answer[0].(*dns.TXT).Txt[0] == fmt.Sprint(serial)
		})
		// how many are asked meanwhile is up to the machine: the next reload waits for some, and they for nothing
		waitFor(t, "queries beside the reload", func() bool {
			return t.Failed() || asked[0].Load() >= before[0]+10 && asked[1].Load() >= before[1]+10
		})
	}
	cancel()
	wg.Wait()
}

// cookie asks with a cookie, and gives that of the reply and whether the one of the query was good.
func (d *deciding) cookie(sent string) (given string, good bool) {
	d.t.Helper()
	m := question("smtp.mail.example.org.", dns.TypeA).SetEdns0(1232, false)
	m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: sent}}
	l := d.Lane(0).(*lane)
	l.Begin(time.Now())
	dst := make([]byte, 512)
	n, v := l.Fast(dst, packed(d.t, m), netip.MustParseAddrPort("198.51.100.99:53"))
	var reply dns.Msg
	if err := reply.Unpack(dst[:n]); err != nil || v != udp.Answered {
		d.t.Fatal(v, err)
	}
	return reply.IsEdns0().Option[0].(*dns.EDNS0_COOKIE).Cookie, l.client.Known
}

// Secrets of cookies that are replaced in their file count from the next reload on.
func TestCookieSecretsByReload(t *testing.T) {
	const first, second = "00112233445566778899aabbccddeeff\n", "ffeeddccbbaa99887766554433221100\n"
	path := filepath.Join(t.TempDir(), "secrets")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(first)
	cfg := mustDecode(t, strings.Replace(nodeFile, "  listen:", "  cookie_secrets: "+path+"\n  listen:", 1))
	g, err := New(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := &deciding{g, t}
	d.see()
	reload := func(secrets string) {
		t.Helper()
		write(secrets)
		if err := d.Reload(cfg); err != nil {
			t.Fatal(err)
		}
	}
	old, _ := d.cookie("0102030405060708")
	if _, good := d.cookie(old); !good {
		t.Error("its own cookie is not good")
	}
	reload(second + first)
	if _, good := d.cookie(old); !good {
		t.Error("a cookie of the secret before is not good while that is in the file")
	}
	reload(second)
	if _, good := d.cookie(old); good {
		t.Error("a cookie of the secret before is good without that")
	}
	fresh, _ := d.cookie("0102030405060708")
	reload(first + second)
	if _, good := d.cookie(fresh); !good {
		t.Error("a cookie of the new secret is not good beside the old")
	}
	write("no secret")
	if err := d.Reload(cfg); err == nil {
		t.Error("a file without secrets is taken")
	}
	if _, good := d.cookie(fresh); !good {
		t.Error("after a reload that was refused the secrets are others")
	}
}

// A reload that has other records be made of what was decided is told from before by the generation, and no other is.
func TestGenerationMovesWithTheConfig(t *testing.T) {
	d := newDeciding(t, nodeFile)
	was := d.Server().Generation
	for _, step := range []struct {
		old, new string
		moves    bool
	}{
		{"203.0.113.110", "203.0.113.110", false},
		{"interval: 500ms", "interval: 600ms", false},
		{"203.0.113.110", "203.0.113.111", true},
		{"mx-west.example.org", "mx-west.example.net", true},
		{"{order} {weight} 587 {target}", "{order} {weight} 465 {target}", true},
		{"prefixes: [192.0.2.0/24", "prefixes: [198.51.100.0/24", true},
	} {
		cfg := mustDecode(t, strings.Replace(nodeFile, step.old, step.new, 1))
		cfg.StateDir = d.engine.serving().config.StateDir
		if err := d.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		d.see()
		if now := d.Server().Generation; now > was != step.moves {
			t.Errorf("%s to %s: from generation %d to %d", step.old, step.new, was, now)
		}
		cfg = mustDecode(t, nodeFile)
		cfg.StateDir = d.engine.serving().config.StateDir
		if err := d.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		d.see()
		was = d.Server().Generation
	}
}
