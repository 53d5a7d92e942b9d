// Package mtlstest makes certificates for tests of links between nodes.
//
// Files live in the test's own temporary folder and go with it.
package mtlstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"anycastle/internal/mtls"
)

// CA signs certificates for one test.
type CA struct {
	Names []string // of hosts, in the certificates made from now on; mx.example.org at first

	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes a certificate authority.
func NewCA(t testing.TB) *CA {
	t.Helper()
	ca := &CA{Names: []string{"mx.example.org"}, dir: t.TempDir()}
	ca.Replace(t)
	return ca
}

// Replace makes another authority in the place of the one before: its file is that of the certificates made from now on, and
// of those before.
func (ca *CA) Replace(t testing.TB) {
	t.Helper()
	ca.key = newKey(t)
	ca.cert = &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "test ca"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca.cert, ca.cert, ca.key.Public(), ca.key)
	if err != nil {
		t.Fatalf("make CA: %v", err)
	}
	writePEM(t, ca.path("ca.pem"), "CERTIFICATE", der)
}

// Node makes a certificate for 127.0.0.1 and the CA's Names with the given uses, both uses when none is given. It takes the
// place of one of the same name.
func (ca *CA) Node(t testing.TB, name string, uses ...x509.ExtKeyUsage) mtls.Files {
	t.Helper()
	return ca.Host(t, name, []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, uses...)
}

// Host makes a certificate for the addresses instead.
func (ca *CA) Host(t testing.TB, name string, addrs []netip.Addr, uses ...x509.ExtKeyUsage) mtls.Files {
	t.Helper()
	if len(uses) == 0 {
		uses = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	key := newKey(t)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     ca.Names,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  uses,
	}
	for _, a := range addrs {
		cert.IPAddresses = append(cert.IPAddresses, a.AsSlice()) // x509 takes no netip
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatalf("make certificate %s: %v", name, err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f := mtls.Files{Cert: ca.path(name + ".pem"), Key: ca.path(name + ".key"), CA: ca.path("ca.pem")}
	writePEM(t, f.Cert, "CERTIFICATE", der)
	writePEM(t, f.Key, "EC PRIVATE KEY", keyDER)
	return f
}

func (ca *CA) path(name string) string { return filepath.Join(ca.dir, name) }

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("make key: %v", err)
	}
	return key
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
