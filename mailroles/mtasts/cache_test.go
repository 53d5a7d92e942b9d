package mtasts

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// publisher is a domain's DNS and HTTPS server, and the clock.
type publisher struct {
	t     *testing.T
	roots *x509.CertPool
	addr  string

	mu      sync.Mutex
	id      string // "": there is no record
	deaf    error  // of DNS
	answer  http.HandlerFunc
	fetches int
	now     time.Time
}

var errAbsent = errors.New("no such record")

// publish serves a domain's policy by a certificate for name.
func publish(t *testing.T, name string) *publisher {
	t.Helper()
	p := &publisher{t: t, id: "1", now: time.Now(), answer: serveText(goodPolicy), roots: x509.NewCertPool()}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.fetches++
		answer := p.answer
		p.mu.Unlock()
		if r.URL.Path != "/.well-known/mta-sts.txt" || r.Host != "mta-sts.example.org" {
			t.Errorf("asked for %s of %s", r.URL.Path, r.Host)
		}
		answer(w, r)
	}))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of handshakes that tests make fail
	cert := certificate(t, name)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	p.roots.AddCert(cert.Leaf)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	p.addr = srv.Listener.Addr().String()
	return p
}

// certificate makes one that is its own authority.
func certificate(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func serveText(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(text)) // a client that has enough is in order
	}
}

// cache opens the cache in a folder.
func (p *publisher) cache(dir string) *Cache {
	p.t.Helper()
	c, err := Open(Options{
		Dir: dir, Roots: p.roots, Log: slog.New(slog.DiscardHandler),
		TXT: func(_ context.Context, name string) ([]string, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			switch {
			case name != "_mta-sts.example.org":
				p.t.Errorf("asked for TXT of %s", name)
			case p.deaf != nil:
				return nil, p.deaf
			case p.id == "":
				return nil, errAbsent
			}
			return []string{"v=STSv1; id=" + p.id}, nil
		},
		Absent: func(err error) bool { return errors.Is(err, errAbsent) },
		Dial: func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", p.addr)
		},
		Now: func() time.Time { p.mu.Lock(); defer p.mu.Unlock(); return p.now },
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

func (p *publisher) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *publisher) fetched() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetches
}

func TestPolicyIsFetchedOnceForEachID(t *testing.T) {
	p := publish(t, "mta-sts.example.org")
	dir := t.TempDir()
	c := p.cache(dir)
	for range 3 {
		if got, ok := c.Policy(t.Context(), "Example.org."); !ok || got.Mode != Enforce {
			t.Fatalf("policy %+v, %v", got, ok)
		}
	}
	if p.fetched() != 1 {
		t.Errorf("%d fetches, want 1", p.fetched())
	}
	p.set(func() { p.id, p.answer = "2", serveText(strings.Replace(goodPolicy, "enforce", "testing", 1)) })
	if got, ok := c.Policy(t.Context(), "example.org"); !ok || got.Mode != Testing || p.fetched() != 2 {
		t.Errorf("after a change: %+v, %v, %d fetches", got, ok, p.fetched())
	}
	// another process, without DNS and HTTPS, has it from disk until it expires
	p.set(func() { p.deaf = errors.New("nobody can tell") })
	c = p.cache(dir)
	p.set(func() { p.now = p.now.Add(86399 * time.Second) })
	if got, ok := c.Policy(t.Context(), "example.org"); !ok || got.Mode != Testing {
		t.Errorf("from disk: %+v, %v", got, ok)
	}
	p.set(func() { p.now = p.now.Add(2 * time.Second) })
	if got, ok := c.Policy(t.Context(), "example.org"); ok {
		t.Errorf("after its time: %+v", got)
	}
}

func TestPolicyOutlivesWhatIsTakenAway(t *testing.T) {
	good := serveText(goodPolicy)
	for name, take := range map[string]func(*publisher){
		"the record": func(p *publisher) { p.id = "" },
		"DNS":        func(p *publisher) { p.deaf = errors.New("timeout") },
		"HTTPS, new id": func(p *publisher) {
			p.id, p.answer = "2", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }
		},
		"the policy, new id": func(p *publisher) { p.id, p.answer = "2", serveText("nonsense") },
		"the length, new id": func(p *publisher) { p.id, p.answer = "2", serveText(goodPolicy+strings.Repeat("x: y\n", 20_000)) },
		"the type, new id": func(p *publisher) {
			p.id, p.answer = "2", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				_, _ = w.Write([]byte(goodPolicy))
			}
		},
		"by redirect, new id": func(p *publisher) {
			p.id, p.answer = "2", func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "/.well-known/mta-sts.txt", http.StatusFound)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := publish(t, "mta-sts.example.org")
			fresh, c := p.cache(t.TempDir()), p.cache(t.TempDir())
			if _, ok := c.Policy(t.Context(), "example.org"); !ok {
				t.Fatal("no policy at first")
			}
			p.set(func() { take(p) })
			for range 2 {
				if got, ok := c.Policy(t.Context(), "example.org"); !ok || got.Mode != Enforce {
					t.Errorf("a known policy is gone: %+v, %v", got, ok)
				}
				if got, ok := fresh.Policy(t.Context(), "example.org"); ok {
					t.Errorf("who never had it has %+v", got)
				}
			}
			if p.fetched() > 3 {
				t.Errorf("%d fetches: it is tried again too soon", p.fetched())
			}
			p.set(func() { p.id, p.deaf, p.answer, p.now = "3", nil, good, p.now.Add(retryTime+time.Second) })
			if _, ok := fresh.Policy(t.Context(), "example.org"); !ok {
				t.Error("no policy once it can be had again")
			}
		})
	}
}

func TestPolicyNeedsTheRightCertificate(t *testing.T) {
	p := publish(t, "www.example.org")
	c := p.cache(t.TempDir())
	if got, ok := c.Policy(t.Context(), "example.org"); ok || p.fetched() != 0 {
		t.Errorf("policy %+v by another's certificate", got)
	}
}

func TestRefresh(t *testing.T) {
	p := publish(t, "mta-sts.example.org")
	dir := t.TempDir()
	c := p.cache(dir)
	if _, ok := c.Policy(t.Context(), "example.org"); !ok {
		t.Fatal("no policy")
	}
	c.refresh(t.Context())
	if p.fetched() != 1 {
		t.Errorf("a new policy is fetched again")
	}
	p.set(func() { p.now = p.now.Add(12*time.Hour + time.Second) }) // half of max_age
	c.refresh(t.Context())
	if p.fetched() != 2 {
		t.Errorf("%d fetches after half the time, want 2", p.fetched())
	}
	p.set(func() { p.now, p.deaf = p.now.Add(24*time.Hour+time.Second), errors.New("timeout") })
	c.refresh(t.Context())
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("an expired policy is kept: %v, %v", files, err)
	}
}

func TestDamagedFileIsLeftOut(t *testing.T) {
	p := publish(t, "mta-sts.example.org")
	dir := t.TempDir()
	for name, text := range map[string]string{fileOf("example.org"): "{", "other": `{"domain": "example.org"}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := p.cache(dir)
	if len(c.domains) != 0 {
		t.Errorf("%d domains of damaged files", len(c.domains))
	}
	if _, ok := c.Policy(t.Context(), "example.org"); !ok {
		t.Error("no policy")
	}
}

func TestRunEnds(t *testing.T) {
	c := publish(t, "mta-sts.example.org").cache(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.Run(ctx)
}
