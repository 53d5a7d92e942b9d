package gss

import (
	"context"
	"log/slog"
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

	"anycastle/gss/message"
	"anycastle/gss/sign"
	"anycastle/gss/zone"
)

// resigning is a GSS whose zone is signed in other ways by reloads.
type resigning struct {
	*probing
	dir string
}

// reload has dnssec be that of the text; empty: there is none.
func (r *resigning) reload(dnssec string) error {
	r.t.Helper()
	text := nodeFile
	if dnssec != "" {
		text = strings.Replace(text, "      primary:", "      dnssec: {"+dnssec+"}\n      primary:", 1)
	}
	text = strings.ReplaceAll(text, "interval: 500ms", "interval: 10m")
	cfg := mustDecode(r.t, text)
	cfg.StateDir = r.dir
	cfg.Answers[0].Addresses = cfg.Answers[0].Addresses[:1]
	err := r.Reload(cfg)
	synctest.Wait()
	return err
}

// must is reload where nothing is wrong.
func (r *resigning) must(dnssec string) {
	r.t.Helper()
	if err := r.reload(dnssec); err != nil {
		r.t.Fatalf("with dnssec %q: %v", dnssec, err)
	}
}

// signs says by which keys the answer of a rule, and one of the zone, are signed.
func (r *resigning) signs() (tags []uint16) {
	r.t.Helper()
	for i, name := range []string{"smtp.mail.example.org.", "web.mail.example.org."} {
		var here []uint16
		m := question(name, dns.TypeA)
		m.SetEdns0(1232, true)
		var reply dns.Msg
		if err := reply.Unpack(r.respond(packed(r.t, m), message.UDP, netip.MustParseAddrPort("198.51.100.99:53"))); err != nil {
			r.t.Fatal(err)
		}
		for _, rr := range reply.Answer {
			if s, ok := rr.(*dns.RRSIG); ok {
				here = append(here, s.KeyTag)
			}
		}
		if i > 0 && len(here) != len(tags) {
			r.t.Fatalf("%s is signed by %v, another name by %v", name, here, tags)
		}
		tags = here
	}
	return tags
}

func (r *resigning) order(kind string) {
	r.t.Helper()
	if _, err := r.OrderKeys(KeyOrder{Zone: "mail.example.org", Kind: kind}); err != nil {
		r.t.Fatalf("%s: %v", kind, err)
	}
	synctest.Wait()
}

