package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

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
	Pair{Cert: f.Cert, Key: f.Key}.Validate(at)
	if !isThere(at, "ca", f.CA) {
		return
	}
	if _, err := loadCA(f.CA); err != nil {
		at.Key("ca").Errorf("%v; give a file with at least one CERTIFICATE block", err)
	}
}

// Pair names the PEM files of a certificate that only clients of a service are shown.
type Pair struct {
	Cert string `yaml:"cert"` // certificate, with its chain if it has one
	Key  string `yaml:"key"`  // private key of the certificate
}

// Validate reports files that are missing or do not fit each other.
func (p Pair) Validate(at config.Cursor) {
	cert, key := isThere(at, "cert", p.Cert), isThere(at, "key", p.Key)
	if !cert || !key {
		return
	}
	if _, err := tls.LoadX509KeyPair(p.Cert, p.Key); err != nil {
		at.Key("key").Errorf("%v; give the key that %s was made with", err, p.Cert)
	}
}

// isThere reports a file that is not named or cannot be read.
func isThere(at config.Cursor, key, path string) bool {
	if path == "" {
		at.Key(key).Errorf("missing; name the PEM file with `%s:`", key)
		return false
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrPermission) {
		at.Key(key).Errorf("%v; let the user that runs this read it", err)
		return false
	}
	if err != nil {
		at.Key(key).Errorf("%v; make the file or correct its name", err)
		return false
	}
	f.Close()
	return true
}

// Material is what the files say. It is safe for concurrent use.
type Material struct {
	files Files
	log   *slog.Logger

	mu     sync.Mutex
	read   content
	marks  marks // of the files when read was read
	young  bool  // the files were that new then: a later change may have left the same marks
	failed marks // of files that could not be read, and were told of
}

// tick is more than the time in which two changes of a file may get the same time stamp.
const tick = 100 * time.Millisecond

// content is what was read of the files together.
type content struct {
	cert tls.Certificate
	ca   *x509.CertPool
}

// marks tell one version of the three files from another.
type marks [3]mark

type mark struct {
	changed time.Time
	size    int64
	inode   uint64
}

// Load reads the files, and has them read again when one of them has changed. log is told of that; nil: nobody is.
func Load(f Files, log *slog.Logger) (*Material, error) {
	if f.CA == "" {
		return nil, errors.New("load CA: no file is named") // without one the system's would do
	}
	return load(f, log)
}

// Shown is what the files of a Pair say. It is safe for concurrent use.
type Shown struct{ m *Material }

// LoadPair reads the files of a Pair, as Load does.
func LoadPair(p Pair, log *slog.Logger) (*Shown, error) {
	m, err := load(Files{Cert: p.Cert, Key: p.Key}, log)
	if err != nil {
		return nil, err
	}
	return &Shown{m}, nil
}

// Public gives the settings towards clients. They follow the files.
func (s *Shown) Public() *tls.Config { return s.m.Public() }

// load reads the files of a node, or those of a pair, which has no CA.
func load(f Files, log *slog.Logger) (*Material, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m := &Material{files: f, log: log}
	is, err := f.look() // before they are read: a change in between is seen the next time
	if err != nil {
		return nil, err
	}
	read, err := f.read()
	if err != nil {
		return nil, err
	}
	m.take(read, is)
	return m, nil
}

// now gives what the files say now. While they cannot be read, or do not fit each other since only some are changed yet,
// that is what they said before.
func (m *Material) now() content {
	m.mu.Lock()
	defer m.mu.Unlock()
	is, err := m.files.look()
	if err == nil && is == m.marks && !m.young {
		return m.read
	}
	var read content
	if err == nil {
		read, err = m.files.read()
	}
	switch {
	case err == nil:
		if is != m.marks {
			m.log.Info("certificate files read again", "cert", m.files.Cert, "not_after", read.cert.Leaf.NotAfter)
		}
		m.take(read, is)
	case m.failed != is:
		m.failed = is
		m.log.Warn("certificate files have changed and cannot be read; those from before stay in use", "cert", m.files.Cert, "err", err)
	}
	return m.read
}

func (m *Material) take(read content, is marks) {
	m.read, m.marks, m.failed, m.young = read, is, marks{}, false
	for _, mark := range is {
		m.young = m.young || time.Since(mark.changed) < tick
	}
}

func (f Files) look() (m marks, err error) {
	for i, path := range []string{f.Cert, f.Key, f.CA} {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return marks{1: {size: -1}}, err // no other files have such marks
		}
		m[i] = mark{changed: info.ModTime(), size: info.Size()}
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			m[i].inode = sys.Ino
		}
	}
	return m, nil
}

func (f Files) read() (content, error) {
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return content{}, fmt.Errorf("load certificate and key: %w", err)
	}
	if f.CA == "" {
		return content{cert: cert}, nil
	}
	ca, err := loadCA(f.CA)
	if err != nil {
		return content{}, fmt.Errorf("load CA: %w", err)
	}
	return content{cert: cert, ca: ca}, nil
}

// Public gives the settings towards clients. They follow the files.
func (m *Material) Public() *tls.Config {
	return &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert := m.now().cert
			return &cert, nil
		},
		MinVersion: tls.VersionTLS12,
	}
}

// Server gives the accepting side of a link. It follows the files.
func (m *Material) Server() *tls.Config {
	return &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			c := m.now()
			return &tls.Config{
				Certificates: []tls.Certificate{c.cert},
				ClientAuth:   tls.RequireAndVerifyClientCert,
				ClientCAs:    c.ca,
				MinVersion:   tls.VersionTLS13,
				// who is let in is decided by the CA of now, and not by that of the session before
				SessionTicketsDisabled: true,
			}, nil
		},
		MinVersion: tls.VersionTLS13,
	}
}

// Client gives the calling side of a link to a server whose certificate names what is dialled. It holds what the files say
// now: ask for another one for each connection.
func (m *Material) Client() *tls.Config {
	c := m.now()
	return &tls.Config{Certificates: []tls.Certificate{c.cert}, RootCAs: c.ca, MinVersion: tls.VersionTLS13}
}

// ClientOfAny gives the calling side of a link to a server with any certificate of the CA. It follows the files.
func (m *Material) ClientOfAny() *tls.Config {
	return &tls.Config{
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert := m.now().cert
			return &cert, nil
		},
		MinVersion: tls.VersionTLS13,
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
		Roots:         m.now().ca,
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
