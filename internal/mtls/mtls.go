package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"anycastle/internal/config"
)

// Files names the PEM files of a node. All three are needed.
type Files struct {
	Cert string `yaml:"cert"` // certificate, with its chain if it has one
	Key  string `yaml:"key"`  // private key of the certificate
	CA   string `yaml:"ca"`   // certificates that sign those of the other nodes
}

// Validate reports files that are missing or do not fit each other.
func (f Files) Validate(at config.Cursor) {
	named := true
	for _, e := range []struct{ key, path string }{{"cert", f.Cert}, {"key", f.Key}, {"ca", f.CA}} {
		if e.path == "" {
			at.Key(e.key).Errorf("missing; name the PEM file with `%s:`", e.key)
			named = false
		} else if _, err := os.Stat(e.path); err != nil {
			at.Key(e.key).Errorf("%v; make the file or correct its name", err)
			named = false
		}
	}
	if !named {
		return
	}
	if _, err := tls.LoadX509KeyPair(f.Cert, f.Key); err != nil {
		at.Key("key").Errorf("%v; give the key that %s was made with", err, f.Cert)
	}
	if _, err := loadCA(f.CA); err != nil {
		at.Key("ca").Errorf("%v; give a file with at least one CERTIFICATE block", err)
	}
}

// Material is what Load read. It does not change and is safe for concurrent use.
type Material struct {
	cert tls.Certificate
	ca   *x509.CertPool
}

// Load reads the files.
func Load(f Files) (*Material, error) {
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("load certificate and key: %w", err)
	}
	ca, err := loadCA(f.CA)
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	return &Material{cert: cert, ca: ca}, nil
}

// Public gives the settings towards clients.
func (m *Material) Public() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{m.cert}, MinVersion: tls.VersionTLS12}
}

// Server gives the accepting side of a link.
func (m *Material) Server() *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{m.cert},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    m.ca,
		MinVersion:   tls.VersionTLS13,
	}
}

// Client gives the calling side of a link to a server whose certificate names what is dialled.
func (m *Material) Client() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{m.cert}, RootCAs: m.ca, MinVersion: tls.VersionTLS13}
}

// ClientOfAny gives the calling side of a link to a server with any certificate of the CA.
func (m *Material) ClientOfAny() *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{m.cert},
		MinVersion:   tls.VersionTLS13,
		// The standard check would also compare names; VerifyConnection does the rest of it.
		InsecureSkipVerify: true,
		VerifyConnection:   m.verifyAny,
	}
}

func (m *Material) verifyAny(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("mtls: the server showed no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots:         m.ca,
		Intermediates: between,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return fmt.Errorf("verify the server's certificate: %w", err)
	}
	return nil
}

func loadCA(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return pool, nil
}