// A reload may sign a zone, sign it in another way, and leave it unsigned once nobody expects signatures any more; it never takes
// them from who does, nor has other keys be used than those that the parent knows.
func TestReloadOfDNSSEC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := &resigning{newProbing(t, nil, func(c *Config) { c.StateDir = dir }), dir}
		r.sites.set()
		r.runAs(r.engine.goOn) // in 18 days there are 3 million signs of life, which nobody hears here
		defer r.end()
		r.after(time.Second)
		r.must("")
		stop := r.tending()
		defer stop()
		if tags := r.signs(); len(tags) > 0 {
			t.Fatalf("an unsigned zone is signed by %v", tags)
		}
		r.must("lifetime: 0s")
		r.after(time.Second)
		if tags := r.signs(); len(tags) != 1 {
			t.Fatalf("signed by %v", tags)
		}
		r.must("") // the parent was asked for nothing yet
		r.after(time.Second)
		if tags := r.signs(); len(tags) > 0 || len(r.Keys()) > 0 {
			t.Fatalf("unsigned again, it is signed by %v: %+v", tags, r.Keys())
		}
		r.must("lifetime: 0s, key_ttl: 30m")
		r.after(36 * time.Hour)
		first := r.signs()
		if k := r.Keys(); len(k) != 1 || k[0].State != sign.Ready {
			t.Fatalf("keys are %+v", k)
		}
		if err := r.reload(""); err == nil || !strings.Contains(err.Error(), "resolvers may still expect signatures; put it back with `insecure: true`") {
			t.Errorf("signatures may go while the parent may have a DS record: %v", err)
		}
		r.order("confirm")
		r.after(36 * time.Hour)
		if k := r.Keys(); len(k) != 1 || k[0].State != sign.Active {
			t.Fatalf("keys are %+v", k)
		}

		// other keys
		other := filepath.Join(t.TempDir(), "other")
		if err := os.Mkdir(other, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := r.reload("lifetime: 0s, keys: " + other); err == nil || !strings.Contains(err.Error(), "are not those in use; copy the directory there first") {
			t.Errorf("an empty directory of keys is taken: %v", err)
		}
		files, err := os.ReadDir(filepath.Join(r.dir, "keys"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := os.ReadFile(filepath.Join(r.dir, "keys", f.Name()))
			if err == nil {
				err = os.WriteFile(filepath.Join(other, f.Name()), text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		r.must("lifetime: 0s, keys: " + other)
		r.after(time.Second)
		if tags := r.signs(); len(tags) != 1 || tags[0] != first[0] {
			t.Errorf("with a copy of the keys it is signed by %v, before by %v", tags, first)
		}
		r.must("follow: true, keys: " + other)
		r.after(time.Second)
		if _, err := r.OrderKeys(KeyOrder{Zone: "mail.example.org", Kind: "roll"}); err == nil {
			t.Error("who follows rolls keys")
		}
		r.must("lifetime: 0s, keys: " + other)

		// another algorithm is another key
		r.must("lifetime: 0s, algorithm: ed25519, keys: " + other)
		r.after(4 * 24 * time.Hour)
		r.order("confirm")
		r.after(4 * 24 * time.Hour)
		if tags := r.signs(); len(tags) != 1 || tags[0] == first[0] {
			t.Errorf("with another algorithm it is signed by %v, before by %v: %+v", tags, first, r.Keys())
		}

		// and back to none
		if err := r.engine.serving().checkUnsigned(time.Now()); err != nil {
			t.Errorf("a zone that is signed is taken for one that is not: %v", err)
		}
		unsigned := *r.engine.serving()
		unsigned.signed = nil
		if err := unsigned.checkUnsigned(time.Now()); err == nil || !strings.Contains(err.Error(), "move its keys out of "+filepath.Join(r.dir, "keys")) {
			t.Errorf("a start without dnssec gives %v", err)
		}
		r.must("lifetime: 0s, insecure: true, algorithm: ed25519, keys: " + other)
		if err := r.reload(""); err == nil {
			t.Error("signatures may go before the parent's DS record has")
		}
		r.order("confirm")
		r.after(7 * 24 * time.Hour)
		if tags := r.signs(); len(tags) > 0 || len(r.Keys()) > 0 {
			t.Errorf("with no DS record left it is signed by %v: %+v", tags, r.Keys())
		}
		r.must("")
	})
}

// tending has keys be tended to, as Run does.
func (r *resigning) tending() (stop func()) {
	return tasks(r.t, r.tend, r.pack)
}

// tasks runs some until stop.
func tasks(t *testing.T, list ...func(context.Context)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, f := range list {
		wg.Go(func() { f(ctx) })
	}
	return func() { cancel(); wg.Wait() }
}

// A step that is broken off leaves the former keys in use, and the next one takes the new ones; nothing that answers waits for it.
func TestStepThatIsBrokenOff(t *testing.T) {
	t.Parallel()
	set := mustDecode(t, strings.Replace(nodeFile, "      primary:", signedZone, 1)).checked
	is, err := newSigning(set.Zones()[0], DNSSEC{}, t.TempDir(), slog.New(slog.DiscardHandler), func() {})
	if err != nil {
		t.Fatal(err)
	}
	is.config.SetDefaults()
	if err := is.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer is.close()
	now := time.Now()
	is.now = func() time.Time { return now }
	after := func(ctx context.Context, d time.Duration) {
		now = now.Add(d)
		_ = is.step(ctx, nil)
	}
	after(t.Context(), 36*time.Hour)
	ended, end := context.WithCancel(t.Context())
	end()
	keeper := is.keeper
	keeper.Roll()
	after(ended, 0)
	is.mu.Lock() // a step that takes long
	keys := make(chan int, 1)
	go func() { keys <- len(is.apex(dns.TypeDNSKEY)) }()
	select {
	case got := <-keys:
		if got != 1 {
			t.Errorf("there are %d keys while the signer knows of one", got)
		}
	case <-time.After(patience):
		t.Error("a query for the keys waits for a step")
	}
	is.mu.Unlock()
	after(t.Context(), 0)
	reply := &dns.Msg{Answer: is.apex(dns.TypeDNSKEY)}
	if err := is.secure(reply, zone.Result{Kind: zone.Answer, Name: is.origin}, dns.TypeDNSKEY, false); err != nil {
		t.Error(err)
	}
	if got := len(reply.Answer); got != 4 {
		t.Errorf("two keys and two signatures are %d records:\n%v", got, reply)
	}
}

// After the clock was set, forth or back, signatures that are valid by it are in all replies within a minute or so, also in those
// that are packed.
func TestClockIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := mustDecode(t, strings.Replace(nodeFile, "      primary:", signedZone, 1)).checked
		packed := 0
		is, err := newSigning(set.Zones()[0], DNSSEC{}, t.TempDir(), slog.New(slog.DiscardHandler), func() { packed++ })
		if err != nil {
			t.Fatal(err)
		}
		is.config.SetDefaults()
		var ahead atomic.Int64
		is.now = func() time.Time { return time.Now().Round(0).Add(time.Duration(ahead.Load())) }
		if err := is.open(t.Context()); err != nil {
			t.Fatal(err)
		}
		stop := tasks(t, is.run)
		defer func() { stop(); is.close() }()
		for i, days := range []time.Duration{0, 400, 30, 31} {
			ahead.Store(int64(days * 24 * time.Hour))
			<-time.After(clockLook + time.Second)
			synctest.Wait()
			if anew := i < 3; packed > 0 != anew { // in the end the signatures do
				t.Errorf("%d days on, replies are packed anew %d times, want some: %v", days, packed, anew)
			}
			packed = 0
			m := &dns.Msg{Answer: is.apex(dns.TypeDNSKEY)}
			if err := is.secure(m, zone.Result{Kind: zone.Answer, Name: is.origin}, dns.TypeDNSKEY, false); err != nil {
				t.Fatal(err)
			}
			if sig, ok := m.Answer[len(m.Answer)-1].(*dns.RRSIG); !ok || !sig.ValidityPeriod(is.now()) {
				t.Errorf("%d days on, the keys are signed by %v", days, sig)
			}
		}
	})
}

