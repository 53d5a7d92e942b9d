package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// maxFile bounds the files that a config names.
const maxFile = 1 << 20

// tlsConfig gives the settings of a probe that speaks TLS, and nil for another.
func (c *Config) tlsConfig() (*tls.Config, error) {
	if !c.secure() {
		return nil, nil
	}
	t := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         c.serverName(),
		InsecureSkipVerify: c.Insecure, // only as the operator says: without it a name is required
		VerifyConnection:   func(s tls.ConnectionState) error { return checkValidity(s, c.MinValidity, time.Now()) },
	}
	if c.Type == "https" {
		t.NextProtos = []string{"http/1.1"}
	}
	if c.CA != "" {
		pool, err := loadCA(c.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		t.RootCAs = pool
	}
	return t, nil
}

// checkValidity says whether the server's certificate is valid for long enough from now on. With chains that were
// verified it looks at every certificate of the best one below the root; without them, at the server's own.
func checkValidity(s tls.ConnectionState, least time.Duration, now time.Time) error {
	if least == 0 {
		return nil
	}
	var first *x509.Certificate // that expires, in the chain that lasts longest
	for _, chain := range s.VerifiedChains {
		if c := firstToExpire(chain[:max(1, len(chain)-1)]); first == nil || c.NotAfter.After(first.NotAfter) {
			first = c
		}
	}
	if first == nil {
		first = firstToExpire(s.PeerCertificates[:min(1, len(s.PeerCertificates))])
	}
	if first == nil {
		return errors.New("no certificate was shown")
	}
	if left := first.NotAfter.Sub(now); left < least {
		return fmt.Errorf("certificate of %q expires %s, in %v; want %v at least",
			first.Subject.String(), first.NotAfter.UTC().Format(time.RFC3339), left.Round(time.Second), least)
	}
	return nil
}

func firstToExpire(certs []*x509.Certificate) (first *x509.Certificate) {
	for _, c := range certs {
		if first == nil || c.NotAfter.Before(first.NotAfter) {
			first = c
		}
	}
	return first
}

// secured makes a TLS connection of conn.
func secured(conn net.Conn, config *tls.Config, timeout time.Duration) (net.Conn, error) {
	c := tls.Client(conn, config)
	if err := c.Handshake(); err != nil {
		return nil, fmt.Errorf("handshake: %w", cause(err, timeout))
	}
	return c, nil
}

// handshake gives the probe that makes a TLS connection and closes it.
func handshake(config *tls.Config) Func {
	return func(ctx context.Context, t Target, _ *Advice) error {
		conn, err := t.dial(ctx, "tcp")
		if err != nil {
			return err
		}
		defer conn.Close()
		c, err := secured(conn, config, t.Config.Timeout)
		if err != nil {
			return err
		}
		// the server is told that this is the end; whether it hears it is no matter
		_ = c.Close()
		return nil
	}
}

func loadCA(path string) (*x509.CertPool, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return pool, nil
}

// loadPassword gives the first line of a file that has only one.
func loadPassword(path string) (string, error) {
	text, err := readFile(path)
	if err != nil {
		return "", err
	}
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if len(text) == 0 || len(text) > 1024 || bytes.ContainsAny(text, "\x00\r\n") {
		return "", fmt.Errorf("%s is not one line of 1 to 1024 bytes", path)
	}
	return string(text), nil
}

func readFile(path string) ([]byte, error) {
	// to open a pipe could take for ever
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return text, err
}
