package probe

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"anycastle/internal/mtlstest"
)

func TestTLS(t *testing.T) {
	conf, files := certificates(t)
	other := mtlstest.NewCA(t).Node(t, "other")
	addr := serve(t, func(c net.Conn) { io.Copy(io.Discard, tls.Server(c, conf)) })
	for name, tc := range map[string]struct {
		config Config
		want   string
	}{
		"verified":               {Config{CA: files.CA, ServerName: "mx.example.org"}, ""},
		"verified, an address":   {Config{CA: files.CA, ServerName: "127.0.0.1"}, ""},
		"valid for long enough":  {Config{CA: files.CA, ServerName: "mx.example.org", MinValidity: 30 * time.Minute}, ""},
		"expires soon":           {Config{CA: files.CA, ServerName: "mx.example.org", MinValidity: 2 * time.Hour}, `handshake: certificate of "CN=mx" expires 20`},
		"believed":               {Config{Insecure: true}, ""},
		"believed, expires soon": {Config{Insecure: true, MinValidity: 2 * time.Hour}, `handshake: certificate of "CN=mx" expires 20`},
		"another name":           {Config{CA: files.CA, ServerName: "imap.example.org"}, "handshake: tls: failed to verify certificate: x509: certificate is valid for mx.example.org, not imap.example.org"},
		"another CA":             {Config{CA: other.CA, ServerName: "mx.example.org"}, "handshake: tls: failed to verify certificate: x509: certificate signed by unknown authority"},
		"the system's CAs":       {Config{ServerName: "mx.example.org"}, "handshake: tls: failed to verify certificate: x509: certificate signed by unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := tc.config
			cfg.Type, cfg.Timeout = "tls", long
			_, err := try(t.Context(), t, cfg, addr)
			wants(t, err, cfg, addr, tc.want)
		})
	}
}

func TestCheckValidity(t *testing.T) {
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	cert := func(name string, days int) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotAfter: now.AddDate(0, 0, days)}
	}
	leaf, short, long, root := cert("leaf", 60), cert("short", 5), cert("long", 90), cert("root", 1)
	for name, tc := range map[string]struct {
		state tls.ConnectionState
		days  int
		want  string // who expires
	}{
		"long enough":          {tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}, 60, ""},
		"not long enough":      {tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}, 61, "leaf"},
		"what comes with it":   {tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf, short}}, 60, ""},
		"an intermediate":      {tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf, short, root}}}, 10, "short"},
		"the best chain":       {tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf, short, root}, {leaf, long, root}}}, 60, ""},
		"a root alone":         {tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{short}}}, 10, "short"},
		"nothing to look at":   {tls.ConnectionState{}, 1, "no certificate"},
		"nothing is looked at": {tls.ConnectionState{}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkValidity(tc.state, time.Duration(tc.days)*24*time.Hour, now)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v, want %q", err, tc.want)
			}
		})
	}
}
