package mtasts

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"anycastle/internal/config"
)

const (
	// policyPath is where a policy is asked for (RFC 8461 section 3.3).
	policyPath = "/.well-known/mta-sts.txt"
	// policyHost is what stands before the domain in the name of the host that is asked.
	policyHost = "mta-sts."
	// serveTime bounds a request, and the end of the server.
	serveTime = 10 * time.Second
)

// Published is one entry of `mta_sts.policies:`, what a domain of ours tells senders.
type Published struct {
	Domain string        `yaml:"domain"`
	Mode   Mode          `yaml:"mode"`    // enforce, testing or none; default testing
	MX     []string      `yaml:"mx"`      // names of its MX hosts; *.example.org stands for any one label
	MaxAge time.Duration `yaml:"max_age"` // how long senders keep the policy; default 168h
}

// ServeConfig is the `mta_sts:` part of the smtp section. The certificate that clients are shown must also name
// mta-sts.DOMAIN.
type ServeConfig struct {
	Listen   config.ListenAddr `yaml:"listen"` // HTTPS; default ":443"
	Policies []Published       `yaml:"policies"`
}

// SetDefaults implements config.Defaulter.
func (c *ServeConfig) SetDefaults() { *c = ServeConfig{Listen: config.AnyAddr(443)} }

// SetDefaults implements config.Defaulter.
func (p *Published) SetDefaults() { *p = Published{Mode: Testing, MaxAge: 7 * 24 * time.Hour} }

// Validate reports what is wrong with the section.
func (c *ServeConfig) Validate(at config.Cursor) {
	if len(c.Policies) == 0 {
		at.Key("policies").Errorf("no policy; add one with its domain and mx, or remove mta_sts")
	}
	seen := map[string]bool{}
	for i, p := range c.Policies {
		at := at.Key("policies").Index(i)
		domain := strings.ToLower(p.Domain)
		if !isName(domain) {
			at.Key("domain").Errorf("%q is no domain name; write one such as example.org", p.Domain)
		} else if seen[domain] {
			at.Key("domain").Errorf("%s is there twice; keep one", domain)
		}
		seen[domain] = true
		if p.MaxAge < time.Hour || p.MaxAge > maxAge {
			at.Key("max_age").Errorf("%v must be from 1h to 8766h", p.MaxAge)
		}
		for j, mx := range p.MX {
			if !isName(strings.TrimPrefix(mx, "*.")) {
				at.Key("mx").Index(j).Errorf("%q is no host name; write one such as mx1.example.org or *.example.org", mx)
			}
		}
		// what senders will read is read here first
		if _, err := ParsePolicy(p.text()); err != nil {
			at.Errorf("%s", strings.TrimPrefix(err.Error(), "mtasts: "))
		}
	}
}

// text is the policy as it is served.
func (p Published) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: STSv1\r\nmode: %s\r\n", p.Mode)
	for _, mx := range p.MX {
		fmt.Fprintf(&b, "mx: %s\r\n", mx)
	}
	fmt.Fprintf(&b, "max_age: %d\r\n", int64(p.MaxAge.Seconds()))
	return b.String()
}

// Record is the TXT record that has to stand in DNS beside a policy. It changes when the policy does.
type Record struct {
	Name    string `json:"name"` // such as _mta-sts.example.org
	Text    string `json:"text"`
	Problem string `json:"problem,omitempty"` // why senders do not take the policy
}

func (p Published) record() Record {
	sum := sha256.Sum256([]byte(p.text()))
	return Record{Name: "_mta-sts." + strings.ToLower(p.Domain), Text: "v=STSv1; id=" + hex.EncodeToString(sum[:10]) + ";"}
}

// Server serves the policies of our domains. It is used for one Run.
type Server struct {
	cfg ServeConfig
	tls *tls.Config
	log *slog.Logger
}

// NewServer makes a server that shows clients the certificate that a TLS config's GetCertificate gives.
func NewServer(cfg ServeConfig, public *tls.Config, log *slog.Logger) *Server {
	return &Server{cfg: cfg, tls: public, log: log}
}

// Records gives the TXT records that belong to the policies.
func (s *Server) Records() []Record {
	var list []Record
	for _, p := range s.cfg.Policies {
		r := p.record()
		if err := s.names(policyHost + strings.ToLower(p.Domain)); err != nil {
			r.Problem = err.Error()
		}
		list = append(list, r)
	}
	return list
}

// names looks whether the certificate of now is one for a host. Senders take the policy from no other (RFC 8461 section 3.3).
func (s *Server) names(host string) error {
	cert, err := s.tls.GetCertificate(&tls.ClientHelloInfo{ServerName: host})
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return err
	}
	return leaf.VerifyHostname(host)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host := strings.ToLower(r.Host)
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	for _, p := range s.cfg.Policies {
		if r.URL.Path == policyPath && strings.TrimSuffix(host, ".") == policyHost+strings.ToLower(p.Domain) {
			if r.Method != http.MethodGet && r.Method != http.MethodHead {
				http.Error(w, "only GET and HEAD are served", http.StatusMethodNotAllowed)
				return
			}
			w.Header().Set("Content-Type", "text/plain")
			// the client sees a reply that is cut off
			_, _ = w.Write([]byte(p.text()))
			return
		}
	}
	http.NotFound(w, r)
}

// Run serves a listener until ctx ends, and closes it.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	for _, r := range s.Records() {
		if r.Problem != "" {
			s.log.Warn("senders do not take an MTA-STS policy", "record", r.Name, "why", r.Problem)
		}
	}
	srv := &http.Server{
		Handler: s, TLSConfig: s.tls, MaxHeaderBytes: 16 << 10,
		ReadTimeout: serveTime, WriteTimeout: serveTime, IdleTimeout: serveTime,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.ServeTLS(ln, "", "") }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve MTA-STS policies: %w", err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), serveTime)
	defer cancel()
	err := srv.Shutdown(last)
	<-failed
	return err
}
