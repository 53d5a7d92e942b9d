package mtasts

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"anycastle/internal/config"
	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
)

func published() ServeConfig {
	return ServeConfig{Policies: []Published{
		{Domain: "example.org", Mode: Enforce, MX: []string{"mx1.example.org", "*.backup.example.org"}, MaxAge: 24 * time.Hour},
		{Domain: "Example.net", Mode: None, MaxAge: time.Hour},
	}}
}

func TestServe(t *testing.T) {
	material, err := mtls.Load(mtlstest.NewCA(t).Node(t, "mx"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s := NewServer(published(), material.Public(), slog.New(slog.NewTextHandler(&log, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, ln) }()
	// the name is what is looked at here, the certificate is the role's
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	ask := func(method, host, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "https://"+ln.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	code, body := ask("GET", "mta-sts.example.org", policyPath)
	want := "version: STSv1\r\nmode: enforce\r\nmx: mx1.example.org\r\nmx: *.backup.example.org\r\nmax_age: 86400\r\n"
	if code != 200 || body != want {
		t.Errorf("policy is %d %q, want %q", code, body, want)
	}
	p, err := ParsePolicy(body)
	if err != nil || !p.Matches("mx1.example.org") || p.Matches("mx2.example.org") {
		t.Errorf("our own reader makes %+v of it, %v", p, err)
	}
	for _, tc := range []struct {
		method, host, path string
		code               int
	}{
		{"GET", "MTA-STS.example.net:443", policyPath, 200},
		{"HEAD", "mta-sts.example.org", policyPath, 200},
		{"GET", "example.org", policyPath, 404},
		{"GET", "mta-sts.example.com", policyPath, 404},
		{"GET", "mta-sts.example.org", "/", 404},
		{"POST", "mta-sts.example.org", policyPath, 405},
	} {
		if code, _ := ask(tc.method, tc.host, tc.path); code != tc.code {
			t.Errorf("%s %s%s: %d, want %d", tc.method, tc.host, tc.path, code, tc.code)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("end: %v", err)
	}
	if n := strings.Count(log.String(), "senders do not take an MTA-STS policy"); n != 2 { // the certificate is for neither
		t.Errorf("%d warnings, want 2:\n%s", n, &log)
	}
}

func TestRecords(t *testing.T) {
	cfg := published()
	cert := certificate(t, "mta-sts.example.org")
	public := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }}
	before := NewServer(cfg, public, nil).Records()
	id, err := ParseRecord([]string{before[0].Text})
	if err != nil || before[0].Name != "_mta-sts.example.org" || before[0].Problem != "" {
		t.Errorf("record is %+v, %v", before[0], err)
	}
	cfg.Policies[0].MX = cfg.Policies[0].MX[:1]
	after := NewServer(cfg, public, nil).Records()
	if other, err := ParseRecord([]string{after[0].Text}); err != nil || other == id {
		t.Errorf("after a change of the policy its id is %s, before it was %s (%v)", other, id, err)
	}
	if !strings.Contains(before[1].Problem, "not mta-sts.example.net") {
		t.Errorf("a certificate for another host: %q", before[1].Problem)
	}
	if after[1] != before[1] {
		t.Error("the record of a policy that is as before has changed")
	}
}

func TestServeConfig(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*ServeConfig)
		want   string
	}{
		"sound":    {func(*ServeConfig) {}, ""},
		"nothing":  {func(c *ServeConfig) { c.Policies = nil }, "policies: no policy"},
		"domain":   {func(c *ServeConfig) { c.Policies[0].Domain = "x_y" }, `policies[0].domain: "x_y" is no domain name`},
		"twice":    {func(c *ServeConfig) { c.Policies[1].Domain = "EXAMPLE.org" }, "policies[1].domain: example.org is there twice"},
		"mode":     {func(c *ServeConfig) { c.Policies[0].Mode = "strict" }, `policies[0]: policy has the mode "strict"`},
		"no mx":    {func(c *ServeConfig) { c.Policies[0].MX = nil }, "policies[0]: policy names no mx"},
		"bad mx":   {func(c *ServeConfig) { c.Policies[0].MX[0] = "a b" }, `policies[0].mx[0]: "a b" is no host name`},
		"max_age":  {func(c *ServeConfig) { c.Policies[0].MaxAge = time.Second }, "policies[0].max_age: 1s must be from 1h"},
		"no break": {func(c *ServeConfig) { c.Policies[0].MX[0] = "a\r\nmode: none" }, "policies[0].mx[0]: \"a"},
	} {
		cfg := published()
		tc.change(&cfg)
		err := config.Check("mta_sts", cfg.Validate)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}