// What is wrong with the keys of one zone takes no name from its clients, nor another zone; they are opened once that is mended.
func TestKeysThatCannotBeOpened(t *testing.T) {
	east := newSite(t, "127.0.0.1")
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	if err := os.Mkdir(keys, 0o755); err != nil {
		t.Fatal(err)
	}
	r := startRunning(t, portOf(east), portOf(east), func(c *Config) {
		signed := mustDecode(t, strings.Replace(nodeFile, "      primary:", signedZone, 1))
		c.Zones, c.checked, c.StateDir = signed.Zones, nil, dir
	})
	if got := r.ask(t, "udp"); got != "NOERROR 127.0.0.1" {
		t.Errorf("without keys it is answered with %s", got)
	}
	want := "open to others; `chmod 700 " + keys
	if k := r.Keys(); len(k) != 1 || k[0].Zone != "mail.example.org" || !strings.Contains(k[0].Error, want) {
		t.Errorf("keys are %+v, want an error with %q", k, want)
	}
	if _, err := r.OrderKeys(KeyOrder{Zone: "mail.example.org", Kind: "roll"}); err == nil {
		t.Error("keys that are not open are rolled")
	}
	if err := os.Chmod(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	is := r.engine.serving().signed["mail.example.org."]
	is.wake <- struct{}{}
	waitFor(t, "the keys", func() bool { k := r.Keys(); return len(k) == 1 && k[0].State == sign.Published })
}

// With a disk that takes nothing any more the keys in use go on as they are.
func TestKeysOnAFullDisk(t *testing.T) {
	t.Parallel()
	set := mustDecode(t, strings.Replace(nodeFile, "      primary:", signedZone, 1)).checked
	dir := t.TempDir()
	made := func(ahead time.Duration) *signing {
		t.Helper()
		is, err := newSigning(set.Zones()[0], DNSSEC{}, dir, slog.New(slog.DiscardHandler), func() {})
		if err != nil {
			t.Fatal(err)
		}
		is.config.SetDefaults()
		is.now = func() time.Time { return time.Now().Add(ahead) }
		if err := is.open(t.Context()); err != nil {
			t.Fatal(err)
		}
		return is
	}
	if err := made(0).close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "keys", "mail.example.org.keys.json.new"), 0o700); err != nil { // where a new state is written
		t.Fatal(err)
	}
	is := made(36 * time.Hour)
	defer is.close()
	if err := is.failure(); err == nil || !is.signs() {
		t.Errorf("the step that cannot be kept is told of as %v, and it signs: %v", err, is.signs())
	}
}
